// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CPlatform
import ClusterTransport
import CoordinatorRuntime
import Dispatch
import Foundation
import Logging
import RuntimeSupport
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

    @Option(help: "Host address or interface to listen on.")
    var listen = "127.0.0.1"

    @Option(help: "Ports for control, exchange and bulk, with commas; 0 lets the system choose.")
    var ports = "0,0,0"

    @Option(help: "Workers that will come: the first placement waits a while for them.")
    var workers = 1

    @Flag(help: .hidden)
    var supervised = false

    func run() throws {
        if supervised { cp_die_with_parent(SIGTERM) }
        let logger = standardErrorLogger("coordinator")
        let code = try reporting(ExitStatus.cluster) {
            let process = try CoordinatorProcess(
                CoordinatorConfiguration(
                    state: URL(fileURLWithPath: state, isDirectory: true), listen: try endpoints(listen, ports),
                    keys: try KeyFile.read(keys), allowList: try AllowList(file: allow),
                    expectedWorkerCount: workers), logger: logger)
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

    @Option(help: "Host address or interface to listen on for other workers.")
    var listen = "127.0.0.1"

    @Option(help: "Ports for control, exchange and bulk, with commas; 0 lets the system choose.")
    var ports = "0,0,0"

    @Option(help: "Compute threads; 0 is one per core.")
    var threads = 0

    @Option(help: "Memory for weights and caches, such as 8GiB. Default: 80 % of what is free now.")
    var memory: String?

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
        guard (1...86_400).contains(orphanSeconds) else { throw ValidationError("--orphan-seconds must be 1 to 86400") }
    }

    func run() throws {
        if supervised { cp_die_with_parent(SIGTERM) }
        let logger = standardErrorLogger("worker")
        let drainMilliseconds = UInt64(drainSeconds * 1000)
        let file = URL(fileURLWithPath: join)
        let code = try reporting(ExitStatus.cluster) {
            let judge = VerifierJudge(executable: Supervisor.executable.path, childCount: 2)
            let process = try WorkerProcess(
                WorkerConfiguration(
                    coordinator: { (try? CoordinatorAddress(file: file))?.peer }, listen: try endpoints(listen, ports),
                    keys: try KeyFile.read(keys),
                    threadCount: threads > 0 ? threads : ProcessInfo.processInfo.activeProcessorCount,
                    memoryByteCount: try memory.map(byteCount) ?? Memory.available * 8 / 10,
                    orphanMilliseconds: UInt64(orphanSeconds * 1000), version: Version.current),
                judge: judge, logger: logger)
            let firstSignal = Locked<MonotonicInstant?>(nil)
            @Sendable func drain(_ reason: String, exitCode: Int32) {
                // An engine may signal us and a script around us, which passes it on: that is one request.
                let isRepeated = firstSignal.withLock { first in
                    if let first { return MonotonicInstant.now.milliseconds(since: first) > 1000 }
                    first = .now
                    return false
                }
                process.drain(reason, milliseconds: isRepeated ? 0 : drainMilliseconds, exitCode: exitCode)
            }
            onSignals([SIGTERM, SIGINT]) { drain("terminated", exitCode: 0) }
            onSignals([SIGUSR1]) { drain("asked to leave and come back", exitCode: 75) }
            if untilInputEnds { onEndOfInput { drain("its launcher is gone", exitCode: 0) } }
            return process.run()
        }
        if code != 0 { throw ExitCode(code) }
    }
}

/// `tcp://HOST:PORT` for the three channels.
func endpoints(_ host: String, _ ports: String) throws -> ChannelEndpoints {
    let numbers = ports.split(separator: ",").map { Int($0) }
    guard numbers.count == 3, numbers.allSatisfy({ $0.map { (0...65535).contains($0) } ?? false }) else {
        complain("--ports \(ports): expected three numbers with commas, such as 7001,7002,7003")
        throw ExitStatus.usage
    }
    func endpoint(_ index: Int) -> String { "tcp://\(host):\(numbers[index] == 0 ? "*" : String(numbers[index]!))" }
    return ChannelEndpoints(control: endpoint(0), exchange: endpoint(1), bulk: endpoint(2))
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
        return UInt64(number * Double(factor))
    }
    complain("'\(text)' is no size; write 8GiB or 512MiB")
    throw ExitStatus.usage
}

enum Memory {
    /// Bytes that a new process can use without swapping.
    static var available: UInt64 {
        let text = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        let kibibytes = line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }
        return (kibibytes ?? 4 << 20) << 10
    }
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
