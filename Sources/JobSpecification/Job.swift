// SPDX-License-Identifier: Apache-2.0
internal import Crypto
package import Foundation

/// A job file, read, checked and resolved.
package enum Job: Equatable, Sendable {
    case rollout(RolloutJob)
    case score(ScoreJob)

    /// Values of `kind`.
    package static let kinds = ["rollout", "score"]

    /// Reads a job file and applies `overrides` in order (environment first, command line after it).
    /// - Parameter rewardNames: the registry's names, against which `reward` is checked; nil accepts any.
    /// - Throws: ``JobError`` with the file, the key path and the line.
    package static func read(
        _ url: URL, overrides: [JobOverride] = [], rewardNames: [String]? = nil
    ) throws(JobError) -> Job {
        do throws(JobError) {
            return try parse(text(of: url), overrides: overrides, rewardNames: rewardNames)
        } catch {
            throw JobError(error.code, error.message, file: url.path)
        }
    }

    /// Reads the text of a job file. See ``read(_:overrides:rewardNames:)``.
    package static func parse(
        _ text: String, overrides: [JobOverride] = [], rewardNames: [String]? = nil
    ) throws(JobError) -> Job {
        var node = try YAMLNode.parse(text)
        for override in overrides { node = try node.applying(override) }
        let reader = YAMLReader(node)
        switch try kind(reader) {
        case "score": return .score(try ScoreJob(reader.fields(ScoreJob.keys)))
        default: return .rollout(try RolloutJob(reader.fields(RolloutJob.keys), rewardNames: rewardNames))
        }
    }

    /// The kind decides which keys are valid, so it is looked up before any of them is checked.
    private static func kind(_ reader: YAMLReader) throws(JobError) -> String {
        guard case .mapping(let entries) = reader.node.content else {
            throw reader.error(.wrongType, "a job file is a mapping that starts with 'kind:', got \(reader.node.kind)")
        }
        guard let entry = entries.first(where: { $0.key == "kind" }), !entry.value.isNull else {
            // A misspelt 'kind' is told apart from an absent one by looking at the keys.
            _ = try reader.fields(RolloutJob.keys + ScoreJob.keys)
            throw JobError(.missingKey, "kind: is required, one of \(kinds.joined(separator: ", "))")
        }
        let value = YAMLReader(entry.value, path: "kind")
        let kind = try value.text()
        guard kinds.contains(kind) else {
            throw value.error(.invalidValue, "'\(kind)' is not one of \(kinds.joined(separator: ", "))")
        }
        return kind
    }

    private static func text(of url: URL) throws(JobError) -> String {
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
        }
    }

    /// The run's `job.yaml`: every setting, defaults included, the same bytes for the same settings. It reads back as
    /// an equal job.
    package var resolvedYAML: String {
        switch self {
        case .rollout(let job): job.resolved.yaml
        case .score(let job): job.resolved.yaml
        }
    }

    /// SHA-256 of ``resolvedYAML``, 64 lowercase hexadecimal digits.
    package var contentHash: String {
        SHA256.hash(data: Data(resolvedYAML.utf8)).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }
}
