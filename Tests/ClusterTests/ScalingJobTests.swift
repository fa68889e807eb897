// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// Workers that come and go by intent while jobs run.
@Suite("Scaling a running cluster", .serialized)
struct ScalingJobTests {
    /// A coordinator and workers started one by one, as on several hosts.
    private final class Hosts {
        let bench: Workbench
        private var processes: [Process] = []
        private let name: String

        init(_ bench: Workbench, _ name: String, workerKeys: Int) throws {
            self.bench = bench
            self.name = name
            func key(_ key: String) throws -> String {
                let made = try bench.apus("keys", "generate", "\(name)-\(key).key")
                try #require(made.status == 0, "\(made.errors)")
                return made.output.trimmingCharacters(in: .whitespacesAndNewlines)
            }
            _ = try key("coordinator")
            var lines = ["\(try key("client")) admin"]
            for index in 1...workerKeys { lines.append("\(try key("worker-\(index)")) worker") }
            try bench.write("\(name)-allow", lines.joined(separator: "\n") + "\n")
            chmod(bench.url("\(name)-allow").path, 0o600)
            try start([
                "coordinator", "--state", "\(name)-state", "--keys", "\(name)-coordinator.key", "--allow",
                "\(name)-allow",
            ])
            let address = bench.url("\(name)-state/coordinator.json").path
            for _ in 0..<500 where !FileManager.default.fileExists(atPath: address) { usleep(20_000) }
            try bench.write(
                "\(name)-context.json",
                #"{"address": "\#(address)", "key": "\#(bench.url("\(name)-client.key").path)"}"#)
        }

        deinit {
            for process in processes.reversed() where process.isRunning { kill(process.processIdentifier, SIGKILL) }
            for process in processes { process.waitUntilExit() }
        }

        @discardableResult
        func start(_ arguments: [String]) throws -> Process {
            let process = Process()
            process.executableURL = Workbench.apus
            process.currentDirectoryURL = bench.directory
            process.arguments = arguments
            let log = bench.url("\(name)-\(arguments[0]).log")
            if !FileManager.default.fileExists(atPath: log.path) {
                _ = FileManager.default.createFile(atPath: log.path, contents: nil)
            }
            let handle = try FileHandle(forWritingTo: log)
            try handle.seekToEnd()
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = handle
            process.standardError = handle
            try process.run()
            processes.append(process)
            return process
        }

        @discardableResult
        func startWorker(_ index: Int) throws -> Process {
            try start([
                "worker", "--join", "\(name)-state/coordinator.json", "--keys", "\(name)-worker-\(index).key",
                "--threads", "1",
                "--memory", "2GiB",
            ])
        }

        func ask(_ arguments: String...) throws -> CommandResult {
            try bench.apus(arguments + ["--context", "\(name)-context.json"])
        }

        var log: String { (try? String(contentsOf: bench.url("\(name)-coordinator.log"), encoding: .utf8)) ?? "" }

        /// Of the job's JSON view.
        func figure(_ key: String) throws -> Int {
            let text = try ask("job", "1", "--json").output
            let list = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]]
            let value = list?.first?[key]
            return (value as? NSNumber)?.intValue ?? (value as? String).flatMap(Int.init) ?? 0
        }

        func wait(_ what: String, seconds: Double = 90, until isTrue: () throws -> Bool) throws {
            let deadline = Date().addingTimeInterval(seconds)
            while try !isTrue() {
                try #require(Date() < deadline, "\(what) did not come: \(log.suffix(2000))")
                usleep(20_000)
            }
        }
    }

    private static func bench() throws -> Workbench {
        let bench = try Workbench("scaling")
        let world = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Cluster/tiny-world")
        let made = try bench.apus(
            "model", "init", "model", "--preset", "tiny-world-moe", "--tokenizer",
            world.appendingPathComponent("tokenizer").path, "--dtype", "fp32", "--seed", "1")
        try #require(made.status == 0, "\(made.errors)")
        try bench.apus(
            "data", "registers", "rows.jsonl", "-n", "400", "--seed", "1", "--form", "demonstrations")
        try bench.apus("data", "registers", "prompts.jsonl", "-n", "200", "--seed", "2")
        try bench.write(
            "train.yaml",
            """
            kind: train
            name: scaled
            method: sft
            model: {path: model, compute: fp32}
            data: {path: rows.jsonl}
            steps: 60
            rows_per_step: 24
            optimizer: {learning_rate: 1.0e-3}
            cell_tokens: 256
            checkpoint: {every: 25}
            resources: {kv_cache_bytes: 16MiB}
            output: quiet
            """)
        return bench
    }

    private static func files(_ root: URL) throws -> [String: Data] {
        var files: [String: Data] = [:]
        for case let name as String in FileManager.default.enumerator(atPath: root.path)! {
            let url = root.appendingPathComponent(name)
            var isDirectory: ObjCBool = false
            if FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory), !isDirectory.boolValue,
                !name.contains("tfevents"), !name.hasSuffix("job.yaml"), !name.contains("lineage"),
                !name.contains("manifest"), !name.hasPrefix("replay"), name != "timing.jsonl"
            {
                files[name] = try Data(contentsOf: url)
            }
        }
        return files
    }

    @Test("one, four, two workers during a training run: no step is repeated and every byte is the quiet run's")
    func training() throws {
        let bench = try Self.bench()
        let quiet = try bench.apus("run", "train.yaml", "--workers", "1")
        try #require(quiet.status == 0, "\(quiet.errors)")
        let hosts = try Hosts(bench, "hosts", workerKeys: 4)
        try hosts.startWorker(1)
        try #require(try hosts.ask("submit", "train.yaml", "--set", "output=scaled").status == 0)
        try hosts.wait("step 8") { try hosts.figure("step") >= 8 }
        for index in 2...4 { try hosts.startWorker(index) }
        try hosts.wait("four members") { hosts.log.contains("with 4 workers") }
        let four = try hosts.figure("step")
        try hosts.wait("a step of four") { try hosts.figure("step") >= four + 2 }
        for worker in ["1", "3"] {
            let drained = try hosts.ask("drain", worker)
            try #require(drained.status == 0, "\(drained.errors)")
        }
        let end = try hosts.ask("watch", "1")
        #expect(end.status == 0, "\(end.errors)\(end.output)")
        #expect(
            hosts.log.contains("with 2 workers") && !hosts.log.contains("it lost a member"), "\(hosts.log.suffix(3000))"
        )
        // Every epoch starts where the one before ended.
        let starts = hosts.log.matches(of: /training epoch [0-9]+ from version ([0-9]+)/).compactMap {
            Int($0.output.1)
        }
        let checkpoints = hosts.log.matches(of: /checkpoint \S*step-([0-9]+)/).compactMap { Int($0.output.1) }
        #expect(starts.count >= 3 && starts.dropFirst().allSatisfy(checkpoints.contains), "\(starts) \(checkpoints)")
        let (quietFiles, scaledFiles) = (try Self.files(bench.url("quiet")), try Self.files(bench.url("scaled")))
        #expect(quietFiles.keys.sorted() == scaledFiles.keys.sorted())
        for (name, bytes) in quietFiles { #expect(scaledFiles[name] == bytes, "\(name)") }
    }

    @Test("experts are copied, joined by newcomers and left by the drained while responses are made: the same bytes")
    func rollouts() throws {
        let bench = try Self.bench()
        try bench.write(
            "rollout.yaml",
            """
            kind: rollout
            name: scaled
            model: {path: model, compute: fp32}
            data: {path: prompts.jsonl}
            group_size: 4
            sampling: {temperature: 1.0, max_new_tokens: 200}
            reward: [exact]
            resources: {kv_cache_bytes: 8MiB, page_size: 16, max_sequences: 8}
            output: still
            """)
        let still = try bench.apus("run", "rollout.yaml", "--workers", "2")
        try #require(still.status == 0, "\(still.errors)")
        let hosts = try Hosts(bench, "hosts", workerKeys: 3)
        // Numbers go by the order of joining.
        let first = try hosts.startWorker(1)
        try hosts.wait("the first worker") { hosts.log.contains("worker 1 (") }
        try hosts.startWorker(2)
        try #require(try hosts.ask("submit", "rollout.yaml", "--set", "output=moved").status == 0)
        try hosts.wait("the first groups") { try hosts.figure("groups_done") >= 10 }
        let scaled = try hosts.ask("scale", "model", "--spread", "all")
        #expect(scaled.status == 0, "\(scaled.errors)")
        try hosts.wait("copies on both") {
            try hosts.ask("workers").output.matches(of: /experts 0-7/).count >= 2
        }
        try hosts.startWorker(3)
        try hosts.wait("a third holder") { try hosts.ask("workers").output.matches(of: /experts 0-7/).count >= 3 }
        #expect(try hosts.ask("scale", "model", "--shard-replicas", "1").status == 0)
        let drained = try hosts.ask("drain", "1")
        #expect(drained.status == 0, "\(drained.errors)")
        for _ in 0..<250 where first.isRunning { usleep(20_000) }
        #expect(!first.isRunning && first.terminationStatus == 0, "a drained worker ends well")
        let early = try hosts.figure("groups_done")
        #expect(early < 200, "all of it happened while the job ran")
        let end = try hosts.ask("watch", "1")
        #expect(end.status == 0, "\(end.errors)\(end.output)")
        #expect(try bench.contents(of: "moved") == bench.contents(of: "still"))
        let refused = try hosts.ask("scale", "modle", "--shard-replicas", "2")
        #expect(refused.status == 2 && refused.errors.contains("there is no model 'modle'"), "\(refused.errors)")
    }
}
