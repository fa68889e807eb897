// SPDX-License-Identifier: Apache-2.0
//
// Decode and prefill of a whole model, sampling included: Qwen3-30B-A3B with fewer layers and random weights.
package import Checkpoints
package import Foundation
internal import Qwen3
package import RuntimeSupport
package import Tensors

package final class ModelSuite {
    /// Tokens per second that the project wants of two threads of a Zen 4 in bf16, by batch size.
    private static let decodeGoals: [(batch: Int, goal: Double)] = [(1, 30), (8, 69), (16, 120), (32, 180), (64, 240)]
    private static let prefillGoal = 600.0
    private static let promptCount = 32
    private static let prefillCount = 512
    private static let pageSize = 32
    /// Random weights differ in nothing that speed depends on.
    private static let seed: UInt64 = 1

    private let model: Qwen3Model
    private let meter: LimitMeter
    private let pool: ComputePool

    /// Writes a checkpoint of `preset` with `layerCount` layers into a new directory below `parent`, loads it and
    /// removes it again.
    /// - Parameter tokenizer: gives a tiny preset its vocabulary.
    /// - Throws: ``CheckpointError`` (also when the disk is full), ``MemoryError``.
    package init(
        preset: ModelPreset = .qwen3_30B_A3B, layerCount: Int = 4, compute: ComputeType, pool: ComputePool,
        tokenizer: URL? = nil, parent: URL = FileManager.default.temporaryDirectory,
        progress: (String) -> Void = { _ in }
    ) throws {
        let directory = parent.appendingPathComponent("apus-bench-\(ProcessInfo.processInfo.processIdentifier)")
        defer { try? FileManager.default.removeItem(at: directory) }
        let initializer = try CheckpointInitializer(
            preset: preset, layerCount: layerCount, seed: Self.seed,
            storageType: compute == .bf16 ? .bfloat16 : .float32, tokenizerDirectory: tokenizer)
        progress("writing \(preset.rawValue) with \(layerCount) layers to \(directory.path)")
        try initializer.write(to: directory)
        progress("loading it")
        model = try Qwen3Model(try Checkpoint(directory: directory), compute: compute, pool: pool)
        meter = try LimitMeter(pool: pool)
        self.pool = pool
    }

    package func limits() -> MachineLimits { meter.limits() }

    /// Tokens per second of `batches` sequences decoded together, engine and sampler included.
    /// - Throws: ``MemoryError``.
    package func decode(
        batches: [Int]? = nil, steps: Int = 24, _ report: (BenchmarkLine) -> Void
    ) throws {
        for batch in batches ?? Self.decodeGoals.map(\.batch) {
            let run = try Run(model, sequences: batch, tokensEach: Self.promptCount + steps + 4)
            for index in 0..<batch {
                try run.engine.submit(request(index, prompt: Self.promptCount, newTokens: steps + 4))
            }
            // All prompts, and the first steps, which still grow the working memory.
            while run.engine.waitingCount > 0 { _ = try run.engine.step() }
            for _ in 0..<2 { _ = try run.engine.step() }
            let goal = Self.decodeGoals.first { $0.batch == batch }?.goal
            report(
                try measure("decode", "batch \(batch)", repeats: steps, goal: goal) {
                    _ = try run.engine.step()
                    return (run.decoder, tokens: batch)
                })
        }
    }

    /// Tokens per second of prompts read in one pass each.
    /// - Throws: ``MemoryError``.
    package func prefill(tokens: Int = prefillCount, repeats: Int = 5, _ report: (BenchmarkLine) -> Void) throws {
        let run = try Run(model, sequences: 1, tokensEach: tokens + 1)
        var index = 0
        func pass() throws -> (CountingDecoder, tokens: Int) {
            try run.engine.submit(request(index, prompt: tokens, newTokens: 1))
            index += 1
            while !run.engine.isIdle { _ = try run.engine.step() }
            return (run.decoder, tokens)
        }
        _ = try pass()
        report(
            try measure(
                "prefill", "\(tokens) tokens", repeats: repeats,
                goal: tokens == Self.prefillCount ? Self.prefillGoal : nil, pass))
    }

    /// An engine whose cache just fits.
    private struct Run {
        let decoder: CountingDecoder
        let engine: GenerationEngine

        init(_ model: Qwen3Model, sequences: Int, tokensEach: Int) throws {
            let pages = sequences * ((tokensEach + pageSize - 1) / pageSize) + 1
            decoder = CountingDecoder(try CachedDecoder(model, pageCount: pages, pageSize: pageSize))
            engine = GenerationEngine(
                decoder, pageCount: pages, pageSize: pageSize,
                limits: EngineLimits(batchTokensMax: 512, sequencesMax: max(sequences, 1), sharesPrefixes: false))
        }
    }

    private func request(_ index: Int, prompt: Int, newTokens: Int) -> GenerationRequest {
        var state = UInt64(index) &+ 1
        let tokens = (0..<prompt).map { _ -> Int32 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int32((state >> 33) % UInt64(model.configuration.vocabularySize))
        }
        let options = GenerationOptions(
            sampling: .thinking, maxNewTokens: newTokens, stopIDs: [],
            random: RolloutRandom(runSeed: Self.seed, prompt: UInt32(index), sibling: 0))
        return GenerationRequest(id: UInt64(index), tokens: tokens, task: .generate(options))
    }

    /// Repeats `body` between measurements of the limits.
    private func measure(
        _ suite: String, _ name: String, repeats: Int, goal: Double?,
        _ body: () throws -> (CountingDecoder, tokens: Int)
    ) throws -> BenchmarkLine {
        var rates: [Double] = []
        var limits: [Double] = []
        var memoryBound = 0
        for _ in 0..<repeats {
            let bandwidth = meter.readBandwidth()
            let products = meter.products(model.compute)
            var result: (decoder: CountingDecoder, tokens: Int)?
            let time = try seconds { result = try body() }
            guard let (decoder, tokens) = result else { continue }
            let work = decoder.work
            decoder.reset()
            rates.append(Double(tokens) / time)
            limits.append(Double(tokens) / max(work.bytes / bandwidth, work.operations / products))
            if work.bytes / bandwidth >= work.operations / products { memoryBound += 1 }
        }
        return BenchmarkLine(
            suite: suite, name: "\(model.compute.rawValue) \(name)", value: median(rates), unit: "tokens/s",
            limit: median(limits), bound: 2 * memoryBound >= repeats ? "memory" : "products",
            share: median(zip(rates, limits).map { $0 / $1 }), goal: model.compute == .bf16 ? goal : nil,
            goalIsValue: true)
    }
}
