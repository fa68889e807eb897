// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Tensors

/// Writes a checkpoint directory in the released form: per-expert names, shards, index, config.json. It appears whole or
/// not at all; the bytes depend on the weights alone.
package final class CheckpointWriter: Sendable {
    package let configuration: Qwen3Configuration
    /// What has to be written, in a good order; other orders work too.
    package let tensors: [TensorDescription]
    private let writer: ShardedWriter

    package var plan: ShardPlan { writer.plan }

    /// - Parameters:
    ///   - target: must not exist.
    ///   - configuration: its `storageType` is the type of all weights (nil: BF16).
    ///   - storesRedundantHead: whether a tied model gets an `lm_head.weight` all the same, as 0.6B and 1.7B do.
    ///   - shardByteCountMax: bytes of tensors in one file.
    /// - Throws: `targetExists`, `diskFull`, `invalidOption`, `invalidConfiguration`, `fileSystem`.
    package init(
        _ target: URL, configuration: Qwen3Configuration, storesRedundantHead: Bool = false,
        shardByteCountMax: Int = ShardPlan.standardByteCountMax
    ) throws {
        try configuration.validate(file: target.appendingPathComponent("config.json").path)
        var configuration = configuration
        configuration.storageType = configuration.storageType ?? .bfloat16
        self.configuration = configuration
        tensors = CheckpointWriter.tensors(of: configuration, storesRedundantHead: storesRedundantHead)
        writer = try ShardedWriter(target, tensors: tensors, shardByteCountMax: shardByteCountMax)
    }

    /// The tensors that a checkpoint of `configuration` stores, in transformers' order.
    package static func tensors(
        of configuration: Qwen3Configuration, storesRedundantHead: Bool
    ) -> [TensorDescription] {
        let includesHead = storesRedundantHead || !configuration.tieWordEmbeddings
        return configuration.parameterTensors(includesHead: includesHead).map {
            TensorDescription(
                name: $0.name.rawValue, elementType: configuration.storageType ?? .bfloat16, shape: $0.shape)
        }
    }

    /// Writes the next bytes of a tensor; see ``SafetensorsWriter/append(_:_:)``.
    package func append(_ name: String, _ bytes: UnsafeRawBufferPointer) throws { try writer.append(name, bytes) }

    /// Adds a small text file.
    package func add(_ name: String, _ text: String) throws { try writer.add(name, text) }

    /// Copies those of the files of a tokenizer that `source` has.
    /// - Throws: `notFound` when there is neither tokenizer.json nor vocab.json.
    package func copyTokenizer(from source: URL) throws { try writer.copyTokenizer(from: source) }

    /// Flushes everything, writes config, generation config and index, and gives the directory its name.
    /// - Throws: `invalidOption` when bytes are missing, `targetExists`, `diskFull`, `fileSystem`.
    package func finish() throws {
        do {
            try add("config.json", configuration.fileText)
            if configuration.generation != GenerationDefaults() {
                try add("generation_config.json", configuration.generation.fileText)
            }
            try writer.finish()
        } catch {
            abandon()
            throw error
        }
    }

    /// Gives up; nothing remains.
    package func abandon() { writer.abandon() }
}
