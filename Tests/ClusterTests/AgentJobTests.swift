// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import TestSupport
import Testing

/// Trajectories of several turns with tools, on real processes. The model has learned a few dialogues by heart.
@Suite(
    "Agent rollouts on a local cluster", .serialized,
    .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
struct AgentJobTests {
    static let environment =
        "environment: {tools: [calculator, python], turns: 4, turn_tokens: 120, observation_bytes: 100, describe: false}"

    /// A model that answers `2*3` by a call of the calculator and `run` by a program, and then says what it was told.
    static func teach(_ bench: Workbench) throws {
        let tokenizer = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Cluster/tiny-world/tokenizer").path
        let made = try bench.apus(
            "model", "init", "blank", "--preset", "tiny-world-moe", "--tokenizer", tokenizer, "--dtype", "fp32")
        try #require(made.status == 0, "\(made.errors)")
        let turns = [
            ("2*3", #"{"name": "calculator", "arguments": {"expression":"2*3"}}"#, "6"),
            ("run", #"{"name": "python", "arguments": {"code":"print('ab'*7654321)"}}"#, nil),
        ]
        var rows: [[String: String]] = []
        for (question, call, told) in turns {
            let prompt = "<|im_start|>user\n\(question)<|im_end|>\n<|im_start|>assistant\n"
            let first = "<think>\n\n</think>\n\n<tool_call>\n\(call)\n</tool_call>"
            rows.append(["prompt": prompt, "completion": first])
            let response = told ?? "error"
            rows.append([
                "prompt": prompt + first
                    + "<|im_end|>\n<|im_start|>user\n<tool_response>\n\(response)\n</tool_response><|im_end|>\n"
                    + "<|im_start|>assistant\n",
                "completion": "<think>\n\n</think>\n\n\(told ?? "0")",
            ])
        }
        let lines = try rows.map { String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self) }
        try bench.write("turns.jsonl", lines.joined(separator: "\n"))
        try bench.write(
            "teach.yaml",
            """
            kind: train
            name: teach
            method: sft
            model: {path: blank, compute: fp32}
            data: {path: turns.jsonl}
            steps: 320
            rows_per_step: 4
            optimizer: {learning_rate: 3.0e-3, warmup_steps: 5, lr_scheduler: cosine}
            checkpoint: {every: 320}
            cell_tokens: 512
            resources: {kv_cache_bytes: 16MiB}
            output: taught
            """)
        let taught = try bench.apus("run", "teach.yaml", "--workers", "2")
        try #require(taught.status == 0, "\(taught.errors)\(taught.output)")
        try bench.write(
            "prompts.jsonl",
            ["2*3", "run", "2*3", "run", "2*3"].map {
                #"{"messages": [{"role": "user", "content": "\#($0)"}], "answer": "6"}"#
            }.joined(separator: "\n"))
    }

    static func run(
        _ bench: Workbench, _ output: String, workers: Int, environment: [String: String] = [:]
    ) throws -> [String: Data] {
        try bench.write(
            "job.yaml",
            """
            kind: rollout
            name: agent
            model: {path: taught/model, compute: fp32}
            data: {path: prompts.jsonl}
            group_size: 4
            sampling: {temperature: 0.4, max_new_tokens: 600}
            \(Self.environment)
            reward: [exact, tool_validity]
            resources: {kv_cache_bytes: 16MiB, page_size: 16, max_sequences: 6}
            output: \(output)
            """)
        let result = try bench.apus("run", "job.yaml", "--workers", "\(workers)", environment: environment)
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        return try bench.contents(of: output)
    }

    @Test(
        "tools are called, observed and masked; the same bytes for 1 and 3 workers and through a kill in mid-trajectory"
    )
    func trajectories() throws {
        let bench = try Workbench("agent")
        try Self.teach(bench)
        let quiet = try Self.run(bench, "quiet", workers: 1)
        let rows = String(decoding: try #require(quiet["rollouts/text.jsonl"]), as: UTF8.self).split(separator: "\n")
            .map {
                try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
            }
        let texts = rows.compactMap { $0?["completion"] as? String }
        #expect(
            texts.count == 20
                && rows.allSatisfy { $0?["outcome"] as? String == "ok" || $0?["outcome"] as? String == "truncated" })
        #expect(texts.contains { $0.contains("<tool_response>\n6\n</tool_response>") }, "the calculator was not used")
        // Ten megabytes came back as a few kilobytes.
        let long = texts.filter { $0.contains("abababab") }
        #expect(!long.isEmpty, "the program was not run")
        #expect(rows.contains { ($0?["turns"] as? Int ?? 0) > 1 && $0?["reward"] as? Double == 2 })
        let records = String(decoding: try #require(quiet["rollouts/records.jsonl"]), as: UTF8.self)
        let first = try #require(
            records.split(separator: "\n").lazy.compactMap {
                try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
            }.first { ($0["turns"] as? Int ?? 0) > 1 })
        let forced = try #require(first["forced"] as? [Int])
        #expect(!forced.isEmpty && (first["logprobs"] as? [Any])?.count == (first["completion_ids"] as? [Any])?.count)

        #expect(try Self.run(bench, "three", workers: 3) == quiet)
        let marker = bench.url("struck").path
        let killed = try Self.run(
            bench, "killed", workers: 2, environment: ["APUS_FAIL_POINT": "worker.tools:3:\(marker)"])
        #expect(FileManager.default.fileExists(atPath: marker), "nothing was killed")
        #expect(killed == quiet)
    }

    @Test("what is wrong with an environment is said before anything runs")
    func badInput() throws {
        let bench = try Workbench("agent-bad")
        try bench.makeModel()
        for (extra, complaint) in [
            ("environment: {tools: [calculater]}", "no tool is named 'calculater'; tools: calculator"),
            ("environment: {tools: [search]}", "needs one"),
            ("environment: {tools: [search], corpus: nowhere}", "cannot be read"),
            ("environment: {tools: []}", "name each tool once"),
            ("environment: {tool: [python]}", "did you mean 'tools'"),
        ] {
            try bench.makeJob(extra: extra)
            let result = try bench.apus("run", "job.yaml", "--workers", "1")
            #expect(result.status == 3 && result.errors.contains(complaint), "\(extra): \(result.errors)")
        }
    }
}
