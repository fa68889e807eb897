// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
package import Foundation
internal import Glibc
internal import RuntimeSupport

/// A Python program that a reward or a tool wants run. The process that judges is in a sandbox itself and starts none: its
/// parent runs the program and hands back what came of it.
package struct ProgramRun: Codable, Equatable, Sendable {
    package var source: String
    /// Python that asserts what the program's functions return; nil: the program runs alone.
    package var tests: String?
    package var input = Data()
    /// Processor time of the program, and of its tests.
    package var processorMilliseconds: UInt64
    package var memoryByteCount: UInt64
    /// Bytes of standard output that are kept; what follows is read and dropped, so that a chatty program neither blocks
    /// nor fills memory.
    package var outputByteCount: Int

    package init(
        source: String, tests: String? = nil, input: Data = Data(), processorMilliseconds: UInt64,
        memoryByteCount: UInt64 = 1 << 30, outputByteCount: Int = 64 << 10
    ) {
        self.source = source
        self.tests = tests
        self.input = input
        self.processorMilliseconds = processorMilliseconds
        self.memoryByteCount = memoryByteCount
        self.outputByteCount = outputByteCount
    }

    /// Bounds of what a process that reads models' output may ask for.
    static let processorMillisecondsMax: UInt64 = 600_000
    static let memoryByteCountMax: UInt64 = 64 << 30
    static let outputByteCountMax = 24 << 20

    var clamped: ProgramRun {
        var run = self
        run.processorMilliseconds = min(max(run.processorMilliseconds, 1), Self.processorMillisecondsMax)
        run.memoryByteCount = min(max(run.memoryByteCount, 64 << 20), Self.memoryByteCountMax)
        run.outputByteCount = min(max(run.outputByteCount, 0), Self.outputByteCountMax)
        return run
    }
}

/// What came of a run.
package struct ProgramResult: Codable, Equatable, Sendable {
    package enum End: String, Codable, Sendable {
        /// By itself, with ``ProgramResult/status``.
        case ended
        /// It used its processor time up.
        case processorTime
        /// It waited, by its own wish, for as long as it may compute.
        case asleep
        /// It got no processor for so long that nothing is known of it: the host's doing.
        case starved
        /// The tests are no Python, or the like: the data's doing.
        case broken
        /// There is no sandbox here; ``ProgramResult/detail`` says why.
        case unavailable
        /// The caller gave up.
        case cancelled
    }

    package var end: End
    /// Exit status, 128 and more for a signal.
    package var status: Int32 = 0
    /// Of tests: all of them were reached and held.
    package var passed = false
    /// Standard output, at most the limit, and how much there was.
    package var output = Data()
    package var outputByteCount = 0
    /// The last of standard error.
    package var error = Data()
    /// For people.
    package var detail = ""

    package init(_ end: End, detail: String = "") {
        self.end = end
        self.detail = detail
    }
}

/// Who runs programs.
package enum ProgramRunner {
    /// In the process that judges, the way to its parent; nil: sandboxes are started here.
    private static let parent = Locked<(@Sendable (ProgramRun) -> ProgramResult)?>(nil)

    /// From now on this process has its programs run by its parent.
    static func ask(_ parent: @escaping @Sendable (ProgramRun) -> ProgramResult) {
        self.parent.withLock { $0 = parent }
    }

    package static func run(_ run: ProgramRun) -> ProgramResult {
        parent.withLock { $0 }?(run) ?? here(run)
    }

    /// Starts the sandboxes of one run, on this thread.
    /// - Parameter cancellation: a descriptor that becomes readable when nobody waits any more, or -1.
    package static func here(_ run: ProgramRun, cancellation: Int32 = -1) -> ProgramResult {
        let run = run.clamped
        do throws(Sandbox.Unavailable) {
            if let tests = run.tests { return try tested(run, tests, cancellation) }
            return try alone(run, cancellation)
        } catch { return ProgramResult(.unavailable, detail: error.description) }
    }

    private static func limits(_ run: ProgramRun) -> Sandbox.Limits {
        Sandbox.Limits(processorMilliseconds: run.processorMilliseconds, memoryByteCount: run.memoryByteCount)
    }

    private static func alone(_ run: ProgramRun, _ cancellation: Int32) throws(Sandbox.Unavailable) -> ProgramResult {
        let program = try SandboxedProgram(
            SandboxOrder(kind: .program, source: run.source), link: nil, hasInput: !run.input.isEmpty,
            limits: limits(run))
        var watch = SandboxWatch([program], run, cancellation: cancellation)
        return try watch.run()
    }

    /// Program and tests each have a sandbox, and only a socket between them: whatever the program does with its own
    /// process, the tests are elsewhere, and so is what decides.
    private static func tested(
        _ run: ProgramRun, _ tests: String, _ cancellation: Int32
    ) throws(Sandbox.Unavailable) -> ProgramResult {
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw Sandbox.Unavailable(description: "no socket for a sandbox: \(String(cString: strerror(errno)))")
        }
        let token = (0..<4).map { _ in String(UInt64.random(in: 0 ... .max), radix: 36) }.joined()
        let (subject, judge): (SandboxedProgram, SandboxedProgram)
        do {
            defer { for descriptor in pair { close(descriptor) } }
            judge = try SandboxedProgram(
                SandboxOrder(kind: .tests, tests: tests, token: token), link: pair[0], hasInput: false,
                limits: limits(run))
            subject = try SandboxedProgram(
                SandboxOrder(kind: .subject, source: run.source), link: pair[1], hasInput: false, limits: limits(run))
        }
        var verdictRun = run
        verdictRun.outputByteCount = 64 << 10
        var watch = SandboxWatch([judge, subject], verdictRun, cancellation: cancellation)
        var result = try watch.run()
        guard result.end == .ended else { return result }
        let verdict = (try? JSONDecoder().decode([String].self, from: result.output)) ?? []
        result.output = Data()
        guard verdict.count == 3, verdict[0] == token else {
            result.detail = "the tests ended without a verdict"
            return result
        }
        result.detail = verdict[2]
        if verdict[1] == "broken" { result.end = .broken }
        result.passed = verdict[1] == "pass"
        return result
    }
}

/// Looks after one or two sandboxes until the first of them ends: feeds and drains them, and keeps their time.
struct SandboxWatch {
    private let programs: [SandboxedProgram]
    private let input: Data
    private let limit: UInt64
    private let outputByteCountMax: Int
    private let cancellation: Int32
    private var sent = 0
    private var result = ProgramResult(.ended)
    private var chunk = [UInt8](repeating: 0, count: 1 << 16)
    private var idleMilliseconds: UInt64 = 0

    /// How often clocks are read.
    private static let sampleMilliseconds: UInt64 = 20
    /// Wall time after which a program that got no processor is given up: ten times what it may use, and the start.
    private static let patienceFactor: UInt64 = 10
    private static let startMilliseconds: UInt64 = 10_000
    private static let errorByteCount = 4096

    init(_ programs: [SandboxedProgram], _ run: ProgramRun, cancellation: Int32) {
        self.programs = programs
        input = run.input
        limit = run.processorMilliseconds
        outputByteCountMax = run.outputByteCount
        self.cancellation = cancellation
    }

    /// - Throws: when a sandbox did not come about.
    mutating func run() throws(Sandbox.Unavailable) -> ProgramResult {
        // A program may end without reading its input.
        cp_block_sigpipe()
        let started = MonotonicInstant.now
        let deadline = started.advanced(
            byMilliseconds: limit * Self.patienceFactor + Self.startMilliseconds)
        var sampled = started
        while true {
            let first = programs[0]
            wait()
            for program in programs { drain(program, isFirst: program === first) }
            if isCancelled { return end(.cancelled) }
            if let status = first.status {
                drain(first, isFirst: true)
                try requireStart(first)
                // The other sandbox need not have come about when the first ends at once.
                result.status = status
                return result
            }
            for program in programs.dropFirst() where program.status != nil { try requireStart(program) }
            let now = MonotonicInstant.now
            guard now.milliseconds(since: sampled) >= Self.sampleMilliseconds else { continue }
            let used = programs.reduce(0) { $0 + UInt64($1.processorNanoseconds) } / 1_000_000
            if used >= limit { return end(.processorTime) }
            // A watcher that is late itself saw no more than two samples of sleep.
            let elapsed = min(now.milliseconds(since: sampled), 2 * Self.sampleMilliseconds)
            sampled = now
            idleMilliseconds += programs.allSatisfy(\.isAsleep) ? elapsed : 0
            if idleMilliseconds >= limit { return end(.asleep) }
            if now >= deadline { return end(.starved) }
        }
    }

    private func end(_ end: ProgramResult.End) -> ProgramResult {
        var result = result
        result.end = end
        switch end {
        case .processorTime: result.detail = "more than \(limit) ms of processor time"
        case .asleep: result.detail = "it waited for \(limit) ms"
        case .starved: result.detail = "the host let it compute for less than \(limit) ms in ten times as long"
        case .ended, .broken, .unavailable, .cancelled: break
        }
        return result
    }

    private var isCancelled: Bool {
        guard cancellation >= 0 else { return false }
        var descriptor = pollfd(fd: cancellation, events: Int16(POLLIN), revents: 0)
        return poll(&descriptor, 1, 0) > 0
    }

    private func requireStart(_ program: SandboxedProgram) throws(Sandbox.Unavailable) {
        program.lookForStart()
        guard !program.hasStarted, result.output.isEmpty else { return }
        throw Sandbox.unavailable(String(decoding: result.error, as: UTF8.self))
    }

    private func wait() {
        var descriptors = [pollfd(fd: cancellation, events: Int16(POLLIN), revents: 0)]
        for program in programs {
            let watched = [
                program.hasClosedOutput ? -1 : program.output, program.hasClosedError ? -1 : program.error,
                program.status == nil ? program.ended : -1,
            ]
            descriptors += watched.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        }
        descriptors.append(pollfd(fd: programs[0].input, events: Int16(POLLOUT), revents: 0))
        _ = poll(&descriptors, nfds_t(descriptors.count), Int32(Self.sampleMilliseconds))
    }

    /// All that is there to be read, and what can be written.
    private mutating func drain(_ program: SandboxedProgram, isFirst: Bool) {
        if isFirst, program.input >= 0 { feed(program) }
        // At most a few turns: an endless program must not keep its watcher from its clock.
        for _ in 0..<16 {
            let count = read(program.output, &chunk, chunk.count)
            if count == 0 { program.hasClosedOutput = true }
            guard count > 0 else { break }
            guard isFirst else { continue }
            result.outputByteCount += count
            result.output.append(contentsOf: chunk[..<min(count, max(0, outputByteCountMax - result.output.count))])
        }
        for _ in 0..<16 {
            let count = read(program.error, &chunk, chunk.count)
            if count == 0 { program.hasClosedError = true }
            guard count > 0 else { break }
            result.error.append(contentsOf: chunk[..<count])
            result.error = result.error.suffix(Self.errorByteCount)
        }
    }

    private mutating func feed(_ program: SandboxedProgram) {
        let count = input.withUnsafeBytes { bytes in
            write(program.input, bytes.baseAddress.map { $0 + sent }, bytes.count - sent)
        }
        if count > 0 { sent += count }
        // A program that does not read all of its input is no failure.
        if sent >= input.count || (count < 0 && errno != EAGAIN && errno != EINTR) { program.closeInput() }
    }
}
