// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterProtocol
import ClusterTransport
import CoordinatorRuntime
import Foundation

/// Options of every verb that talks to a coordinator.
struct ClientOptions: ParsableArguments {
    @Option(help: "A context file; default: the cluster that apus up started last.")
    var context: String?

    func withClient(_ body: (ClusterClient) throws -> Void) throws {
        try reportingClient {
            let client = try ClusterContext.load(context).client()
            defer { client.close() }
            try body(client)
        }
    }
}

struct SubmitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "submit", abstract: "Submit a job to a running cluster.")

    @Argument(help: "A job file (YAML).")
    var job: String

    @Option(name: .customLong("set"), help: "Override a setting: --set sampling.temperature=0.6")
    var overrides: [String] = []

    @Flag(help: "Follow the job until it ends.")
    var watch = false

    @Flag(
        help:
            "If this very job was submitted before and is unfinished, or done with its output in place, go on with it.")
    var resume = false

    @OptionGroup var client: ClientOptions

    func run() throws {
        let submission = try Submission(job, overrides)
        try client.withClient { client in
            let id = try submission.submit(client, resumes: resume)
            print("job \(id)")
            let derived = SettingsTable.derived(submission.reading)
            if !derived.isEmpty { print((["settings found from the checkpoint:"] + derived).joined(separator: "\n")) }
            if watch { try finish(try JobWatch(client, job: id).run()) }
        }
    }
}

struct WatchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "watch", abstract: "Follow a job until it ends.")

    @Argument(help: "The job's number; default: the newest.")
    var job: UInt64?

    @OptionGroup var client: ClientOptions

    func run() throws {
        try client.withClient { client in
            guard let id = try job ?? jobs(client, 0).last?.id else {
                throw ClientError("there are no jobs", exitCode: 2)
            }
            try finish(try JobWatch(client, job: id).run())
        }
    }
}

struct JobsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "jobs", abstract: "List the jobs of the cluster.")

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var client: ClientOptions

    func run() throws {
        try client.withClient { client in
            let list = try jobs(client, 0)
            if json { return try printJSON(list) }
            if list.isEmpty { print("no jobs") }
            for view in list {
                print(
                    "\(Format.pad(String(view.id), 4)) \(Format.pad(view.name, 20)) \(Format.pad(view.kind, 8)) "
                        + "\(Format.pad(view.status, 10)) \(view.groupsDone)/\(view.groupCount) groups  \(view.problem)"
                        + (view.waitingText.map { "waits for \($0)" } ?? ""))
            }
        }
    }
}

struct JobCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "job", abstract: "Show one job.")

    @Argument(help: "The job's number.")
    var job: UInt64

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var client: ClientOptions

    func run() throws {
        try client.withClient { client in
            guard let view = try jobs(client, job).first else {
                throw ClientError("there is no job \(job); see apus jobs", exitCode: 2)
            }
            if json { return try printJSON([view]) }
            print("job \(view.id)  \(view.name)  (\(view.kind))")
            print("  status     \(view.status)\(view.problem.isEmpty ? "" : ": \(view.problem)")")
            for note in view.notes { print("  note       \(note)") }
            if let waiting = view.waitingText { print("  waits for  \(waiting)") }
            print("  groups     \(view.groupsDone) of \(view.groupCount), \(view.groupsFailed) failed")
            if view.sequenceCount > 0 {
                print("  responses  \(view.sequencesDone) of \(view.sequenceCount), \(view.tokenCount) tokens")
            }
            if view.scoreCount > 0 { print("  scores     \(view.scoresDone) of \(view.scoreCount)") }
            if view.rewardCount > 0 { print("  reward     \(view.rewardSum / Double(view.rewardCount)) on average") }
            print("  output     \(view.output)")
        }
    }
}

struct CancelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "cancel", abstract: "Cancel a job.")

    @Argument(help: "The job's number.")
    var job: UInt64

    @OptionGroup var client: ClientOptions

    func run() throws {
        try client.withClient { client in
            _ = try client.request { $0.cancelJob.job = job }
            print("job \(job) is cancelled")
        }
    }
}

struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Let a worker go: its work and its experts move to others, then it ends.",
        discussion: "A running job goes on; a training job heeds it between two steps, and repeats none.")

    @Argument(help: "The worker's number; see apus workers.")
    var worker: UInt32

    @Flag(help: "Return at once instead of waiting until it is gone.")
    var noWait = false

    @Option(help: "Seconds to wait for it.")
    var seconds = 600.0

    @OptionGroup var client: ClientOptions

    func run() throws {
        try client.withClient { client in
            _ = try client.request { $0.drainWorker.worker = worker }
            if noWait { return print("worker \(worker) drains") }
            let deadline = Date().addingTimeInterval(seconds)
            while Date() < deadline {
                guard case .workerList(let list) = try client.request({ $0.listWorkers = WireListWorkers() }).body,
                    let view = list.workers.first(where: { $0.id == worker })
                else { return print("worker \(worker) is drained") }
                // A coordinator that was restarted has forgotten it.
                if view.status == "live" { _ = try client.request { $0.drainWorker.worker = worker } }
                Thread.sleep(forTimeInterval: 0.1)
            }
            throw ClientError(
                "worker \(worker) is not drained after \(Int(seconds)) s; apus workers shows what it waits for",
                exitCode: 4)
        }
    }
}

struct ScaleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scale", abstract: "Change how many workers hold each expert of a model, while jobs run.",
        discussion: "New copies are loaded before old ones go. Workers join by themselves: start them.")

    @Argument(help: "The model: its number, its path or the path's last part; see apus workers.")
    var model: String

    @Option(help: "Workers that hold each expert.")
    var shardReplicas: UInt32?

    @Option(help: "all: every worker holds every expert.")
    var spread: String?

    @OptionGroup var client: ClientOptions

    func validate() throws {
        guard (shardReplicas == nil) != (spread == nil), spread ?? "all" == "all", shardReplicas ?? 1 > 0 else {
            throw ValidationError("give --shard-replicas N or --spread all")
        }
    }

    func run() throws {
        try client.withClient { client in
            _ = try client.request {
                $0.scaleModel.model = model
                $0.scaleModel.replicas = shardReplicas ?? .max
            }
            print("\(model): \(shardReplicas.map { "\($0) copies" } ?? "a copy on every worker") of each expert")
        }
    }
}

struct WorkersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workers", abstract: "Show the workers: what they hold, do and wait for.")

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var client: ClientOptions

    func run() throws {
        try client.withClient { client in
            guard case .workerList(let list) = try client.request({ $0.listWorkers = WireListWorkers() }).body else {
                return
            }
            if json { return try printJSON(list.workers) }
            if list.workers.isEmpty { print("no workers") }
            for worker in list.workers { show(worker) }
            for load in list.expertLoads { show(load) }
        }
    }

    /// The experts that most rows go to: what `apus scale` makes copies of.
    private func show(_ load: WireExpertLoad) {
        let total = load.rows.reduce(0.0) { $0 + Double($1) }
        guard total > 0 else { return }
        let mean = total / Double(load.rows.count)
        let hottest = load.rows.enumerated().sorted { ($1.element, $0.offset) < ($0.element, $1.offset) }.prefix(6)
        let idle = load.rows.count { $0 == 0 }
        print(
            "load of model \(load.model), times the mean: "
                + hottest.map { "expert \($0.offset) \(String(format: "%.1f", Double($0.element) / mean))" }.joined(
                    separator: ", ")
                + (idle == 0 ? "" : "; \(idle) have had no row"))
    }

    private func show(_ worker: WireWorkerView) {
        let counters = worker.counters
        print(
            "worker \(worker.id)  \(worker.host) pid \(worker.processID)  \(worker.status), \(worker.activity)"
                + (worker.waitingFor.isEmpty
                    ? "" : ", waits for \(worker.waitingFor) since \(worker.waitingMilliseconds) ms"))
        if !worker.problem.isEmpty { print("  problem    \(worker.problem)") }
        print(
            "  resident   \(Format.bytes(Int(counters.residentExpertByteCount))) of experts, "
                + "\(Format.bytes(Int(counters.residentTrunkByteCount))) of trunks, budget \(Format.bytes(Int(worker.memoryByteCount)))"
        )
        for shard in worker.shards {
            print(
                "  model \(shard.model)    experts \(shard.experts.isEmpty ? "none" : shard.experts)"
                    + (shard.loadShare > 0 ? " (\(Int((shard.loadShare * 100).rounded())) % of the rows)" : "")
                    + "\(shard.isTrunkReady ? "" : ", no trunk yet"); opened so far \(shard.openedExperts.isEmpty ? "none" : shard.openedExperts)  "
                    + shard.name)
        }
        print(
            "  exchange   \(counters.tokensDispatched) tokens dispatched, \(counters.tokensServed) served, "
                + "\(Format.bytes(Int(counters.exchangeBytesSent))) sent, \(Format.bytes(Int(counters.exchangeBytesReceived))) received"
        )
        print(
            "  work       \(worker.leaseCount) leases, \(counters.runningSequenceCount) sequences, "
                + "\(counters.generatedTokenCount) tokens generated, \(counters.scoredTokenCount) scored")
    }
}

/// `apus keys`: CURVE key pairs.
struct KeysCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Make and show the keys by which processes know each other.",
        subcommands: [Generate.self, Cluster.self, Show.self])

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a new key pair; prints the public key for allow-lists.")
        @Argument(help: "File to write, mode 0600.")
        var file: String

        func run() throws {
            try reporting(ExitStatus.badInput) {
                guard !FileManager.default.fileExists(atPath: file) else {
                    throw InputError("\(file) exists already; remove it first if it is to be replaced")
                }
                let keys = try CurveKeyPair.generate()
                try KeyFile.write(keys, to: file)
                print(keys.publicKey.rawValue)
            }
        }
    }

    struct Cluster: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the keys, allow-list and context of a whole cluster into a directory.",
            discussion: """
                coordinator.key, client.key, worker-1.key and so on, allow-list; context.json for the client's verbs expects \
                the coordinator's --state to be DIRECTORY/coordinator.
                """)
        @Argument(help: "Directory; made with mode 0700.")
        var directory: String

        @Option(help: "Workers that will come.")
        var workers: Int

        func validate() throws {
            guard (1...4096).contains(workers) else { throw ValidationError("--workers must be 1 to 4096") }
        }

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let files = ClusterFiles(directory: URL(fileURLWithPath: directory, isDirectory: true))
                guard !FileManager.default.fileExists(atPath: files.coordinatorKey.path) else {
                    throw InputError("\(directory) has keys already; remove them first if they are to be replaced")
                }
                try files.makeKeys(workerCount: workers)
                try ClusterContext(address: files.address.path, key: files.clientKey.path)
                    .save(to: files.directory.appendingPathComponent("context.json"))
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print the public key of a key file.")
        @Argument(help: "A key file.")
        var file: String

        func run() throws {
            try reporting(ExitStatus.badInput) { print(try KeyFile.read(file).publicKey.rawValue) }
        }
    }
}

private func jobs(_ client: ClusterClient, _ id: UInt64) throws -> [WireJobView] {
    guard case .jobList(let list) = try client.request({ $0.listJobs.job = id }).body else {
        throw ClientError("the coordinator sent an unexpected answer")
    }
    return list.jobs
}
