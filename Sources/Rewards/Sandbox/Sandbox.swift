// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc
internal import RuntimeSupport

/// What foreign programs run in: bubblewrap with namespaces of its own for users, processes, network, mounts, IPC and host
/// name, without capabilities, without further namespaces, as user 65534, on a read-only root with nothing but the
/// system's libraries, under a seccomp filter. Without any of it nothing runs at all.
///
/// One sandbox is one process, which may have threads: so RLIMIT_AS bounds its memory and RLIMIT_CPU its time, with the two
/// temporary directories in memory beside it. Workers that are root start bubblewrap as user 65534, so that a kernel's
/// fault would not give away the host.
struct Sandbox {
    /// What one program may use.
    struct Limits: Equatable, Sendable {
        /// Processor time, all threads.
        var processorMilliseconds: UInt64 = 5_000
        /// Address space.
        var memoryByteCount: UInt64 = 1 << 30
        /// Of /tmp and of /dev/shm, each, and of one file there.
        var diskByteCount: UInt64 = 16 << 20
        var openFileCount: UInt64 = 64
    }

    /// Why nothing was run; a person must act.
    struct Unavailable: Error, CustomStringConvertible {
        let description: String
    }

    static let program = "/usr/bin/bwrap"
    static let user: UInt32 = 65_534
    /// Of a program, those of Python included.
    static let threadCountMax = 64

    /// Descriptors of bubblewrap, beside those that the program gets as 0, 1 and 2.
    enum Descriptor {
        static let filter = 3
        static let information = 4
        static let order = 5
        static let harness = 6
        /// First of those that the program keeps.
        static let kept = 7
    }

    /// Options of bubblewrap that all sandboxes share; mounts follow, then ``sealing``.
    static let isolation = [
        "--unshare-all", "--unshare-user", "--disable-userns", "--assert-userns-disabled", "--cap-drop", "ALL",
        "--uid", "\(user)", "--gid", "\(user)", "--hostname", "sandbox", "--die-with-parent", "--new-session",
        "--as-pid-1", "--clearenv", "--seccomp", "\(Descriptor.filter)", "--info-fd", "\(Descriptor.information)",
        "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink",
        "usr/lib64", "/lib64", "--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--ro-bind-try",
        "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev",
    ]

    /// Bounds what can be written, and makes everything else read-only.
    /// - Parameter binds: further mounts. They come after /tmp is made, which would hide those that lie below it.
    static func sealing(_ diskByteCount: UInt64, binds: [String] = []) -> [String] {
        [
            "--size", "\(diskByteCount)", "--tmpfs", "/dev/shm", "--remount-ro", "/dev", "--size", "\(diskByteCount)",
            "--tmpfs", "/tmp",
        ] + binds + ["--chdir", "/tmp", "--remount-ro", "/", "--"]
    }

    /// The seccomp filter in a pipe, to be read once.
    static func filter() throws(Unavailable) -> Int32 {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = bytes.withUnsafeMutableBytes { cp_seccomp_filter($0.baseAddress, $0.count) }
        guard count > 0 else {
            throw Unavailable(
                description: "sandboxes need an x86-64 or ARM64 processor: no seccomp filter for this one")
        }
        return try memoryFile(Array(bytes[..<count]))
    }

    static func memoryFile(_ bytes: [UInt8]) throws(Unavailable) -> Int32 {
        let descriptor = bytes.withUnsafeBytes { cp_memory_file($0.baseAddress, $0.count) }
        guard descriptor >= 0 else {
            throw Unavailable(description: "no memory file for a sandbox: \(String(cString: strerror(errno)))")
        }
        return descriptor
    }

    /// One line of what bubblewrap or the loader said before the program began.
    static func unavailable(_ said: String) -> Unavailable {
        let line = said.split(separator: "\n").first.map(String.init) ?? "bubblewrap ended without a word"
        let remedy =
            line.contains("namespace") || line.contains("uid map")
            ? "; allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, "
                + "kernel.apparmor_restrict_unprivileged_userns)"
            : line.contains("nknown option") ? "; bubblewrap 0.8 or later is needed" : ""
        return Unavailable(description: "no sandbox on this host: \(line)\(remedy)")
    }
}

/// A Python program in a sandbox, between its start and its end. Belongs to the thread that starts it: the kernel kills
/// bubblewrap when that thread ends. All that is left of it goes with this value.
final class SandboxedProgram {
    /// Of bubblewrap, and its group.
    let processID: pid_t
    /// Writable end of its standard input, or -1.
    private(set) var input: Int32
    /// Readable ends.
    let output: Int32
    let error: Int32
    private let marker: Int32
    private let information: Int32
    /// Readable once bubblewrap has ended.
    let ended: Int32
    private var program: pid_t = -1
    private(set) var hasStarted = false
    /// Set when there is nothing more to be read.
    var hasClosedOutput = false
    var hasClosedError = false

    /// Starts it.
    /// - Parameters:
    ///   - run: what /run.json says, but for the descriptors.
    ///   - link: a descriptor that the program keeps.
    init(_ run: SandboxOrder, link: Int32?, hasInput: Bool, limits: Sandbox.Limits) throws(Sandbox.Unavailable) {
        var order = run
        order.marker = Sandbox.Descriptor.kept
        order.link = link == nil ? nil : Sandbox.Descriptor.kept + 1
        order.threads = Sandbox.threadCountMax
        var opened: [Int32] = []
        defer { for descriptor in opened { close(descriptor) } }
        /// The reading end and the writing end, of which the child's is closed at the end of this.
        func pipe(childWrites: Bool) throws(Sandbox.Unavailable) -> (ours: Int32, theirs: Int32) {
            var ends: [Int32] = [-1, -1]
            guard cp_pipe(&ends) == 0 else {
                throw Sandbox.Unavailable(description: "no pipe for a sandbox: \(String(cString: strerror(errno)))")
            }
            let (ours, theirs) = childWrites ? (ends[0], ends[1]) : (ends[1], ends[0])
            opened += [ours, theirs]
            _ = fcntl(ours, F_SETFL, fcntl(ours, F_GETFL) | O_NONBLOCK)
            return (ours, theirs)
        }
        let input = try pipe(childWrites: false)
        let output = try pipe(childWrites: true)
        let error = try pipe(childWrites: true)
        let information = try pipe(childWrites: true)
        let marker = try pipe(childWrites: true)
        let filter = try Sandbox.filter()
        opened.append(filter)
        let orderFile = try Sandbox.memoryFile(order.encoded)
        opened.append(orderFile)
        let harness = try Sandbox.memoryFile(Array(Harness.source.utf8))
        opened.append(harness)
        let descriptors =
            [input.theirs, output.theirs, error.theirs, filter, information.theirs, orderFile, harness, marker.theirs]
            + (link.map { [$0] } ?? [])
        let arguments =
            [Sandbox.program] + Sandbox.isolation + [
                "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0",
                "--setenv", "HOME", "/tmp", "--ro-bind-data", "\(Sandbox.Descriptor.order)", "/run.json",
                "--ro-bind-data", "\(Sandbox.Descriptor.harness)", "/harness.py",
            ] + Sandbox.sealing(limits.diskByteCount) + ["/usr/bin/python3", "-I", "-B", "/harness.py"]
        var processLimits = cp_process_limits(
            address_space_bytes: limits.memoryByteCount,
            // Ends what the watcher does not: it looks more often and strikes first.
            cpu_seconds: limits.processorMilliseconds / 1000 + 2,
            file_size_bytes: limits.diskByteCount, open_file_count: limits.openFileCount, process_count: 0,
            user: Sandbox.user)
        let processID = withCStrings(arguments) { arguments in
            withCStrings([]) { environment in
                cp_spawn_limited(
                    Sandbox.program, arguments, environment, descriptors, Int32(descriptors.count), &processLimits)
            }
        }
        guard processID > 0 else {
            let code = errno
            throw Sandbox.Unavailable(
                description: "no sandbox on this host: cannot start \(Sandbox.program): "
                    + "\(String(cString: strerror(code)))\(code == ENOENT ? "; install bubblewrap" : "")")
        }
        self.processID = processID
        (self.input, self.output, self.error) = (input.ours, output.ours, error.ours)
        (self.information, self.marker) = (information.ours, marker.ours)
        ended = cp_pidfd_open(processID)
        let ours: Set = [input.ours, output.ours, error.ours, information.ours, marker.ours]
        opened.removeAll { ours.contains($0) }
        if !hasInput { closeInput() }
    }

    deinit {
        // Bubblewrap's death ends the program, the first process of its namespace. Not yet waited for: the id is its own.
        kill(-processID, SIGKILL)
        while waitpid(processID, nil, 0) < 0, errno == EINTR {}
        for descriptor in [input, output, error, marker, information, ended] where descriptor >= 0 { close(descriptor) }
    }

    func closeInput() {
        if input >= 0 { close(input) }
        input = -1
    }

    /// The program's process as this host numbers it; nil before it is there.
    private var inner: pid_t? {
        if program > 0 { return program }
        var text = [UInt8](repeating: 0, count: 512)
        let count = read(information, &text, text.count)
        guard count > 0 else { return nil }
        let digits = String(decoding: text[..<count], as: UTF8.self).split(separator: "child-pid\":").last?
            .drop { $0 == " " }.prefix { $0.isNumber }
        program = digits.flatMap { pid_t($0) } ?? -1
        return program > 0 ? program : nil
    }

    /// Processor time so far.
    var processorNanoseconds: Int64 { inner.map { max(0, cp_processor_nanoseconds($0)) } ?? 0 }

    /// Whether it waits by its own wish.
    var isAsleep: Bool { inner.map { cp_is_asleep($0) != 0 } ?? false }

    /// Whether its own code has begun.
    func lookForStart() {
        guard !hasStarted else { return }
        var byte: UInt8 = 0
        hasStarted = read(marker, &byte, 1) == 1
    }

    /// Its exit status, 128 and more for a signal; nil while it runs.
    var status: Int32? {
        var information = siginfo_t()
        guard waitid(P_PID, id_t(processID), &information, WEXITED | WNOHANG | WNOWAIT) == 0,
            information.si_signo == SIGCHLD
        else { return nil }
        let status = cp_child_status(&information)
        return Int(information.si_code) == Int(CLD_EXITED) ? status : 128 + status
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
