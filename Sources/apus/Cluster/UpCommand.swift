// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import Recipes
import RuntimeSupport

/// `apus up`: a cluster on this machine, in the foreground.
struct UpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Start a coordinator and workers on this machine, or workers on others; Ctrl-C ends them.",
        discussion: """
            Other verbs (submit, jobs, workers, …) find this cluster by themselves. Dead processes are restarted.

            --hosts names a file with one host per line, as ssh knows it, and what differs from the defaults there:

              node1
              user@node2 workers=2 threads=8 memory=48GiB listen=10.0.0.2 apus=/opt/apus/bin/apus

            The coordinator runs here, the workers there; ssh must get in without a password. Keys travel through ssh into \
            a directory with mode 0700 that is removed at the end.
            """)

    @OptionGroup var options: LocalClusterOptions

    @Option(help: "File with the hosts of the workers; they are started through ssh.")
    var hosts: String?

    @Option(help: "With --hosts: this machine's address that the hosts reach. Default: as the first host sees it.")
    var listen: String?

    @Option(help: "Directory for keys, journal and logs; jobs in an existing journal go on.")
    var state: String?

    @Option(help: "Context file to write, for a second cluster: name it to other commands with --context.")
    var context: String?

    static let remedy = "stop it first, or give this one another --state"

    func run() throws {
        try reportingClient {
            let directory =
                try state.map { URL(fileURLWithPath: $0, isDirectory: true) }
                ?? ClusterFiles.standard().appendingPathComponent("local", isDirectory: true)
            let context = try context.map { URL(fileURLWithPath: $0) } ?? ClusterContext.file()
            try requireLimits(.launcher)
            try ClusterContext.requireFree(context)
            let stopping = Locked(false)
            onTermination { stopping.withLock { $0 = true } }
            if let hosts {
                let found = try reporting(ExitStatus.badInput) { try RemoteHost.read(hosts) }
                let cluster = try HostCluster(found, listen: listen, directory: directory) {
                    stopping.withLock { $0 }
                }
                try cluster.context.save(to: context)
                defer { cluster.context.remove(from: context) }
                print("cluster of \(cluster.summary); logs in \(directory.path); Ctrl-C ends it")
                StandardOutput.flush()
                return try cluster.run { stopping.withLock { $0 } }
            }
            let cluster = try LocalCluster(options, directory: directory, remedy: Self.remedy) {
                stopping.withLock { $0 }
            }
            try cluster.context.save(to: context)
            defer { cluster.context.remove(from: context) }
            print("cluster of \(options.workers) workers; logs in \(directory.path); Ctrl-C ends it")
            StandardOutput.flush()
            while !stopping.withLock({ $0 }) {
                if let problem = cluster.supervisor.problem {
                    cluster.supervisor.stop()
                    throw ClientError(problem.description)
                }
                Thread.sleep(forTimeInterval: 0.1)
            }
            cluster.supervisor.stop()
        }
    }
}

/// `apus run JOB`: up, submit, watch, down.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a job or a pipeline on a cluster on this machine that lives as long as the job.",
        discussion: """
            Interrupted by Ctrl-C, kill -9 or the end of the machine's power, the same command goes on where it was and ends \
            with the same bytes. The state lies beside the output, in .NAME.cluster, until the job is done; a job that is done \
            is not run again. Another job for the same output is refused.
            """)

    @Argument(help: "A job file or a pipeline (YAML).")
    var job: String

    @Option(help: "Of a pipeline: make this stage and all that follow again.")
    var from: String?

    @Option(name: .customLong("set"), help: "Override a setting: --set sampling.temperature=0.6")
    var overrides: [String] = []

    @OptionGroup var options: LocalClusterOptions

    @Flag(help: "Keep the cluster's state and logs.")
    var keepState = false

    static let remedy = "this job runs there; wait for it or stop it first"

    /// Says what will be done, and refuses what cannot be before any process starts.
    private func announce(_ submission: Submission) throws {
        let overview = try JobOverview(submission)
        let (threads, memory) = (options.threadCount, try options.memoryByteCount())
        print(overview.lines(workers: options.workers, threads: threads, memory: memory).joined(separator: "\n"))
        StandardOutput.flush()
        try overview.requireMemory(workers: options.workers, threads: threads, memory: memory)
    }

    func run() throws {
        if Pipeline.isPipeline(URL(fileURLWithPath: job)) { return try runPipeline() }
        if from != nil {
            complain("--from is for pipelines")
            throw ExitStatus.usage
        }
        let submission = try Submission(job, overrides)
        try reportingClient {
            let output = submission.output
            let directory = output.deletingLastPathComponent().appendingPathComponent(
                ".\(output.lastPathComponent).cluster")
            let earlier = try submission.earlier(ClusterFiles(directory: directory))
            if case .done = earlier {
                // Left by a kill just before the end.
                if !keepState { try? FileManager.default.removeItem(at: directory) }
                return print("\(submission.name): done already, \(output.path)")
            }
            try reporting(ExitStatus.badInput) {
                if case .nothing = earlier { try announce(submission) }
                try RunDirectory(output).makeParent()
            }
            let started = Locked<LocalCluster?>(nil)
            let stopping = Locked(false)
            onTermination {
                complain("interrupted; run the same command again to go on")
                stopping.withLock { $0 = true }
                // Whoever is starting it ends it.
                guard let cluster = started.withLock({ $0 }) else { return }
                cluster.supervisor.stop()
                Foundation.exit(ExitStatus.interrupted.rawValue)
            }
            let cluster = try LocalCluster(options, directory: directory, remedy: Self.remedy) {
                stopping.withLock { $0 }
            }
            started.withLock { $0 = cluster }
            if stopping.withLock({ $0 }) {
                cluster.supervisor.stop()
                throw ExitStatus.interrupted
            }
            defer { cluster.supervisor.stop() }
            let client = try cluster.context.client()
            defer { client.close() }
            let id = try submission.submit(client, resumes: true)
            let watch = JobWatch(client, job: id) { cluster.supervisor.problem?.description }
            let view = try watch.run()
            if view.status == "done", !keepState {
                cluster.supervisor.stop()
                try? FileManager.default.removeItem(at: directory)
            } else {
                complain("state and logs are in \(directory.path)")
            }
            try finish(view)
        }
    }
}

/// Maps the end of a job to output and exit code.
func finish(_ view: JobWatch.View) throws {
    switch view.status {
    case "done":
        print("\(view.name): \(view.output)")
        if !view.problem.isEmpty { complain(view.problem) }
    case "cancelled":
        complain("job \(view.id) was cancelled")
        throw ExitStatus.jobFailed
    default:
        complain("job \(view.id) failed: \(view.problem)")
        throw ExitStatus.jobFailed
    }
}

/// As `reporting`, with the exit code that a client error carries.
func reportingClient(_ body: () throws -> Void) throws {
    try reporting(ExitStatus.cluster) {
        do { try body() } catch let error as ClientError {
            complain(error.description)
            throw ExitCode(error.exitCode)
        }
    }
}
