// SPDX-License-Identifier: Apache-2.0

/// Which tensor goes into which file: tensors in transformers' order, a new file whenever the next tensor would
/// push the current one over the limit (`split_torch_state_dict_into_shards`). With 4·10⁹ bytes this gives the
/// shards of the released models.
package struct ShardPlan: Sendable {
    /// A file to be written.
    package struct Shard: Sendable {
        package let name: String
        package let tensors: [TensorDescription]
    }

    package static let standardByteCountMax = 4_000_000_000
    /// All shards are open at once while a checkpoint is written.
    package static let shardCountMax = 512

    package let shards: [Shard]
    /// Bytes of all tensors.
    package let totalByteCount: Int

    /// - Throws: `invalidOption` when the limit would need more than ``shardCountMax`` files.
    package init(_ tensors: [TensorDescription], byteCountMax: Int = standardByteCountMax) throws {
        var groups: [[TensorDescription]] = [[]]
        var (size, total) = (0, 0)
        for tensor in tensors {
            if size + tensor.byteCount > byteCountMax, !groups[groups.count - 1].isEmpty {
                groups.append([])
                size = 0
            }
            groups[groups.count - 1].append(tensor)
            size += tensor.byteCount
            total += tensor.byteCount
        }
        guard groups.count <= ShardPlan.shardCountMax else {
            throw CheckpointError(
                .invalidOption,
                "shards of \(byteCountMax) bytes would make \(groups.count) files, at most "
                    + "\(ShardPlan.shardCountMax) are written", remedy: "use larger shards")
        }
        let count = groups.count
        shards = groups.enumerated().map { index, tensors in
            let name =
                count == 1
                ? CheckpointIndex.singleFileName
                : "model-\(ShardPlan.fiveDigits(index + 1))-of-\(ShardPlan.fiveDigits(count)).safetensors"
            return Shard(name: name, tensors: tensors)
        }
        totalByteCount = total
    }

    private static func fiveDigits(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
}
