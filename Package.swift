// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

// No unsafeFlags here (but for Scripts/fuzz): they would make the package unusable as a dependency. Scripts pass
// -Xcc/-Xswiftc instead.
let houseSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// A Swift library target with the house settings.
func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: houseSettings)
}

/// The test target of one library. Fixtures are read through `TestSupport`, never bundled as resources.
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.init(stringLiteral: name), "TestSupport"] + dependencies,
        swiftSettings: houseSettings)
}

let package = Package(
    name: "apus",
    products: [],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.2.0"),
        .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-protobuf.git", from: "1.39.0"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.2"),
    ],
    targets: [
        // Layer 0: C
        .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"])]),
        .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "CKernels", cSettings: [.define("_GNU_SOURCE")]),
        .target(name: "CPlatform", cSettings: [.define("_GNU_SOURCE")]),
        // Layer 1
        library(
            "RuntimeSupport", ["CKernels", "CPlatform", .product(name: "Logging", package: "swift-log")]),
        library("Jinja", ["RuntimeSupport"]),
        // Layer 2
        library("Tensors", ["CKernels", "RuntimeSupport"]),
        library("Tokenization", ["Jinja", "RuntimeSupport"]),
        .target(
            name: "ClusterProtocol",
            dependencies: [
                "RuntimeSupport", .product(name: "SwiftProtobuf", package: "swift-protobuf"),
                .product(name: "Crypto", package: "swift-crypto"),
            ], exclude: ["Schema"], swiftSettings: houseSettings),
        library(
            "JobSpecification",
            [
                "CZlib", "RuntimeSupport", .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Yams", package: "Yams"),
            ]),
        // Layer 3
        library("Rewards", ["CPlatform", "RuntimeSupport", .product(name: "GRDB", package: "GRDB.swift")]),
        library(
            "Checkpoints",
            ["CKernels", "CPlatform", "RuntimeSupport", "Tensors", .product(name: "Crypto", package: "swift-crypto")]),
        library(
            "ClusterTransport",
            [
                "RuntimeSupport", "CPlatform", "CZeroMQ",
                .product(name: "DequeModule", package: "swift-collections"),
            ]),
        // Layer 4
        library("Qwen3", ["Checkpoints", "CKernels", "COpenBLAS", "RuntimeSupport", "Tensors"]),
        library(
            "ClusterCore",
            [
                "ClusterProtocol", "ClusterTransport", "RuntimeSupport",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        // Layer 5
        library("PostTraining", ["Qwen3"]),
        library("ExpertParallel", ["Checkpoints", "ClusterTransport", "Qwen3", "RuntimeSupport", "Tensors"]),
        library(
            "ClusterSimulation",
            [
                "ClusterCore", "ClusterProtocol", "ClusterTransport", "RuntimeSupport",
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        // Layer 6
        library(
            "CoordinatorRuntime",
            [
                "Checkpoints", "ClusterCore", "ClusterProtocol", "ClusterTransport", "JobSpecification",
                "PostTraining", "Qwen3", "Rewards", "Tensors",
                "RuntimeSupport", "Tokenization", .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        library(
            "WorkerRuntime",
            [
                "Checkpoints", "ClusterCore", "ClusterProtocol", "ClusterTransport", "CKernels",
                "ExpertParallel", "PostTraining",
                "Qwen3", "Rewards", "RuntimeSupport", "Tensors", "Tokenization",
                .product(name: "Crypto", package: "swift-crypto"), .product(name: "Logging", package: "swift-log"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        // Layer 7
        library(
            "Parity",
            [
                "Checkpoints", "CKernels", "PostTraining", "Qwen3", "Rewards", "RuntimeSupport", "Tensors",
                "Tokenization",
            ]),
        library("Benchmarks", ["Checkpoints", "CKernels", "Qwen3", "RuntimeSupport", "Tensors"]),
        library(
            "ClusterPlanning",
            [
                "Checkpoints", "ClusterCore", "ClusterProtocol", "ClusterTransport", "CoordinatorRuntime",
                "JobSpecification", "PostTraining", "Qwen3", "RuntimeSupport",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        library(
            "Recipes",
            [
                "Checkpoints", "JobSpecification", "Rewards", "RuntimeSupport", "Tokenization",
                .product(name: "Crypto", package: "swift-crypto"),
            ]),
        // Layer 8
        .executableTarget(
            name: "apus",
            dependencies: [
                "Benchmarks", "Checkpoints", "CKernels", "CPlatform", "ClusterCore", "ClusterPlanning",
                "ClusterSimulation", "ClusterProtocol", "ClusterTransport", "CoordinatorRuntime",
                "JobSpecification", "Parity", "Qwen3", "Recipes", "Rewards", "RuntimeSupport", "Tensors",
                "Tokenization", "WorkerRuntime", .product(name: "Logging", package: "swift-log"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: houseSettings),
        // Tests
        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: houseSettings),
        tests("CKernels"),
        tests("RuntimeSupport"),
        tests("Jinja", ["RuntimeSupport", "Tokenization"]),
        tests("Tokenization", ["RuntimeSupport"]),
        tests("JobSpecification", ["RuntimeSupport"]),
        tests("Rewards", ["CPlatform", "RuntimeSupport", "apus", "verifier-probe"]),
        .executableTarget(
            name: "verifier-probe", dependencies: ["CPlatform", "Rewards"], path: "Tests/VerifierProbe",
            swiftSettings: houseSettings),
        tests("Checkpoints", ["Tensors", "RuntimeSupport"]),
        tests("Qwen3", ["Checkpoints", "CKernels", "RuntimeSupport", "Tensors"]),
        tests("PostTraining", ["Checkpoints", "Qwen3", "RuntimeSupport", "Tensors"]),
        tests("Parity", ["Checkpoints", "Qwen3", "RuntimeSupport", "Tensors"]),
        tests("Recipes", ["JobSpecification", "Rewards", "RuntimeSupport"]),
        tests("Benchmarks", ["Checkpoints", "RuntimeSupport", "Tensors"]),
        tests(
            "ClusterCore",
            [
                "ClusterProtocol", "ClusterTransport", "RuntimeSupport",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        tests("ClusterSimulation", ["ClusterCore"]),
        tests(
            "CoordinatorRuntime",
            [
                "ClusterCore", "ClusterProtocol", "ClusterTransport", "JobSpecification", "RuntimeSupport",
                "Tokenization",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        tests("ClusterPlanning", ["Checkpoints", "JobSpecification"]),
        tests("ExpertParallel", ["Checkpoints", "CKernels", "ClusterTransport", "Qwen3", "RuntimeSupport", "Tensors"]),
        .testTarget(
            name: "ClusterTests", dependencies: ["apus", "Rewards", "RuntimeSupport", "TestSupport"],
            swiftSettings: houseSettings),
        tests("ClusterTransport", ["RuntimeSupport", "transport-probe"]),
        .executableTarget(
            name: "transport-probe", dependencies: ["ClusterTransport", "RuntimeSupport"],
            path: "Tests/TransportProbe", swiftSettings: houseSettings),
        .executableTarget(
            name: "load-probe",
            dependencies: [
                "ClusterCore", "ClusterProtocol", "ClusterTransport", "CoordinatorRuntime", "RuntimeSupport",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ], path: "Tests/LoadProbe", swiftSettings: houseSettings),
    ],
    swiftLanguageModes: [.v6]
)

// Scripts/fuzz asks for it: libFuzzer brings the main function, and has to be linked.
if Context.environment["APUS_FUZZ"] != nil {
    package.targets.append(
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "Checkpoints", "ClusterCore", "ClusterProtocol", "ClusterTransport", "ExpertParallel",
                "JobSpecification",
                "Qwen3", "Rewards", "RuntimeSupport", "Tensors", "Tokenization",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ], path: "Tests/Fuzz", swiftSettings: houseSettings + [.unsafeFlags(["-parse-as-library"])]))
}
