// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc
internal import RuntimeSupport

/// Why an exchange with a child failed.
enum VerifierFault: Error, Equatable {
    case timedOut
    /// The pool closes.
    case cancelled
    /// Anything else, one line.
    case broken(String)
}

/// One child and the socket to it. Belongs to the thread that starts it: the kernel kills the child when that
/// thread ends (PR_SET_PDEATHSIG counts the thread, not the process, as the parent).
struct VerifierProcess: ~Copyable {
    private let processID: pid_t
    private let socket: Int32
    /// Readable when the child has ended, whoever else may hold its end of the socket; -1 on a kernel without
    /// it.
    private let ended: Int32
    /// Readable when the pool closes.
    private let cancellation: Int32

    private init(processID: pid_t, socket: Int32, cancellation: Int32) {
        self.processID = processID
        self.socket = socket
        ended = cp_pidfd_open(processID)
        self.cancellation = cancellation
    }

    /// Starts a child and waits for its greeting.
    /// - Parameter readable: files that it may read.
    static func start(
        _ configuration: VerifierConfiguration, readable: [String] = [], cancellation: Int32
    ) throws(VerifierFault) -> VerifierProcess {
        if configuration.isSandboxed, let problem = SandboxAvailability.problem { throw .broken(problem) }
        let (processID, socket) = try spawn(configuration, readable)
        let process = VerifierProcess(processID: processID, socket: socket, cancellation: cancellation)
        try process.greet(configuration)
        return process
    }

    private func greet(_ configuration: VerifierConfiguration) throws(VerifierFault) {
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: configuration.startMilliseconds)
        let bytes: [UInt8]
        do throws(VerifierFault) { bytes = try receive(until: deadline) } catch {
            guard error == .timedOut else { throw error }
            throw .broken(
                "'\(configuration.executable)' sent no greeting in \(configuration.startMilliseconds) ms")
        }
        guard VerifierFrame.decode(VerifierGreeting.self, bytes) == VerifierGreeting() else {
            throw .broken(
                "'\(configuration.executable)' is no verifier of this version; are all parts of one build?")
        }
    }

    deinit {
        // The group: whatever the child has started goes with it. Not yet waited for, so the id is still its
        // own.
        kill(-processID, SIGKILL)
        while waitpid(processID, nil, 0) < 0, errno == EINTR {}
        close(socket)
        if ended >= 0 { close(ended) }
    }

    /// Programs that one request may have run.
    private static let runCountMax = 10_000

    /// Gives the child a request and waits for its reply. Programs that it wants run are run here, on this thread, and
    /// their time is not the child's.
    func exchange(_ request: ChildRequest, milliseconds: UInt64) throws(VerifierFault) -> ChildReply {
        var deadline = MonotonicInstant.now.advanced(byMilliseconds: milliseconds)
        try send(request, until: deadline)
        for _ in 0...Self.runCountMax {
            let bytes = try receive(until: deadline)
            guard let reply = VerifierFrame.decode(ChildReply.self, bytes) else { break }
            guard case .run(let run) = reply else {
                guard reply.answers(request) else { break }
                return reply
            }
            let started = MonotonicInstant.now
            let result = ProgramRunner.here(run, cancellation: cancellation)
            if result.end == .cancelled { throw .cancelled }
            deadline = deadline.advanced(byMilliseconds: MonotonicInstant.now.milliseconds(since: started))
            try send(.ran(result), until: deadline)
        }
        throw .broken("the verifier's reply is no reply to the request")
    }

    private func send(_ request: ChildRequest, until deadline: MonotonicInstant) throws(VerifierFault) {
        let body: [UInt8]
        do { body = try VerifierFrame.encode(request) } catch {
            throw .broken("the request is not JSON: \(error)")
        }
        guard body.count <= VerifierFrame.byteCountMax else {
            throw .broken(
                "the response has \(body.count) bytes; a verifier takes \(VerifierFrame.byteCountMax)")
        }
        try send(VerifierFrame.header(body.count) + body, until: deadline)
    }

    private func send(_ bytes: [UInt8], until deadline: MonotonicInstant) throws(VerifierFault) {
        var sent = 0
        while sent < bytes.count {
            try wait(for: POLLOUT, until: deadline)
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.send(
                    socket, buffer.baseAddress.map { $0 + sent }, bytes.count - sent,
                    Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
            if count >= 0 { sent += count } else { try requireTransient() }
        }
    }

    private func receive(until deadline: MonotonicInstant) throws(VerifierFault) -> [UInt8] {
        let byteCount = VerifierFrame.byteCount(try receive(VerifierFrame.headerByteCount, until: deadline))
        guard byteCount <= VerifierFrame.byteCountMax else {
            throw .broken("the verifier announces a reply of \(byteCount) bytes")
        }
        return try receive(byteCount, until: deadline)
    }

    private func receive(_ count: Int, until deadline: MonotonicInstant) throws(VerifierFault) -> [UInt8] {
        // Memory for what has come, not for what was announced.
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(count, 1 << 16))
        while bytes.count < count {
            try wait(for: POLLIN, until: deadline)
            let wanted = min(chunk.count, count - bytes.count)
            let got = chunk.withUnsafeMutableBytes {
                recv(socket, $0.baseAddress, wanted, Int32(MSG_DONTWAIT))
            }
            if got == 0 { throw .broken(death()) }
            if got > 0 { bytes += chunk[..<got] } else { try requireTransient() }
        }
        return bytes
    }

    /// How the child ended; it stays to be waited for. It may only have closed its socket.
    private func death() -> String {
        var information = siginfo_t()
        guard waitid(P_PID, id_t(processID), &information, WEXITED | WNOHANG | WNOWAIT) == 0,
            information.si_signo == SIGCHLD
        else { return "the verifier closed its output" }
        let status = cp_child_status(&information)
        let isExit = Int(information.si_code) == Int(CLD_EXITED)
        // Bubblewrap passes a signal on as a status above 128.
        if isExit, status <= 128 { return "the verifier ended with status \(status)" }
        return "the verifier was killed by signal \(isExit ? status - 128 : status)"
    }

    private func requireTransient() throws(VerifierFault) {
        switch errno {
        case EAGAIN, EINTR: return
        case EPIPE, ECONNRESET: throw .broken(death())
        default: throw .broken("the socket to the verifier: \(String(cString: strerror(errno)))")
        }
    }

    private func wait(for events: Int32, until deadline: MonotonicInstant) throws(VerifierFault) {
        while true {
            let now = MonotonicInstant.now
            guard now < deadline else { throw .timedOut }
            var descriptors = [
                pollfd(fd: cancellation, events: Int16(POLLIN), revents: 0),
                pollfd(fd: socket, events: Int16(events), revents: 0),
                pollfd(fd: ended, events: Int16(POLLIN), revents: 0),
            ]
            // One millisecond more than is left, so that the last turn does not spin; and an hour at a time.
            let milliseconds = min(deadline.milliseconds(since: now) + 1, 3_600_000)
            let count = poll(&descriptors, 3, Int32(milliseconds))
            if count < 0, errno != EINTR { throw .broken("poll: \(String(cString: strerror(errno)))") }
            if count > 0, descriptors[0].revents != 0 { throw .cancelled }
            // First what it has sent: it may have ended after its last word.
            if count > 0, descriptors[1].revents != 0 { return }
            if count > 0, descriptors[2].revents != 0 { throw .broken(death()) }
        }
    }
}

extension VerifierProcess {
    private static func spawn(
        _ configuration: VerifierConfiguration, _ readable: [String]
    ) throws(VerifierFault) -> (pid_t, Int32) {
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            throw .broken("no socket for a verifier: \(String(cString: strerror(errno)))")
        }
        defer { close(pair[1]) }
        let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { if null >= 0 { close(null) } }
        var limits = cp_process_limits(
            // A child of a sanitized build is sanitized itself and would not start within any limit.
            address_space_bytes: cp_is_sanitized() != 0 ? 0 : configuration.addressSpaceByteCount,
            cpu_seconds: configuration.processorSeconds,
            file_size_bytes: configuration.fileByteCount, open_file_count: configuration.openFileCount,
            process_count: configuration.isSandboxed ? 0 : configuration.processCount,
            // Of root: it runs from files that another user need not be able to reach.
            user: 0)
        var environment = configuration.environment
        var command = [configuration.executable] + configuration.arguments
        var descriptors = [pair[1], pair[1], configuration.errorDescriptor ?? null]
        var filter: Int32 = -1
        defer { if filter >= 0 { close(filter) } }
        if configuration.isSandboxed {
            do { filter = try Sandbox.filter() } catch { throw .broken(error.description) }
            descriptors += [filter, null]
            let inside = VerifierSandbox(configuration, readable: readable)
            if !inside.libraryPath.isEmpty { environment["LD_LIBRARY_PATH"] = inside.libraryPath }
            command = inside.command(environment, configuration.arguments)
            environment = [:]
        }
        let variables = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        let processID = withCStrings(command) { arguments in
            withCStrings(variables) { environment in
                cp_spawn_limited(command[0], arguments, environment, descriptors, Int32(descriptors.count), &limits)
            }
        }
        guard processID > 0 else {
            let code = errno
            close(pair[0])
            throw .broken(
                "cannot start the verifier '\(configuration.executable)': \(String(cString: strerror(code)))")
        }
        return (processID, pair[0])
    }
}

extension ChildReply {
    fileprivate func answers(_ request: ChildRequest) -> Bool {
        switch (self, request) {
        case (.judged(let reply), .judge(let request)):
            reply.id == request.id && reply.outcomes.count == request.terms.count
        case (.acted(let reply), .act(let request)):
            reply.id == request.id && (reply.failure != nil || reply.observations.count == request.calls.count)
        default: false
        }
    }
}
