// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Tensors

/// `apus model …`: checkpoints on disk.
struct ModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model",
        abstract: "Make, import, inspect, verify and export checkpoints in the Hugging Face layout.",
        subcommands: [ModelInit.self, ModelImport.self, ModelInspect.self, ModelVerify.self, ModelExport.self])
}

struct ModelInit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Write a checkpoint with random weights in the released layout.",
        discussion: "Presets: \(ModelPreset.allCases.map(\.rawValue).joined(separator: ", ")).")

    @Argument(help: "The directory to make. It must not exist.")
    var directory: String

    @Option(help: "The shapes of the model.")
    var preset = "tiny-moe"

    @Option(help: "Layers, instead of the preset's.")
    var layers: Int?

    @Option(help: "Seed of the weights. The same options give the same bytes on any machine.")
    var seed: UInt64 = 0

    @Option(help: "How weights are stored: bf16, fp16 or fp32.")
    var dtype = "bf16"

    @Option(help: "A directory whose tokenizer files are copied. Tiny presets take their vocabulary from it.")
    var tokenizer: String?

    @Option(help: "Largest file, in bytes.")
    var shardBytes = ShardPlan.standardByteCountMax

    func run() throws {
        let type = try elementType(dtype)
        try reporting(ExitStatus.badInput) {
            let initializer = try CheckpointInitializer(
                preset: ModelPreset(named: preset), layerCount: layers, seed: seed, storageType: type,
                shardByteCountMax: shardBytes, tokenizerDirectory: tokenizer.map { URL(fileURLWithPath: $0) })
            try initializer.write(to: URL(fileURLWithPath: directory))
            let summary = CheckpointSummary(try Checkpoint(directory: URL(fileURLWithPath: directory)))
            print(
                "\(directory): \(preset), \(Format.count(summary.parameters.total)) parameters, "
                    + "\(Format.bytes(summary.storedByteCount))")
        }
    }
}

struct ModelInspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show the architecture and the sizes of a checkpoint or a GGUF file.",
        aliases: ["show"])

    @Argument(help: "A checkpoint directory, or a .gguf file.")
    var directory: String

    func run() throws {
        try reporting(ExitStatus.badInput) {
            if directory.hasSuffix(".gguf") { return try ModelInspect.show(GGUFFile(URL(fileURLWithPath: directory))) }
            let checkpoint = try Checkpoint(directory: URL(fileURLWithPath: directory))
            let summary = CheckpointSummary(checkpoint)
            let c = summary.configuration
            print("\(directory): \(c.architecture)")
            print(
                "  layers \(c.layerCount), hidden \(c.hiddenSize), heads \(c.attentionHeadCount)/"
                    + "\(c.keyValueHeadCount) x \(c.headSize), vocabulary \(c.vocabularySize), context "
                    + "\(c.maxPositionEmbeddings)\(c.tieWordEmbeddings ? ", tied head" : "")")
            if let experts = c.experts {
                print(
                    "  experts \(experts.expertCount), \(experts.expertsPerToken) per token, "
                        + "\(Format.bytes(summary.parametersPerExpert * (c.storageType ?? .bfloat16).byteCount)) each, layout "
                        + "\(checkpoint.expertLayout)")
            }
            for note in checkpoint.notes { print("  \(note)") }
            print(
                "  parameters \(Format.count(summary.parameters.total)), active per token "
                    + "\(Format.count(summary.parameters.active))")
            print("  key/value cache \(Format.bytes(summary.keyValueByteCountPerToken)) per token (bf16)")
            print(
                "  \(Format.pad("kind", 12)) \(Format.pad("tensors", 9, right: true)) "
                    + "\(Format.pad("parameters", 16, right: true)) \(Format.pad("stored", 12, right: true))")
            for row in summary.rows {
                print(
                    "  \(Format.pad(row.kind.rawValue, 12)) \(Format.pad(String(row.tensorCount), 9, right: true)) "
                        + "\(Format.pad(String(row.parameterCount), 16, right: true)) "
                        + Format.pad(Format.bytes(row.byteCount), 12, right: true))
            }
        }
    }
}

struct ModelVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check every file of a checkpoint: headers, index, shapes, finite values; print SHA-256 sums.")

    @Argument(help: "A checkpoint directory.")
    var directory: String

    func run() throws {
        let report = try reporting(ExitStatus.badInput) {
            try CheckpointVerifier.verify(URL(fileURLWithPath: directory))
        }
        for file in report.files { print("\(file.hash)  \(file.name)  \(Format.bytes(file.byteCount))") }
        for problem in report.problems { complain(problem.description) }
        if !report.isValid { throw ExitStatus.badInput }
        print("\(directory): valid")
    }
}

struct ModelExport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Copy a checkpoint without its optimizer state, in the released layout, for other programs.")

    @Argument(help: "A checkpoint directory, or a training run (then its last checkpoint).")
    var source: String

    @Argument(help: "The directory to make. It must not exist.")
    var target: String

    @Option(help: "How weights are stored: bf16, fp16 or fp32; otherwise in the type that config.json names.")
    var dtype: String?

    @Option(help: "Largest file, in bytes.")
    var shardBytes = ShardPlan.standardByteCountMax

    func run() throws {
        let type = try dtype.map(elementType)
        try reporting(ExitStatus.badInput) {
            let model = URL(fileURLWithPath: source).appendingPathComponent("model", isDirectory: true)
            let isRun = FileManager.default.fileExists(atPath: model.path)
            let directory = isRun ? model.resolvingSymlinksInPath() : URL(fileURLWithPath: source)
            let checkpoint = try Checkpoint(directory: directory)
            for note in checkpoint.notes { complain("\(source): \(note)") }
            var export = CheckpointExport(checkpoint)
            export.elementType = type
            export.shardByteCountMax = shardBytes
            try export.write(to: URL(fileURLWithPath: target))
            let summary = CheckpointSummary(try Checkpoint(directory: URL(fileURLWithPath: target)))
            print(
                "\(target): \(Format.count(summary.parameters.total)) parameters, "
                    + "\(Format.bytes(summary.storedByteCount))")
        }
    }
}

/// The type of `--dtype`.
private func elementType(_ name: String) throws -> ElementType {
    guard let type = ["bf16": ElementType.bfloat16, "fp16": .float16, "fp32": .float32][name] else {
        complain("--dtype \(name): choose bf16, fp16 or fp32")
        throw ExitStatus.usage
    }
    return type
}
