// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Which file of a checkpoint directory holds which tensor: `model.safetensors.index.json`, or a single
/// `model.safetensors`. Reading one checks the header of every file against it, without mapping any.
package struct CheckpointIndex: Sendable {
    /// A file of the checkpoint.
    package struct Shard: Sendable {
        package let name: String
        package let header: SafetensorsHeader
        package let fileByteCount: Int
    }

    /// The name of a checkpoint in one file.
    package static let singleFileName = "model.safetensors"
    package static let indexFileName = "model.safetensors.index.json"
    /// Bounds on the index file: 235B-A22B's has 3.8 MB and 118 shards.
    package static let fileByteCountMax = 256 << 20
    package static let shardCountMax = 10_000

    package let directory: URL
    /// Sorted by name.
    package let shards: [Shard]
    /// `metadata.total_size`: bytes of all tensors, or nil when there is no index.
    package let totalByteCount: Int?
    /// Position in `shards` by tensor name.
    private let shardOfTensor: [String: Int]

    /// - Throws: `inconsistentCheckpoint`, `malformedFile`, `malformedJSON`, `fileSystem`, `limitExceeded`.
    package init(directory: URL) throws {
        self.directory = directory
        let indexURL = directory.appendingPathComponent(CheckpointIndex.indexFileName)
        let singleURL = directory.appendingPathComponent(CheckpointIndex.singleFileName)
        var totalByteCount: Int?
        var shards: [Shard] = []
        var shardOfTensor: [String: Int] = [:]
        // Where both exist transformers takes the single file; so does Apus.
        if SystemCall.exists(singleURL.path) {
            let (header, size) = try SafetensorsFile.readHeader(singleURL)
            shards = [Shard(name: CheckpointIndex.singleFileName, header: header, fileByteCount: size)]
            for entry in header.entries { shardOfTensor[entry.name] = 0 }
        } else if SystemCall.exists(indexURL.path) {
            let (weightMap, total) = try CheckpointIndex.readIndex(indexURL)
            totalByteCount = total
            let names = Set(weightMap.map(\.shard)).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            guard names.count <= CheckpointIndex.shardCountMax else {
                throw CheckpointError(
                    .limitExceeded,
                    "names \(names.count) shards, at most \(CheckpointIndex.shardCountMax) "
                        + "are read", file: indexURL.path)
            }
            for name in names { shards.append(try CheckpointIndex.readShard(name, of: directory)) }
            let positions = Dictionary(
                uniqueKeysWithValues: names.enumerated().map { ($0.element, $0.offset) })
            for (tensor, shard) in weightMap { shardOfTensor[tensor] = positions[shard]! }
        } else {
            throw CheckpointError(
                .notFound,
                "has neither \(CheckpointIndex.singleFileName) nor \(CheckpointIndex.indexFileName)",
                file: directory.path,
                remedy: "give the directory of a Hugging Face checkpoint in safetensors form")
        }
        self.shards = shards
        self.totalByteCount = totalByteCount
        self.shardOfTensor = shardOfTensor
        try checkAgreement()
    }

    private static func readIndex(
        _ url: URL
    ) throws -> (weightMap: [(tensor: String, shard: String)], totalByteCount: Int?) {
        let json = try JSONValue.read(url, limit: fileByteCountMax)
        guard case .object(let members)? = json["weight_map"] else {
            throw CheckpointError(
                .malformedJSON, "field 'weight_map' is missing or no object", file: url.path,
                remedy: "fetch the index again")
        }
        let map = try members.map { member in
            guard case .string(let shard) = member.value else {
                throw CheckpointError(
                    .malformedJSON, "the file in 'weight_map' should be a string, not \(member.value.kind)",
                    file: url.path, tensor: member.key)
            }
            // A shard lives in the directory of its index: no path may lead elsewhere.
            guard !shard.isEmpty, !shard.contains("/"), shard != ".", shard != "..", !shard.contains("\0")
            else {
                throw CheckpointError(
                    .malformedJSON, "'weight_map' names the file \"\(shard)\"", file: url.path,
                    tensor: member.key,
                    remedy: "a shard must be a plain file name")
            }
            return (member.key, shard)
        }
        switch json["metadata"]?["total_size"] {
        case .integer(let total)?: return (map, total)
        // transformers has written it as a float at times.
        case .real(let total)?: return (map, Int(exactly: total))
        default: return (map, nil)
        }
    }

    private static func readShard(_ name: String, of directory: URL) throws -> Shard {
        let url = directory.appendingPathComponent(name)
        guard SystemCall.exists(url.path) else {
            throw CheckpointError(
                .inconsistentCheckpoint, "the index names this shard, but there is no such file",
                file: url.path,
                remedy: "fetch the missing shard")
        }
        let (header, size) = try SafetensorsFile.readHeader(url)
        return Shard(name: name, header: header, fileByteCount: size)
    }

    /// Index and headers must name the same tensors in the same files, and the same total.
    private func checkAgreement() throws {
        var byteCount = 0
        for (position, shard) in shards.enumerated() {
            for entry in shard.header.entries {
                byteCount += entry.dataRange.count
                guard let indexed = shardOfTensor[entry.name] else {
                    throw disagreement(entry.name, "is in \(shard.name), but the index does not name it")
                }
                guard indexed == position else {
                    throw disagreement(
                        entry.name, "is in \(shard.name), but the index expects it in \(shards[indexed].name)"
                    )
                }
            }
        }
        let headerCount = shards.reduce(0) { $0 + $1.header.entries.count }
        if headerCount != shardOfTensor.count {
            let missing = shardOfTensor.filter { shards[$0.value].header[$0.key] == nil }
                .min { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            if let missing {
                throw disagreement(
                    missing.key, "the index expects it in \(shards[missing.value].name), which lacks it")
            }
        }
        if let totalByteCount, totalByteCount != byteCount {
            throw CheckpointError(
                .inconsistentCheckpoint,
                "'metadata.total_size' is \(totalByteCount), the shards hold \(byteCount) bytes of tensors",
                file: directory.appendingPathComponent(CheckpointIndex.indexFileName).path,
                remedy: "index and shards come from different checkpoints: fetch both again")
        }
    }

    private func disagreement(_ tensor: String, _ message: String) -> CheckpointError {
        CheckpointError(
            .inconsistentCheckpoint, message, file: directory.path, tensor: tensor,
            remedy: "index and shards come from different checkpoints: fetch both again")
    }

    /// Names of all tensors, sorted bytewise.
    package var tensorNames: [String] {
        shardOfTensor.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Whether a tensor of this name is stored.
    package func contains(_ name: String) -> Bool { shardOfTensor[name] != nil }

    /// Where a tensor is: the position of its shard in ``shards`` and its entry there.
    package func locate(_ name: String) -> (shard: Int, entry: SafetensorsHeader.Entry)? {
        guard let shard = shardOfTensor[name], let entry = shards[shard].header[name] else { return nil }
        return (shard, entry)
    }

    /// The text of an index file as transformers writes it.
    package static func json(weightMap: [(tensor: String, shard: String)], totalByteCount: Int) -> JSONValue {
        .object([
            .init("metadata", .object([.init("total_size", .integer(totalByteCount))])),
            .init("weight_map", .object(weightMap.map { .init($0.tensor, .string($0.shard)) })),
        ])
    }
}
