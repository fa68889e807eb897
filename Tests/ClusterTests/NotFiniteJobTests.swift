// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// A model that computes no numbers ends a job with its name; the workers are as healthy as before.
@Suite("A model whose values are not finite", .serialized)
struct NotFiniteJobTests {
    private let bench: Workbench

    init() throws {
        bench = try Workbench("not-finite")
        try bench.makeModel(layers: 3)
        try bench.makeJob(groups: 4, groupSize: 2, tokens: 8)
    }

    private func damage(_ tensor: String, _ value: Float, count: Int? = nil) throws {
        try WeightEditing.fill(bench.url("model/model.safetensors"), tensor, with: value, count: count)
    }

    @Test(
        "rollouts fail with the place and no worker is blamed; the next job runs on the same workers",
        arguments: ["model.layers.0.post_attention_layernorm.weight", "model.norm.weight"])
    func rollouts(tensor: String) throws {
        try FileManager.default.copyItem(at: bench.url("model"), to: bench.url("healthy"))
        try damage(tensor, 3e38)
        let generated = try bench.apus("generate", "model", "hello", "--max-new-tokens", "4", seconds: 60)
        #expect(generated.status == 3 && generated.errors.contains("is not finite"), "\(generated.errors)")
        let cluster = try bench.startCluster(workers: 2)
        defer { cluster.stop() }
        let result = try bench.apus("submit", "job.yaml", "--watch", seconds: 60)
        let said = result.output + result.errors
        #expect(result.status == 5, "\(said)")
        #expect(said.contains("/model: ") && said.contains("is not finite"), "\(said)")
        #expect(said.contains(tensor.contains("layers.0") ? "layer 0" : "final norm"), "\(said)")
        let next = try bench.apus(
            "submit", "job.yaml", "--watch", "--set", "model.path=healthy", "--set", "output=next", seconds: 120)
        #expect(next.status == 0, "\(next.output)\(next.errors)")
        let workers = try bench.apus("workers")
        #expect(!workers.output.contains("quarantine"), "\(workers.output)")
    }

    @Test("a NaN that is stored is found while the model is loaded, and named with its tensor")
    func loading() throws {
        try damage("model.layers.1.mlp.experts.3.up_proj.weight", .nan, count: 1)
        let result = try bench.apus("run", "job.yaml", "--workers", "2", seconds: 60)
        #expect(result.status == 5, "\(result.output)\(result.errors)")
        #expect(result.errors.contains("experts.3.up_proj.weight") && result.errors.contains("not finite"))
    }

    @Test("training fails at its first step with the place")
    func training() throws {
        try damage("model.layers.1.input_layernorm.weight", 3e38)
        try bench.write("rows.jsonl", "{\"prompt\": \"a b\", \"completion\": \"c d e\"}\n")
        try bench.write(
            "train.yaml",
            """
            kind: train
            name: train
            model: {path: model, compute: bf16}
            method: sft
            data: {path: rows.jsonl}
            steps: 2
            rows_per_step: 2
            output: trained
            """)
        let result = try bench.apus("run", "train.yaml", "--workers", "2", seconds: 60)
        #expect(result.status == 5, "\(result.output)\(result.errors)")
        #expect(
            result.errors.contains("step 1: the model") && result.errors.contains("layer 1's attention"),
            "\(result.errors)")
    }
}
