// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CoordinatorRuntime
import Foundation
import RuntimeSupport

/// Options of a cluster on this machine.
struct LocalClusterOptions: ParsableArguments {
    @Option(help: "Worker processes.")
    var workers = 3

    @Option(help: "Compute threads of each worker; 0 shares the cores out.")
    var threads = 0

    @Option(help: "Memory of each worker, such as 4GiB. Default: 80 % of what is free, shared out.")
    var memory: String?

    @Flag(
        help: ArgumentHelp(
            "Run the parsers of rewards as plain child processes where this host has no sandbox (bubblewrap, user namespaces). Programs of models are refused there all the same."
        ))
    var withoutSandbox = false

    func validate() throws {
        guard (1...256).contains(workers) else { throw ValidationError("--workers must be 1 to 256") }
    }

    /// Compute threads of each worker.
    var threadCount: Int { threads > 0 ? threads : max(1, ProcessInfo.processInfo.activeProcessorCount / workers) }

    /// Memory of each worker.
    func memoryByteCount() throws -> UInt64 {
        try memory.map(byteCount) ?? defaultMemoryByteCount(workers: workers, threads: threadCount)
    }
}

/// One coordinator and some workers as child processes of this one, on loopback with fresh keys.
struct LocalCluster {
    let files: ClusterFiles
    let supervisor: Supervisor
    let context: ClusterContext
    private let lock: DirectoryLock

    /// Starts the processes and waits until the coordinator listens.
    /// - Parameter remedy: what to do when a cluster runs in `directory` already.
    /// - Throws: ``ClientError`` with what the failing process said, or with the limit that is too low.
    init(
        _ options: LocalClusterOptions, directory: URL, remedy: String = "choose another directory",
        isStopping: () -> Bool = { false }
    ) throws {
        let files = ClusterFiles(directory: directory)
        lock = try DirectoryLock(directory, remedy: remedy)
        let threads = options.threadCount
        let memory = try options.memoryByteCount()
        try requireLimits(
            .cluster(workerCount: options.workers, threadCount: threads, memoryByteCount: memory))
        try files.makeKeys(workerCount: options.workers)
        var children = [
            Supervisor.Child(
                name: "the coordinator",
                arguments: [
                    "coordinator", "--state", files.state.path, "--keys", files.coordinatorKey.path, "--allow",
                    files.allowList.path, "--workers", String(options.workers),
                ], log: files.log("coordinator"))
        ]
        for index in 1...options.workers {
            children.append(
                Supervisor.Child(
                    name: "worker process \(index)",
                    arguments: [
                        "worker", "--join", files.address.path, "--keys", files.workerKey(index).path, "--threads",
                        String(threads), "--memory", String(memory), "--drain-seconds", Supervisor.drainSeconds,
                        // All of it belongs to who starts it, and so do its jobs.
                        "--judge-host", "*", "--judge-variable", "*",
                    ] + (options.withoutSandbox ? ["--without-sandbox"] : []), log: files.log("worker-\(index)")))
        }
        self.files = files
        supervisor = Supervisor(children)
        context = ClusterContext(address: files.address.path, key: files.clientKey.path)
        try Self.waitForCoordinator(files, supervisor, isStopping)
    }

    /// Until the coordinator listens.
    /// - Throws: ``ClientError`` with what it said instead, once all children are ended.
    static func waitForCoordinator(
        _ files: ClusterFiles, _ supervisor: Supervisor, _ isStopping: () -> Bool
    ) throws {
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 60_000)
        while !FileManager.default.fileExists(atPath: files.address.path) {
            if isStopping() {
                supervisor.stop()
                throw ExitStatus.interrupted
            }
            if let problem = supervisor.problem {
                supervisor.stop()
                throw ClientError(problem.description)
            }
            guard MonotonicInstant.now < deadline else {
                supervisor.stop()
                throw ClientError(
                    "the coordinator did not come up within a minute; see \(files.log("coordinator").path)")
            }
            Thread.sleep(forTimeInterval: 0.02)
        }
    }
}
