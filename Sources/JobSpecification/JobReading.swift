// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// A job as it was read: its settings, and where each of them comes from.
package struct JobReading: Sendable {
    /// A setting of the resolved job.
    package struct Setting: Equatable, Sendable {
        /// Where a setting comes from.
        package enum Origin: Equatable, Sendable {
            case line(Int)
            /// As the user wrote it.
            case override(String)
            /// Of the checkpoint; the text says what of it.
            case checkpoint(String)
            /// Will be found from the checkpoint by who can look at it.
            case open
            case standard
        }

        /// Such as `sampling.top_p`.
        package let path: String
        package let value: ResolvedValue
        package let origin: Origin
    }

    package let job: Job
    /// In the order of the table.
    package let settings: [Setting]
    /// The job for a coordinator: every setting, but for those that only who can look at the checkpoint finds.
    package let submissionYAML: String

    /// Reads a job file. See ``Job/read(_:overrides:overridesDirectory:rewardNames:rewardProblem:checkpoint:)``.
    /// - Parameter checkpoint: looks at the model, from which some defaults derive; without it they stay open.
    package static func read(
        _ url: URL?, overrides: [JobOverride] = [], overridesDirectory: String? = nil, rewardNames: [String]? = nil,
        rewardProblem: RewardProblem? = nil, checkpoint: CheckpointLook? = nil
    ) throws(JobError) -> JobReading {
        do throws(JobError) {
            let directory = overridesDirectory ?? FileManager.default.currentDirectoryPath
            let bases = BaseDirectories(
                jobFile: url?.deletingLastPathComponent().path ?? directory, overrides: directory)
            return try parse(
                try url.map { url throws(JobError) in try Job.text(of: url) } ?? "kind: rollout", overrides: overrides,
                bases: bases, rewardNames: rewardNames, rewardProblem: rewardProblem, checkpoint: checkpoint)
        } catch {
            throw url.map { error.inFile($0.path) } ?? error
        }
    }

    /// Reads the text of a job file.
    /// - Parameter bases: where relative paths count from; nil leaves paths as written.
    package static func parse(
        _ text: String, overrides: [JobOverride] = [], bases: BaseDirectories? = nil, rewardNames: [String]? = nil,
        rewardProblem: RewardProblem? = nil, checkpoint: CheckpointLook? = nil
    ) throws(JobError) -> JobReading {
        var node = try YAMLNode.parse(text)
        // An override may name the kind: it decides what the names of all others mean.
        for override in overrides where override.path == ["kind"] { node = try node.applying(override) }
        let kind = try Job.kind(YAMLReader(node))
        let table = JobSchema.keys(of: kind)
        node = try node.canonical(.section(table), kind)
        for override in overrides where override.path != ["kind"] {
            let override = try override.canonical(kind, over: node)
            if override.path.count > 1 { node = node.expandingShort(override.path[0], kind) }
            node = try node.applying(override)
        }
        if let bases { node = node.resolvingPaths(.section(table), kind, bases) }
        let defaults = CheckpointDefaults(node, kind)
        var open = defaults.open.map { $0.joined(separator: ".") }
        if !open.isEmpty, let path = defaults.modelPath, let facts = checkpoint?(path) {
            for found in defaults.derived(facts) {
                node = node.expandingShort(found.path[0], kind)
                node = try node.applying(
                    JobOverride(path: found.path, value: found.value.node(.checkpoint(found.reason))))
            }
            // What the checkpoint says nothing of has the table's default.
            open = []
        }
        let fields = try YAMLReader(node).of(kind).fields(table)
        let check = rewardNames.map { RewardCheck(names: $0, problem: rewardProblem ?? { _, _ in nil }) }
        let job: Job =
            switch kind {
            case .score: .score(try ScoreJob(fields))
            case .train: .train(try TrainJob(fields, rewardCheck: check))
            default: .rollout(try RolloutJob(fields, rewardCheck: check))
            }
        return JobReading(
            job: job, settings: settings(job.resolved, node, kind, open),
            submissionYAML: job.resolved.removing(Set(open)).yaml)
    }

    private static func settings(
        _ resolved: ResolvedValue, _ node: YAMLNode, _ kind: JobFileKind, _ open: [String]
    ) -> [Setting] {
        let order = Dictionary(
            JobSchema.all.enumerated().map { ($0.element.bare, $0.offset) }, uniquingKeysWith: { first, _ in first })
        return resolved.leaves.map { path, value in
            let name = path.joined(separator: ".")
            let origin: Setting.Origin =
                if open.contains(name) { .open } else {
                    switch node.origin(at: path, kind) {
                    case .line(let line)?: .line(line)
                    case .override(let source)?: .override(source)
                    case .checkpoint(let reason)?: .checkpoint(reason)
                    case nil: .standard
                    }
                }
            return Setting(path: name, value: value, origin: origin)
        }.sorted { (order[$0.path] ?? .max, $0.path) < (order[$1.path] ?? .max, $1.path) }
    }
}

extension YAMLNode {
    /// Where the value at a path was written; nil where nothing is.
    fileprivate func origin(at path: [String], _ kind: JobFileKind) -> Origin? {
        var node = self
        for (index, key) in path.enumerated() {
            guard case .mapping(let entries) = node.content else {
                // A single value in a section's place says one key of it.
                return JobSchema.type(at: path[..<index], in: kind)?.short?.name == key ? node.origin : nil
            }
            guard let entry = entries.first(where: { $0.key == key }), !entry.value.isNull else { return nil }
            node = entry.value
        }
        return node.origin
    }
}

extension ResolvedValue {
    /// Values that are no mappings, with their paths.
    fileprivate var leaves: [(path: [String], value: ResolvedValue)] {
        guard case .mapping(let members) = self else { return [([], self)] }
        return members.flatMap { key, value in value.leaves.map { ([key] + $0.path, $0.value) } }
    }

    /// Without the values at these paths.
    fileprivate func removing(_ paths: Set<String>, at prefix: String = "") -> ResolvedValue {
        guard case .mapping(let members) = self, !paths.isEmpty else { return self }
        var kept: [String: ResolvedValue] = [:]
        for (key, value) in members where !paths.contains(prefix + key) {
            kept[key] = value.removing(paths, at: "\(prefix)\(key).")
        }
        return .mapping(kept)
    }

    /// The value as it would be read.
    fileprivate func node(_ origin: YAMLNode.Origin) -> YAMLNode {
        switch self {
        case .list(let values): YAMLNode(.sequence(values.map { $0.node(origin) }), origin)
        case .mapping(let members):
            YAMLNode(
                .mapping(
                    members.sorted { $0.key < $1.key }.map {
                        YAMLNode.Entry(key: $0.key, keyOrigin: origin, value: $0.value.node(origin))
                    }), origin)
        case .string(let text): YAMLNode(.scalar(text, isPlain: false), origin)
        case .integer, .number, .boolean: YAMLNode(.scalar(inline, isPlain: true), origin)
        }
    }
}
