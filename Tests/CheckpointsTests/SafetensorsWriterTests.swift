// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("Writing safetensors")
struct SafetensorsWriterTests {
    static let tensors = [
        TensorDescription(name: "z", dataType: .uint8, shape: [3]),
        TensorDescription(name: "b", dataType: .float32, shape: [2, 2]),
        TensorDescription(name: "a", dataType: .bfloat16, shape: [5]),
        TensorDescription(name: "empty", dataType: .float32, shape: [0, 7]),
        TensorDescription(name: "scalar", dataType: .int64, shape: []),
        TensorDescription(name: "quoted \"\\\n", dataType: .uint8, shape: [1]),
    ]

    private func content(_ tensor: TensorDescription) -> [UInt8] {
        (0..<tensor.byteCount).map { UInt8(truncatingIfNeeded: $0 * 7 + tensor.name.utf8.count) }
    }

    @Test("what is written is read back, in whatever pieces and order it came")
    func roundTrip() throws {
        try withTemporaryDirectory { directory in
            var files: [Data] = []
            for variant in 0..<2 {
                let url = directory.appendingPathComponent("\(variant).safetensors")
                let writer = try SafetensorsWriter(
                    url, tensors: variant == 0 ? Self.tensors : Self.tensors.reversed())
                for tensor in variant == 0 ? Self.tensors : Self.tensors.reversed() {
                    let bytes = content(tensor)
                    let cut = variant == 0 ? bytes.count : bytes.count / 2
                    try bytes[..<cut].withUnsafeBytes { try writer.append(tensor.name, $0) }
                    try bytes[cut...].withUnsafeBytes { try writer.append(tensor.name, $0) }
                }
                #expect(!FileManager.default.fileExists(atPath: url.path))
                try writer.finish()
                let file = try SafetensorsFile(url)
                for tensor in Self.tensors {
                    let view = try file.tensor(tensor.name)
                    #expect(view.shape == tensor.shape && view.dataType == tensor.dataType)
                    #expect(view.withBytes { Array($0) } == content(tensor))
                    #expect(view.byteRange.lowerBound % max(1, tensor.dataType.bitCount / 8) == 0)
                }
                #expect(file.header.dataOffset % 8 == 0)
                #expect(file.header.metadata == [.init("format", "pt")])
                files.append(try Data(contentsOf: url))
            }
            #expect(files[0] == files[1])
            #expect(try listing(directory) == ["0.safetensors", "1.safetensors"])
        }
    }

    @Test(
        "a file of the library, rewritten, has the same bytes",
        arguments: ["dense_tied_bf16", "dense_untied_fp32", "moe_norm_bf16", "moe_nonorm_sparse2_fp32"])
    func libraryBytes(_ model: String) throws {
        let directory = Fixtures.url("models/\(model)")
        try withTemporaryDirectory { target in
            for name in try listing(directory) where name.hasSuffix(".safetensors") {
                let original = try SafetensorsFile(directory.appendingPathComponent(name))
                let copy = target.appendingPathComponent(name)
                let writer = try SafetensorsWriter(
                    copy,
                    tensors: original.header.entries.map {
                        TensorDescription(name: $0.name, dataType: $0.dataType, shape: $0.shape)
                    })
                for entry in original.header.entries {
                    try original.view(entry).withBytes { try writer.append(entry.name, $0) }
                }
                try writer.finish()
                #expect(try Data(contentsOf: copy) == Data(contentsOf: original.url))
            }
        }
    }

    @Test("missing, surplus and unknown bytes are refused, and an unfinished file leaves nothing")
    func refusals() throws {
        try withTemporaryDirectory { directory in
            let url = directory.appendingPathComponent("x.safetensors")
            do {
                let writer = try SafetensorsWriter(url, tensors: [Self.tensors[0]])
                let bytes: [UInt8] = [1, 2, 3, 4]
                try bytes[..<2].withUnsafeBytes { try writer.append("z", $0) }
                let missing = checkpointError { try writer.finish() }
                #expect(missing?.tensor == "z" && missing?.message.contains("2 bytes, expected 3") == true)
                let surplus = checkpointError { try bytes.withUnsafeBytes { try writer.append("z", $0) } }
                #expect(surplus?.message.contains("expected 3") == true)
                let unknown = checkpointError { try bytes.withUnsafeBytes { try writer.append("y", $0) } }
                #expect(unknown?.tensor == "y")
                #expect(try listing(directory).count == 1)
            }
            #expect(try listing(directory).isEmpty)
            for bad in [
                [Self.tensors[0], Self.tensors[0]],
                [TensorDescription(name: "__metadata__", dataType: .uint8, shape: [1])],
                [TensorDescription(name: "a", dataType: .uint8, shape: [1 << 40, 1 << 40])],
            ] {
                #expect(
                    checkpointError { _ = try SafetensorsWriter(url, tensors: bad) }?.code == .invalidOption)
            }
            #expect(try listing(directory).isEmpty)
        }
    }

    /// Whether this process may mount file systems; says so when not.
    static let canMount: Bool = {
        let probe = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-mount-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: probe) }
        try? FileManager.default.createDirectory(at: probe, withIntermediateDirectories: true)
        guard run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", probe.path]) else { return false }
        return run("umount", [probe.path])
    }()

    static func run(_ tool: String, _ arguments: [String]) -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [tool] + arguments
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    @Test(
        "a full disk is one clear error and leaves nothing",
        .enabled(if: canMount, "SKIPPED: a small tmpfs cannot be mounted here (needs root)"))
    func diskFull() throws {
        try withTemporaryDirectory { directory in
            let disk = directory.appendingPathComponent("disk")
            try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: false)
            try #require(Self.run("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", disk.path]))
            defer { _ = Self.run("umount", [disk.path]) }

            let large = [TensorDescription(name: "a", dataType: .uint8, shape: [1 << 20])]
            let url = disk.appendingPathComponent("x.safetensors")
            let error = try #require(checkpointError { _ = try SafetensorsWriter(url, tensors: large) })
            #expect(error.code == .diskFull && error.description.contains(url.path) && error.remedy != nil)
            #expect(try listing(disk).isEmpty)

            // Without a reservation the write itself hits the end.
            let file = try DurableFile(disk.appendingPathComponent("y"))
            let bytes = [UInt8](repeating: 1, count: 1 << 20)
            let late = checkpointError { try bytes.withUnsafeBytes { try file.write($0, at: 0) } }
            #expect(late?.code == .diskFull)
            #expect(try listing(disk).isEmpty)
            #expect(checkpointError { try file.commit() } != nil)

            let preset = try CheckpointInitializer(preset: .tinyDense)
            let model = disk.appendingPathComponent("model")
            #expect(checkpointError { try preset.write(to: model) }?.code == .diskFull)
            #expect(try listing(disk).isEmpty)

            // What an earlier run wrote survives.
            let store = try ContentStore(disk.appendingPathComponent("store"))
            let hash = try store.put([1, 2, 3])
            #expect(checkpointError { try store.put(bytes) }?.code == .diskFull)
            #expect(try store.get(hash).withBytes { Array($0) } == [1, 2, 3])
            #expect(store.byteCount == 3)
        }
    }
}
