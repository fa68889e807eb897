// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CPlatform
import ClusterProtocol
import ClusterTransport
import CoordinatorRuntime
import Dispatch
import Foundation
import Logging
import Rewards
import RuntimeSupport
import SwiftProtobuf
import WorkerRuntime

/// `apus coordinator`: decides and remembers; carries no tensor.
struct CoordinatorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "coordinator", abstract: "Run the coordinator of a cluster.",
        discussion: """
            Its address appears in STATE/coordinator.json once it listens; give that file to workers and clients. After a \
            crash, start it again with the same --state: it goes on from its journal. SIGTERM and SIGUSR1 seal the journal \
            and end it: with 75 when jobs are unfinished (its workers wait for it), otherwise with 0 (its workers end).
            """)

    @Option(help: "Directory of the journal; only one coordinator may use it.")
    var state: String

    @Option(help: "Secret key file (apus keys generate).")
    var keys: String

    @Option(help: "File with the public keys that may connect: one 'KEY worker|submit|admin' per line, mode 0600.")
    var allow: String

    @Option(help: "Address, name or interface of this host to listen on; 0.0.0.0 or :: for all of its addresses.")
    var listen = "127.0.0.1"

    @Option(help: "Address or name that others dial, where that is not the one to listen on.")
    var advertise: String?

    @Option(help: "Ports for control, exchange and bulk, with commas; 0 lets the system choose.")
    var ports = "0,0,0"

    @Option(help: "Workers that will come: the first placement waits a while for them.")
    var workers = 1

    @Option(
        help: ArgumentHelp(
            "Directory below which jobs of 'submit' keys may read models and data; may be given again. Without one they may read only below --output-root. Jobs of 'admin' keys may read everything.",
            valueName: "dir"))
    var dataRoot: [String] = []

    @Option(
        help: ArgumentHelp(
            "Directory below which jobs of 'submit' keys may write (and read); may be given again. Without one such keys can submit nothing.",
            valueName: "dir"))
    var outputRoot: [String] = []

    @Flag(help: .hidden)
    var supervised = false

    func run() throws {
        if supervised { try Supervisor.endWithParent() }
        let logger = standardErrorLogger("coordinator")
        for root in dataRoot + outputRoot {
            var isDirectory: ObjCBool = false
            guard FileManager.default.fileExists(atPath: root, isDirectory: &isDirectory), isDirectory.boolValue else {
                complain("\(root): --data-root and --output-root name directories that exist")
                throw ExitStatus.badInput
            }
        }
        let code = try reporting(ExitStatus.cluster) {
            try requireLimits(.coordinator(workerCount: workers))
            let pair = try reporting(ExitStatus.badInput) { try KeyFile.read(keys) }
            let allowList = try reporting(ExitStatus.badInput) { try AllowList(file: allow) }
            let process = try CoordinatorProcess(
                CoordinatorConfiguration(
                    state: URL(fileURLWithPath: state, isDirectory: true), listen: try endpoints(listen, ports),
                    advertise: advertise, keys: pair, allowList: allowList,
                    expectedWorkerCount: workers,
                    submissionRoots: SubmissionRoots(data: dataRoot, output: outputRoot)), logger: logger)
            onSignals([SIGTERM, SIGINT, SIGUSR1]) { process.stop() }
            return process.run()
        }
        if code != 0 { throw ExitCode(code) }
    }
}

/// `apus worker`: generates, scores and serves experts.
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Run a worker: it joins a coordinator and computes for it.",
        discussion: """
            SIGTERM drains it: it takes no new work, finishes or gives back what it has, and ends with 0; a second one gives \
            back at once. SIGUSR1 does the same and ends with 75: start me again. It also ends with 75 when it was declared \
            dead, with 0 when the cluster stopped, with 4 when it was refused or heard of no coordinator for too long.
            """)

    @Option(help: "The coordinator's address file (STATE/coordinator.json); read again when it does not answer.")
    var join: String

    @Option(help: "Secret key file (apus keys generate).")
    var keys: String

    @Option(
        help: ArgumentHelp(
            "Address, name or interface of this host to listen on for other workers.",
            discussion:
                "Default: the address by which the coordinator is reached, so loopback where it is on this host."))
    var listen: String?

    @Option(help: "Address or name that other workers dial, where that is not the one to listen on.")
    var advertise: String?

    @Option(help: "Ports for control, exchange and bulk, with commas; 0 lets the system choose.")
    var ports = "0,0,0"

    @Option(help: "Compute threads; 0 is one per core.")
    var threads = 0

    @Option(help: "Memory for weights and caches, such as 8GiB. Default: 80 % of what is free now.")
    var memory: String?

    @Option(
        help: ArgumentHelp(
            "Host that jobs may name as a judge's endpoint, HOST or HOST:PORT; may be given again, '*' is any. Default: none.",
            valueName: "host"))
    var judgeHost: [String] = []

    @Option(
        help: ArgumentHelp(
            "Environment variable of this worker that jobs may send to a judge as its key; may be given again, '*' is any. Default: none.",
            valueName: "name"))
    var judgeVariable: [String] = []

    @Option(help: "Responses that are judged at the same time. Default: half the cores, 2 to 8.")
    var verifiers: Int?

    @Flag(
        help: ArgumentHelp(
            "Run the parsers of rewards as plain child processes where this host has no sandbox (bubblewrap, user namespaces). Programs of models are refused there all the same."
        ))
    var withoutSandbox = false

    @Option(help: "Time to finish what is in hand after SIGTERM or SIGUSR1; the rest is given back.")
    var drainSeconds = 30.0

    @Option(help: "The worker ends with 4 when it hears nothing of a coordinator for so long.")
    var orphanSeconds = 120.0

    @Flag(help: .hidden)
    var supervised = false

    @Flag(help: .hidden)
    var untilInputEnds = false

    func validate() throws {
        guard (0...86_400).contains(drainSeconds) else { throw ValidationError("--drain-seconds must be 0 to 86400") }
        if let verifiers, !(1...1024).contains(verifiers) { throw ValidationError("--verifiers must be 1 to 1024") }
        guard (1...86_400).contains(orphanSeconds) else { throw ValidationError("--orphan-seconds must be 1 to 86400") }
    }

    func run() throws {
        if supervised { try Supervisor.endWithParent() }
        let logger = standardErrorLogger("worker")
        let drainMilliseconds = UInt64(drainSeconds * 1000)
        let file = URL(fileURLWithPath: join)
        let code = try reporting(ExitStatus.cluster) {
            let threads = threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount
            let memory = try memory.map(byteCount) ?? defaultMemoryByteCount(workers: 1, threads: threads)
            try requireLimits(.worker(threadCount: threads, memoryByteCount: memory))
            let started = Locked<WorkerProcess?>(nil)
            let firstSignal = Locked<MonotonicInstant?>(nil)
            @Sendable func drain(_ reason: String, exitCode: Int32) {
                // An engine may signal us and a script around us, which passes it on: that is one request.
                let isRepeated = firstSignal.withLock { first in
                    if let first { return MonotonicInstant.now.milliseconds(since: first) > 1000 }
                    first = .now
                    return false
                }
                guard let process = started.withLock({ $0 }) else { Foundation.exit(exitCode) }
                process.drain(reason, milliseconds: isRepeated ? 0 : drainMilliseconds, exitCode: exitCode)
            }
            onSignals([SIGTERM, SIGINT]) { drain("terminated", exitCode: 0) }
            onSignals([SIGUSR1]) { drain("asked to leave and come back", exitCode: 75) }
            if untilInputEnds { onEndOfInput { drain("its launcher is gone", exitCode: 0) } }
            let pair = try reporting(ExitStatus.badInput) { try KeyFile.read(keys) }
            // A host that listens on all its addresses is known by the one that faces the coordinator.
            let isOpen = advertise == nil && listen.map(HostAddress.isWildcard) ?? true
            let facing = isOpen ? try hostTowardsCoordinator(file, logger) : nil
            let host = listen ?? facing ?? "127.0.0.1"
            let (judge, ability) = judging(logger)
            let process = try WorkerProcess(
                WorkerConfiguration(
                    coordinator: { (try? CoordinatorAddress(file: file))?.peer }, listen: try endpoints(host, ports),
                    advertise: advertise ?? facing, keys: pair, threadCount: threads, memoryByteCount: memory,
                    judging: ability, orphanMilliseconds: UInt64(orphanSeconds * 1000), version: Version.current),
                judge: judge, logger: logger)
            started.withLock { $0 = process }
            return process.run()
        }
        if code != 0 { throw ExitCode(code) }
    }

    /// Who judges responses here, and what jobs may expect of it.
    private func judging(_ logger: Logger) -> (VerifierJudge, WireJudgingAbility) {
        let problem = SandboxAvailability.problem
        if let problem {
            let consequence = withoutSandbox ? "parsers of rewards run without one" : "jobs with rewards are refused"
            logger.warning("\(problem): \(consequence)")
        }
        let cores = ProcessInfo.processInfo.activeProcessorCount
        let judge = VerifierJudge(
            executable: Supervisor.executable.path, childCount: verifiers ?? min(8, max(2, cores / 2)),
            isSandboxed: problem == nil || !withoutSandbox)
        let ability = WireJudgingAbility.with {
            $0.programProblem = problem ?? ""
            $0.parserProblem = withoutSandbox ? "" : problem ?? ""
            $0.judgeHosts = judgeHost.map { $0.lowercased() }
            $0.judgeVariables = judgeVariable
        }
        return (judge, ability)
    }

    /// The address of this host that faces the coordinator; waits until that one has published its own.
    private func hostTowardsCoordinator(_ file: URL, _ logger: Logger) throws -> String {
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: UInt64(orphanSeconds * 1000))
        var isTold = false
        while true {
            if let coordinator = try? CoordinatorAddress(file: file).peer {
                let all = ChannelEndpoints(host: listen ?? "::", ports: [0, 0, 0])
                return try all.advertised(as: nil, towards: coordinator.endpoints).host
            }
            if !isTold { logger.info("waits for the coordinator to publish its address in \(file.path)") }
            isTold = true
            guard MonotonicInstant.now < deadline else {
                throw ClientError(
                    "no coordinator has published its address in \(file.path) for \(Int(orphanSeconds)) s")
            }
            Thread.sleep(forTimeInterval: 0.1)
        }
    }
}

/// `tcp://HOST:PORT` for the three channels.
func endpoints(_ host: String, _ ports: String) throws -> ChannelEndpoints {
    let numbers = ports.split(separator: ",").map { Int($0) }
    let chosen = numbers.compactMap { $0 }.filter { (0...65535).contains($0) }
    guard numbers.count == 3, chosen.count == 3 else {
        complain("--ports \(ports): expected three numbers with commas, such as 7001,7002,7003")
        throw ExitStatus.usage
    }
    return ChannelEndpoints(host: host, ports: chosen)
}

/// `512MiB`, `8GiB`, `8G` or a plain number of bytes.
func byteCount(_ text: String) throws -> UInt64 {
    let units: [(String, UInt64)] = [
        ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("K", 1 << 10), ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40), ("B", 1), ("", 1),
    ]
    for (suffix, factor) in units where text.hasSuffix(suffix) {
        guard let number = Double(text.dropLast(suffix.count)), number > 0, number < 1e12 else { continue }
        let count = UInt64(number * Double(factor))
        // Nobody means so few bytes.
        if count < 1 << 20, suffix.isEmpty { break }
        return count
    }
    complain("'\(text)' is no size; write 8GiB or 512MiB")
    throw ExitStatus.usage
}

/// What a worker may use when nothing else is said: 80 % of what is free, shared out, below the limit of address space.
func defaultMemoryByteCount(workers: Int, threads: Int) -> UInt64 {
    let share = AvailableMemory.byteCount / 10 * 8 / UInt64(workers)
    return min(share, ResourceLimits.raise().memoryByteCountMax(threadCount: threads) ?? .max)
}

/// Refuses to start processes that need more than the limits of this one give.
/// - Throws: ``ClientError`` that names the limit.
func requireLimits(_ need: ResourceLimits.Need) throws {
    if let problem = ResourceLimits.raise().problem(need) { throw ClientError(problem) }
}

/// Runs `body` on SIGTERM or SIGINT.
func onTermination(_ body: @escaping @Sendable () -> Void) { onSignals([SIGTERM, SIGINT], body) }

/// Runs `body` each time one of the signals comes.
func onSignals(_ numbers: [Int32], _ body: @escaping @Sendable () -> Void) {
    for number in numbers {
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler(handler: body)
        source.resume()
        Termination.sources.withLock { $0.append(source) }
    }
}

/// Runs `body` when standard input is closed: by the end of the process that held it, wherever that was.
func onEndOfInput(_ body: @escaping @Sendable () -> Void) {
    Thread.detachNewThread {
        var byte: UInt8 = 0
        while true {
            let count = read(STDIN_FILENO, &byte, 1)
            if count == 0 || (count < 0 && errno != EINTR) { return body() }
        }
    }
}

private enum Termination {
    static let sources = Locked<[any DispatchSourceSignal]>([])
}

/// Log lines on standard error.
func standardErrorLogger(_ label: String) -> Logger {
    var logger = Logger(label: "apus-\(label)") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = Logger.Level(rawValue: ProcessInfo.processInfo.environment["APUS_LOG"] ?? "info") ?? .info
    return logger
}
