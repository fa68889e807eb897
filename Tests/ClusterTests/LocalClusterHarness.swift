// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import RuntimeSupport
import TestSupport
import Testing

/// What a finished command said.
struct CommandResult {
    let status: Int32
    let output: String
    let errors: String
}

/// The built `apus` and a directory to try it in.
final class Workbench: Sendable {
    static let apus = Bundle.main.bundleURL.appendingPathComponent("apus")
    let directory: URL

    init(_ name: String) throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-test-\(name)-\(UInt32.random(in: 0 ... .max))", isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        Self.directories.withLock { $0.append(directory) }
        _ = Self.cleanup
    }

    /// Benches that a suite shares live as long as the process, which does not run their deinit.
    private static let directories = Locked<[URL]>([])
    private static let cleanup: Void = {
        atexit { for url in Workbench.directories.withLock({ $0 }) { try? FileManager.default.removeItem(at: url) } }
    }()

    deinit { try? FileManager.default.removeItem(at: directory) }

    func url(_ name: String) -> URL { directory.appendingPathComponent(name) }

    func write(_ name: String, _ text: String) throws {
        try text.write(to: url(name), atomically: true, encoding: .utf8)
    }

    /// Runs a command to its end; it is killed after `seconds`, which fails the test.
    @discardableResult
    func apus(
        _ arguments: String..., environment: [String: String] = [:], seconds: Double = 240
    ) throws -> CommandResult { try apus(arguments, environment: environment, seconds: seconds) }

    @discardableResult
    func apus(
        _ arguments: [String], environment: [String: String] = [:], seconds: Double = 240
    ) throws -> CommandResult {
        let process = Process()
        process.executableURL = Self.apus
        process.arguments = arguments
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
            .merging(["APUS_CONTEXT": url("context.json").path, "APUS_HOME": url("home").path]) { $1 }
        process.standardInput = FileHandle.nullDevice
        let (out, err) = (
            url("stdout-\(UInt32.random(in: 0 ... .max))"), url("stderr-\(UInt32.random(in: 0 ... .max))")
        )
        for file in [out, err] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
        process.standardOutput = try FileHandle(forWritingTo: out)
        process.standardError = try FileHandle(forWritingTo: err)
        try process.run()
        let deadline = Date().addingTimeInterval(seconds)
        while process.isRunning, Date() < deadline { Thread.sleep(forTimeInterval: 0.01) }
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            Issue.record("apus \(arguments.joined(separator: " ")) did not end in \(seconds) s")
        }
        process.waitUntilExit()
        return CommandResult(
            status: process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus,
            output: try String(contentsOf: out, encoding: .utf8), errors: try String(contentsOf: err, encoding: .utf8))
    }

    /// A tiny model with the fixtures' tokenizer.
    func makeModel(_ name: String = "model", layers: Int = 4, seed: Int = 0) throws {
        let tokenizer = Fixtures.url("tokenizer/main").path
        let result = try apus(
            "model", "init", name, "--preset", "tiny-moe", "--layers", "\(layers)", "--seed", "\(seed)", "--tokenizer",
            tokenizer)
        try #require(result.status == 0, "\(result.errors)")
    }

    /// Arithmetic prompts and a rollout job over them.
    func makeJob(
        groups: Int = 6, groupSize: Int = 3, tokens: Int = 48, teacher: String? = nil, file: String = "job.yaml",
        output: String = "out", extra: String = ""
    ) throws {
        try apus("data", "arithmetic", "prompts.jsonl", "-n", "\(groups)")
        try write(
            file,
            """
            kind: rollout
            name: test
            model: {path: model, compute: bf16}
            \(teacher.map { "teacher: {path: \($0), outputs: {top_k: 4}}" } ?? "")
            data: {path: prompts.jsonl}
            group_size: \(groupSize)
            sampling: {temperature: 1.0, max_new_tokens: \(tokens)}
            reward: [math_answer, format]
            resources: {kv_cache_bytes: 16MiB, page_size: 16, max_sequences: 6}
            output: \(output)
            \(extra)
            """)
    }

    /// Starts a command that goes on, with what it says in a file.
    func spawn(_ arguments: [String], log: String, environment: [String: String] = [:]) throws -> Process {
        let process = Process()
        process.executableURL = Self.apus
        process.arguments = arguments
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment
            .merging(["APUS_CONTEXT": url("context.json").path, "APUS_HOME": url("home").path]) { $1 }
            .merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        if !FileManager.default.fileExists(atPath: url(log).path) {
            _ = FileManager.default.createFile(atPath: url(log).path, contents: nil)
        }
        let handle = try FileHandle(forWritingTo: url(log))
        try handle.seekToEnd()
        process.standardOutput = handle
        process.standardError = handle
        try process.run()
        return process
    }

    /// What a file says; nothing while it is not there.
    func text(_ name: String) -> String { (try? String(contentsOf: url(name), encoding: .utf8)) ?? "" }

    /// Every file of a run below `rollouts` and `scores`, by name.
    func contents(of output: String) throws -> [String: Data] {
        var result: [String: Data] = [:]
        for part in ["rollouts", "scores"] {
            let folder = url(output).appendingPathComponent(part)
            for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] {
                result["\(part)/\(name)"] = try Data(contentsOf: folder.appendingPathComponent(name))
            }
        }
        try #require(!result.isEmpty, "no files in \(output)")
        return result
    }
}

/// Waits at most `seconds` for a condition.
func eventually(_ seconds: Double, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = Date().addingTimeInterval(seconds)
    while try !condition() {
        if Date() > deadline { return false }
        Thread.sleep(forTimeInterval: 0.05)
    }
    return true
}

/// A number of JSON; protobuf's 64-bit integers are strings there. 0 where there is none.
func number(_ value: Any?) -> Int { (value as? NSNumber)?.intValue ?? (value as? String).flatMap { Int($0) } ?? 0 }

/// `apus up` in the background.
final class BackgroundCluster {
    private let process: Process

    fileprivate init(_ process: Process) { self.process = process }

    func stop() {
        process.terminate()
        let deadline = Date().addingTimeInterval(15)
        while process.isRunning, Date() < deadline { Thread.sleep(forTimeInterval: 0.02) }
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }
}

extension Workbench {
    /// Starts `apus up` and waits until other verbs find it.
    func startCluster(workers: Int, state: String = "state") throws -> BackgroundCluster {
        let process = Process()
        process.executableURL = Self.apus
        process.arguments = ["up", "--workers", "\(workers)", "--state", url(state).path]
        process.currentDirectoryURL = directory
        process.environment = ProcessInfo.processInfo.environment
            .merging(["APUS_CONTEXT": url("context.json").path, "APUS_HOME": url("home").path]) { $1 }
        process.standardInput = FileHandle.nullDevice
        // Nobody waits for the end of a pipe that it holds.
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        let deadline = Date().addingTimeInterval(20)
        while !FileManager.default.fileExists(atPath: url("context.json").path), Date() < deadline {
            Thread.sleep(forTimeInterval: 0.02)
        }
        return BackgroundCluster(process)
    }
}
