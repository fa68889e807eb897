// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc
internal import RuntimeSupport

/// Processes that judge responses and run tools. A response can at worst cost its own child: a child that passes
/// its deadline, dies or answers nonsense is killed and replaced, and the request is given to a fresh one.
///
/// One thread per child, which starts it, talks to it and ends it.
package final class VerifierPool: Sendable {
    /// What the pool has done so far.
    package struct Counters: Equatable, Sendable {
        package var verified = 0
        /// Attempts that ended at their deadline.
        package var timedOut = 0
        /// Attempts in which the child died, answered nonsense or could not be started.
        package var broken = 0
        /// Children that were started.
        package var started = 0

        package init(verified: Int = 0, timedOut: Int = 0, broken: Int = 0, started: Int = 0) {
            self.verified = verified
            self.timedOut = timedOut
            self.broken = broken
            self.started = started
        }
    }

    private let configuration: VerifierConfiguration
    private let waiting: BoundedQueue<Ticket>
    private let cancellation: Int32
    private let counts = Locked(Counters())
    private let threads: Locked<[DedicatedThread]>

    /// Starts the threads and their children. A program that cannot be started shows in the first outcomes.
    package init(_ configuration: VerifierConfiguration) {
        precondition(
            configuration.childCount > 0 && configuration.attemptCount > 0, "a verifier pool without children"
        )
        self.configuration = configuration
        waiting = BoundedQueue(itemCountMax: configuration.waitingCountMax, byteCountMax: .max)
        cancellation = cp_eventfd()
        precondition(cancellation >= 0, "no eventfd: too many open files")
        threads = Locked([])
        let serve: @Sendable () -> Void = {
            [configuration, waiting, cancellation, counts] in
            var server = Server(
                configuration: configuration, waiting: waiting, cancellation: cancellation, counts: counts)
            server.run()
        }
        threads.withLock { threads in
            for index in 0..<configuration.childCount {
                threads.append(DedicatedThread.start(name: "verifier-\(index)", serve))
            }
        }
    }

    deinit {
        close()
        Glibc.close(cancellation)
    }

    package var counters: Counters { counts.withLock { $0 } }

    /// Judges one response; returns after all its attempts at the latest. Call from a thread that may sleep.
    package func verify(_ request: VerifierRequest) -> RewardReport {
        switch ask(.judge(request)) {
        case .success(.judged(let reply)): RewardReport(reply.outcomes, terms: request.terms)
        case .success(.acted), .success(.run): preconditionFailure("a process checks that its reply fits")
        case .failure(.timedOut): RewardReport(all: .verifierTimeout, terms: request.terms)
        case .failure(.failed(let reason)):
            RewardReport(all: .infrastructureError(reason: reason), terms: request.terms)
        }
    }

    /// Runs the calls of one turn; returns after all its attempts at the latest. Call from a thread that may sleep.
    package func act(_ request: EnvironmentRequest) -> EnvironmentReply {
        func failed(_ reason: String) -> EnvironmentReply {
            EnvironmentReply(id: request.id, observations: [], state: request.state, failure: reason)
        }
        switch ask(.act(request)) {
        case .success(.acted(let reply)): return reply
        case .success(.judged), .success(.run): preconditionFailure("a process checks that its reply fits")
        case .failure(.timedOut): return failed("\(request.id): the tools did not answer in time")
        case .failure(.failed(let reason)): return failed(reason)
        }
    }

    private func ask(_ request: ChildRequest) -> Answer {
        let ticket = Ticket(request)
        switch waiting.push(ticket, until: .distantFuture) {
        case .accepted: return ticket.wait()
        case .full, .closed: return .failure(Server.closed)
        }
    }

    /// Ends all children and waits for them; requests under way and waiting fail.
    package func close() {
        waiting.close()
        cp_eventfd_signal(cancellation)
        let threads = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in threads { thread.join() }
    }
}

/// Why a request has no reply after all attempts.
private enum AttemptsFailure: Error {
    case timedOut
    case failed(String)
}

private typealias Answer = Result<ChildReply, AttemptsFailure>

/// A request and the place where its caller waits.
private final class Ticket: @unchecked Sendable {
    // @unchecked: `answer` is protected by `lock`.
    let request: ChildRequest
    private let lock = ConditionLock()
    private var answer: Answer?

    init(_ request: ChildRequest) { self.request = request }

    func finish(_ answer: Answer) {
        lock.withLock {
            self.answer = answer
            lock.broadcast()
        }
    }

    func wait() -> Answer {
        lock.withLock {
            while true {
                if let answer { return answer }
                lock.wait()
            }
        }
    }
}

/// What one thread of the pool does.
private struct Server {
    let configuration: VerifierConfiguration
    let waiting: BoundedQueue<Ticket>
    let cancellation: Int32
    let counts: Locked<VerifierPool.Counters>
    /// The pool closes: what still waits is refused without starting a child for it.
    private var isClosing = false
    /// Of the child, beside its own files.
    private var readable: [String] = []

    init(
        configuration: VerifierConfiguration, waiting: BoundedQueue<Ticket>, cancellation: Int32,
        counts: Locked<VerifierPool.Counters>
    ) {
        self.configuration = configuration
        self.waiting = waiting
        self.cancellation = cancellation
        self.counts = counts
    }

    static let closed = AttemptsFailure.failed("the verifier pool is closed")

    /// Serves until the queue is closed and drained.
    mutating func run() {
        var child: VerifierProcess?
        var servedCount = 0
        // Before the first request, so that it need not wait for the start.
        start(&child)
        while let ticket = waiting.pop() {
            if servedCount == configuration.requestCountPerChild { child = nil }
            if child == nil { servedCount = 0 }
            ticket.finish(serve(ticket.request, &child))
            servedCount += 1
        }
    }

    private mutating func serve(_ request: ChildRequest, _ child: inout VerifierProcess?) -> Answer {
        var failure = Self.closed
        for _ in 1...configuration.attemptCount where !isClosing {
            do throws(VerifierFault) {
                let reply = try exchange(request, &child)
                counts.withLock { $0.verified += 1 }
                return .success(reply)
            } catch {
                child = nil
                switch error {
                case .cancelled:
                    isClosing = true
                    failure = Self.closed
                case .timedOut:
                    counts.withLock { $0.timedOut += 1 }
                    failure = .timedOut
                case .broken(let reason):
                    counts.withLock { $0.broken += 1 }
                    failure = .failed("\(request.id): \(reason)")
                }
            }
        }
        return .failure(failure)
    }

    private mutating func exchange(
        _ request: ChildRequest, _ child: inout VerifierProcess?
    ) throws(VerifierFault) -> ChildReply {
        // What a job's tools read is shown to a child when it starts.
        var needed: [String] = []
        if case .act(let request) = request, let corpus = request.settings.corpus, access(corpus, R_OK) == 0 {
            needed = [corpus]
        }
        if child == nil || !needed.allSatisfy(readable.contains) {
            child = nil
            child = try started(readable: needed)
            readable = needed
        }
        // The deadline starts with a child that is ready: the start has its own.
        return try child!.exchange(request, milliseconds: configuration.requestMilliseconds)
    }

    private func start(_ child: inout VerifierProcess?) {
        do throws(VerifierFault) { child = try started(readable: []) } catch { child = nil }
    }

    private func started(readable: [String]) throws(VerifierFault) -> VerifierProcess {
        let child = try VerifierProcess.start(configuration, readable: readable, cancellation: cancellation)
        counts.withLock { $0.started += 1 }
        return child
    }
}
