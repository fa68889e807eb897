// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Which file of a checkpoint directory holds which tensor: `model.safetensors.index.json`, or a single
/// `model.safetensors`. Reading one reads the header of every file, without mapping any.
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
    /// `metadata.total_size`: bytes of all tensors as the index has it, which may be stale; nil when there is no index.
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
        var indexed: [String: Int] = [:]
        // Where both exist transformers takes the single file; so does Apus.
        if SystemCall.exists(singleURL.path) {
            shards = [try CheckpointIndex.readShard(CheckpointIndex.singleFileName, of: directory)]
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
            for (tensor, shard) in weightMap { indexed[tensor] = positions[shard]! }
        } else {
            throw CheckpointError(
                .notFound,
                "has neither \(CheckpointIndex.singleFileName) nor \(CheckpointIndex.indexFileName)",
                file: directory.path,
                remedy: CheckpointIndex.remedyWithoutWeights(directory))
        }
        self.shards = shards
        self.totalByteCount = totalByteCount
        shardOfTensor = try CheckpointIndex.tensors(of: shards, indexed, directory)
    }

    private static func remedyWithoutWeights(_ directory: URL) -> String {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        let pickles = [".bin", ".pth", ".pt"]
        if let file = names.sorted().first(where: { name in pickles.contains(where: name.hasSuffix) }) {
            return "its weights are pickled (\(file)): load it with transformers and save_pretrained it again"
        }
        if let file = names.sorted().first(where: { $0.hasSuffix(".gguf") }) {
            return "convert its GGUF file: apus model import \(directory.appendingPathComponent(file).path) DIR"
        }
        return "give the directory of a Hugging Face checkpoint in safetensors form; if this is one, fetch it again"
    }

    /// Where each tensor is. The headers say so, as for transformers, which opens every file that the index names and takes
    /// what is there: an index that an editor left behind the files (a total, a tensor more or less) harms nobody. It only
    /// decides between two files that have a tensor of the same name.
    private static func tensors(
        of shards: [Shard], _ indexed: [String: Int], _ directory: URL
    ) throws -> [String: Int] {
        var result: [String: Int] = [:]
        for (position, shard) in shards.enumerated() {
            for entry in shard.header.entries {
                guard let other = result[entry.name] else {
                    result[entry.name] = position
                    continue
                }
                guard let chosen = indexed[entry.name], chosen == position || chosen == other else {
                    throw CheckpointError(
                        .inconsistentCheckpoint,
                        "is in \(shards[other].name) and in \(shard.name), and the index names neither",
                        file: directory.path, tensor: entry.name,
                        remedy: "index and shards come from different checkpoints: fetch both again")
                }
                result[entry.name] = chosen
            }
        }
        return result
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
            guard let name = plainName(shard, url.deletingLastPathComponent()) else {
                throw CheckpointError(
                    .malformedJSON, "'weight_map' names the file \"\(shard)\", which is not in this directory",
                    file: url.path, tensor: member.key,
                    remedy: "a shard must be a file beside the index, named without its path")
            }
            return (member.key, name)
        }
        switch json["metadata"]?["total_size"] {
        case .integer(let total)?: return (map, total)
        // transformers has written it as a float at times.
        case .real(let total)?: return (map, Int(exactly: total))
        default: return (map, nil)
        }
    }

    /// The name of a shard in the directory of its index: no path may lead elsewhere. nil: it does.
    private static func plainName(_ path: String, _ directory: URL) -> String? {
        var name = path[...]
        let root = directory.standardizedFileURL.path + "/"
        if name.hasPrefix(root) { name = name.dropFirst(root.count) }
        while name.hasPrefix("./") { name = name.dropFirst(2) }
        guard !name.isEmpty, !name.contains("/"), name != ".", name != "..", !name.contains("\0") else { return nil }
        return String(name)
    }

    private static func readShard(_ name: String, of directory: URL) throws -> Shard {
        let url = directory.appendingPathComponent(name)
        guard SystemCall.exists(url.path) else {
            throw CheckpointError(
                .inconsistentCheckpoint, "the index names this shard, but there is no such file",
                file: url.path,
                remedy: "fetch the missing shard")
        }
        guard FileManager.default.fileExists(atPath: url.path) else { throw CheckpointDirectory.danglingLink(url) }
        let (header, size) = try SafetensorsFile.readHeader(url)
        return Shard(name: name, header: header, fileByteCount: size)
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
