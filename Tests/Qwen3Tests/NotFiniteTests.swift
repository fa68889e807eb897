// SPDX-License-Identifier: Apache-2.0
import CKernels
import Checkpoints
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

/// A model whose values are no numbers: never a token, never a wait, but an error that names the model and the place.
@Suite("Values that are not finite", .serialized)
struct NotFiniteTests {
    private static let samplings: [(String, SamplingParameters)] = [
        ("unfiltered", SamplingParameters()), ("greedy", .greedy), ("top-k", SamplingParameters(topK: 5)),
        ("nucleus", SamplingParameters(topP: 0.9)), ("both", .thinking), ("min-p", SamplingParameters(minP: 0.1)),
        ("penalties", SamplingParameters(repetitionPenalty: 1.2, presencePenalty: 1, temperature: 0.7, topK: 3)),
    ]

    // A single -infinity is a probability of 0.
    @Test("one such logit anywhere: no sampling draws a token, on no instruction set")
    func sampling() {
        let chosen = String(cString: ck_isa())
        defer { ck_select_isa(chosen) }
        for isa in ["reference", "avx2", "avx512", "avx512bf16"] where ck_select_isa(isa) == 0 {
            for value in [Float.nan, -Float.nan, .infinity] {
                for place in [0, 7, 15, 16, 100, 4095, 4096, 4999] {
                    var logits = (0..<5000).map { Float(($0 * 37) % 101) * 0.1 }
                    logits[place] = value
                    #expect(!Statistics(logits, count: 5000, temperature: 1).isFinite, "\(value) at \(place), \(isa)")
                    for (name, parameters) in Self.samplings {
                        var row = logits
                        let drawn = Sampler.sample(
                            &row, count: 5000, usableCount: 4990, parameters: parameters, prompt: [1, 2], output: [3],
                            uniform: 0.5)
                        #expect(drawn == nil, "\(name): \(value) at \(place), \(isa)")
                    }
                }
            }
            var healthy = (0..<5000).map { Float(($0 * 37) % 101) * 0.1 }
            #expect(
                Sampler.sample(
                    &healthy, count: 5000, usableCount: 5000, parameters: .thinking, prompt: [], output: [],
                    uniform: 0.5) != nil)
        }
    }

    /// A copy of a tiny checkpoint with one tensor changed.
    private func damaged(
        _ preset: ModelPreset, _ tensor: String, _ value: Float, count: Int? = nil, _ body: (Checkpoint) throws -> Void
    ) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "apus-not-finite-\(UUID())")
        defer { try? FileManager.default.removeItem(at: directory) }
        try CheckpointInitializer(
            preset: preset, layerCount: 3, seed: 5, storageType: .float32,
            tokenizerDirectory: Fixtures.url("tokenizer/main")
        ).write(to: directory)
        try WeightEditing.fill(directory.appending(path: "model.safetensors"), tensor, with: value, count: count)
        try body(try Checkpoint(directory: directory))
    }

    private func error(_ checkpoint: Checkpoint, _ task: SequenceTask) throws -> NotFiniteError? {
        let model = try Qwen3Model(checkpoint, compute: .fp32, pool: ComputePool(threadCount: 1))
        let engine = GenerationEngine(
            try CachedDecoder(model, pageCount: 16, pageSize: 16), pageCount: 16, pageSize: 16)
        do {
            try engine.submit(GenerationRequest(id: 1, tokens: [1, 2, 3, 4, 5], task: task))
            while !engine.isIdle { _ = try engine.step() }
            return nil
        } catch let error as NotFiniteError { return error }
    }

    @Test(
        "generation and scoring end with the model's name and the place",
        arguments: [
            (ModelPreset.tinyDense, "model.layers.1.post_attention_layernorm.weight", "layer 1's feed-forward"),
            (.tinyDense, "model.layers.2.input_layernorm.weight", "layer 2's attention"),
            (.tinyDense, "model.norm.weight", "final norm"),
            (.tinyMoE, "model.layers.1.post_attention_layernorm.weight", "layer 1's router"),
            (.tinyMoE, "model.norm.weight", "final norm"),
        ])
    func engine(preset: ModelPreset, tensor: String, place: String) throws {
        // Finite weights that overflow: nothing to find while loading.
        try damaged(preset, tensor, 3e38) { checkpoint in
            let generate = Self.samplings.map { _, parameters in
                SequenceTask.generate(
                    GenerationOptions(
                        sampling: parameters, maxNewTokens: 4, stopIDs: [],
                        random: RolloutRandom(runSeed: 0, prompt: 0, sibling: 0)))
            }
            let score = [ScoreOptions.Detail.sampledToken, .topK(3), .full].map {
                SequenceTask.score(ScoreOptions(detail: $0))
            }
            for task in generate + score {
                let found = try #require(try error(checkpoint, task), "\(task)")
                #expect(found.model == checkpoint.directory.path)
                #expect(found.description.contains(place) && found.description.hasSuffix("is not finite"), "\(found)")
            }
            let model = try Qwen3Model(checkpoint, compute: .fp32, pool: ComputePool(threadCount: 1))
            let pass = CellPass(model, layout: ParameterLayout.trunk(of: model.configuration))
            let cell = TrainingCell(index: 0, sequences: [[1, 2, 3, 4]], scored: [[2, 3]])
            do {
                _ = try pass.forward(cell, temperature: 1)
                Issue.record("a training pass gave scores")
            } catch let error as NotFiniteError { #expect(error.description.contains(place), "\(error)") }
        }
    }

    @Test(
        "a stored value that is not finite is found while loading, with its tensor",
        arguments: [
            "model.embed_tokens.weight", "model.layers.2.self_attn.k_proj.weight",
            "model.layers.0.mlp.experts.5.down_proj.weight", "model.layers.1.mlp.gate.weight",
            "model.layers.1.self_attn.q_norm.weight", "model.norm.weight",
        ])
    func loading(tensor: String) throws {
        for value in [Float.nan, .infinity, -.infinity] {
            try damaged(.tinyMoE, tensor, value, count: 1) { checkpoint in
                do {
                    _ = try Qwen3Model(checkpoint, compute: .bf16, pool: ComputePool(threadCount: 2))
                    Issue.record("\(tensor) was loaded")
                } catch let error as CheckpointError {
                    #expect(error.description.contains(tensor) && error.description.contains("not finite"), "\(error)")
                }
            }
        }
    }

    @Test("routes of a forced text that meets the length limit are those of the rows that predict")
    func routesOfForcedText() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/moe_norm_bf16"))
        let model = try Qwen3Model(checkpoint, compute: .bf16, pool: ComputePool(threadCount: 1))
        let decoder = try CachedDecoder(model, pageCount: 40, pageSize: 4)
        let engine = GenerationEngine(decoder, pageCount: 40, pageSize: 4)
        let tokens: [Int32] = [10, 11, 12, 13, 14, 15]
        // A budget of 3 tokens, then a text of 5 of which the limit lets 1 to 5 through.
        for room in 1...5 {
            let options = GenerationOptions(
                sampling: SamplingParameters(), maxNewTokens: 3 + room, stopIDs: [],
                random: RolloutRandom(runSeed: 3, prompt: 0, sibling: UInt16(room)),
                thinkingBudget: ThinkingBudget(
                    tokenCount: 3, startID: 15, endID: 4, stopIDs: GenerationEngineTests.budgetText))
            try engine.submit(GenerationRequest(id: UInt64(room), tokens: tokens, task: .generate(options)))
        }
        var count = 0
        while !engine.isIdle {
            for result in try engine.step() {
                count += 1
                #expect(result.forced.last == true && result.tokens.count == 3 + Int(result.id))
                #expect(
                    result.routedExperts.count == (6 + result.tokens.count - 1) * decoder.routingByteCount,
                    "\(result.id) forced tokens")
                let cell = TrainingCell(
                    index: 0, sequences: [tokens + result.tokens], scored: [[7, 8]], routes: [result.routedExperts])
                let pass = CellPass(model, layout: ParameterLayout.trunk(of: model.configuration))
                _ = try pass.forward(cell, temperature: 1)
            }
        }
        #expect(count == 5)
    }
}
