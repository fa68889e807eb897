// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import RuntimeSupport
import TestSupport
import Testing

/// Training on real processes: a tiny world's model learns, and nothing that happens on the way shows in a byte.
@Suite("Training on a local cluster", .serialized)
struct TrainingJobTests {
    /// A cold start that several tests go on from, made once per process.
    final class ColdStart: Sendable {
        let bench: Workbench
        let passed: Double

        init(_ preset: String, auxiliary: Bool) throws {
            let bench = try Workbench("training")
            self.bench = bench
            let world = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("Cluster/tiny-world")
            func run(_ arguments: String...) throws {
                let result = try bench.apus(arguments)
                try #require(result.status == 0, "\(arguments): \(result.errors)\(result.output)")
            }
            for name in ["cold-start", "grpo", "evaluate"] {
                try FileManager.default.copyItem(
                    at: world.appendingPathComponent("\(name).yaml"), to: bench.url("\(name).yaml"))
            }
            try run(
                "model", "init", "model", "--preset", preset, "--tokenizer",
                world.appendingPathComponent("tokenizer").path,
                "--dtype", "fp32", "--seed", "1")
            try run(
                "data", "registers", "cold-start.jsonl", "-n", "4000", "--seed", "1", "--form", "demonstrations",
                "--under-thinking", "0.8")
            try run("data", "registers", "prompts.jsonl", "-n", "2000", "--seed", "2")
            try run(
                "data", "registers", "evaluation.jsonl", "-n", "60", "--seed", "999", "--steps-min", "3", "--evaluation"
            )
            try run(
                "run", "cold-start.yaml", "--workers", "1",
                "--set", "router_aux_loss_coef=\(auxiliary ? "0.01" : "0")")
            passed = try Self.evaluate(bench, "cold-start")
        }

        static func evaluate(_ bench: Workbench, _ name: String) throws -> Double {
            let result = try bench.apus(
                "run", "evaluate.yaml", "--workers", "3", "--set", "model.path=\(name)/model", "--set",
                "output=evaluation-\(name)", "--set", "group_size=4")
            try #require(result.status == 0, "\(result.errors)\(result.output)")
            let text = try String(contentsOf: bench.url("evaluation-\(name)/metrics.jsonl"), encoding: .utf8)
            return try #require(
                try JSONDecoder().decode([String: Double].self, from: Data(text.utf8))["pass@1"])
        }
    }

    static let mixture = Result { try ColdStart("tiny-world-moe", auxiliary: true) }

    private func learns(_ start: ColdStart) throws {
        let bench = start.bench
        let result = try bench.apus(
            "run", "grpo.yaml", "--workers", "3", "--set", "steps=15", "--set", "output=learned", "--set",
            "checkpoint.every=15")
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        let after = try ColdStart.evaluate(bench, "learned")
        #expect(after >= 2 * start.passed && start.passed > 0.05, "pass@1 \(start.passed) to \(after)")
        let metrics = try String(contentsOf: bench.url("learned/metrics.jsonl"), encoding: .utf8)
        let rows = try metrics.split(separator: "\n").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
        #expect(rows.count == 15)
        #expect(rows.allSatisfy { $0["logprob_drift_max"] == 0 && $0["ratio_max"] == 1 })
    }

    @Test("GRPO at least doubles pass@1 of the mixture of experts in 15 steps, exactly on policy")
    func mixtureLearns() throws { try learns(Self.mixture.get()) }

    @Test("and of the dense model")
    func denseLearns() throws { try learns(ColdStart("tiny-world-dense", auxiliary: false)) }

    @Test("exactly on policy under bf16 too, with several workers")
    func bf16OnPolicy() throws {
        let bench = try Self.mixture.get().bench
        let result = try bench.apus(
            "run", "grpo.yaml", "--workers", "2", "--set", "steps=4", "--set", "output=bf16", "--set",
            "model.compute=bf16", "--set", "rows_per_step=8")
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        let metrics = try String(contentsOf: bench.url("bf16/metrics.jsonl"), encoding: .utf8)
        let rows = try metrics.split(separator: "\n").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
        #expect(rows.count == 4 && rows.allSatisfy { $0["logprob_drift_max"] == 0 && $0["ratio_max"] == 1 })
        #expect(rows.contains { $0["grad_norm"]! > 0 })
    }

    @Test("dynamic sampling, a mixture of files, a teacher beside a reward, a teacher per file: one worker's bytes")
    func options() throws {
        let bench = try Self.mixture.get().bench
        try #require(
            try bench.apus("data", "registers", "more.jsonl", "-n", "300", "--seed", "5").status == 0)
        for (name, second, lines) in [
            (
                "refill", "",
                "method: grpo\nreward: [exact]\ndynamic_sampling: {refills: 4}\noverlong: {buffer: 30, penalty: 0.5}"
            ),
            (
                "both", "",
                "method: distill\nreward: [exact]\nteacher: {path: cold-start/model, compute: fp32, weight: 0.5}"
            ),
            // The first file's teacher is the student itself.
            ("teachers", ", teacher: model", "method: distill\nteacher: {path: cold-start/model, compute: fp32}"),
        ] {
            try bench.write(
                "\(name).yaml",
                """
                kind: train
                name: \(name)
                model: {path: cold-start/model, compute: fp32}
                data: [{path: prompts.jsonl, weight: 2}, {path: more.jsonl\(second)}]
                \(lines)
                steps: 3
                rows_per_step: 4
                group_size: 4
                thinking: {mode: on}
                sampling: {temperature: 1.0, max_new_tokens: 80}
                optimizer: {learning_rate: 2.0e-4}
                cell_tokens: 256
                checkpoint: {every: 3}
                resources: {kv_cache_bytes: 16MiB}
                output: \(name)-1
                """)
            for workers in [1, 3] {
                let result = try bench.apus(
                    "run", "\(name).yaml", "--workers", "\(workers)", "--set", "output=\(name)-\(workers)")
                try #require(result.status == 0, "\(name): \(result.errors)")
            }
            for file in ["metrics.jsonl", "rollouts/text.jsonl", "model/model-trunk.safetensors"] {
                #expect(
                    try Data(contentsOf: bench.url("\(name)-1/\(file)"))
                        == Data(contentsOf: bench.url("\(name)-3/\(file)")), "\(name) \(file)")
            }
        }
        func rows(_ name: String) throws -> [[String: Double]] {
            try String(contentsOf: bench.url("\(name)/metrics.jsonl"), encoding: .utf8).split(separator: "\n").map {
                try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
            }
        }
        // Every group that is trained on has a difference, and some had to be generated for that.
        #expect(try rows("refill-1").allSatisfy { $0["frac_reward_zero_std"] == 0 })
        let answered = try String(contentsOf: bench.url("refill-1/rollouts/text.jsonl"), encoding: .utf8)
        #expect(answered.split(separator: "\n").count > 3 * 4 * 4)
        #expect(try rows("both-1").contains { ($0["distillation/divergence"] ?? 0) > 0 })
        #expect(try rows("both-1").allSatisfy { $0["reward"] != nil })
        #expect(try rows("teachers-1").contains { ($0["distillation/divergence"] ?? 0) > 0.01 })
        let verified = try bench.apus("verify", "teachers-3")
        #expect(verified.status == 0 && verified.output.contains("all bits are equal"), "\(verified.errors)")
        let alone = try bench.apus(
            "run", "teachers.yaml", "--set", "output=alone", "--set", "data=[{path: prompts.jsonl}]", "--set",
            "steps=1")
        #expect(alone.status == 0, "\(alone.errors)")
        #expect(try rows("alone")[0]["distillation/divergence"] == nil, "the same model in the same weights")
    }

    @Test("off-policy distillation: a teacher's distribution over the data's answers, one worker's bytes")
    func offPolicyDistillation() throws {
        let bench = try Self.mixture.get().bench
        try bench.write(
            "texts.yaml",
            """
            kind: train
            name: texts
            model: {path: model, compute: fp32}
            method: distill
            teacher: {path: cold-start/model, compute: fp32, on_policy: false, divergence: forward, top_k: 8,
                      cross_entropy_weight: 0.5}
            data: {path: cold-start.jsonl}
            steps: 12
            rows_per_step: 16
            thinking: {mode: on}
            optimizer: {learning_rate: 3.0e-3}
            cell_tokens: 256
            checkpoint: {every: 12}
            output: texts-1
            """)
        for workers in [1, 2] {
            let result = try bench.apus(
                "run", "texts.yaml", "--workers", "\(workers)", "--set", "output=texts-\(workers)")
            try #require(result.status == 0, "\(result.errors)")
        }
        let bytes = try ["metrics.jsonl", "model/model-trunk.safetensors"].map { file in
            try [1, 2].map { try Data(contentsOf: bench.url("texts-\($0)/\(file)")) }
        }
        #expect(bytes.allSatisfy { $0[0] == $0[1] })
        let divergences = try String(decoding: bytes[0][0], as: UTF8.self).split(separator: "\n").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))["distillation/divergence"] ?? 0
        }
        #expect(divergences.count == 12 && divergences[11] < 0.6 * divergences[0], "\(divergences)")
    }

    // MARK: - Bad input

    @Test("a gradient that is not finite ends the job with the parameter's name and the last checkpoint")
    func notFinite() throws {
        let bench = try Self.mixture.get().bench
        let result = try bench.apus(
            "run", "cold-start.yaml", "--workers", "2", "--set", "output=burst", "--set", "steps=12", "--set",
            "checkpoint.every=2", "--set", "optimizer.learning_rate=10", "--set", "optimizer.warmup_steps=8", "--set",
            "optimizer.max_grad_norm=0", "--set", "optimizer.weight_decay=10")
        #expect(result.status == 5, "\(result.output)")
        #expect(result.errors.contains("is not finite; the last checkpoint is"), "\(result.errors)")
        let kept = try FileManager.default.contentsOfDirectory(atPath: bench.url("burst/checkpoints").path)
        #expect(kept.contains { $0.hasPrefix("step-") && !$0.hasSuffix(".partial") }, "\(kept)")
    }

    @Test("a training state that does not fit is refused before anything is loaded, with the parts in apus plan")
    func memory() throws {
        let bench = try Self.mixture.get().bench
        let plan = try bench.apus("plan", "grpo.yaml", "--workers", "2", "--threads", "1")
        #expect(plan.status == 0, "\(plan.errors)")
        for part in ["trunk", "experts", "master weights and moments", "gradients", "1 cell under way", "in all"] {
            #expect(plan.output.contains(part), "\(plan.output)")
        }
        #expect(try bench.apus("plan", "grpo.yaml", "--workers", "2", "--memory", "40MiB").status == 3)
        // Enough for weights and cache, not for the optimizer.
        let result = try bench.apus(
            "run", "grpo.yaml", "--workers", "2", "--memory", "40MiB", "--set", "output=tight", seconds: 60)
        #expect(result.status == 3)
        #expect(result.errors.contains("has 40.0 MiB") && result.errors.contains("apus plan"), "\(result.errors)")
        #expect(!FileManager.default.fileExists(atPath: bench.url("tight").path))
    }

    @Test("what a worker takes stays within the plan")
    func measuredMemory() throws {
        let bench = try Self.mixture.get().bench
        try #require(
            try bench.apus(
                "model", "init", "wide", "--preset", "qwen3-0.6b", "--layers", "1", "--tokenizer",
                bench.url("model").path
            ).status == 0)
        let settings = [
            "--set", "model.path=wide", "--set", "model.compute=bf16", "--set", "output=wide-run", "--set", "steps=1",
            "--set", "router_aux_loss_coef=0", "--set", "rows_per_step=16", "--set", "checkpoint.every=1",
        ]
        let plan = try bench.apus(["plan", "cold-start.yaml", "--workers", "2", "--threads", "1"] + settings)
        let total = try #require(
            plan.output.firstMatch(of: /in all +([0-9.]+) GiB/).flatMap { Double($0.output.1) }, "\(plan.output)")
        let peak = Locked(0.0)
        let isDone = Locked(false)
        let watcher = Thread {
            while !isDone.withLock({ $0 }) {
                for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
                    guard let line = try? String(contentsOfFile: "/proc/\(name)/cmdline", encoding: .utf8),
                        line.contains("\0worker\0"), line.contains("wide-run"),
                        let status = try? String(contentsOfFile: "/proc/\(name)/status", encoding: .utf8),
                        let kibibytes = status.firstMatch(of: /VmHWM:\s+([0-9]+)/).flatMap({ Double($0.output.1) })
                    else { continue }
                    peak.withLock { $0 = max($0, kibibytes / 1_048_576) }
                }
                Thread.sleep(forTimeInterval: 0.05)
            }
        }
        watcher.start()
        let result = try bench.apus(
            ["run", "cold-start.yaml", "--workers", "2", "--threads", "1"] + settings)
        isDone.withLock { $0 = true }
        #expect(result.status == 0, "\(result.errors)")
        // Code, tokenizer and the transport's queues are not in the plan.
        let measured = peak.withLock { $0 }
        #expect(measured > 0.5 * total && measured < total + 0.2, "\(measured) GiB of \(plan.output)")
    }

    @Test("a teacher of another vocabulary, a method without its parts: one line, exit 3")
    func refusals() throws {
        let bench = try Self.mixture.get().bench
        try #require(
            try bench.apus(
                "model", "init", "stranger", "--preset", "tiny-moe", "--tokenizer", Fixtures.url("tokenizer/main").path
            ).status == 0)
        func refused(_ arguments: [String], _ text: String) throws {
            let result = try bench.apus(["run", "grpo.yaml", "--set", "output=never"] + arguments)
            #expect(result.status == 3, "\(arguments): \(result.status)")
            #expect(result.errors.contains(text), "\(arguments): \(result.errors)")
            #expect(result.errors.split(separator: "\n").count { $0.hasPrefix("apus: ") } <= 2, "\(result.errors)")
        }
        try refused(["--set", "method=distill"], "method distill needs a teacher")
        try refused(["--set", "loss.kl_coef=0.1", "--set", "loss.kl_estimator=k1"], "k1 as a loss has no gradient")
        try refused(["--set", "model.replicas=2"], "one copy of each expert")
        try refused(["--set", "steps=7", "--set", "updates_per_batch=2"], "is no multiple of updates_per_batch")
        try bench.write(
            "strange.yaml",
            """
            kind: train
            name: strange
            method: distill
            model: {path: cold-start/model, compute: fp32}
            teacher: {path: stranger, compute: fp32}
            data: {path: prompts.jsonl}
            steps: 1
            resources: {kv_cache_bytes: 16MiB}
            output: never
            """)
        let result = try bench.apus("run", "strange.yaml")
        #expect(result.status == 3 && result.errors.contains("different tokenizers"), "\(result.errors)")
    }

    @Test("a full disk during a checkpoint: the one before stays whole, the job says what it waits for and finishes")
    func fullDisk() throws {
        let bench = try Self.mixture.get().bench
        let mount = bench.url("small")
        try FileManager.default.createDirectory(at: mount, withIntermediateDirectories: false)
        // Room for one checkpoint and a half.
        guard getuid() == 0, Glibc.mount("tmpfs", mount.path, "tmpfs", 0, "size=34m") == 0 else {
            print("skipped: a full disk needs root to mount a small one")
            return
        }
        defer { umount2(mount.path, Int32(MNT_DETACH)) }
        let settings = [
            "--set", "steps=4", "--set", "checkpoint.every=2", "--set", "checkpoint.keep=1", "--set", "rows_per_step=4",
        ]
        let quiet = try bench.apus(["run", "grpo.yaml", "--workers", "2", "--set", "output=roomy"] + settings)
        try #require(quiet.status == 0, "\(quiet.errors)")
        let cluster = try bench.startCluster(workers: 2, state: "disk-state")
        defer { cluster.stop() }
        let submitted = try bench.apus(["submit", "grpo.yaml", "--set", "output=small/out"] + settings)
        try #require(submitted.status == 0, "\(submitted.errors)")
        let deadline = Date().addingTimeInterval(60)
        var said = ""
        while Date() < deadline, !said.contains("the checkpoint to be written again") {
            said = try bench.apus("job", "1").output
            Thread.sleep(forTimeInterval: 0.1)
        }
        #expect(said.contains("the checkpoint to be written again"), "\(said)")
        #expect(said.contains("No space left on device"), "\(said)")
        let first = bench.url("small/out/checkpoints/step-000002")
        let whole = try bench.apus("model", "verify", first.path)
        #expect(whole.status == 0, "\(whole.errors)\(whole.output)")
        #expect(Glibc.mount("tmpfs", mount.path, "tmpfs", UInt(MS_REMOUNT), "size=64m") == 0)
        let watched = try bench.apus("watch", "1")
        #expect(watched.status == 0, "\(watched.errors)\(watched.output)")
        let last = "checkpoints/step-000004/model-trunk.safetensors"
        #expect(
            try Data(contentsOf: mount.appendingPathComponent("out/\(last)"))
                == Data(contentsOf: bench.url("roomy/\(last)")))
    }

    // MARK: - The same bytes

    /// Ten steps, two per batch of rollouts so that clipping is at work, more than eight unequal cells each.
    private static let exact = [
        "--set", "steps=10", "--set", "updates_per_batch=2", "--set", "group_size=4", "--set", "rows_per_step=32",
        "--set", "sampling.max_new_tokens=60", "--set", "optimizer.learning_rate=0.001", "--set",
        "optimizer.warmup_steps=0", "--set", "router_aux_loss_coef=0.001", "--set", "cell_tokens=256", "--set",
        "wave_cells=4", "--set", "checkpoint.every=3",
    ]

    private func exactRun(
        _ name: String, workers: Int, threads: Int = 1, environment: [String: String] = [:]
    ) throws -> [String: Data] {
        let bench = try Self.mixture.get().bench
        let result = try bench.apus(
            ["run", "grpo.yaml", "--workers", "\(workers)", "--threads", "\(threads)", "--set", "output=\(name)"]
                + Self.exact, environment: environment)
        try #require(result.status == 0, "\(name): \(result.errors)\(result.output)")
        return try Self.weights(bench.url(name))
    }

    /// Every weight and state file of the last checkpoint, and the metrics.
    private static func weights(_ run: URL) throws -> [String: Data] {
        var files: [String: Data] = ["metrics": try Data(contentsOf: run.appendingPathComponent("metrics.jsonl"))]
        let model = run.appendingPathComponent("checkpoints/step-000010")
        for case let name as String in FileManager.default.enumerator(atPath: model.path)!
        where name.hasSuffix(".safetensors") {
            files[name] = try Data(contentsOf: model.appendingPathComponent(name))
        }
        try #require(files.count > 30)
        return files
    }

    private static let quiet = Result { () throws -> [String: Data] in
        try TrainingJobTests().exactRun("quiet", workers: 1)
    }

    @Test("2 and 4 workers, 2 threads: the weights of one worker", arguments: [(2, 2), (4, 1), (1, 2)])
    func workerCounts(workers: Int, threads: Int) throws {
        let quiet = try Self.quiet.get()
        #expect(try exactRun("workers-\(workers)-\(threads)", workers: workers, threads: threads) == quiet)
        let text = String(decoding: quiet["metrics"]!, as: UTF8.self)
        let rows = try text.split(separator: "\n").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
        #expect(rows.allSatisfy { $0["cells"]! >= 8 })
        #expect(rows.contains { $0["clip_ratio/high_mean"]! + $0["clip_ratio/low_mean"]! > 0 }, "nothing was clipped")
    }

    @Test("recorded steps taken again in one process: the same bits; with another start: refused")
    func verified() throws {
        _ = try Self.quiet.get()
        let bench = try Self.mixture.get().bench
        let result = try bench.apus("verify", "quiet", "-n", "0", "--threads", "2")
        #expect(result.status == 0, "\(result.errors)\(result.output)")
        // From the cold start, and from the checkpoint before the last.
        for step in ["step 1 ", "step 10 "] { #expect(result.output.contains(step), "\(result.output)") }
        #expect(result.output.contains("all bits are equal"), "\(result.output)")
        let other = try bench.apus("verify", "quiet", "-n", "0", "--model", "model")
        #expect(other.status == 3 && other.errors.contains("is not the checkpoint"), "\(other.errors)")
        // One bit of the recorded state's start shows.
        let copy = bench.url("tampered")
        try FileManager.default.copyItem(at: bench.url("quiet"), to: copy)
        let file = copy.appendingPathComponent("checkpoints/step-000009/training/segment-00003.safetensors")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count / 6] ^= 1
        try bytes.write(to: file)
        let tampered = try bench.apus("verify", "tampered", "-n", "1")
        #expect(tampered.status == 5 && tampered.errors.contains("step 10 differs"), "\(tampered.errors)")
    }

    @Test(
        "a process killed in the middle of a step costs nothing",
        arguments: [
            ("training.cell-done", 14), ("training.apply", 5), ("training.step", 8), ("journal.after-sync", 60),
            ("journal.before-sync", 75),
        ])
    func killed(point: String, count: Int) throws {
        let quiet = try Self.quiet.get()
        let bench = try Self.mixture.get().bench
        let marker = bench.url("struck-\(point)").path
        let disturbed = try exactRun(
            "disturbed-\(point)", workers: 3, environment: ["APUS_FAIL_POINT": "\(point):\(count):\(marker)"])
        #expect(FileManager.default.fileExists(atPath: marker), "nothing was killed")
        #expect(disturbed == quiet)
    }

    @Test("routing replay on policy changes nothing; off policy it keeps the routes of generation")
    func routingReplay() throws {
        let bench = try Self.mixture.get().bench
        func run(_ name: String, _ settings: [String]) throws -> Data {
            let result = try bench.apus(
                [
                    "run", "grpo.yaml", "--workers", "2", "--set", "output=\(name)", "--set", "steps=2", "--set",
                    "checkpoint.every=2", "--set", "optimizer.warmup_steps=0", "--set", "optimizer.learning_rate=0.002",
                ] + settings.flatMap { ["--set", $0] })
            try #require(result.status == 0, "\(result.errors)\(result.output)")
            return try Data(contentsOf: bench.url("\(name)/model/model-trunk.safetensors"))
        }
        let (off, on) = ("routing_replay=false", "routing_replay=true")
        #expect(try run("routes-1", [off]) == run("routes-2", [on]))
        #expect(try run("routes-3", [off, "updates_per_batch=2"]) != run("routes-4", [on, "updates_per_batch=2"]))
    }

    @Test("optimizer state on a disk, activations computed again: the same bytes, and nothing of it stays")
    func lessMemory() throws {
        let quiet = try Self.quiet.get()
        let bench = try Self.mixture.get().bench
        let result = try bench.apus(
            [
                "run", "grpo.yaml", "--workers", "2", "--set", "output=on-disk", "--set", "optimizer.store=disk",
                "--set", "recompute_activations=true",
            ] + Self.exact)
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        #expect(try Self.weights(bench.url("on-disk")) == quiet)
        #expect(!FileManager.default.fileExists(atPath: bench.url("on-disk/optimizer").path))
        let parts = ["", "disk"].map { store in
            try? bench.apus(
                ["plan", "grpo.yaml"] + (store.isEmpty ? [] : ["--set", "optimizer.store=\(store)"])
            ).output
        }
        #expect(parts[0]!.contains("master weights and moments") && !parts[1]!.contains("master weights"))
    }

    @Test("stopped after a checkpoint and started again with other workers")
    func resumed() throws {
        let quiet = try Self.quiet.get()
        let bench = try Self.mixture.get().bench
        try stopAfterCheckpoint("resumed", bench)
        let cluster = try bench.startCluster(workers: 2, state: "resumed-state")
        defer { cluster.stop() }
        let watched = try bench.apus("watch", "1")
        #expect(watched.status == 0, "\(watched.errors)\(watched.output)")
        #expect(try Self.weights(bench.url("resumed")) == quiet)
    }

    @Test(
        "a byte of a checkpoint that changed on the disk: said, and the steps before it are taken again to the same bytes"
    )
    func damagedCheckpoint() throws {
        let quiet = try Self.quiet.get()
        let bench = try Self.mixture.get().bench
        let checkpoint = try stopAfterCheckpoint("damaged", bench)
        let file = checkpoint.appendingPathComponent("training/segment-00000.safetensors")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count - 3] ^= 1
        try bytes.write(to: file)
        let cluster = try bench.startCluster(workers: 2, state: "damaged-state")
        defer { cluster.stop() }
        let watched = try bench.apus("watch", "1")
        let said = watched.errors + watched.output
        #expect(watched.status == 0, "\(said)")
        #expect(said.contains("checkpoint of step 3 could not be used"), "\(said)")
        #expect(said.contains("does not hold the state that was committed as version 3"), "\(said)")
        #expect(try Self.weights(bench.url("damaged")) == quiet)
    }

    /// Starts a job on three workers and stops the cluster at its first checkpoint, which is returned.
    @discardableResult
    private func stopAfterCheckpoint(_ output: String, _ bench: Workbench) throws -> URL {
        let cluster = try bench.startCluster(workers: 3, state: "\(output)-state")
        let submitted = try bench.apus(["submit", "grpo.yaml", "--set", "output=\(output)"] + Self.exact)
        try #require(submitted.status == 0, "\(submitted.errors)\(submitted.output)")
        let checkpoints = bench.url("\(output)/checkpoints")
        let deadline = Date().addingTimeInterval(60)
        while Date() < deadline {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpoints.path)) ?? []
            if names.contains(where: { $0.hasPrefix("step-") && !$0.hasSuffix(".partial") }) { break }
            Thread.sleep(forTimeInterval: 0.01)
        }
        cluster.stop()
        let names = try FileManager.default.contentsOfDirectory(atPath: checkpoints.path)
        let last = try #require(names.filter { $0.hasPrefix("step-") && !$0.hasSuffix(".partial") }.max())
        return checkpoints.appendingPathComponent(last)
    }
}
