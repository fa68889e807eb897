// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Writes the tensors and the small files of a checkpoint directory: shards, their index, texts.
///
/// Everything goes to a temporary directory beside the target, which is reserved in full at the start and renamed
/// at the end, after all of it has been flushed. A writer that is dropped leaves nothing.
package final class ShardedWriter: Sendable {
    package let plan: ShardPlan
    private let directory: DurableDirectory
    private let writers: [SafetensorsWriter]
    private let shardOfTensor: [String: Int]

    /// - Parameters:
    ///   - target: must not exist.
    ///   - tensors: what has to be written, in the order in which they fill the shards.
    ///   - shardByteCountMax: bytes of tensors in one file.
    /// - Throws: `targetExists`, `diskFull`, `invalidOption`, `fileSystem`.
    package init(_ target: URL, tensors: [TensorDescription], shardByteCountMax: Int) throws {
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
        let names = TokenizerFacts.files(in: source)
        guard names.contains(TokenizerFacts.mainFileName) || names.contains("vocab.json") else {
            throw TokenizerFacts.missing(source)
        }
        for name in names {
            let url = source.appendingPathComponent(name)
            let bytes = try SmallFile.read(url, limit: TokenizerFacts.fileByteCountMax)
            let target = directory.temporary.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
            try DurableFile.write(bytes, to: target)
        }
    }

    /// Flushes everything, writes the index and gives the directory its name.
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
