// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// `apus up --hosts` through a real sshd of this machine: two addresses of the loopback network are two hosts.
@Suite("Hosts through ssh", .serialized)
struct HostClusterTests {
    /// sshd with keys of its own, and an `ssh` that knows nothing but it.
    private final class Server {
        private let process = Process()
        let environment: [String: String]

        init(_ bench: Workbench) throws {
            let port = try #require(Self.freePort())
            for name in ["host-key", "user-key"] {
                try Self.run("/usr/bin/ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", bench.url(name).path])
            }
            try bench.write(
                "sshd_config",
                """
                Port \(port)
                ListenAddress 127.0.0.1
                ListenAddress 127.0.0.2
                HostKey \(bench.url("host-key").path)
                AuthorizedKeysFile \(bench.url("user-key.pub").path)
                PidFile none
                StrictModes no
                UsePAM no
                PasswordAuthentication no
                PermitRootLogin prohibit-password
                """)
            try bench.write(
                "ssh_config",
                """
                Host node-a
                  HostName 127.0.0.1
                Host node-b
                  HostName 127.0.0.2
                Host *
                  Port \(port)
                  IdentityFile \(bench.url("user-key").path)
                  IdentitiesOnly yes
                  UserKnownHostsFile \(bench.url("known_hosts").path)
                  StrictHostKeyChecking accept-new
                """)
            try FileManager.default.createDirectory(at: bench.url("bin"), withIntermediateDirectories: true)
            try bench.write("bin/ssh", "#!/bin/sh\nexec /usr/bin/ssh -F '\(bench.url("ssh_config").path)' \"$@\"\n")
            chmod(bench.url("bin/ssh").path, 0o755)
            let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
            environment = ["PATH": "\(bench.url("bin").path):\(path)"]
            if getuid() == 0 {
                try FileManager.default.createDirectory(atPath: "/run/sshd", withIntermediateDirectories: true)
            }
            process.executableURL = URL(fileURLWithPath: "/usr/sbin/sshd")
            process.arguments = ["-D", "-e", "-f", bench.url("sshd_config").path]
            process.standardInput = FileHandle.nullDevice
            _ = FileManager.default.createFile(atPath: bench.url("sshd.log").path, contents: nil)
            process.standardError = try FileHandle(forWritingTo: bench.url("sshd.log"))
            try process.run()
            let isUp = eventually(10) { bench.text("sshd.log").contains("listening on 127.0.0.2") }
            try #require(isUp, "\(bench.text("sshd.log"))")
        }

        deinit {
            // A test's thread blocks signals, and its children inherit that: SIGTERM would not reach them.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }

        private static func run(_ program: String, _ arguments: [String]) throws {
            let process = try Process.run(URL(fileURLWithPath: program), arguments: arguments)
            process.waitUntilExit()
            try #require(process.terminationStatus == 0)
        }

        /// A port that nobody listens on just now.
        private static func freePort() -> UInt16? {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let isBound = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
                }
            }
            return isBound ? UInt16(bigEndian: address.sin_port) : nil
        }
    }

    private static let isSSHAvailable = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"].allSatisfy {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    @Test("workers on two hosts: same bytes though one is killed, keys kept private, nothing left behind")
    func hosts() throws {
        guard Self.isSSHAvailable else {
            return print(
                "skipped: apus up --hosts is tested with OpenSSH: apt-get install openssh-server openssh-client")
        }
        let bench = try Workbench("hosts")
        let server = try Server(bench)
        try bench.makeModel()
        try bench.makeJob(groups: 40, groupSize: 4, tokens: 96, output: "quiet")
        try #require(try bench.apus("run", "job.yaml", "--workers", "3").status == 0)
        try bench.makeJob(groups: 40, groupSize: 4, tokens: 96, output: "out")
        try bench.write(
            "hosts", "node-a workers=2 threads=1 memory=1GiB  # the first\n\nnode-b threads=1 memory=1GiB\n")
        let up = try bench.spawn(
            ["up", "--hosts", "hosts", "--state", "state"], log: "up.log", environment: server.environment)
        defer {
            if up.isRunning { kill(up.processIdentifier, SIGKILL) }
            up.waitUntilExit()
        }
        let isUp = eventually(60) {
            !up.isRunning || FileManager.default.fileExists(atPath: bench.url("context.json").path)
        }
        try #require(isUp && up.isRunning, "\(bench.text("up.log"))")
        try #require(try bench.apus("submit", "job.yaml").status == 0)
        try #require(try eventually(60) { number(try Self.views(bench, "job", "1").first?["sequences_done"]) > 8 })
        let workers = try Self.views(bench, "workers")
        #expect(workers.count == 3)
        let commands = workers.map { Self.commandLine(number($0["process_id"])) }
        for (host, count) in [("127.0.0.1", 2), ("127.0.0.2", 1)] {
            #expect(commands.count { $0.contains("--listen \(host) ") } == count, "\(commands)")
        }
        let directory = try #require(
            commands.first?.firstMatch(of: /--keys (\.apus\/up-[0-9a-f]+)\//).map { String($0.1) })
        let remote = FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(directory)
        for name in ["worker-1.key", "worker-2.key", "worker-3.key"] {
            let attributes = try FileManager.default.attributesOfItem(atPath: remote.appendingPathComponent(name).path)
            #expect(number(attributes[.posixPermissions]) == 0o600)
            let secret = try #require(Self.secret(bench.url("state/\(name)")))
            let leaks = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int($0) }.filter {
                Self.commandLine($0).contains(secret)
            }
            #expect(leaks.isEmpty, "a secret key is on the command line of \(leaks)")
        }
        kill(pid_t(number(workers[0]["process_id"])), SIGKILL)
        let watched = try bench.apus("watch", "1")
        try #require(watched.status == 0, "\(watched.errors)")
        #expect(try bench.contents(of: "out") == bench.contents(of: "quiet"))
        let isBack = try eventually(20) { try Self.views(bench, "workers").count == 3 }
        #expect(isBack, "the killed worker was not started again")
        let last = try Self.views(bench, "workers").map { number($0["process_id"]) }
        kill(up.processIdentifier, SIGINT)
        #expect(eventually(20) { !up.isRunning })
        #expect(up.terminationStatus == 0, "\(bench.text("up.log"))")
        #expect(eventually(5) { last.allSatisfy { kill(pid_t($0), 0) != 0 } }, "workers are left behind")
        #expect(!FileManager.default.fileExists(atPath: remote.path), "keys are left behind")
        #expect(bench.text("state/worker-3.log").contains("welcomed as worker"), "logs are brought here")
    }

    @Test("hosts files and hosts that cannot be used are told in one line")
    func mistakes() throws {
        let bench = try Workbench("hosts-bad")
        for (text, message) in [
            ("", "names no host"), ("node1 workers=0\n", "line 1: 'workers=0'"),
            ("\nnode1 cores=3\n", "line 2: 'cores=3'"),
            ("-oProxyCommand=x\n", "is no host"),
        ] {
            try bench.write("hosts", text)
            let result = try bench.apus("up", "--hosts", "hosts")
            #expect(result.status == 3 && result.errors.contains(message), "\(result)")
        }
        guard Self.isSSHAvailable else { return print("skipped: no ssh") }
        let server = try Server(bench)
        try bench.write("hosts", "node-a apus=/nowhere/apus\n")
        let result = try bench.apus(["up", "--hosts", "hosts", "--state", "state"], environment: server.environment)
        #expect(result.status == 4 && result.errors.contains("node-a, through ssh: "), "\(result)")
        #expect(result.errors.contains("/nowhere/apus"), "\(result)")
    }

    private static func views(_ bench: Workbench, _ arguments: String...) throws -> [[String: Any]] {
        let result = try bench.apus(arguments + ["--json"])
        return try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [[String: Any]] ?? []
    }

    private static func commandLine(_ pid: Int) -> String {
        let bytes = (try? Data(contentsOf: URL(fileURLWithPath: "/proc/\(pid)/cmdline"))) ?? Data()
        return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }

    /// The longest line of a key file that is not its public key.
    private static func secret(_ file: URL) -> String? {
        let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        return text.split(whereSeparator: \.isWhitespace).map(String.init).last { $0.count == 40 }
    }
}
