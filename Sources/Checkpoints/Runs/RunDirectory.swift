// SPDX-License-Identifier: Apache-2.0
//
// A job's output directory. It is made when the job is submitted, with everything that can be known by then: so a second
// job for the same directory, or one that cannot be written, is refused while the person is still at the terminal.
package import Foundation
internal import Glibc

/// The directory of a run: whose it is, what it was made from, how far it is.
package struct RunDirectory: Sendable {
    /// The job with every setting.
    package static let jobFile = "job.yaml"
    /// ``Status``.
    package static let statusFile = "status.json"
    /// The first row as the model reads it.
    package static let firstPromptFile = "first_prompt.txt"
    /// What only this program writes to.
    private static let ownFolders: Set = ["checkpoints", "model", "optimizer", "replay", "rollouts", "scores"]

    /// Who writes to a run that is not finished.
    package struct Owner: Codable, Equatable, Sendable {
        /// Of the coordinator's journal, random.
        package let journal: String
        package let job: UInt64
        /// The coordinator's state directory, for people.
        package let state: String

        package init(journal: String, job: UInt64, state: String) {
            self.journal = journal
            self.job = job
            self.state = state
        }
    }

    /// What `status.json` says.
    package struct Status: Codable, Equatable, Sendable {
        /// `queued`, `running`, `done`, `failed` or `cancelled`.
        package var status: String
        package var problem: String?
        /// nil once the job has ended: finished runs of the same job are the same bytes.
        package var owner: Owner?

        package init(status: String, problem: String? = nil, owner: Owner? = nil) {
            self.status = status
            self.problem = problem
            self.owner = owner
        }

        package var isEnded: Bool { ["done", "failed", "cancelled"].contains(status) }
    }

    package let url: URL

    package init(_ url: URL) { self.url = url.standardizedFileURL }

    /// Whether anything has this name.
    package var exists: Bool { SystemCall.exists(url.path) }

    /// The job's settings; nil where there is no run.
    package var jobText: String? {
        try? String(contentsOf: url.appendingPathComponent(Self.jobFile), encoding: .utf8)
    }

    /// nil where there is no run.
    package var status: Status? {
        (try? Data(contentsOf: url.appendingPathComponent(Self.statusFile))).flatMap {
            try? JSONDecoder().decode(Status.self, from: $0)
        }
    }

    /// Makes the directory for a job, whole or not at all, and never over something else.
    /// - Throws: `targetExists`, `fileSystem`, `diskFull`.
    package func claim(jobText: String, _ owner: Owner) throws {
        try makeParent()
        removeAbandonedClaims()
        let directory = try DurableDirectory(url)
        do {
            try Self.write(jobText, Status(status: "queued", owner: owner), to: directory.temporary)
            try directory.commit()
        } catch {
            directory.abandon()
            throw error
        }
    }

    /// Makes the directories above this one.
    /// - Throws: `fileSystem`, `diskFull`; also when nothing can be made in the last of them.
    package func makeParent() throws {
        let parent = url.deletingLastPathComponent()
        var path = ""
        for part in parent.pathComponents.dropFirst() {
            path += "/" + part
            guard mkdir(path, 0o777) != 0, errno != EEXIST else { continue }
            // A file system that cannot be written says so also of what is there.
            let number = errno
            var status = stat()
            if stat(path, &status) == 0 { continue }
            throw SystemCall.error("make the directory", file: path, number: number)
        }
        // Tried, not asked for: whoever may do everything still cannot write to every file system.
        let trial = TemporaryName.beside(url)
        guard mkdir(trial, 0o700) == 0 else { throw SystemCall.error("write into the directory", file: parent.path) }
        rmdir(trial)
    }

    /// Writes settings and owner into a directory that is there without them.
    package func claimExisting(jobText: String, _ owner: Owner) throws {
        try Self.write(jobText, Status(status: "queued", owner: owner), to: url)
    }

    private static func write(_ jobText: String, _ status: Status, to directory: URL) throws {
        try DurableFile.write(jobText, to: directory.appendingPathComponent(jobFile))
        try write(status, to: directory)
    }

    private static func write(_ status: Status, to directory: URL) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let text = String(decoding: try encoder.encode(status), as: UTF8.self)
        try DurableFile.write(text + "\n", to: directory.appendingPathComponent(statusFile))
    }

    /// Replaces the status.
    package func set(_ status: Status) throws { try Self.write(status, to: url) }

    /// Removes claims of this name whose makers were killed over them.
    package func removeAbandonedClaims() {
        let parent = url.deletingLastPathComponent()
        let prefix = ".\(url.lastPathComponent)."
        for name in (try? FileManager.default.contentsOfDirectory(atPath: parent.path)) ?? []
        where name.hasPrefix(prefix) && name.hasSuffix(".partial") {
            // .NAME.PROCESS.NUMBER.partial
            let numbers = name.dropFirst(prefix.count).split(separator: ".").dropLast()
            guard numbers.count == 2, let process = pid_t(numbers[0]), kill(process, 0) != 0, errno == ESRCH else {
                continue
            }
            try? FileManager.default.removeItem(at: parent.appendingPathComponent(name))
        }
    }

    /// Removes what writers that were killed have left half done: nobody else writes to the run now.
    package func removeLeftovers() {
        for folder in ["", "replay", "rollouts", "scores"] {
            let directory = folder.isEmpty ? url : url.appendingPathComponent(folder)
            for name in (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
            where name.hasPrefix(".") && name.hasSuffix(".partial") {
                unlink(directory.appendingPathComponent(name).path)
            }
        }
    }

    /// Removes a run in which nothing was made: the directory stays if there is anything else in it.
    package func removeEmpty() {
        for name in [Self.jobFile, Self.statusFile, Self.firstPromptFile] {
            unlink(url.appendingPathComponent(name).path)
        }
        rmdir(url.path)
    }

    /// The path with all links followed, as far as it exists.
    package static func canonicalPath(_ path: String) -> String {
        var (url, rest) = (URL(fileURLWithPath: path).standardizedFileURL, [String]())
        while url.path != "/" {
            if let resolved = realpath(url.path, nil) {
                defer { free(resolved) }
                return ([String(cString: resolved)] + rest.reversed()).joined(separator: "/")
            }
            rest.append(url.lastPathComponent)
            url.deleteLastPathComponent()
        }
        return "/" + rest.reversed().joined(separator: "/")
    }

    /// The run in whose own folders this directory would lie.
    package var enclosingRun: URL? {
        var folder = URL(fileURLWithPath: Self.canonicalPath(url.path), isDirectory: true)
        while folder.path != "/" {
            let name = folder.lastPathComponent
            folder.deleteLastPathComponent()
            if Self.ownFolders.contains(name), RunDirectory(folder).status != nil { return folder }
        }
        return nil
    }

    /// Commands write into runs what they like, but replace none of their files.
    /// - Throws: `targetExists` where `file` is a run's.
    package static func protect(_ file: URL) throws {
        let directory = file.standardizedFileURL.deletingLastPathComponent()
        // Not by job.yaml: that is also what people call their job files.
        let isRun = SystemCall.exists(directory.appendingPathComponent(statusFile).path)
        guard isRun, SystemCall.exists(file.path) else { return }
        throw CheckpointError(
            .targetExists, "is a file of a run", file: file.path, remedy: "choose another file or another directory")
    }

    /// Why a job cannot have this directory, which exists: one line.
    /// - Parameter jobText: the settings of the job that wants it.
    package func refusal(for jobText: String) -> String {
        guard let status, let own = self.jobText else {
            return "\(url.path) exists already; choose another output or remove it first"
        }
        let what =
            switch status.status {
            case "done": "the finished run"
            case "failed": "a run that failed" + (status.problem.map { " (\($0))" } ?? "")
            case "cancelled": "a run that was cancelled"
            default:
                "an unfinished run" + (status.owner.map { " of the cluster whose state is in \($0.state)" } ?? "")
            }
        let settings = Self.firstDifference(own, jobText).map { "made from other settings (\($0))" }
        return "\(url.path) exists already: \(what)" + (settings.map { ", \($0)" } ?? " of this job")
            + "; choose another output or remove it first"
    }

    /// The first line of two resolved jobs that differs; nil when none does.
    package static func firstDifference(_ there: String, _ here: String) -> String? {
        let (a, b) = (there.split(separator: "\n"), here.split(separator: "\n"))
        for index in 0..<max(a.count, b.count) {
            let (left, right) = (index < a.count ? a[index] : "", index < b.count ? b[index] : "")
            if left == right { continue }
            func shown(_ line: Substring) -> String { "'\(line.drop { $0 == " " })'" }
            return "there \(shown(left)), now \(shown(right))"
        }
        return there == here ? nil : "they differ in white space"
    }
}
