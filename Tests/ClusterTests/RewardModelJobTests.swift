// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Reward models from preferences to GRPO, on real processes.
@Suite("Reward models on a local cluster", .serialized)
struct RewardModelJobTests {
    /// A mixture of experts that has learned to prefer digits with a 7 among them, on one worker and on two.
    private final class Trained: Sendable {
        let bench: Workbench

        init() throws {
            let bench = try Workbench("reward-model")
            self.bench = bench
            let tokenizer = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("Cluster/tiny-world/tokenizer")
            let made = try bench.apus(
                "model", "init", "model", "--preset", "tiny-world-moe", "--tokenizer", tokenizer.path, "--dtype",
                "fp32", "--seed", "1")
            try #require(made.status == 0, "\(made.errors)")
            try bench.write("train.jsonl", preferences(1200, seed: 1))
            try bench.write("held-out.jsonl", preferences(100, seed: 2))
            try bench.write(
                "train.yaml",
                """
                kind: train
                name: preferences
                method: reward
                model: {path: model, compute: fp32}
                data: {path: train.jsonl}
                steps: 60
                rows_per_step: 16
                center_rewards_coefficient: 0.01
                optimizer: {learning_rate: 2.0e-3, warmup_steps: 5}
                cell_tokens: 256
                checkpoint: {every: 30}
                seed: 4
                output: trained-1
                """)
            for workers in [1, 2] {
                let result = try bench.apus(
                    "run", "train.yaml", "--workers", "\(workers)", "--set", "output=trained-\(workers)")
                try #require(result.status == 0, "\(result.errors)\(result.output)")
            }
        }

        /// Half of them conversations, half texts; a third of the conversations without a prompt of their own.
        private func preferences(_ count: Int, seed: UInt64) -> String {
            var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
            func draw(_ bound: Int) -> Int {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                return Int(state >> 33) % bound
            }
            func digits() -> [String] { (0..<3 + draw(4)).map { _ in ["1", "2", "4", "5", "8"][draw(5)] } }
            return (0..<count).map { index in
                var chosen = digits()
                chosen[draw(chosen.count)] = "7"
                let (good, bad) = (chosen.joined(separator: " "), digits().joined(separator: " "))
                let prompt = "digits \(draw(100))"
                func message(_ role: String, _ text: String) -> String {
                    "{\"role\": \"\(role)\", \"content\": \"\(text)\"}"
                }
                switch index % 6 {
                case 0, 1, 2: return "{\"prompt\": \"\(prompt)\", \"chosen\": \"\(good)\", \"rejected\": \"\(bad)\"}"
                case 3, 4:
                    return "{\"prompt\": [\(message("user", prompt))], \"chosen\": [\(message("assistant", good))], "
                        + "\"rejected\": [\(message("assistant", bad))]}"
                default:
                    let user = message("user", prompt)
                    return "{\"chosen\": [\(user), \(message("assistant", good))], "
                        + "\"rejected\": [\(user), \(message("assistant", bad))]}"
                }
            }.joined(separator: "\n")
        }
    }

    private static let trained = Result { try Trained() }

    private func lines(_ url: URL) throws -> [[String: Any]] {
        try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
    }

    /// Scores `data` with the reward model; returns its records and totals.
    private func score(
        _ bench: Workbench, _ data: String, _ output: String, workers: Int = 1
    ) throws -> (rows: [[String: Any]], totals: [String: Any]) {
        try bench.write(
            "score.yaml",
            """
            kind: score
            name: held-out
            model: {path: trained-1/model, compute: fp32}
            data: {path: \(data)}
            output: \(output)
            """)
        let result = try bench.apus("run", "score.yaml", "--workers", "\(workers)")
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        return (
            try lines(bench.url("\(output)/scores/records.jsonl")), try lines(bench.url("\(output)/metrics.jsonl"))[0]
        )
    }

    @Test("preferences are learned: held-out pairs over 0.9, figures under TRL's names")
    func learns() throws {
        let bench = try Self.trained.get().bench
        let steps = try lines(bench.url("trained-1/metrics.jsonl"))
        #expect(steps.count == 60)
        for name in [
            "loss", "accuracy", "margin", "mean_reward", "min_reward", "max_reward", "grad_norm", "learning_rate",
        ] {
            #expect(steps.allSatisfy { $0[name] is Double || $0[name] is Int }, "\(name)")
        }
        func value(_ step: Int, _ name: String) -> Double { (steps[step][name] as? NSNumber)?.doubleValue ?? .nan }
        #expect(abs(value(0, "loss") - 0.693) < 0.05 && value(59, "loss") < 0.3, "\(steps[59])")
        #expect(value(59, "min_reward") < value(59, "mean_reward"), "\(steps[59])")
        #expect(value(59, "mean_reward") < value(59, "max_reward") && value(59, "min_reward") < 0, "\(steps[59])")
        let (rows, totals) = try score(bench, "held-out.jsonl", "held-out-1")
        #expect(rows.count == 200 && rows[0]["side"] as? String == "chosen" && rows[1]["side"] as? String == "rejected")
        #expect(totals["pairs"] as? Double == 100)
        let accuracy = try #require(totals["accuracy"] as? Double)
        #expect(accuracy > 0.9, "\(totals)")
        let scalars = rows.compactMap { $0["reward"] as? Double }
        let right = (0..<100).count { scalars[2 * $0] > scalars[2 * $0 + 1] }
        #expect(accuracy == Double(right) / 100)
        _ = try score(bench, "held-out.jsonl", "held-out-2", workers: 2)
        #expect(try bench.contents(of: "held-out-1") == bench.contents(of: "held-out-2"))
    }

    @Test("one worker and two give the same bytes; steps taken again too, and what has a head goes on with it")
    func bytes() throws {
        let bench = try Self.trained.get().bench
        let names = try FileManager.default.subpathsOfDirectory(
            atPath: bench.url("trained-1/checkpoints/step-000060").path)
        #expect(names.contains("model-trunk.safetensors") && names.contains { $0.hasPrefix("model-expert") })
        var isDirectory: ObjCBool = false
        for name in names.map({ "checkpoints/step-000060/" + $0 }) + ["metrics.jsonl"]
        where !name.hasSuffix("manifest.json") {
            let path = bench.url("trained-1/" + name).path
            if FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), isDirectory.boolValue {
                continue
            }
            #expect(
                try Data(contentsOf: bench.url("trained-1/" + name))
                    == Data(contentsOf: bench.url("trained-2/" + name)),
                "\(name)")
        }
        // From the language model with its fresh head, and from a checkpoint.
        let verified = try bench.apus("verify", "trained-2", "-n", "0")
        #expect(verified.status == 0 && verified.output.contains("step 1 with"), "\(verified.errors)\(verified.output)")
        #expect(verified.output.contains("step 31 with"), "\(verified.output)")
        let plan = try bench.apus("plan", "train.yaml", "--workers", "2")
        #expect(plan.status == 0 && plan.output.contains("master weights and moments"), "\(plan.errors)")
        let more = try bench.apus(
            "run", "train.yaml", "--set", "model.path=trained-1/model", "--set", "steps=1", "--set", "output=more",
            "--set", "model.compute=bf16")
        #expect(more.status == 0, "\(more.errors)")
        let first = try lines(bench.url("more/metrics.jsonl"))[0]
        #expect(first["accuracy"] as? Double ?? 0 > 0.9, "\(first)")
    }

    private func policyJob(_ bench: Workbench, _ name: String, _ lines: String, rewardModel: String = "trained-1/model")
        throws
    {
        try bench.write(
            "prompts.jsonl",
            (0..<6).map { "{\"prompt\": \"digits \($0) 7 1 2 4 7 5 8\", \"reward\": \"reward_model\"}\n" }.joined())
        try bench.write(
            "\(name).yaml",
            """
            name: \(name)
            model: {path: model, compute: fp32}
            data: {path: prompts.jsonl}
            group_size: 4
            sampling: {temperature: 1.0, max_new_tokens: 12}
            reward_model: {path: \(rewardModel), compute: fp32}
            resources: {kv_cache_bytes: 16MiB}
            output: \(name)
            \(lines)
            """)
    }

    @Test("GRPO's rewards are the scalars, exactly; a row may name the reward; center and scale move it")
    func rewards() throws {
        let bench = try Self.trained.get().bench
        try policyJob(
            bench, "grpo",
            """
            kind: train
            method: grpo
            reward: [reward_model]
            steps: 2
            rows_per_step: 4
            """)
        for workers in [1, 2] {
            let result = try bench.apus(
                "run", "grpo.yaml", "--workers", "\(workers)", "--set", "output=grpo-\(workers)")
            try #require(result.status == 0, "\(result.errors)\(result.output)")
        }
        for file in ["metrics.jsonl", "rollouts/text.jsonl", "model/model-trunk.safetensors"] {
            #expect(
                try Data(contentsOf: bench.url("grpo-1/\(file)")) == Data(contentsOf: bench.url("grpo-2/\(file)")),
                "\(file)")
        }
        let texts = try lines(bench.url("grpo-1/rollouts/text.jsonl")).filter { $0["completion"] as? String != "" }
        #expect(texts.count > 24)
        let asked = try texts.map { text in
            let row = ["prompt": text["prompt"], "completion": text["completion"]].compactMapValues { $0 as? String }
            return String(decoding: try JSONSerialization.data(withJSONObject: row), as: UTF8.self)
        }
        try bench.write("asked.jsonl", asked.joined(separator: "\n"))
        let scored = try score(bench, "asked.jsonl", "asked").rows
        let scalars = scored.map { $0["reward"] as? Double }
        #expect(scalars == texts.map { $0["reward"] as? Double })
        #expect(Set(scalars).count > 12)
        struct Line: Decodable { let reward: Double }
        func rewards(_ name: String) throws -> [Double] {
            try String(contentsOf: bench.url("\(name)/rollouts/text.jsonl"), encoding: .utf8).split(separator: "\n").map
            {
                try JSONDecoder().decode(Line.self, from: Data($0.utf8)).reward
            }
        }
        try policyJob(bench, "named", "kind: rollout\nreward: [task]")
        try policyJob(
            bench, "moved",
            "kind: rollout\nreward: [{name: reward_model, weight: 2, options: {center: 0.5, scale: 4}}]")
        for name in ["named", "moved"] {
            let result = try bench.apus("run", "\(name).yaml", "--workers", "2")
            try #require(result.status == 0, "\(result.errors)\(result.output)")
        }
        let (named, moved) = (try rewards("named"), try rewards("moved"))
        #expect(named.count == 24 && moved == named.map { 2 * (($0 - 0.5) / 4) })
    }

    @Test("a reward model without a finite scalar gives no reward, and never 0")
    func noAnswer() throws {
        let bench = try Self.trained.get().bench
        let broken = bench.url("broken")
        try FileManager.default.copyItem(
            at: bench.url("trained-1/checkpoints/step-000060"), to: broken)
        let file = try FileHandle(forUpdating: broken.appendingPathComponent("model-trunk.safetensors"))
        let length = try #require(try file.read(upToCount: 8))
        let count = length.enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        let text = try #require(try file.read(upToCount: count))
        let header = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
        let range = try #require((header["score.weight"] as? [String: Any])?["data_offsets"] as? [Int])
        try file.seek(toOffset: UInt64(8 + count + range[0]))
        try file.write(contentsOf: Data(repeating: 0xFF, count: range[1] - range[0]))
        try file.close()
        try policyJob(bench, "unanswered", "kind: rollout\nreward: [reward_model]", rewardModel: "broken")
        let result = try bench.apus("run", "unanswered.yaml", "--workers", "1")
        let reason = "tensor 'score.weight': holds a value that is not finite"
        #expect(result.status == 5 && result.errors.contains(reason), "\(result.errors)")
        let texts = try? lines(bench.url("unanswered/rollouts/text.jsonl"))
        #expect(texts?.allSatisfy { $0["reward"] == nil || $0["reward"] is NSNull } ?? true)
    }

    @Test("what is no preference, no reward model or no language model: one line, exit 3")
    func refusals() throws {
        let bench = try Self.trained.get().bench
        func refused(_ arguments: [String], _ complaint: String) throws {
            let result = try bench.apus(["run"] + arguments + ["--set", "output=never"], seconds: 60)
            #expect(result.status == 3 && result.errors.contains(complaint), "\(arguments): \(result.errors)")
            #expect(result.errors.split(separator: "\n").count { $0.hasPrefix("apus: ") } <= 2, "\(result.errors)")
        }
        for (row, complaint) in [
            ("{\"prompt\": \"a\", \"chosen\": \"b\"}", "no column 'rejected'"),
            ("{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"b\"}", "'chosen' and 'rejected' are equal"),
            ("{\"chosen\": \"b\", \"rejected\": \"c\"}", "a 'prompt' must be beside it"),
            (
                "{\"prompt\": \"a\", \"chosen\": \"<think>x</think>b\", \"rejected\": \"<think>y</think>b\"}",
                "differ in nothing but thinking"
            ),
            ("{\"prompt\": \"a\", \"completion\": \"b\"}", "no columns 'chosen' and 'rejected'"),
            (
                "{\"chosen\": [{\"role\": \"user\", \"content\": \"a\"}], \"rejected\": \"b\"}",
                "does not end with an answer"
            ),
        ] {
            try bench.write("bad.jsonl", row)
            try refused(["train.yaml", "--set", "data.path=bad.jsonl"], complaint)
        }
        try policyJob(bench, "policy", "kind: rollout\nreward: [reward_model]")
        try refused(["policy.yaml", "--set", "reward_model.path=model"], "is a language model, no reward model")
        try refused(["policy.yaml", "--set", "reward_model.path=nowhere"], "nowhere")
        try refused(["policy.yaml", "--set", "model.path=trained-1/model"], "is a reward model")
        try refused(["policy.yaml", "--set", "reward=[exact]"], "is for the reward 'reward_model'")
        try policyJob(bench, "judged", "kind: rollout\nreward: [reward_model, judge]\njudge: {path: trained-1/model}")
        try refused(["judged.yaml"], "is a reward model")
        try refused(
            ["train.yaml", "--set", "method=sft", "--set", "model.path=trained-1/model"],
            "center_rewards_coefficient: is for method reward")
        try bench.write(
            "sft.yaml",
            "kind: train\nname: sft\nmethod: sft\nmodel: {path: trained-1/model}\ndata: {path: train.jsonl}\n"
                + "steps: 1\noutput: never")
        try refused(["sft.yaml"], "is a reward model")
        try bench.write(
            "pairs.yaml", "kind: score\nname: pairs\nmodel: {path: model}\ndata: {path: held-out.jsonl}\noutput: never")
        try refused(["pairs.yaml"], "is a preference pair")
        try refused(
            ["pairs.yaml", "--set", "model.path=trained-1/model", "--set", "outputs.top_k=4"], "gives one scalar")
        let generated = try bench.apus("generate", "trained-1/model", "digits")
        #expect(generated.status == 3 && generated.errors.contains("reward model"), "\(generated.errors)")
        let scored = try bench.apus("score", "trained-1/model", "digits 7 7")
        #expect(scored.status == 0 && scored.output.hasPrefix("reward "), "\(scored.errors)")
    }
}
