// SPDX-License-Identifier: Apache-2.0
import CPlatform
import Foundation
import RuntimeSupport

/// Keeps the processes of a local cluster alive: a child that dies is started again, with growing pauses.
final class Supervisor: @unchecked Sendable {
    // @unchecked: `children` belongs to the supervising thread; `isStopping` is behind a lock.
    struct Child: Sendable {
        let name: String
        /// Run by `ssh` on another host, where the process ends when its input does; nil: by this program, here.
        var ssh: [String]?
        let arguments: [String]
        let log: URL
    }

    private struct Running {
        let child: Child
        var process: Process?
        /// Held open for as long as a child on another host is to live.
        var input: FileHandle?
        var startedAt = MonotonicInstant.now
        var restartAt = MonotonicInstant.now
        var pause: UInt64 = 100
        var failures = 0
    }

    /// A child that cannot stay up: what it said last.
    struct Hopeless: Error, CustomStringConvertible { let description: String }

    private let isStopping = Locked(false)
    private let failure = Locked<Hopeless?>(nil)
    private var thread: DedicatedThread?

    /// Starts the children on a thread that lives as long as they do (their death signal is tied to it).
    init(_ children: [Child]) {
        thread = DedicatedThread.start(name: "supervisor") { [self] in supervise(children) }
    }

    /// Why the supervisor gave up, if it did.
    var problem: Hopeless? { failure.withLock { $0 } }

    /// Ends all children, politely first.
    func stop() {
        isStopping.withLock { $0 = true }
        thread?.join()
        thread = nil
    }

    private func supervise(_ children: [Child]) {
        var all = children.map { Running(child: $0) }
        while !isStopping.withLock({ $0 }) {
            for index in all.indices { look(&all[index]) }
            Thread.sleep(forTimeInterval: 0.05)
        }
        // Workers leave before the first child, their coordinator, goes: it takes what they have finished.
        end(all.dropFirst())
        end(all.prefix(1))
    }

    private func end(_ children: ArraySlice<Running>) {
        for running in children {
            if let input = running.input { try? input.close() } else { running.process?.terminate() }
        }
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 5000)
        while children.contains(where: { $0.process?.isRunning ?? false }), MonotonicInstant.now < deadline {
            Thread.sleep(forTimeInterval: 0.02)
        }
        for running in children {
            if let process = running.process, process.isRunning { kill(process.processIdentifier, SIGKILL) }
        }
    }

    private func look(_ running: inout Running) {
        if let process = running.process {
            if process.isRunning {
                if MonotonicInstant.now.milliseconds(since: running.startedAt) > 10_000 {
                    running.pause = 100
                    running.failures = 0
                }
                return
            }
            running.process = nil
            try? running.input?.close()
            running.input = nil
            let wasKilled = process.terminationReason == .uncaughtSignal
            if !wasKilled, process.terminationStatus == 0 { return running.restartAt = .distantFuture }
            // 255 is ssh's own: the host cannot be reached, and may come back.
            let isLost = running.child.ssh != nil && process.terminationStatus == 255
            running.failures += wasKilled || isLost || process.terminationStatus == 75 ? 0 : 1
            if running.failures >= 4 { giveUp(running.child) }
            running.restartAt = MonotonicInstant.now.advanced(byMilliseconds: running.pause)
            running.pause = min(5000, running.pause * 2)
        }
        if MonotonicInstant.now < running.restartAt { return }
        start(&running)
    }

    private func start(_ running: inout Running) {
        let process = Process()
        if let ssh = running.child.ssh {
            RemoteHost.prepare(process, ssh + running.child.arguments)
        } else {
            process.executableURL = Self.executable
            process.arguments = running.child.arguments + ["--supervised"]
            process.environment = ProcessInfo.processInfo.environment.merging(
                [Self.parentVariable: String(getpid())]) { $1 }
        }
        if !FileManager.default.fileExists(atPath: running.child.log.path) {
            _ = FileManager.default.createFile(atPath: running.child.log.path, contents: nil)
        }
        let log = try? FileHandle(forWritingTo: running.child.log)
        _ = try? log?.seekToEnd()
        process.standardError = log
        process.standardOutput = log
        let input = running.child.ssh == nil ? nil : Pipe()
        if let input {
            // Nobody else may hold the other end open.
            for handle in [input.fileHandleForReading, input.fileHandleForWriting] {
                _ = fcntl(handle.fileDescriptor, F_SETFD, FD_CLOEXEC)
            }
            process.standardInput = input
        } else {
            process.standardInput = FileHandle.nullDevice
        }
        running.startedAt = .now
        do {
            try process.run()
            running.process = process
            running.input = input?.fileHandleForWriting
        } catch {
            failure.withLock {
                $0 = Hopeless(description: "\(running.child.name) cannot be started: \(failureReason(error))")
            }
        }
        try? log?.close()
    }

    private func giveUp(_ child: Child) {
        let text = (try? String(contentsOf: child.log, encoding: .utf8)) ?? ""
        let last = text.split(separator: "\n").last.map(String.init) ?? "it said nothing"
        failure.withLock {
            $0 = $0 ?? Hopeless(description: "\(child.name) does not stay up: \(last) (see \(child.log.path))")
        }
    }

    /// Names the supervising process to its children.
    private static let parentVariable = "APUS_SUPERVISOR"

    /// In a child: its supervisor's end is its own, also where that came before the child could ask for it.
    static func endWithParent() throws {
        let parent = ProcessInfo.processInfo.environment[parentVariable].flatMap { Int32($0) } ?? 0
        guard cp_die_with_parent(SIGTERM, parent) != 0 else { throw ExitStatus.cluster }
    }

    /// For workers whose supervisor ends: within the time that it gives them before it kills.
    static let drainSeconds = "3"

    static var executable: URL {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")).map { URL(fileURLWithPath: $0) }
            ?? URL(fileURLWithPath: CommandLine.arguments[0])
    }
}
