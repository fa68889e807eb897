// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// Clusters on addresses that are not plain loopback, with real processes; two hosts are two network namespaces.
@Suite("Addresses of clusters", .serialized)
struct AddressJobTests {
    /// Starts processes of one cluster, and ends them with itself.
    private final class Cluster {
        let bench: Workbench
        private var processes: [Process] = []

        init(_ name: String, workers: Int) throws {
            bench = try Workbench(name)
            try #require(try bench.apus("keys", "cluster", "keys", "--workers", "\(workers)").status == 0)
        }

        deinit {
            for process in processes where process.isRunning { kill(process.processIdentifier, SIGKILL) }
            for process in processes { process.waitUntilExit() }
        }

        /// - Parameter namespace: where it runs; nil: where the test does.
        func start(_ arguments: [String], log: String, namespace: String? = nil) throws -> Process {
            let process = Process()
            process.executableURL = namespace == nil ? Workbench.apus : URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = (namespace.map { ["ip", "netns", "exec", $0, Workbench.apus.path] } ?? []) + arguments
            process.currentDirectoryURL = bench.directory
            process.environment = bench.shellEnvironment
            process.standardInput = FileHandle.nullDevice
            _ = FileManager.default.createFile(atPath: bench.url(log).path, contents: nil)
            let handle = try FileHandle(forWritingTo: bench.url(log))
            process.standardOutput = handle
            process.standardError = handle
            try process.run()
            processes.append(process)
            return process
        }

        @discardableResult
        func coordinator(_ arguments: [String], namespace: String? = nil, workers: Int = 1) throws -> Process {
            let keys = ["--state", "keys/coordinator", "--keys", "keys/coordinator.key", "--allow", "keys/allow-list"]
            return try start(
                ["coordinator"] + keys + ["--workers", "\(workers)"] + arguments, log: "coordinator.log",
                namespace: namespace)
        }

        @discardableResult
        func worker(_ number: Int, _ arguments: [String] = [], namespace: String? = nil) throws -> Process {
            let keys = ["--join", "keys/coordinator/coordinator.json", "--keys", "keys/worker-\(number).key"]
            return try start(
                ["worker"] + keys + ["--threads", "1", "--memory", "1GiB"] + arguments, log: "worker-\(number).log",
                namespace: namespace)
        }

        /// What the coordinator has published.
        func address() throws -> [String: String] {
            let file = bench.url("keys/coordinator/coordinator.json")
            try #require(
                eventually(20) { FileManager.default.fileExists(atPath: file.path) }, "\(bench.text("coordinator.log"))"
            )
            return try JSONDecoder().decode([String: String].self, from: Data(contentsOf: file))
        }

        func joined(_ count: Int) throws -> Bool {
            try eventually(20) {
                try bench.apus("workers", "--context", "keys/context.json").output.split(separator: "\n")
                    .count { $0.contains("live") } == count
            }
        }
    }

    private static let hasIPv6 =
        FileManager.default.fileExists(atPath: "/proc/net/if_inet6")
        && (try? String(contentsOfFile: "/proc/net/if_inet6", encoding: .utf8))?.contains(
            "00000000000000000000000000000001")
            == true

    @Test("a cluster on ::1: coordinator, workers and client", .enabled(if: AddressJobTests.hasIPv6))
    func sixthLoopback() throws {
        let cluster = try Cluster("ipv6", workers: 2)
        try cluster.coordinator(["--listen", "::1"], workers: 2)
        let published = try #require(try cluster.address()["control"])
        #expect(published.hasPrefix("tcp://[::1]:"), "\(published)")
        try cluster.worker(1)
        try cluster.worker(2, ["--listen", "[::1]"])
        #expect(try cluster.joined(2), "\(cluster.bench.text("worker-1.log"))\(cluster.bench.text("worker-2.log"))")
        let bench = cluster.bench
        try bench.makeModel(layers: 2)
        try bench.makeJob(groups: 2, groupSize: 2, tokens: 8)
        let result = try bench.apus("submit", "job.yaml", "--watch", "--context", "keys/context.json")
        #expect(result.status == 0, "\(result.errors)")
    }

    @Test("localhost and all addresses: what is published can be dialled, and a restart keeps its port")
    func namesAndWildcards() throws {
        let cluster = try Cluster("names", workers: 1)
        let first = try cluster.coordinator(["--listen", "localhost"])
        let published = try #require(try cluster.address()["control"])
        #expect(published.hasPrefix("tcp://127.0.0.1:"), "\(published)")
        try cluster.worker(1, ["--listen", "localhost"])
        #expect(try cluster.joined(1), "\(cluster.bench.text("worker-1.log"))")
        first.terminate()
        first.waitUntilExit()
        try FileManager.default.removeItem(at: cluster.bench.url("keys/coordinator/coordinator.json"))
        let second = try cluster.coordinator(["--listen", "0.0.0.0", "--advertise", "localhost"])
        let restarted = try #require(try cluster.address()["control"])
        #expect(restarted.hasPrefix("tcp://localhost:"))
        try cluster.worker(1)
        #expect(try cluster.joined(1), "\(cluster.bench.text("worker-1.log"))")
        kill(second.processIdentifier, SIGKILL)
        second.waitUntilExit()
        try cluster.coordinator(["--listen", "0.0.0.0", "--advertise", "localhost"])
        #expect(try cluster.joined(1), "\(cluster.bench.text("worker-1.log"))")
        let last = try #require(try cluster.address()["control"])
        #expect(last == restarted)
    }

    /// Two namespaces with a cable between them.
    private final class Hosts {
        let names: [String]

        init?() {
            guard getuid() == 0 else { return nil }
            let tag = String(UInt16.random(in: 0 ... .max), radix: 16)
            names = ["apus-a\(tag)", "apus-b\(tag)"]
            let script = """
                set -e; A=\(names[0]); B=\(names[1])
                ip netns add $A; ip netns add $B
                ip -n $A link add eth0 type veth peer name eth0 netns $B
                for n in $A $B; do ip -n $n link set lo up; ip -n $n link set eth0 up; done
                ip -n $A addr add 10.93.8.1/24 dev eth0; ip -n $B addr add 10.93.8.2/24 dev eth0
                """
            guard Self.shell(script) else { return nil }
        }

        deinit { _ = Self.shell(names.map { "ip netns delete \($0)" }.joined(separator: ";")) }

        private static func shell(_ script: String) -> Bool {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", "exec 2>/dev/null; \(script)"]
            guard (try? process.run()) != nil else { return false }
            process.waitUntilExit()
            return process.terminationStatus == 0
        }
    }

    @Test("two hosts: all addresses publish the one that others reach, and a job uses workers of both")
    func twoHosts() throws {
        guard let hosts = Hosts() else { return print("skipped: two hosts need root and network namespaces") }
        defer { withExtendedLifetime(hosts) {} }
        let cluster = try Cluster("hosts", workers: 2)
        let bench = cluster.bench
        try bench.makeModel(layers: 2)
        try bench.makeJob(groups: 4, groupSize: 2, tokens: 8, extra: "seed: 3")
        try cluster.coordinator(["--listen", "0.0.0.0"], namespace: hosts.names[0], workers: 2)
        let published = try #require(try cluster.address()["control"])
        #expect(published.hasPrefix("tcp://10.93.8.1:"), "\(published)")
        try cluster.worker(1, namespace: hosts.names[0])
        try cluster.worker(2, ["--listen", "0.0.0.0"], namespace: hosts.names[1])
        let submit = try cluster.start(
            ["submit", "job.yaml", "--watch", "--context", "keys/context.json"], log: "submit.log",
            namespace: hosts.names[1])
        let isDone = eventually(60) { !submit.isRunning }
        #expect(isDone && submit.terminationStatus == 0, "\(bench.text("submit.log"))\(bench.text("worker-2.log"))")
    }

    @Test("two hosts: loopback on either side is one clear line at once, not a silence")
    func unreachable() throws {
        guard let hosts = Hosts() else { return print("skipped: two hosts need root and network namespaces") }
        defer { withExtendedLifetime(hosts) {} }
        let cluster = try Cluster("loopback", workers: 2)
        let bench = cluster.bench
        let first = try cluster.coordinator([], namespace: hosts.names[0])
        _ = try cluster.address()
        func fails(_ process: Process, _ log: String, _ text: String) {
            let ended = eventually(10) { !process.isRunning }
            #expect(ended && process.terminationStatus == 4, "\(bench.text(log))")
            #expect(bench.text(log).contains(text), "\(bench.text(log))")
        }
        fails(
            try cluster.worker(1, namespace: hosts.names[1]), "worker-1.log",
            "which only processes there reach; start it with --listen")
        fails(
            try cluster.start(
                ["workers", "--context", "keys/context.json"], log: "client.log", namespace: hosts.names[1]),
            "client.log", "which only processes there reach; start it with --listen")
        first.terminate()
        first.waitUntilExit()
        try FileManager.default.removeItem(at: bench.url("keys/coordinator/coordinator.json"))
        try cluster.coordinator(["--listen", "10.93.8.1"], namespace: hosts.names[0])
        _ = try cluster.address()
        fails(
            try cluster.worker(2, ["--listen", "127.0.0.1"], namespace: hosts.names[1]), "worker-2.log",
            "this worker listens on 127.0.0.1, which other hosts cannot reach")
    }
}
