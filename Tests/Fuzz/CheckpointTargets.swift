// SPDX-License-Identifier: Apache-2.0
import Foundation

@testable import Checkpoints

let checkpointTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "safetensors",
        seeds: { try files("Tests/Fixtures/safetensors_files", ".safetensors") },
        run: { bytes in
            bytes.withUnsafeBytes { file in
                let prefix = UnsafeRawBufferPointer(rebasing: file.prefix(8))
                guard
                    let count = try? SafetensorsHeader.headerByteCount(prefix, fileByteCount: file.count, file: "f")
                else { return }
                require(8 + count <= file.count, "a header lies within its file")
                let json = UnsafeRawBufferPointer(rebasing: file[8..<8 + count])
                guard let header = try? SafetensorsHeader(json, fileByteCount: file.count, file: "f") else { return }
                for entry in header.entries {
                    require(entry.dataRange.upperBound + header.dataOffset <= file.count, "data lies within its file")
                    require(header[entry.name] == entry, "a tensor is found by its name")
                }
            }
        }),
    FuzzTarget(
        name: "model-configuration",
        seeds: { try files("Tests/Fixtures/models", "config.json") },
        run: { bytes in
            bytes.withUnsafeBytes { file in
                guard let json = try? JSONValue.parse(file, file: "config.json") else { return }
                _ = try? GenerationDefaults(json, file: "generation_config.json")
                guard let model = try? Qwen3Configuration(json, file: "config.json") else { return }
                require(model.layerCount > 0 && model.hiddenSize > 0, "a configuration is one of a model")
            }
        }),
    FuzzTarget(
        name: "gguf",
        seeds: {
            // Headers alone: a mutation of weights reaches no code of its own.
            try files("Tests/Fixtures/gguf", ".gguf").map { file in
                let header = try file.withUnsafeBytes { try GGUFHeader($0, file: "f") }
                return Array(file.prefix(header.tensors.map(\.dataRange.lowerBound).min() ?? file.count))
            }
        },
        run: { bytes in
            bytes.withUnsafeBytes { file in
                guard let header = try? GGUFHeader(file, file: "f") else { return }
                for tensor in header.tensors {
                    require(tensor.dataRange.upperBound <= file.count, "data lie within their file")
                    require(
                        tensor.type.byteCount(shape: tensor.shape) == tensor.dataRange.count, "data have their size")
                }
            }
            fuzzGGUFModel(bytes)
        }),
]

/// What is made of a header: shapes, weights, tokenizer.
private func fuzzGGUFModel(_ bytes: [UInt8]) {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("fuzz-\(getpid()).gguf")
    // Headers without data: the room that their tensors ask for is given, in a file of holes.
    guard FileManager.default.createFile(atPath: url.path, contents: Data(bytes)),
        let handle = try? FileHandle(forWritingTo: url), (try? handle.truncate(atOffset: 1 << 20)) != nil
    else { return }
    defer { unlink(url.path) }
    guard let file = try? GGUFFile(url), (try? GGUFSummary(file)) != nil else { return }
    guard let model = try? GGUFModel(file) else { return }
    require(model.weights.allSatisfy { !$0.shape.isEmpty }, "weights have shapes")
    if let tokenizer = try? GGUFTokenizer(file, rowCount: model.shape.vocabularySize, contextLength: 1) {
        require(tokenizer.tokens.count <= model.shape.vocabularySize, "every token has a row")
        _ = (tokenizer.fileText, tokenizer.configurationText)
    }
}
