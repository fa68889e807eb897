// SPDX-License-Identifier: Apache-2.0
//
// People give what they have: the cache of the hub, a file, an adapter, a name. Each is either taken for what was meant
// or answered with what to give instead.
package import Foundation
internal import Glibc

/// Finds the checkpoint directory behind a path.
package enum CheckpointDirectory {
    /// The directory that holds config.json: `url` itself, or of a model's directory in the hub's cache the snapshot that
    /// `refs/main` names.
    /// - Throws: `notFound` or `fileSystem` with what `url` is and what to give instead.
    package static func resolve(_ url: URL) throws(CheckpointError) -> URL {
        let entries: [String]
        switch kind(url.path) {
        case .missing: throw missing(url)
        case .file: throw file(url)
        case .directory:
            let found = try? FileManager.default.contentsOfDirectory(atPath: url.path)
            guard let found else {
                throw CheckpointError(.fileSystem, "cannot be listed", file: url.path, remedy: "check its permissions")
            }
            entries = found.sorted()
        }
        if entries.contains(configuration) { return try withConfiguration(url) }
        if entries.contains("snapshots") { return try snapshot(url) }
        throw CheckpointError(
            .notFound, "\(description(url, entries)), no checkpoint with a \(configuration)", file: url.path,
            remedy: remedy(url, entries))
    }

    private static let configuration = "config.json"

    private enum Kind { case missing, file, directory }

    private static func kind(_ path: String) -> Kind {
        var status = stat()
        guard stat(path, &status) == 0 else { return .missing }
        return status.st_mode & S_IFMT == S_IFDIR ? .directory : .file
    }

    private static func withConfiguration(_ url: URL) throws(CheckpointError) -> URL {
        let file = url.appendingPathComponent(configuration)
        if kind(file.path) == .missing { throw danglingLink(file) }
        return url
    }

    /// A cache holds links to what it has fetched.
    static func danglingLink(_ file: URL) -> CheckpointError {
        CheckpointError(
            .notFound, "is a link to a file that is not there", file: file.path,
            remedy: "the download did not finish or the cache was cleaned: fetch the model again")
    }

    private static func missing(_ url: URL) -> CheckpointError {
        if SystemCall.exists(url.path) { return danglingLink(url) }
        let parent = url.deletingLastPathComponent()
        if kind(parent.path) == .directory {
            return CheckpointError(.notFound, "no such file or directory", file: url.path, remedy: "check the path")
        }
        let name = "\(parent.lastPathComponent)/\(url.lastPathComponent)"
        return CheckpointError(
            .notFound, "no such file or directory", file: url.path,
            remedy: "check the path; if \(name) is a model of the Hugging Face hub, fetch it first "
                + "(hf download \(name) --local-dir DIR) and give DIR")
    }

    private static func file(_ url: URL) -> CheckpointError {
        if url.pathExtension == "gguf" {
            return CheckpointError(
                .notFound, "is a GGUF file, no checkpoint directory", file: url.path,
                remedy: "convert it: apus model import \(url.lastPathComponent) DIR, then give DIR")
        }
        return CheckpointError(
            .notFound, "is a file, no checkpoint directory", file: url.path,
            remedy: "give the directory that it is in: \(url.deletingLastPathComponent().path)")
    }

    /// `models--ORG--NAME` of the hub's cache.
    private static func snapshot(_ url: URL) throws(CheckpointError) -> URL {
        let snapshots = url.appendingPathComponent("snapshots")
        let revisions = ((try? FileManager.default.contentsOfDirectory(atPath: snapshots.path)) ?? []).sorted()
        let main = try? String(contentsOf: url.appendingPathComponent("refs/main"), encoding: .utf8)
        let wanted = main?.trimmingCharacters(in: .whitespacesAndNewlines)
        if let revision = wanted.flatMap({ revisions.contains($0) ? $0 : nil })
            ?? (wanted == nil && revisions.count == 1 ? revisions[0] : nil)
        {
            let directory = snapshots.appendingPathComponent(revision)
            if SystemCall.exists(directory.appendingPathComponent(configuration).path) {
                return try withConfiguration(directory)
            }
        }
        let list = revisions.map { snapshots.appendingPathComponent($0).path }.joined(separator: ", ")
        throw CheckpointError(
            .notFound,
            "is a model's directory in the Hugging Face cache whose refs/main names no snapshot with a "
                + configuration, file: url.path,
            remedy: revisions.isEmpty ? "fetch the model again" : "give one of its snapshots: \(list)")
    }

    private static func description(_ url: URL, _ entries: [String]) -> String {
        if entries.contains("adapter_config.json") { return "holds an adapter alone" }
        if entries.contains(where: { $0.hasSuffix(".gguf") }) { return "holds GGUF files" }
        if entries.contains(where: { $0.hasPrefix("models--") }) { return "is a cache of the Hugging Face hub" }
        if entries.isEmpty { return "is an empty directory" }
        if RunDirectory(url).status != nil { return "is the directory of a run" }
        return "is a directory"
    }

    private static func remedy(_ url: URL, _ entries: [String]) -> String {
        if entries.contains("adapter_config.json") {
            let base = (try? JSONValue.read(url.appendingPathComponent("adapter_config.json"), limit: 1 << 20))
                .flatMap { $0["base_model_name_or_path"] }
            var of = ""
            if case .string(let name)? = base { of = " \(name)" }
            return "give its base model\(of), or merge the two (PEFT: merge_and_unload, save_pretrained) and give that"
        }
        if let file = entries.first(where: { $0.hasSuffix(".gguf") }) {
            return "convert one of them: apus model import \(url.appendingPathComponent(file).path) DIR, then give DIR"
        }
        let models = entries.filter { $0.hasPrefix("models--") }
        if let first = models.first {
            return "give one of its models, such as \(url.appendingPathComponent(first).path)"
        }
        let inside = entries.filter {
            SystemCall.exists(url.appendingPathComponent($0).appendingPathComponent(configuration).path)
        }
        if !inside.isEmpty {
            return "give one of these: "
                + inside.prefix(8).map { url.appendingPathComponent($0).path }.joined(separator: ", ")
        }
        return "give the directory of a Hugging Face checkpoint in safetensors form"
    }
}
