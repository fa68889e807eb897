// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc
internal import RuntimeSupport

/// Runs foreign programs under bubblewrap: no network, no files but the system's libraries, an empty temporary
/// directory in memory, and limits of time, memory, files and output. Without bubblewrap nothing runs at all.
struct Sandbox: Sendable {
    /// What one run may use.
    struct Limits: Equatable, Sendable {
        var milliseconds: UInt64 = 5_000
        /// Address space of each process.
        var memoryByteCount: UInt64 = 1 << 30
        /// Of the temporary directory, and of one file in it.
        var diskByteCount: UInt64 = 16 << 20
        /// Output kept; what follows is read and dropped, so that a chatty program neither blocks nor fills memory.
        var outputByteCount = 64 << 10
        var openFileCount: UInt64 = 64
    }

    /// How a run ended.
    struct Result: Equatable, Sendable {
        /// Exit status; nil when it was killed, by its deadline or a signal.
        let status: Int32?
        let timedOut: Bool
        /// Standard output and standard error as they came, at most the limit.
        let output: [UInt8]
        /// All that was written.
        let outputByteCount: Int

        var text: String { String(decoding: output, as: UTF8.self) }
    }

    /// Why nothing was run; a person must act.
    struct Unavailable: Error, CustomStringConvertible {
        let description: String
    }

    private static let program = "/usr/bin/bwrap"
    /// Longest single argument that the kernel takes is 128 KiB.
    static let argumentByteCountMax = 120 << 10

    /// Runs `command` (a path under /usr and its arguments) to its end or its deadline.
    static func run(_ command: [String], input: [UInt8] = [], limits: Limits = Limits()) throws(Unavailable) -> Result {
        guard command.allSatisfy({ $0.utf8.count <= argumentByteCountMax && !$0.utf8.contains(0) }) else {
            return Result(
                status: nil, timedOut: false, output: Array("the program is too long".utf8), outputByteCount: 0)
        }
        let arguments =
            [
                program, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH",
                "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "HOME",
                "/tmp", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
                "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--size",
                "\(limits.diskByteCount)", "--tmpfs", "/tmp", "--chdir", "/tmp", "--",
            ] + command
        let pipes = try Pipes()
        var processLimits = cp_process_limits(
            address_space_bytes: limits.memoryByteCount, cpu_seconds: limits.milliseconds / 1000 + 1,
            file_size_bytes: limits.diskByteCount, open_file_count: limits.openFileCount, process_count: 0)
        let processID = withCStrings(arguments) { arguments in
            withCStrings([]) { environment in
                cp_spawn_limited(
                    program, arguments, environment, pipes.input.read, pipes.output.write, pipes.output.write,
                    &processLimits)
            }
        }
        guard processID > 0 else {
            throw Unavailable(
                description: "cannot start \(program): \(String(cString: strerror(errno))); install bubblewrap")
        }
        pipes.closeChildEnds()
        defer {
            // Bubblewrap's death ends everything in its process namespace.
            kill(-processID, SIGKILL)
            while waitpid(processID, nil, 0) < 0, errno == EINTR {}
        }
        let result = pipes.exchange(
            input, processID, until: MonotonicInstant.now.advanced(byMilliseconds: limits.milliseconds), limits)
        // Bubblewrap itself says so and exits with 1 before the command runs.
        if result.status == 1, result.output.starts(with: Array("bwrap: ".utf8)) {
            throw Unavailable(description: result.text.trimmed + "; allow unprivileged user namespaces")
        }
        return result
    }
}

/// A child's standard input and output.
private final class Pipes {
    struct Ends {
        var read: Int32
        var write: Int32
    }

    private(set) var input: Ends
    private(set) var output: Ends

    init() throws(Sandbox.Unavailable) {
        var descriptors: [Int32] = [-1, -1, -1, -1]
        let opened = descriptors.withUnsafeMutableBufferPointer { buffer in
            // Socket pairs: Glibc's module has no pipe2, and pipe would leak into children of other threads.
            let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
            return socketpair(AF_UNIX, kind, 0, buffer.baseAddress!) == 0
                && socketpair(AF_UNIX, kind, 0, buffer.baseAddress! + 2) == 0
        }
        input = Ends(read: descriptors[0], write: descriptors[1])
        output = Ends(read: descriptors[2], write: descriptors[3])
        guard opened else {
            throw Sandbox.Unavailable(description: "no pipe for a sandbox: \(String(cString: strerror(errno)))")
        }
        for descriptor in [input.write, output.read] {
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
    }

    deinit {
        for descriptor in [input.read, input.write, output.read, output.write] where descriptor >= 0 {
            close(descriptor)
        }
    }

    func closeChildEnds() {
        close(input.read)
        close(output.write)
        input.read = -1
        output.write = -1
    }

    private func closeInput() {
        close(input.write)
        input.write = -1
    }

    /// Feeds the input and gathers the output until the child closes its output or the deadline passes.
    func exchange(
        _ bytes: [UInt8], _ processID: pid_t, until deadline: MonotonicInstant, _ limits: Sandbox.Limits
    ) -> Sandbox.Result {
        // A program may end without reading its input.
        cp_block_sigpipe()
        var sent = 0
        var kept: [UInt8] = []
        var total = 0
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        if bytes.isEmpty { closeInput() }
        while true {
            let now = MonotonicInstant.now
            guard now < deadline else {
                return .init(status: nil, timedOut: true, output: kept, outputByteCount: total)
            }
            var descriptors = [
                pollfd(fd: output.read, events: Int16(POLLIN), revents: 0),
                pollfd(fd: input.write, events: Int16(POLLOUT), revents: 0),
            ]
            _ = poll(&descriptors, 2, Int32(min(deadline.milliseconds(since: now) + 1, 60_000)))
            if descriptors[1].revents != 0 {
                let count = bytes.withUnsafeBytes { write(input.write, $0.baseAddress! + sent, bytes.count - sent) }
                if count > 0 { sent += count }
                // A program that does not read all of its input is no failure.
                if sent == bytes.count || (count < 0 && errno != EAGAIN && errno != EINTR) { closeInput() }
            }
            if descriptors[0].revents != 0 {
                let count = read(output.read, &chunk, chunk.count)
                if count > 0 {
                    total += count
                    kept += chunk[..<min(count, max(0, limits.outputByteCount - kept.count))]
                } else if count == 0 {
                    return .init(
                        status: status(processID, until: deadline), timedOut: false, output: kept,
                        outputByteCount: total)
                }
            }
        }
    }

    /// Of a child that closed its output; nil when a signal ended it or it goes on without output.
    private func status(_ processID: pid_t, until deadline: MonotonicInstant) -> Int32? {
        while MonotonicInstant.now < deadline {
            var information = siginfo_t()
            if waitid(P_PID, id_t(processID), &information, WEXITED | WNOHANG | WNOWAIT) == 0,
                information.si_signo == SIGCHLD
            {
                return Int(information.si_code) == Int(CLD_EXITED) ? cp_child_status(&information) : nil
            }
            usleep(500)
        }
        return nil
    }
}

/// Calls `body` with a NULL-terminated array of C strings.
func withCStrings<Result>(
    _ texts: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = texts.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { preconditionFailure("the array holds at least its end") }
        return body(base)
    }
}

/// Whether programs can be run here at all.
package enum SandboxAvailability {
    /// Why not, in one line; nil: they can. Tried once.
    package static let problem: String? = {
        do throws(Sandbox.Unavailable) {
            let result = try Sandbox.run(Python.command(code: "import sys; sys.stdout.write('1\\n')"))
            return result.text == "1\n" ? nil : "a sandboxed python3 said '\(result.text.trimmed)'; install python3"
        } catch { return error.description }
    }()
}
