// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Where a checkpoint or a run comes from, as the `lineage.json` and stage records of its ancestors say.
package struct Lineage {
    /// One ancestor, or the thing itself.
    package struct Line: Equatable, Sendable {
        package let depth: Int
        package let text: String
    }

    /// Runs already shown: models are often shared.
    private var seen: Set<String> = []
    private var lines: [Line] = []

    private init() {}

    /// - Parameter directory: a run, a stage of a pipeline, or a checkpoint.
    /// - Throws: ``CurationError`` where nothing is known.
    package static func of(_ directory: URL) throws -> [Line] {
        var lineage = Lineage()
        let url = directory.resolvingSymlinksInPath().standardizedFileURL
        lineage.add(run(of: url), depth: 0)
        guard !lineage.lines.isEmpty else {
            throw CurationError("\(directory.path): has no lineage.json, manifest.json or stage record")
        }
        return lineage.lines
    }

    /// A checkpoint of a run (`RUN/checkpoints/…`, `RUN/model`) stands for its run.
    private static func run(of url: URL) -> URL {
        var candidate = url
        for _ in 0..<3 {
            if FileManager.default.fileExists(atPath: candidate.appendingPathComponent("lineage.json").path) {
                return candidate
            }
            candidate = candidate.deletingLastPathComponent()
        }
        return url
    }

    private mutating func add(_ url: URL, depth: Int) {
        let name = url.lastPathComponent
        let pipeline = url.deletingLastPathComponent()
        let record = StageRecord.read(name, in: pipeline)
        let own = Self.json(url.appendingPathComponent("lineage.json"))
        guard record != nil || own != nil else { return }
        var parts: [String] = []
        for key in ["job", "parent", "policy", "teacher", "scorer", "judge", "reward_model", "source", "state", "data"]
        {
            if let hash = own?[key] as? String { parts.append("\(key) \(hash.prefix(12))") }
        }
        if let step = own?["step"] as? Int { parts.append("step \(step)") }
        if let record { parts.append("recipe \(record.recipe.prefix(12))") }
        guard seen.insert(url.path).inserted else {
            return lines.append(Line(depth: depth, text: "\(name) (as above)"))
        }
        lines.append(Line(depth: depth, text: "\(name): \(parts.joined(separator: ", "))"))
        for input in (record?.inputs.keys.sorted() ?? []) {
            add(pipeline.appendingPathComponent(input, isDirectory: true), depth: depth + 1)
        }
    }

    private static func json(_ url: URL) -> [String: Any]? {
        (try? Data(contentsOf: url)).flatMap { try? JSONSerialization.jsonObject(with: $0) as? [String: Any] }
    }
}
