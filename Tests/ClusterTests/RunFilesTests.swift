// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// What lies in a run's directory while the job runs, after it was cut off, and who may write there.
@Suite("Files of runs, and going on with them", .serialized)
struct RunFilesTests {
    private let bench: Workbench

    init() throws {
        bench = try Workbench("run-files")
        try bench.makeModel()
        try bench.apus("data", "arithmetic", "prompts.jsonl", "-n", "40")
        try bench.write(
            "grpo.yaml",
            """
            kind: train
            name: grpo
            method: grpo
            model: {path: model, compute: fp32}
            data: {path: prompts.jsonl}
            steps: 6
            rows_per_step: 2
            group_size: 2
            sampling: {temperature: 1.0, max_new_tokens: 24}
            reward: [format]
            overlong: {buffer: 20, penalty: 1}
            optimizer: {learning_rate: 1.0e-3}
            cell_tokens: 256
            checkpoint: {every: 2, keep: 1}
            resources: {kv_cache_bytes: 32MiB}
            output: out
            """)
        try bench.makeJob(groups: 24, groupSize: 2, tokens: 32, output: "answers")
    }

    /// Every file of a run with its bytes, but what names the output or tells the time.
    private func bytes(_ output: String) throws -> [String: Data] {
        let root = bench.url(output)
        var result: [String: Data] = [:]
        for case let name as String in try #require(FileManager.default.enumerator(atPath: root.path)) {
            let url = root.appendingPathComponent(name)
            let kind = try FileManager.default.attributesOfItem(atPath: url.path)[.type] as? FileAttributeType
            guard kind == .typeRegular,
                !["job.yaml", "lineage.json", "timing.jsonl", "manifest.json"].contains(url.lastPathComponent)
            else { continue }
            result[name] = try Data(contentsOf: url)
        }
        return result
    }

    private func lines(_ file: String) -> [Substring] { bench.text(file).split(separator: "\n") }

    private func status(_ output: String) -> String? {
        (try? JSONSerialization.jsonObject(with: Data(bench.text("\(output)/status.json").utf8)) as? [String: Any])?[
            "status"] as? String
    }

    /// Runs a command and kills it, and all that it started, once something is so.
    private func cutOff(_ arguments: [String], with number: Int32, when condition: () -> Bool) throws {
        let process = try bench.spawn(arguments, log: "cut.log")
        _ = eventually(60) { condition() || !process.isRunning }
        kill(process.processIdentifier, number)
        process.waitUntilExit()
    }

    @Test("a training run is seen while it runs: metrics, events, texts and the model, each step once, nothing torn")
    func trainingIsLive() throws {
        let process = try bench.spawn(
            ["run", "grpo.yaml", "--workers", "1", "--set", "steps=12"], log: "live.log")
        defer { if process.isRunning { process.terminate() } }
        var seen: Set<Int> = []
        #expect(
            eventually(90) {
                guard process.isRunning, status("out") == "running" else { return false }
                seen.insert(lines("out/metrics.jsonl").count)
                let model = bench.url("out/model").path
                return seen.count >= 3 && lines("out/rollouts/text.jsonl").count >= 4
                    && FileManager.default.fileExists(atPath: model)
                    && bench.text("out/lineage.json").contains("state")
            }, "\(seen) \(bench.text("live.log"))")
        let show = try bench.apus("show", "out")
        #expect(show.status == 0 && show.output.contains("steps"), "\(show.errors)\(show.output)")
        process.waitUntilExit()
        #expect(status("out") == "done")
        let rows = try lines("out/metrics.jsonl").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
        #expect(rows.map { $0["step"] } == (1...12).map(Double.init))
        for name in [
            "rewards/format/mean", "rewards/format/std", "completions/min_length", "completions/max_length",
            "completions/failed_ratio", "completions/truncated_ratio", "frac_groups_failed",
        ] { #expect(rows.allSatisfy { $0[name] != nil }, "\(name)") }
        #expect(rows.allSatisfy { $0["step_time"] == nil }, "the clock has a file of its own")
        let times = try lines("out/timing.jsonl").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
        #expect(times.map { $0["step"] } == (1...12).map(Double.init))
        #expect(times.allSatisfy { $0["step_time"]! >= 0 && $0["tokens_per_second"] != nil })
        #expect(lines("out/rollouts/text.jsonl").count == 48)
    }

    @Test(
        "cut off by Ctrl-C and kill -9 while it trains, the same command goes on and ends with a quiet run's bytes",
        arguments: [SIGINT, SIGKILL])
    func trainingGoesOn(number: Int32) throws {
        let quiet = try bench.apus("run", "grpo.yaml", "--workers", "1", "--set", "output=quiet")
        try #require(quiet.status == 0, "\(quiet.errors)\(quiet.output)")
        let command = ["run", "grpo.yaml", "--workers", "2"]
        try cutOff(command, with: number) { lines("out/metrics.jsonl").count >= 1 }
        try cutOff(command, with: number) { lines("out/metrics.jsonl").count >= 4 }
        let end = try bench.apus(command)
        #expect(end.status == 0, "\(end.errors)\(end.output)")
        #expect(try bytes("out") == bytes("quiet"))
        let again = try bench.apus(command)
        #expect(again.status == 0 && again.output.contains("done already"), "\(again.errors)\(again.output)")
        #expect(!FileManager.default.fileExists(atPath: bench.url(".out.cluster").path))
        try bench.apus("data", "arithmetic", "prompts.jsonl", "-n", "41")
        let edited = try bench.apus(command)
        #expect(edited.status == 3 && edited.errors.contains("made from other data"), "\(edited.errors)")
    }

    @Test("so does a rollout job, whose files grow in the order of the data", arguments: [SIGINT, SIGKILL])
    func rolloutGoesOn(number: Int32) throws {
        let quiet = try bench.apus("run", "job.yaml", "--workers", "1", "--set", "output=quiet")
        try #require(quiet.status == 0, "\(quiet.errors)\(quiet.output)")
        let all = bench.text("quiet/rollouts/records.jsonl")
        let command = ["run", "job.yaml", "--workers", "2"]
        for count in [2, 20] {
            try cutOff(command, with: number) { lines("answers/rollouts/records.jsonl").count >= count }
            #expect(all.hasPrefix(bench.text("answers/rollouts/records.jsonl")))
        }
        let end = try bench.apus(command)
        #expect(end.status == 0, "\(end.errors)\(end.output)")
        #expect(try bytes("answers") == bytes("quiet"))
    }

    @Test("the same command with other settings is refused: going on is a matter of the job, not of its name")
    func otherSettings() throws {
        try cutOff(["run", "grpo.yaml", "--workers", "1"], with: SIGKILL) { lines("out/metrics.jsonl").count >= 1 }
        let other = try bench.apus("run", "grpo.yaml", "--workers", "1", "--set", "steps=7")
        #expect(other.status == 3, "\(other.output)")
        #expect(
            other.errors.contains("exists already") && other.errors.contains("'steps: 6'")
                && other.errors.contains("'steps: 7'") && other.errors.contains("choose another output"),
            "\(other.errors)")
        // The same settings, another model under the same path.
        try FileManager.default.removeItem(at: bench.url("model"))
        try bench.makeModel(seed: 7)
        let model = try bench.apus("run", "grpo.yaml", "--workers", "1")
        #expect(model.status == 3 && model.errors.contains("the content of a model"), "\(model.errors)")
        #expect(status("out") == "running")
    }

    @Test(
        "a run whose directory was removed begins anew; one whose cluster state was removed is refused with the remedy")
    func removed() throws {
        let command = ["run", "job.yaml", "--workers", "1"]
        try cutOff(command, with: SIGKILL) { lines("answers/rollouts/records.jsonl").count >= 2 }
        // Its children notice the end of their parent within a moment.
        let state = bench.url(".answers.cluster")
        try FileManager.default.removeItem(at: bench.url("answers"))
        let anew = try bench.apus(command)
        #expect(anew.status == 0, "\(anew.errors)\(anew.output)")
        #expect(lines("answers/rollouts/records.jsonl").count == 48)
        try FileManager.default.removeItem(at: bench.url("answers"))
        try cutOff(command, with: SIGKILL) { lines("answers/rollouts/records.jsonl").count >= 2 }
        Thread.sleep(forTimeInterval: 1)
        try FileManager.default.removeItem(at: state)
        let refused = try bench.apus(command)
        #expect(refused.status == 3 && refused.errors.contains("remove"), "\(refused.errors)")
    }

    @Test("two jobs never have one output: the second is refused when it is submitted, whatever the path looks like")
    func oneOutputOneJob() throws {
        let cluster = try bench.startCluster(workers: 1)
        defer { cluster.stop() }
        try FileManager.default.createSymbolicLink(at: bench.url("link"), withDestinationURL: bench.directory)
        #expect(try bench.apus("submit", "grpo.yaml", "--set", "steps=40").status == 0)
        for output in ["out", "link/out", "x/../out"] {
            let second = try bench.apus("submit", "grpo.yaml", "--set", "name=second", "--set", "output=\(output)")
            #expect(second.status == 3, "\(output)")
            #expect(
                second.errors.contains("exists already") && second.errors.contains("job 1 (grpo)"),
                "\(output): \(second.errors)")
        }
        let inside = try bench.apus("submit", "job.yaml", "--set", "output=out/checkpoints/answers")
        #expect(inside.status == 3 && inside.errors.contains("lies in a folder of the run"), "\(inside.errors)")
        let known = try bench.apus("submit", "grpo.yaml", "--set", "steps=40", "--resume")
        #expect(known.status == 0 && known.output.contains("job 1"), "\(known.errors)\(known.output)")
        let other = try bench.apus("submit", "grpo.yaml", "--set", "steps=41", "--resume")
        #expect(other.status == 3 && other.errors.contains("other settings"), "\(other.errors)")
        #expect(try bench.apus("cancel", "1").status == 0)
    }

    @Test("an output that cannot be written is told when the job is submitted")
    func unwritable() throws {
        let cluster = try bench.startCluster(workers: 1)
        defer { cluster.stop() }
        try bench.write("file", "")
        for (output, what) in [("file/out", "Not a directory"), ("/proc/out", "/proc"), ("file", "exists already")] {
            for verb in ["submit", "run"] {
                let result = try bench.apus(verb, "job.yaml", "--set", "output=\(output)")
                #expect(result.status == 3, "\(verb) \(output): \(result.output)")
                #expect(
                    result.errors.contains(what) && result.errors.split(separator: "\n").count == 1,
                    "\(verb) \(output): \(result.errors)")
            }
        }
    }

    @Test("what a cancelled job has made stays and says so; of a job of which nothing came, nothing stays")
    func cancelled() throws {
        let cluster = try bench.startCluster(workers: 1)
        defer { cluster.stop() }
        #expect(try bench.apus("submit", "grpo.yaml", "--set", "steps=4000").status == 0)
        #expect(try bench.apus("submit", "job.yaml").status == 0)
        #expect(status("answers") == "queued")
        #expect(try bench.apus("cancel", "2").status == 0)
        #expect(eventually(10) { !FileManager.default.fileExists(atPath: bench.url("answers").path) })
        #expect(eventually(60) { lines("out/metrics.jsonl").count >= 3 })
        #expect(try bench.apus("cancel", "1").status == 0)
        #expect(eventually(10) { status("out") == "cancelled" })
        let count = lines("out/metrics.jsonl").count
        #expect(count >= 3 && lines("out/rollouts/text.jsonl").count >= 4 * count)
        #expect(FileManager.default.fileExists(atPath: bench.url("out/model/config.json").path))
        let again = try bench.apus("submit", "grpo.yaml", "--set", "steps=4000")
        #expect(again.status == 3 && again.errors.contains("a run that was cancelled"), "\(again.errors)")
    }

    private static let hasNamespaces: Bool = {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        process.arguments = ["-rm", "true"]
        process.standardError = FileHandle.nullDevice
        do { try process.run() } catch { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    @Test("a training job whose output or model no worker sees is refused at submission, with the reason")
    func unseenOutput() throws {
        guard Self.hasNamespaces else { return print("skipped: unshare -rm makes a worker that sees other files") }
        try FileManager.default.createDirectory(at: bench.url("hidden"), withIntermediateDirectories: false)
        try #require(try bench.apus("keys", "cluster", "keys", "--workers", "1").status == 0)
        let coordinator = try bench.spawn(
            [
                "coordinator", "--state", "keys/coordinator", "--keys", "keys/coordinator.key", "--allow",
                "keys/allow-list",
            ], log: "coordinator.log")
        defer {
            coordinator.terminate()
            coordinator.waitUntilExit()
        }
        #expect(eventually(20) { !bench.text("keys/coordinator/coordinator.json").isEmpty })
        let worker = Process()
        worker.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        worker.currentDirectoryURL = bench.directory
        worker.arguments = [
            "-rm", "sh", "-c",
            "mount -t tmpfs none hidden && exec '\(Workbench.apus.path)' worker --join keys/coordinator/coordinator.json "
                + "--keys keys/worker-1.key --threads 1 --memory 1GiB --without-sandbox",
        ]
        worker.standardError = FileHandle.nullDevice
        worker.standardOutput = FileHandle.nullDevice
        try worker.run()
        defer {
            worker.terminate()
            worker.waitUntilExit()
        }
        #expect(
            eventually(20) {
                (try? bench.apus("workers", "--context", "keys/context.json"))?.output.contains("no workers") == false
            })
        let result = try bench.apus(
            "submit", "grpo.yaml", "--watch", "--set", "output=hidden/out", "--context", "keys/context.json",
            seconds: 120)
        #expect(result.status == 3 && result.errors.contains("is seen by no worker (1 asked)"), "\(result.errors)")
        #expect(!FileManager.default.fileExists(atPath: bench.url("hidden/out").path), "the refused job leaves nothing")
        try FileManager.default.copyItem(at: bench.url("model"), to: bench.url("hidden/model"))
        let unseen = try bench.apus(
            "submit", "grpo.yaml", "--set", "output=out", "--set", "model.path=hidden/model", "--context",
            "keys/context.json", seconds: 120)
        #expect(unseen.status == 3 && unseen.errors.contains("hidden/model is seen by no worker"), "\(unseen.errors)")
        #expect(!FileManager.default.fileExists(atPath: bench.url("out").path))
    }

    @Test("a command's files never replace a run's")
    func commands() throws {
        let run = try bench.apus("run", "job.yaml", "--workers", "1")
        try #require(run.status == 0, "\(run.errors)")
        let metrics = bench.text("answers/metrics.jsonl")
        for arguments in [
            ["data", "filter-queries", "prompts.jsonl", "answers/rows.jsonl"],
            ["data", "arithmetic", "answers/metrics.jsonl"],
            ["data", "registers", "answers/metrics.jsonl"],
        ] {
            let result = try bench.apus(arguments)
            #expect(result.status == 3 && result.errors.contains("is a file of a run"), "\(arguments) \(result.errors)")
        }
        #expect(bench.text("answers/metrics.jsonl") == metrics)
    }
}
