// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// What an optimizer's state does between steps and between jobs.
extension TrainingJobTests {
    private func metrics(_ bench: Workbench, _ run: String) throws -> [[String: Double]] {
        try String(contentsOf: bench.url("\(run)/metrics.jsonl"), encoding: .utf8).split(separator: "\n").map {
            try JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
    }

    /// Weights and training state of a run's last checkpoint.
    private func state(_ bench: Workbench, _ run: String) throws -> [String: Data] {
        let model = bench.url("\(run)/model").resolvingSymlinksInPath()
        var files: [String: Data] = [:]
        for case let name as String in FileManager.default.enumerator(atPath: model.path)!
        where name.hasSuffix(".safetensors") || name.hasPrefix("training/") {
            files[name] = try? Data(contentsOf: model.appendingPathComponent(name))
        }
        try #require(files.count > 30)
        return files
    }

    private func lineage(_ bench: Workbench, _ run: String) throws -> [String: String] {
        try JSONDecoder().decode(
            [String: String].self, from: Data(contentsOf: bench.url("\(run)/lineage.json")))
    }

    @Test("a batch whose groups are all dropped moves no weight, on 1, 2 and 4 workers, and can be verified")
    func emptySteps() throws {
        let bench = try Self.mixture.get().bench
        try bench.write(
            "empty-steps.yaml",
            """
            kind: train
            name: empty-steps
            model: {path: cold-start/model, compute: fp32}
            method: grpo
            data: {path: prompts.jsonl}
            reward: [exact]
            dropped_groups: {policy: drop_zero_variance}
            steps: 10
            rows_per_step: 1
            group_size: 4
            thinking: {mode: on}
            sampling: {temperature: 1.0, max_new_tokens: 60}
            optimizer: {learning_rate: 2.0e-4, weight_decay: 0.1}
            loss: {target_entropy: 0.5}
            cell_tokens: 128
            checkpoint: {every: 1, keep: 20}
            resources: {kv_cache_bytes: 16MiB}
            output: empty-1
            """)
        for workers in [1, 2, 4] {
            let result = try bench.apus(
                "run", "empty-steps.yaml", "--workers", "\(workers)", "--set", "output=empty-\(workers)")
            try #require(result.status == 0, "\(result.errors)\(result.output)")
        }
        let rows = try metrics(bench, "empty-1")
        // One that follows an update is what matters: the gradient of the update must not come again.
        let empty = rows.indices.filter { rows[$0]["skipped"] == 1 }
        try #require(empty.contains { $0 > 0 && rows[$0 - 1]["skipped"] == nil }, "\(rows)")
        for step in empty {
            #expect(rows[step]["num_rows"] == 0 && rows[step]["grad_norm"] == 0 && rows[step]["loss"] == nil)
            guard step > 0 else { continue }
            let names = [step, step + 1].map { "step-" + String(format: "%06d", $0) }
            for file in ["model-trunk.safetensors", "training/segment-00003.safetensors", "training/state.json"] {
                let bytes = try names.map { try Data(contentsOf: bench.url("empty-1/checkpoints/\($0)/\(file)")) }
                #expect(bytes[0] == bytes[1], "step \(step + 1): \(file)")
            }
        }
        let updates = try String(contentsOf: bench.url("empty-1/model/training/state.json"), encoding: .utf8)
        #expect(updates.contains(" \(10 - empty.count)}"), "\(updates)")
        for workers in [2, 4] {
            #expect(try metrics(bench, "empty-\(workers)") == rows)
            #expect(try state(bench, "empty-\(workers)") == state(bench, "empty-1"))
        }
        let verified = try bench.apus("verify", "empty-1", "-n", "0", "--threads", "2")
        #expect(verified.status == 0, "\(verified.errors)\(verified.output)")
    }

    private static let oneRow = """
        kind: train
        name: one-row
        model: {path: cold-start/model, compute: fp32}
        method: sft
        data: {path: one-row.jsonl}
        steps: 2
        rows_per_step: 1
        optimizer: {learning_rate: 1.0e-3, beta2: 0.99}
        checkpoint: {every: 100}
        output: one-row
        """

    /// Trains on a file of one row.
    private func trainOneRow(
        _ bench: Workbench, _ output: String, _ settings: String..., environment: [String: String] = [:]
    ) throws {
        if !FileManager.default.fileExists(atPath: bench.url("one-row.yaml").path) {
            let all = try String(contentsOf: bench.url("cold-start.jsonl"), encoding: .utf8)
            try bench.write("one-row.jsonl", all.prefix { $0 != "\n" } + "\n")
            try bench.write("one-row.yaml", Self.oneRow)
        }
        let result = try bench.apus(
            ["run", "one-row.yaml", "--workers", "2", "--set", "output=\(output)"]
                + settings.flatMap { ["--set", $0] }, environment: environment)
        try #require(result.status == 0, "\(output): \(result.errors)\(result.output)")
    }

    @Test(
        "the next stage goes on with the weights, its moments begin at zero; a parent without its state is another one")
    func nextStage() throws {
        let bench = try Self.mixture.get().bench
        try trainOneRow(bench, "stage-1")
        // Stored and computed in fp32, so the master weights are the weights: without its state it trains alike.
        let bare = bench.url("bare")
        try FileManager.default.copyItem(at: bench.url("stage-1/model").resolvingSymlinksInPath(), to: bare)
        try FileManager.default.removeItem(at: bare.appendingPathComponent("training"))
        try trainOneRow(bench, "stage-2", "model.path=stage-1/model")
        try trainOneRow(bench, "stage-2-bare", "model.path=bare")
        #expect(try state(bench, "stage-2") == state(bench, "stage-2-bare"))
        #expect(try lineage(bench, "stage-2")["parent"] != lineage(bench, "stage-2-bare")["parent"])
        // The first update of a job is one learning rate per weight, as Adam's is when its moments are new.
        let verified = try bench.apus("verify", "stage-2", "-n", "0")
        #expect(verified.status == 0, "\(verified.errors)\(verified.output)")
    }

    @Test("fp32 training has the same bytes on AVX2 and AVX-512, whatever OPENBLAS_CORETYPE says")
    func sameProducts() throws {
        let bench = try Self.mixture.get().bench
        try trainOneRow(bench, "products")
        for (name, value) in [
            ("OPENBLAS_CORETYPE", "SKYLAKEX"), ("OPENBLAS_CORETYPE", "PRESCOTT"), ("APUS_ISA", "avx2"),
        ] {
            let output = "products-\(value)"
            try trainOneRow(bench, output, environment: [name: value])
            #expect(try state(bench, output) == state(bench, "products"), "\(name)=\(value)")
        }
    }

    @Test("optimizer.resume: two jobs of two steps are one of four, to the byte")
    func resumedOptimizer() throws {
        let bench = try Self.mixture.get().bench
        try trainOneRow(bench, "four", "steps=4")
        try trainOneRow(bench, "first-two")
        try trainOneRow(bench, "next-two", "model.path=first-two/model", "optimizer.resume=true")
        #expect(try state(bench, "next-two") == state(bench, "four"))
        let verified = try bench.apus("verify", "next-two", "-n", "0")
        #expect(verified.status == 0, "\(verified.errors)\(verified.output)")
        let refused = try bench.apus(
            "run", "one-row.yaml", "--set", "output=no", "--set", "model.path=model", "--set", "optimizer.resume=true")
        #expect(refused.status == 3 && refused.errors.contains("has no training state"), "\(refused.errors)")
    }
}
