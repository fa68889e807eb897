// SPDX-License-Identifier: Apache-2.0
import CPlatform
import Foundation
import Glibc
import Rewards
import RuntimeSupport
import Testing

/// Runs the bodies of tests as root and as an ordinary user, where this process can be both.
private func asEachUser(_ body: @escaping @Sendable () -> Void) {
    body()
    guard geteuid() == 0 else {
        print("note: this is no root: tried as this user only")
        return
    }
    let done = DedicatedThread.start(name: "as-nobody") {
        // Of this thread alone: the C library's calls would change the whole process.
        #expect(cp_become_user(65_534) == 0 && geteuid() == 65_534, "this thread cannot become another user")
        body()
    }
    done.join()
}

private func python(
    _ source: String, milliseconds: UInt64 = 5000, memory: UInt64 = 1 << 30, output: Int = 64 << 10
) -> ProgramResult {
    ProgramRunner.here(
        ProgramRun(
            source: source, processorMilliseconds: milliseconds, memoryByteCount: memory, outputByteCount: output))
}

private func said(_ result: ProgramResult) -> String {
    (String(decoding: result.output, as: UTF8.self) + String(decoding: result.error, as: UTF8.self))
        .trimmingCharacters(in: .whitespacesAndNewlines)
}

/// What a hostile program tries, as root and as a user: it prints `held` when all was refused.
@Suite("Sandbox", .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
struct SandboxTests {
    /// Each prints what it could do and should not.
    static let escapes: [(name: String, program: String)] = [
        (
            "writes outside of its temporary directories",
            """
            import os
            for path in ("/x", "/dev/x", "/usr/x", "/usr/bin/x", "/proc/x", "/dev/pts/x", "/run.json", "/harness.py"):
                try:
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
                    print("wrote", path)
                except OSError: pass
            """
        ),
        (
            "more in /tmp and /dev/shm than is allowed",
            """
            import os
            for folder in ("/tmp", "/dev/shm"):
                written = 0
                try:
                    for index in range(8):
                        with open(f"{folder}/{index}", "wb") as file:
                            for _ in range(8):
                                file.write(b"x" * (1 << 20))
                                file.flush()
                                written += 1
                except OSError: pass
                if written > 16: print("wrote", written, "MiB in", folder)
            """
        ),
        (
            "mounts and remounts",
            """
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            MS_REMOUNT, MS_BIND = 32, 4096
            if libc.mount(b"none", b"/usr", None, MS_REMOUNT | MS_BIND, None) == 0: print("remounted /usr")
            if libc.mount(b"none", b"/", None, MS_REMOUNT, None) == 0: print("remounted /")
            if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) == 0: print("mounted")
            if libc.umount2(b"/proc", 2) == 0: print("unmounted")
            if libc.chroot(b"/tmp") == 0: print("chroot")
            """
        ),
        (
            "namespaces of its own",
            """
            import ctypes, os
            libc = ctypes.CDLL(None, use_errno=True)
            for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000):
                if libc.unshare(flag) == 0: print("unshared", hex(flag))
            stack = ctypes.create_string_buffer(1 << 16)
            for number in (56, 435):
                if libc.syscall(number, 0x10000000 | 17, None, None, None, None) > 0: print("cloned", number)
            try:
                os.setns(os.open("/proc/self/ns/user", os.O_RDONLY), 0)
                print("setns")
            except (OSError, AttributeError): pass
            """
        ),
        (
            "other processes, and many of them",
            """
            import os, subprocess
            count = 0
            try:
                while count < 200:
                    if os.fork() == 0: os._exit(0)
                    count += 1
            except OSError: pass
            if count: print("forked", count)
            try: print("ran", subprocess.run(["/usr/bin/true"]).returncode)
            except OSError: pass
            try: print("spawned", os.posix_spawn("/usr/bin/true", ["true"], {}))
            except OSError: pass
            """
        ),
        (
            "many threads",
            """
            import threading
            event, threads = threading.Event(), []
            try:
                for _ in range(1000):
                    threads.append(threading.Thread(target=event.wait, daemon=True))
                    threads[-1].start()
                print("started", len(threads))
            except RuntimeError: pass
            event.set()
            """
        ),
        (
            "kernel interfaces that it does not need",
            """
            import ctypes, os, platform
            libc = ctypes.CDLL(None, use_errno=True)
            if platform.machine() == "x86_64":
                calls = {"ptrace": (101, 0, 0, 0, 0), "keyctl": (250, 0, -3, 0), "add_key": (248, b"user", b"a", b"b", 1, -3),
                         "bpf": (321, 0, None, 0), "perf_event_open": (298, None, 0, -1, -1, 0), "io_uring": (425, 1, None),
                         "userfaultfd": (323, 0), "memfd_create": (319, b"a", 0), "shmget": (29, 0, 4096, 0o1600),
                         "process_vm_readv": (310, os.getpid(), None, 0, None, 0, 0), "personality": (135, 0x40000),
                         "kexec_load": (246, 0, 0, None, 0), "init_module": (175, None, 0, b""),
                         "open_by_handle_at": (304, -1, None, 0), "pidfd_getfd": (438, 0, 0, 0),
                         "x32 getpid": (0x40000000 + 39,)}
                for name, call in calls.items():
                    ctypes.set_errno(0)
                    result = libc.syscall(*call)
                    if result >= 0 or ctypes.get_errno() != 1: print(name, result, ctypes.get_errno())
            """
        ),
        (
            "the network and sockets that no namespace holds",
            """
            import socket
            try:
                socket.create_connection(("127.0.0.1", 22), 1)
                print("connected")
            except OSError as error: pass
            try:
                socket.create_connection(("1.1.1.1", 53), 1)
                print("connected outside")
            except OSError as error: pass
            for family in (16, 17, 38, 40):
                try:
                    socket.socket(family, socket.SOCK_DGRAM if family == 40 else socket.SOCK_RAW)
                    print("socket", family)
                except OSError as error:
                    if error.errno != 1: print("socket", family, error)
            """
        ),
        (
            "files and processes of the host",
            """
            import os
            for path in ("/etc/passwd", "/etc/shadow", "/root", "/home", "/var", "/sys", "/work", "/opt", "/mnt", "/boot"):
                if os.path.exists(path): print("sees", path)
            others = [p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]
            if others: print("sees processes", others)
            names = [n for n in os.environ if n not in ("PATH", "LANG", "PYTHONHASHSEED", "HOME", "LC_CTYPE", "PWD")]
            if names: print("sees variables", names)
            files = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2
                     and os.path.exists(f"/proc/self/fd/{n}")}
            files = {n: t for n, t in files.items() if "/proc/" not in t}
            if files: print("sees descriptors", files)
            """
        ),
        (
            "privileges",
            """
            import os
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                if int(status[name], 16): print(name, status[name])
            if status["NoNewPrivs"].strip() != "1" or status["Seccomp"].strip() != "2": print("not sealed")
            if os.getuid() != 65534 or os.getgid() != 65534: print("is", os.getuid(), os.getgid())
            try:
                os.setuid(0)
                print("became root")
            except OSError: pass
            """
        ),
        (
            "stopping itself",
            """
            import os, signal
            for number in (signal.SIGSTOP, signal.SIGTSTP):
                try:
                    os.kill(os.getpid(), number)
                    print("stopped")
                except OSError: pass
            """
        ),
    ]

    @Test("what a hostile program tries is refused, to root and to a user", arguments: escapes.map(\.name))
    func refused(_ name: String) throws {
        let escape = try #require(Self.escapes.first { $0.name == name })
        asEachUser {
            let result = python(escape.program + "\nprint('held')")
            #expect(result.end == .ended && said(result) == "held", "uid \(geteuid()): \(result.end) \(said(result))")
        }
    }

    @Test("memory is bounded for the whole sandbox")
    func memory() {
        asEachUser {
            let source = """
                import os
                blocks = []
                try:
                    while True:
                        blocks.append(bytearray(16 << 20))
                        try: os.fork()
                        except OSError: pass
                except MemoryError:
                    count = len(blocks)
                    blocks.clear()
                    print("held" if count * 16 <= 256 else count)
                """
            #expect(said(python(source, memory: 256 << 20)) == "held")
        }
    }

    @Test("texts of programs and tests are in no command line")
    func commandLines() throws {
        let done = Locked(false)
        let thread = DedicatedThread.start(name: "run") {
            let result = ProgramRunner.here(
                ProgramRun(
                    source: "def f():\n  import time\n  time.sleep(1)\n  return 'hide-me-in-program'",
                    tests: "assert f() == 'hide-me-in-program'  # hide-me-in-tests", processorMilliseconds: 5000))
            #expect(result.passed, "\(result.detail)")
            done.withLock { $0 = true }
        }
        var seen = 0
        while !done.withLock({ $0 }) {
            for entry in try FileManager.default.contentsOfDirectory(atPath: "/proc") where Int(entry) != nil {
                let line = FileManager.default.contents(atPath: "/proc/\(entry)/cmdline") ?? Data()
                let text = String(decoding: line, as: UTF8.self)
                if text.contains("/harness.py") { seen += 1 }
                #expect(!text.contains("hide-me"))
            }
            usleep(20_000)
        }
        thread.join()
        #expect(seen > 0)
    }

    @Test("time is the processor's: what computes too long, sleeps too long or is not let run is told apart")
    func time() {
        #expect(python("while True: pass", milliseconds: 200).end == .processorTime)
        #expect(python("import time; time.sleep(100)", milliseconds: 200).end == .asleep)
        #expect(python("print(open('/dev/stdin').read())", milliseconds: 5000).end == .ended)
        // Stopped from outside, as by a host that has no processor for it.
        let result = Locked<ProgramResult?>(nil)
        let thread = DedicatedThread.start(name: "starved") {
            let ended = python(
                "open('/proc/self/comm', 'w').write('starve-me')\nwhile True: pass", milliseconds: 500)
            result.withLock { $0 = ended }
        }
        let stopped = Self.stopHarness()
        thread.join()
        #expect(stopped && result.withLock { $0 }?.end == .starved, "\(String(describing: result.withLock { $0 }))")
    }

    /// Stops the program that calls itself so, as soon as there is one.
    private static func stopHarness() -> Bool {
        for _ in 0..<5000 {
            for entry in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
                guard let id = Int32(entry),
                    let stat = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
                    stat.contains("(starve-me)")
                else { continue }
                return kill(id, SIGSTOP) == 0
            }
            usleep(1000)
        }
        return false
    }

    @Test("output beyond the limit is counted and dropped; errors are apart")
    func output() {
        let result = python("import sys\nsys.stderr.write('e' * 1100000)\nprint('a' * 3000000)", output: 100)
        #expect(result.output == Data(repeating: 97, count: 100) && result.outputByteCount == 3_000_001)
        #expect(result.error.count == 4096 && result.status == 0)
    }
}
