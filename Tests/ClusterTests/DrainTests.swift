// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// Processes as a launch engine starts and ends them: by signals and exit codes.
@Suite("Drains and signals", .serialized)
struct DrainTests {
    /// A coordinator and workers, each a child of the test.
    private final class Processes {
        let bench: Workbench
        var coordinator: Process
        var workers: [Process] = []

        init(_ bench: Workbench, workers count: Int, options: [String] = []) throws {
            self.bench = bench
            try #require(try bench.apus("keys", "cluster", "cluster", "--workers", "\(count)").status == 0)
            coordinator = try Self.startCoordinator(bench, count)
            for index in 1...count {
                workers.append(
                    try bench.spawn(
                        [
                            "worker", "--join", "cluster/coordinator/coordinator.json", "--keys",
                            "cluster/worker-\(index).key", "--threads", "1", "--memory", "1GiB",
                        ] + options, log: "worker-\(index).log"))
            }
        }

        deinit {
            for process in workers + [coordinator] where process.isRunning {
                kill(process.processIdentifier, SIGKILL)
                process.waitUntilExit()
            }
        }

        static func startCoordinator(_ bench: Workbench, _ count: Int) throws -> Process {
            try bench.spawn(
                [
                    "coordinator", "--state", "cluster/coordinator", "--keys", "cluster/coordinator.key", "--allow",
                    "cluster/allow-list", "--workers", "\(count)",
                ], log: "coordinator.log")
        }

        /// A client's verb against this cluster.
        func apus(_ arguments: String...) throws -> CommandResult {
            try bench.apus(arguments + ["--context", "cluster/context.json"])
        }

        func views(_ arguments: String...) throws -> [[String: Any]] {
            let result = try bench.apus(arguments + ["--json", "--context", "cluster/context.json"])
            return try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [[String: Any]] ?? []
        }

        /// Submits the job and waits until `count` responses are durable.
        func submit(until count: Int) throws {
            #expect(
                eventually(20) {
                    FileManager.default.fileExists(atPath: bench.url("cluster/coordinator/coordinator.json").path)
                })
            let submitted = try apus("submit", "job.yaml")
            try #require(submitted.status == 0, "\(submitted.errors)")
            try #require(try eventually(60) { number(try views("job", "1").first?["sequences_done"]) >= count })
        }
    }

    private static func quiet(_ bench: Workbench) throws -> [String: Data] {
        try bench.makeModel()
        try bench.makeJob(groups: 40, groupSize: 4, tokens: 96, output: "quiet")
        let result = try bench.apus("run", "job.yaml", "--workers", "3")
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        try bench.makeJob(groups: 40, groupSize: 4, tokens: 96, output: "out")
        return try bench.contents(of: "quiet")
    }

    private static func tokens(_ contents: [String: Data]) throws -> Int {
        try String(decoding: #require(contents["rollouts/records.jsonl"]), as: UTF8.self).split(separator: "\n").reduce(
            0
        ) {
            let record = try JSONSerialization.jsonObject(with: Data($1.utf8)) as? [String: Any]
            return $0 + (try #require(record?["completion_ids"] as? [Any])).count
        }
    }

    @Test(
        "a worker that is asked to leave finishes what it has; nothing is computed twice",
        arguments: [(SIGTERM, 0), (SIGUSR1, 75)] as [(Int32, Int32)])
    func drain(signal: Int32, code: Int32) throws {
        let bench = try Workbench("drain")
        let quiet = try Self.quiet(bench)
        let cluster = try Processes(bench, workers: 3)
        try cluster.submit(until: 8)
        let leaver = cluster.workers[1]
        kill(leaver.processIdentifier, signal)
        #expect(eventually(32) { !leaver.isRunning }, "the drain has no end")
        #expect(leaver.terminationReason == .exit && leaver.terminationStatus == code)
        let watched = try cluster.apus("watch", "1")
        try #require(watched.status == 0, "\(watched.errors)")
        #expect(try bench.contents(of: "out") == quiet)
        // Every token was sampled once, by the workers that stayed or by the one that left.
        let log = bench.text("worker-2.log")
        let left = try #require(log.firstMatch(of: /ends: .*; (\d+) tokens generated/).flatMap { Int($0.1) }, "\(log)")
        let total = try Self.tokens(quiet)
        #expect(left > 0 && left < total)
        var stayed = 0
        let isExact = try eventually(5) {
            stayed = try cluster.views("workers").reduce(0) {
                $0 + number(($1["counters"] as? [String: Any])?["generated_token_count"])
            }
            return stayed + left == total
        }
        #expect(isExact, "\(stayed) + \(left) tokens were sampled for \(total)")
    }

    @Test("a worker without time gives its work back at once")
    func drainWithoutTime() throws {
        let bench = try Workbench("drain-now")
        let quiet = try Self.quiet(bench)
        let cluster = try Processes(bench, workers: 3, options: ["--drain-seconds", "0"])
        try cluster.submit(until: 8)
        let leaver = cluster.workers[1]
        kill(leaver.processIdentifier, SIGTERM)
        #expect(eventually(2) { !leaver.isRunning })
        #expect(leaver.terminationStatus == 0)
        #expect(eventually(2) { bench.text("coordinator.log").contains("is gone: left: terminated") })
        #expect(bench.text("coordinator.log").contains("back: the worker leaves"))
        try #require(try cluster.apus("watch", "1").status == 0)
        #expect(try bench.contents(of: "out") == quiet)
    }

    @Test("a coordinator that is asked to leave in mid-job ends with 75, comes back and ends the workers at the end")
    func coordinatorLeaves() throws {
        let bench = try Workbench("leave")
        let quiet = try Self.quiet(bench)
        let cluster = try Processes(bench, workers: 3)
        try cluster.submit(until: 8)
        kill(cluster.coordinator.processIdentifier, SIGTERM)
        try #require(eventually(5) { !cluster.coordinator.isRunning })
        #expect(cluster.coordinator.terminationStatus == 75)
        // Sealed: the write-ahead log is empty.
        let attributes = try? FileManager.default.attributesOfItem(
            atPath: bench.url("cluster/coordinator/journal.sqlite-wal").path)
        #expect(number(attributes?[.size] ?? 0) == 0)
        Thread.sleep(forTimeInterval: 1)
        let running = cluster.workers.filter(\.isRunning)
        #expect(running.count == 3, "workers wait for the next life")
        cluster.coordinator = try Processes.startCoordinator(bench, 3)
        try #require(try cluster.apus("watch", "1").status == 0)
        #expect(try bench.contents(of: "out") == quiet)
        // Submitted again as a restarted launch script does: found done.
        let again = try cluster.apus("submit", "job.yaml", "--resume", "--watch")
        #expect(again.status == 0 && again.output.contains("job 1\n"), "\(again.output)\(again.errors)")
        kill(cluster.coordinator.processIdentifier, SIGTERM)
        #expect(eventually(5) { !cluster.coordinator.isRunning && cluster.workers.allSatisfy { !$0.isRunning } })
        #expect(cluster.coordinator.terminationStatus == 0)
        #expect(cluster.workers.map(\.terminationStatus) == [0, 0, 0])
    }

    @Test("a worker whose coordinator is gone ends by itself")
    func orphan() throws {
        let bench = try Workbench("orphan")
        let cluster = try Processes(bench, workers: 1, options: ["--orphan-seconds", "2"])
        try #require(eventually(20) { bench.text("worker-1.log").contains("welcomed") })
        Thread.sleep(forTimeInterval: 3)
        #expect(cluster.workers[0].isRunning, "it hears its coordinator")
        kill(cluster.coordinator.processIdentifier, SIGKILL)
        #expect(eventually(5) { !cluster.workers[0].isRunning })
        #expect(cluster.workers[0].terminationStatus == 4)
        #expect(bench.text("worker-1.log").contains("no word from the coordinator for 2 s"))
    }
}
