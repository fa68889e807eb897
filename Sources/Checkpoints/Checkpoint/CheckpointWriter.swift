// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Tensors

/// Writes a checkpoint directory in the released form: per-expert names, shards, index, config.json.
///
/// Everything goes to a temporary directory beside the target, which is reserved in full at the start and renamed
/// at the end, after all of it has been flushed. A writer that is dropped leaves nothing. The bytes depend on the
/// weights alone.
package final class CheckpointWriter: Sendable {
    package let configuration: Qwen3Configuration
    package let plan: ShardPlan
    /// What has to be written, in a good order; other orders work too.
    package let tensors: [TensorDescription]
    private let directory: DurableDirectory
    private let writers: [SafetensorsWriter]
    private let shardOfTensor: [String: Int]

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
        let elementType = configuration.storageType ?? .bfloat16
        configuration.storageType = elementType
        self.configuration = configuration
        tensors = CheckpointWriter.tensors(of: configuration, storesRedundantHead: storesRedundantHead)
        let plan = try ShardPlan(tensors, byteCountMax: shardByteCountMax)
        self.plan = plan
        let directory = try DurableDirectory(target)
        self.directory = directory
        do {
            writers = try plan.shards.map { shard in
                try SafetensorsWriter(
                    directory.temporary.appendingPathComponent(shard.name), tensors: shard.tensors)
            }
        } catch {
            directory.abandon()
            throw error
        }
        var shardOfTensor: [String: Int] = [:]
        for (index, shard) in plan.shards.enumerated() {
            for tensor in shard.tensors { shardOfTensor[tensor.name] = index }
        }
        self.shardOfTensor = shardOfTensor
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
    package func append(_ name: String, _ bytes: UnsafeRawBufferPointer) throws {
        guard let shard = shardOfTensor[name] else {
            throw CheckpointError(
                .invalidOption, "the checkpoint was not declared to hold it", file: directory.target.path,
                tensor: name)
        }
        try writers[shard].append(name, bytes)
    }

    /// Adds a small text file, for example of the tokenizer.
    package func add(_ name: String, _ text: String) throws {
        try DurableFile.write(text, to: directory.temporary.appendingPathComponent(name))
    }

    /// Copies those of the files of a tokenizer that `source` has.
    /// - Throws: `notFound` when there is neither tokenizer.json nor vocab.json.
    package func copyTokenizer(from source: URL) throws {
        let names = TokenizerFacts.fileNames.filter { SystemCall.exists(source.appendingPathComponent($0).path) }
        guard names.contains(TokenizerFacts.mainFileName) || names.contains("vocab.json") else {
            throw TokenizerFacts.missing(source)
        }
        for name in names {
            let url = source.appendingPathComponent(name)
            let bytes = try SmallFile.read(url, limit: TokenizerFacts.fileByteCountMax)
            try DurableFile.write(bytes, to: directory.temporary.appendingPathComponent(name))
        }
    }

    /// Flushes everything, writes config, generation config and index, and gives the directory its name.
    /// - Throws: `invalidOption` when bytes are missing, `targetExists`, `diskFull`, `fileSystem`.
    package func finish() throws {
        do {
            for writer in writers { try writer.finish() }
            if plan.shards.count > 1 {
                let map = plan.shards.flatMap { shard in
                    shard.tensors.map { (tensor: $0.name, shard: shard.name) }
                }
                let index = CheckpointIndex.json(weightMap: map, totalByteCount: plan.totalByteCount)
                try add(CheckpointIndex.indexFileName, index.prettyPrinted() + "\n")
            }
            try add("config.json", configuration.fileText)
            if configuration.generation != GenerationDefaults() {
                try add("generation_config.json", configuration.generation.fileText)
            }
            try directory.commit()
        } catch {
            abandon()
            throw error
        }
    }

    /// Gives up; nothing remains.
    package func abandon() {
        for writer in writers { writer.abandon() }
        directory.abandon()
    }
}
