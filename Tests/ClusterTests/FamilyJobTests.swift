// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Every kind of job with models of the other families: biases, no norms of queries and keys.
@Suite("Qwen2 and Llama on a local cluster", .serialized)
struct FamilyJobTests {
    private static let world = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Cluster/tiny-world")

    /// What a run leaves that must not depend on the number of workers.
    private func results(_ bench: Workbench, _ output: String) throws -> [String: Data] {
        var found: [String: Data] = [:]
        let root = bench.url(output)
        for name in (FileManager.default.enumerator(atPath: root.path)?.compactMap { $0 as? String } ?? []) {
            let isResult = ["rollouts/text", "scores/", "metrics.jsonl"].contains { name.hasPrefix($0) }
            if isResult || name.hasSuffix(".safetensors") || name.hasSuffix("config.json") {
                found[name] = try Data(contentsOf: root.appendingPathComponent(name))
            }
        }
        try #require(!found.isEmpty, "nothing in \(output)")
        return found
    }

    @Test(
        "every kind of job, with the same bytes from one worker and from two",
        arguments: [("tiny-qwen2", "qwen2", "tiny-llama"), ("tiny-llama", "llama", "tiny-qwen2")])
    func everyKind(preset: String, modelType: String, other: String) throws {
        let bench = try Workbench("family")
        let tokenizer = Self.world.appendingPathComponent("tokenizer").path
        for (name, preset) in [("model", preset), ("teacher", other)] {
            let made = try bench.apus(
                "model", "init", name, "--preset", preset, "--layers", "2", "--tokenizer", tokenizer, "--seed", "3")
            try #require(made.status == 0, "\(made.errors)")
        }
        try bench.apus("data", "registers", "demonstrations.jsonl", "-n", "24", "--form", "demonstrations")
        try bench.apus("data", "registers", "prompts.jsonl", "-n", "8", "--seed", "2")
        try bench.apus("data", "registers", "evaluation.jsonl", "-n", "6", "--seed", "9", "--evaluation")
        let common = """
            thinking: {mode: on}
            resources: {kv_cache_bytes: 16MiB, page_size: 16}
            """
        let steps = """
            rows_per_step: 4
            optimizer: {learning_rate: 1.0e-3, weight_decay: 0.1}
            cell_tokens: 256
            """
        // The later ones start where the first ended: with biases that are not zero.
        let jobs = [
            (
                "sft",
                """
                kind: train
                method: sft
                model: {path: model, compute: bf16}
                data: {path: demonstrations.jsonl}
                steps: 3
                recompute_activations: true
                \(steps)
                """
            ),
            (
                "grpo",
                """
                kind: train
                method: grpo
                model: {path: sft-1/model, compute: fp32}
                data: {path: prompts.jsonl}
                reward: [format]
                steps: 2
                group_size: 4
                sampling: {temperature: 1.0, max_new_tokens: 24}
                \(steps)
                """
            ),
            (
                "distill",
                """
                kind: train
                method: distill
                model: {path: sft-1/model, compute: bf16}
                teacher: {path: teacher, compute: bf16}
                data: {path: prompts.jsonl}
                steps: 2
                group_size: 2
                sampling: {temperature: 1.0, max_new_tokens: 24}
                \(steps)
                """
            ),
            (
                "rollout",
                """
                kind: rollout
                model: {path: sft-1/model, compute: bf16}
                teacher: {path: teacher, compute: bf16, outputs: {top_k: 4}}
                data: {path: prompts.jsonl}
                reward: [format]
                group_size: 3
                sampling: {temperature: 1.0, max_new_tokens: 24}
                """
            ),
            (
                "evaluate",
                """
                kind: rollout
                model: {path: sft-1/model, compute: bf16}
                data: {path: evaluation.jsonl}
                reward: [exact]
                group_size: 2
                sampling: {temperature: 0.6, top_k: 20, max_new_tokens: 24}
                """
            ),
        ]
        for (name, text) in jobs {
            try bench.write("\(name).yaml", "name: \(name)\n\(text)\n\(common)\noutput: \(name)-1\n")
            for workers in [1, 2] {
                let result = try bench.apus(
                    "run", "\(name).yaml", "--workers", "\(workers)", "--set", "output=\(name)-\(workers)")
                try #require(result.status == 0, "\(name), \(workers) workers: \(result.errors)\(result.output)")
            }
            #expect(try results(bench, "\(name)-1") == results(bench, "\(name)-2"), "\(name)")
        }
        let export = try bench.apus("model", "export", "sft-1", "copy")
        try #require(export.status == 0, "\(export.errors)")
        let config = bench.text("copy/config.json")
        #expect(config.contains("\"model_type\": \"\(modelType)\""))
        #expect(config.contains(modelType == "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM"))
        // A bias that was trained is no longer zero, and is written.
        let inspected = try bench.apus("model", "inspect", "copy")
        #expect(inspected.output.contains("bias") == (modelType == "qwen2"))
        let generated = try bench.apus(
            "generate", "copy", "a", "--raw", "--max-new-tokens", "4", "--temperature", "0")
        #expect(generated.status == 0, "\(generated.errors)")
    }
}
