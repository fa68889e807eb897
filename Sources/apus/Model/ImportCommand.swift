// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Tensors

/// `apus model import`: a checkpoint from a GGUF file.
struct ModelImport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Make a Hugging Face checkpoint of a GGUF file.",
        discussion: """
            Architectures: \(GGUFModel.Family.allCases.map(\.rawValue).joined(separator: ", ")). Tensor types: \
            \(GGUFTensorType.readable.map(\.name).joined(separator: ", ")). Tokenizer, chat template and configuration \
            come from the file's metadata. Of a split model give the first part, with the others beside it.
            """)

    @Argument(help: "The GGUF file.")
    var file: String

    @Argument(help: "The directory to make. It must not exist.")
    var directory: String

    @Option(help: "How weights are stored: bf16 (bfloat16) or fp32 (float32). Only fp32 keeps every bit.")
    var dtype = "bf16"

    @Option(help: "A directory whose tokenizer files are copied, instead of the tokenizer of the GGUF file.")
    var tokenizer: String?

    @Option(help: "Largest file, in bytes.")
    var shardBytes = ShardPlan.standardByteCountMax

    func run() throws {
        let types: [String: ElementType] = [
            "bf16": .bfloat16, "bfloat16": .bfloat16, "fp32": .float32, "float32": .float32,
        ]
        guard let type = types[dtype] else {
            complain("--dtype \(dtype): choose bf16 or fp32")
            throw ExitStatus.usage
        }
        try reporting(ExitStatus.badInput) {
            let source = try GGUFFile(URL(fileURLWithPath: file))
            var conversion = try GGUFImport(source)
            conversion.elementType = type
            conversion.shardByteCountMax = shardBytes
            conversion.tokenizerDirectory = tokenizer.map { URL(fileURLWithPath: $0) }
            try conversion.write(to: URL(fileURLWithPath: directory))
            let summary = try GGUFSummary(source)
            print(
                "\(directory): \(conversion.model.family.modelType), \(Format.count(summary.elementCount)) parameters "
                    + "as \(type == .bfloat16 ? "bf16" : "fp32") from \(ModelInspect.types(summary))")
            if !summary.hasTemplate, tokenizer == nil { print("  the file has no chat template") }
        }
    }
}

extension ModelInspect {
    /// `Q4_1 210, F32 61`: types and numbers of tensors.
    static func types(_ summary: GGUFSummary) -> String {
        summary.rows.map { "\($0.type.name) \($0.tensorCount)" }.joined(separator: ", ")
    }

    static func show(_ file: GGUFFile) throws {
        let summary = try GGUFSummary(file)
        print(
            "\(file.url.path): GGUF version \(file.header.version), \(summary.architecture ?? "no architecture")"
                + (summary.name.map { ", \"\($0)\"" } ?? ""))
        print(
            "  \(Format.count(summary.elementCount)) parameters, \(Format.bytes(file.byteCount))"
                + (file.partCount > 1 ? " in \(file.partCount) parts" : ""))
        print(
            "  tokenizer \(summary.tokenizer ?? "none"), pre-tokenizer \(summary.preTokenizer ?? "not named"), "
                + "\(summary.tokenCount) tokens, \(summary.hasTemplate ? "with" : "without") a chat template")
        print(
            "  \(Format.pad("type", 12)) \(Format.pad("tensors", 9, right: true)) "
                + "\(Format.pad("parameters", 16, right: true)) \(Format.pad("stored", 12, right: true))")
        for row in summary.rows {
            print(
                "  \(Format.pad(row.type.name, 12)) \(Format.pad(String(row.tensorCount), 9, right: true)) "
                    + "\(Format.pad(String(row.elementCount), 16, right: true)) "
                    + Format.pad(Format.bytes(row.byteCount), 12, right: true))
        }
        do {
            _ = try GGUFImport(file)
            print("  apus model import makes a checkpoint of it")
        } catch {
            print("  apus model import does not take it: \(oneLine(error))")
        }
    }
}
