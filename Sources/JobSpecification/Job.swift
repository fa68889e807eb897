// SPDX-License-Identifier: Apache-2.0
internal import Crypto
package import Foundation

/// What is wrong with a reward's options; nil when they are fine. The registry lies in a layer above.
package typealias RewardProblem = @Sendable (_ name: String, _ options: [String: String]) -> String?

/// A job file, read, checked and resolved.
package enum Job: Equatable, Sendable {
    case rollout(RolloutJob)
    case score(ScoreJob)
    case train(TrainJob)

    /// Values of `kind`.
    package static let kinds = [JobFileKind.rollout, .score, .train].map(\.rawValue)

    /// Reads a job file and applies `overrides` in order (environment first, command line after it). Relative
    /// paths count from the job file's directory, those in overrides from the current directory; the job has
    /// whole paths.
    /// - Parameters:
    ///   - url: nil where the overrides are the whole job.
    ///   - overridesDirectory: where relative paths in overrides count from instead.
    ///   - rewardNames: the registry's names, against which `reward` is checked; nil accepts any.
    ///   - rewardProblem: what is wrong with a known reward's options; nil when they are fine.
    ///   - checkpoint: looks at the model, from which some defaults derive.
    /// - Throws: ``JobError`` with the file, the line and the key path.
    package static func read(
        _ url: URL?, overrides: [JobOverride] = [], overridesDirectory: String? = nil, rewardNames: [String]? = nil,
        rewardProblem: RewardProblem? = nil, checkpoint: CheckpointLook? = nil
    ) throws(JobError) -> Job {
        try JobReading.read(
            url, overrides: overrides, overridesDirectory: overridesDirectory, rewardNames: rewardNames,
            rewardProblem: rewardProblem, checkpoint: checkpoint
        ).job
    }

    /// Reads the text of a job file. See ``read(_:overrides:overridesDirectory:rewardNames:rewardProblem:checkpoint:)``.
    /// - Parameter bases: where relative paths count from; nil leaves paths as written.
    package static func parse(
        _ text: String, overrides: [JobOverride] = [], bases: BaseDirectories? = nil,
        rewardNames: [String]? = nil,
        rewardProblem: RewardProblem? = nil, checkpoint: CheckpointLook? = nil
    ) throws(JobError) -> Job {
        try JobReading.parse(
            text, overrides: overrides, bases: bases, rewardNames: rewardNames, rewardProblem: rewardProblem,
            checkpoint: checkpoint
        ).job
    }

    /// Reads ``resolvedJSON`` (or ``resolvedYAML``), as a journal or a worker does.
    package init(resolved text: String) throws(JobError) { self = try Job.parse(text) }

    /// The kind decides which keys are valid, so it is looked up before any of them is checked.
    static func kind(_ reader: YAMLReader) throws(JobError) -> JobFileKind {
        guard case .mapping(let entries) = reader.node.content else {
            throw reader.error(
                .wrongType, "a job file is a mapping that starts with 'kind:', got \(reader.node.kind)")
        }
        guard let entry = entries.first(where: { $0.key == "kind" }), !entry.value.isNull else {
            // A misspelt 'kind' is told apart from an absent one by looking at the keys.
            _ = try reader.fields(JobSchema.jobTop)
            throw JobError(.missingKey, "kind: is required, one of \(kinds.joined(separator: ", "))")
        }
        let value = YAMLReader(entry.value, path: "kind")
        let text = try value.text()
        let kind = JobFileKind(rawValue: text)
        if kind == .pipeline || kind == .suite {
            throw value.error(
                .invalidValue, "a pipeline or suite is many jobs: apus run takes it, and no other command")
        }
        guard let kind else {
            if let method = TrainingMethod(rawValue: text) {
                throw value.error(
                    .invalidValue, "\(method.rawValue) is a method: write kind: train, method: \(method.rawValue)")
            }
            throw value.error(.invalidValue, "'\(text)' is not one of \(kinds.joined(separator: ", "))")
        }
        return kind
    }

    /// The text of a file of settings, read with a limit on its size.
    package static func text(of url: URL) throws(JobError) -> String {
        let handle: FileHandle
        do { handle = try FileHandle(forReadingFrom: url) } catch {
            throw JobError(.fileSystem, "cannot be opened; is the path right and readable?")
        }
        defer { try? handle.close() }
        let data: Data
        do { data = try handle.read(upToCount: YAMLNode.Limits.byteCountMax + 1) ?? Data() } catch {
            throw JobError(.fileSystem, "cannot be read; is it a regular file?")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw JobError(.malformedYAML, "is not UTF-8")
        }
        return text
    }

    package var name: String {
        switch self {
        case .rollout(let job): job.name
        case .score(let job): job.name
        case .train(let job): job.name
        }
    }

    /// Directory that the run is written to.
    package var output: String {
        switch self {
        case .rollout(let job): job.output
        case .score(let job): job.output
        case .train(let job): job.output
        }
    }

    /// The run's `job.yaml`: every setting, defaults included, the same bytes for the same settings. It reads
    /// back as an equal job.
    package var resolvedYAML: String { resolved.yaml }

    /// The same settings as one line of JSON with sorted keys, for journals and messages.
    package var resolvedJSON: String { resolved.json }

    var resolved: ResolvedValue {
        switch self {
        case .rollout(let job): job.resolved
        case .score(let job): job.resolved
        case .train(let job): job.resolved
        }
    }

    /// SHA-256 of ``resolvedYAML``, 64 lowercase hexadecimal digits.
    package var contentHash: String {
        SHA256.hash(data: Data(resolvedYAML.utf8)).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }
}
