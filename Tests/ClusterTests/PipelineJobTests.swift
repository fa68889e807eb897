// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// A pipeline of real processes: rollouts, a choice of queries from them, training, an evaluation.
@Suite("Pipelines on a local cluster", .serialized)
struct PipelineJobTests {
    private static let pipeline = """
        kind: pipeline
        name: small
        output: quiet
        variables: {steps: 3}
        stages:
          - {name: model, run: [model, init, model, --preset, tiny-moe, --tokenizer, "\(Fixtures.url("tokenizer/main").path)", --seed, "3"]}
          - {name: questions, run: [data, arithmetic, rows.jsonl, -n, "12"]}
          - name: measured
            job: rollout.yaml
            set: {model.path: "{model}/model", data.path: "{questions}/rows.jsonl"}
            show: [reward]
          - name: chosen
            run: [data, filter-queries, "{questions}/rows.jsonl", rows.jsonl, --solved-by, "{measured}"]
          - name: training
            job: grpo.yaml
            set: {model.path: "{model}/model", data.path: "{chosen}/rows.jsonl", steps: "{steps}"}
          - name: after
            job: rollout.yaml
            set: {model.path: "{training}/model", data.path: "{questions}/rows.jsonl"}
            show: [reward]
        report:
          - {table: Rewards, columns: [[reward, "", reward]], rows: [[before, measured], [after, after]]}
        """

    private func bench() throws -> Workbench {
        let bench = try Workbench("pipeline")
        try bench.write("pipeline.yaml", Self.pipeline)
        try bench.write(
            "rollout.yaml",
            """
            kind: rollout
            name: any
            model: {path: any, compute: fp32}
            data: {path: any.jsonl}
            group_size: 4
            sampling: {temperature: 1.0, max_new_tokens: 24}
            reward: [{name: exact}, {name: thinking_mode}]
            resources: {kv_cache_bytes: 32MiB}
            output: any
            """)
        // Nothing that a random model says is right: the length is what is rewarded, through its punishment.
        try bench.write(
            "grpo.yaml",
            """
            kind: train
            name: any
            method: grpo
            model: {path: any, compute: fp32}
            data: {path: any.jsonl}
            steps: 3
            rows_per_step: 4
            group_size: 4
            sampling: {temperature: 1.0, max_new_tokens: 24}
            reward: [format]
            overlong: {buffer: 20, penalty: 1}
            optimizer: {learning_rate: 1.0e-3}
            cell_tokens: 256
            checkpoint: {every: 1}
            resources: {kv_cache_bytes: 32MiB}
            output: any
            """)
        return bench
    }

    private static let results = [
        "measured/rollouts/text.jsonl", "chosen/rows.jsonl", "training/metrics.jsonl",
        "training/model/model-trunk.safetensors", "after/rollouts/text.jsonl",
    ]

    @Test("killed with -9 in every stage, it ends with a quiet run's bytes and makes nothing twice")
    func kills() throws {
        let bench = try bench()
        let quiet = try bench.apus("run", "pipeline.yaml", "--workers", "2")
        try #require(quiet.status == 0, "\(quiet.errors)\(quiet.output)")
        #expect(quiet.output.contains("after: done, reward"))
        let page = try String(contentsOf: bench.url("quiet/report.md"), encoding: .utf8)
        #expect(page.contains("| before |") && page.contains("| training | chosen, model |"))
        var kills = 0
        for stage in ["measured", "training", "after"] {
            let process = Process()
            process.executableURL = Workbench.apus
            process.arguments = ["run", "pipeline.yaml", "--workers", "2", "--set", "output=killed"]
            process.currentDirectoryURL = bench.directory
            process.environment = ProcessInfo.processInfo.environment.merging(
                ["APUS_CONTEXT": bench.url("context.json").path, "APUS_HOME": bench.url("home").path]) { $1 }
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            let begun = bench.url("killed/stages/\(stage).json")
            let deadline = Date().addingTimeInterval(60)
            while !FileManager.default.fileExists(atPath: begun.path), Date() < deadline {
                Thread.sleep(forTimeInterval: 0.005)
            }
            Thread.sleep(forTimeInterval: 0.3)
            if process.isRunning { kills += 1 }
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        #expect(kills >= 2, "most kills come while the pipeline runs")
        let measured = try FileManager.default.attributesOfItem(atPath: bench.url("killed/model").path)
        let end = try bench.apus("run", "pipeline.yaml", "--workers", "1", "--set", "output=killed")
        #expect(end.status == 0, "\(end.errors)\(end.output)")
        #expect(end.output.contains("== measured: done already"))
        let after = try FileManager.default.attributesOfItem(atPath: bench.url("killed/model").path)
        #expect(measured[.systemFileNumber] as? Int == after[.systemFileNumber] as? Int)
        for file in Self.results {
            let same = try Data(contentsOf: bench.url("quiet/\(file)")) == Data(contentsOf: bench.url("killed/\(file)"))
            #expect(same, "\(file)")
        }
    }

    @Test("a pipeline's mistakes: one line and exit code 3; other commands say who takes pipelines")
    func mistakes() throws {
        let bench = try bench()
        try bench.write("wrong.yaml", Self.pipeline.replacingOccurrences(of: "{chosen}/rows", with: "{choosen}/rows"))
        let wrong = try bench.apus("run", "wrong.yaml")
        #expect(wrong.status == 3 && wrong.errors.contains("did you mean {chosen}?"), "\(wrong.errors)")
        #expect(!FileManager.default.fileExists(atPath: bench.url("quiet").path))
        let plan = try bench.apus("plan", "pipeline.yaml")
        #expect(plan.status == 3 && plan.errors.contains("apus run takes it"), "\(plan.errors)")
        let variable = try bench.apus("run", "pipeline.yaml", "--set", "variables.step=4")
        #expect(
            variable.status == 3 && variable.errors.contains("no such variable; it has: steps"), "\(variable.errors)")
        let bare = try bench.apus("run", "pipeline.yaml", "--set", "step=4")
        #expect(bare.status == 3 && bare.errors.contains("no such variable; it has: steps"), "\(bare.errors)")
        let other = try bench.apus("run", "pipeline.yaml", "--set", "optimizer.steps=4")
        #expect(other.status == 3 && other.errors.contains("NAME=… of its variables"), "\(other.errors)")
        try bench.write(
            "gated.yaml",
            Self.pipeline.replacingOccurrences(of: "    show: [reward]", with: "    gate: {reward: {min: 9}}"))
        let gated = try bench.apus("run", "gated.yaml", "--workers", "1")
        #expect(gated.status == 5 && gated.errors.contains("the gate wants at least 9"), "\(gated.errors)")
    }
}

/// An evaluation suite on real processes.
@Suite("Suites on a local cluster", .serialized)
struct SuiteJobTests {
    @Test("generation in both modes and ranked choices end in figures; a second run makes nothing again")
    func suite() throws {
        let bench = try Workbench("suite")
        try bench.makeModel()
        let rows = (0..<6).map {
            #"{"id": "q\#($0)", "question": "What is \#($0)+1?", "choices": ["\#($0 + 1)", "\#($0 + 2)"], "answer": 0, "language": "\#($0 % 2 == 0 ? "en" : "de")"}"#
        }
        try bench.write("mmlu.jsonl", rows.joined(separator: "\n"))
        try bench.write(
            "suite.yaml",
            """
            kind: suite
            name: small
            output: out
            model: {path: model, compute: bf16}
            defaults: {samples: 2, format: mmlu, sampling: {max_new_tokens: 8}}
            resources: {kv_cache_bytes: 16MiB, page_size: 16, max_sequences: 6}
            rows:
              - {name: generated, data: mmlu.jsonl, by: language, prompt: "{question} Answer:"}
              - {name: ranked, data: mmlu.jsonl, rank_choices: true}
            """)
        let first = try bench.apus("run", "suite.yaml", "--workers", "2")
        try #require(first.status == 0, "\(first.errors)\(first.output)")
        func figures(_ stage: String) throws -> [String: Double] {
            let text = try String(contentsOf: bench.url("out/\(stage)/metrics.jsonl"), encoding: .utf8)
            return try JSONDecoder().decode([String: Double].self, from: Data(text.utf8))
        }
        for mode in ["thinking", "non_thinking"] {
            let found = try figures("generated.\(mode).score")
            #expect(found["questions"] == 6 && found["samples"] == 12 && found["language/en"] != nil, "\(found)")
        }
        let ranked = try figures("ranked.non_thinking.score")
        #expect(ranked["questions"] == 6 && (0...1).contains(ranked["score"]!))
        #expect(try String(contentsOf: bench.url("out/report.md"), encoding: .utf8).contains("| ranked |"))
        let second = try bench.apus("run", "suite.yaml", "--workers", "2")
        #expect(second.status == 0 && second.output.contains("ranked.non_thinking.score: done already"))
    }
}
