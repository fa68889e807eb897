// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import Tokenization

/// Options of commands that run a model in this process.
struct LocalModelOptions: ParsableArguments {
    @Argument(help: "A checkpoint directory.")
    var model: String

    @Option(help: "Arithmetic: bf16 or fp32, whatever the weights are stored as.")
    var compute = "bf16"

    @Option(help: "Compute threads.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "Tokens that the key/value cache holds.")
    var cacheTokens = 8192

    static let pageSize = 32

    /// Loads the model and its tokenizer.
    func load() throws -> LoadedLocalModel {
        guard let type = ComputeType(rawValue: compute) else {
            complain("--compute \(compute): choose bf16 or fp32")
            throw ExitStatus.usage
        }
        guard (1...1024).contains(threads), cacheTokens > 0 else {
            complain("--threads must be 1 to 1024 and --cache-tokens above 0")
            throw ExitStatus.usage
        }
        let directory = URL(fileURLWithPath: model)
        let checkpoint = try Checkpoint(directory: directory)
        for note in checkpoint.notes { complain("\(model): \(note)") }
        let tokenizer = try Tokenizer(directory: checkpoint.directory)
        let configuration = checkpoint.configuration
        guard tokenizer.writtenIDLimit <= configuration.vocabularySize else {
            throw InputError(
                "\(model): the tokenizer has ids up to \(tokenizer.writtenIDLimit - 1) but the model only \(configuration.vocabularySize) "
                    + "rows; they do not belong together")
        }
        let model = try Qwen3Model(checkpoint, compute: type, pool: ComputePool(threadCount: threads))
        let pages = (cacheTokens + Self.pageSize - 1) / Self.pageSize
        let decoder = try CachedDecoder(model, pageCount: pages, pageSize: Self.pageSize)
        return LoadedLocalModel(
            configuration: configuration, tokenizer: tokenizer,
            engine: GenerationEngine(decoder, pageCount: pages, pageSize: Self.pageSize))
    }
}

struct LoadedLocalModel {
    let configuration: Qwen3Configuration
    let tokenizer: Tokenizer
    let engine: GenerationEngine

    /// Steps until every sequence has ended.
    func results() throws -> [GenerationResult] {
        var all: [GenerationResult] = []
        while !engine.isIdle {
            do { all += try engine.step() } catch let error as NotFiniteError {
                throw InputError("\(error): its weights are damaged or have diverged (apus model verify)")
            }
        }
        return all.sorted { $0.id < $1.id }
    }
}

/// Where a model's tokenizer is: in its checkpoint, or in a directory that has nothing else.
func tokenizerDirectory(_ path: String) -> URL {
    let url = URL(fileURLWithPath: path)
    return (try? CheckpointDirectory.resolve(url)) ?? url
}
