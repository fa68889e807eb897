// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

@testable import PostTraining

/// A body of the fixtures under a fresh scalar head.
@Suite("Reward models")
struct RewardModelTests {
    private static let names = ["dense_tied_bf16", "moe_norm_bf16"]

    /// Pairs that share their prompt; the responses differ.
    private static let sequences: [[Int32]] = (0..<6).map { index in
        let prompt = (0..<Int32(20 + index / 2)).map { ($0 * 17 + Int32(index / 2) * 41 + 3) % 300 }
        return prompt + (0..<Int32(3 + index * 2)).map { ($0 * 29 + Int32(index) * 53 + 7) % 300 }
    }

    private static func load(
        _ name: String, _ compute: ComputeType, threads: Int = 2
    ) throws -> Qwen3Model {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/\(name)"), freshHeadSeed: 3)
        return try Qwen3Model(checkpoint, compute: compute, pool: ComputePool(threadCount: threads))
    }

    private static func cell(_ sequences: [[Int32]], shares: Bool) -> TrainingCell {
        TrainingCell(
            index: 0, sequences: sequences, scored: sequences.map { [Int32($0.count)] }, sharesPrompts: shares)
    }

    @Test("a scalar has the same bits in training and service, in any batch, with any threads", arguments: names)
    func oneArithmetic(name: String) throws {
        for compute in ComputeType.allCases {
            var found: [[Float]] = []
            for shares in [false, true] {
                let model = try Self.load(name, compute)
                let pass = CellPass(model, layout: ParameterLayout.trunk(of: model.configuration))
                let cell = Self.cell(Self.sequences, shares: shares)
                if shares { #expect(cell.shared.contains(16)) }
                found.append(try pass.forward(cell, temperature: 0.5).map(\.logProb))
            }
            for (batch, threads) in [(512, 1), (7, 2)] {
                let model = try Self.load(name, compute, threads: threads)
                let engine = GenerationEngine(
                    try CachedDecoder(model, pageCount: 100, pageSize: 4), pageCount: 100, pageSize: 4,
                    limits: EngineLimits(batchTokensMax: batch, sequencesMax: 4))
                for (index, tokens) in Self.sequences.enumerated() {
                    try engine.submit(
                        GenerationRequest(
                            id: UInt64(index), tokens: tokens, task: .score(ScoreOptions(detail: .scalar))))
                }
                var results: [GenerationResult] = []
                while !engine.isIdle { results += try engine.step() }
                results.sort { $0.id < $1.id }
                #expect(results.allSatisfy { $0.logProbs.count == 1 && $0.tokens.isEmpty })
                found.append(results.map { $0.logProbs[0] })
                #expect(throws: RequestError.self) {
                    try engine.submit(GenerationRequest(id: 9, tokens: [1, 2], task: .score(ScoreOptions())))
                }
            }
            #expect(Set(found).count == 1 && Set(found[0]).count == Self.sequences.count, "\(compute): \(found)")
        }
    }

    @Test("the fresh head is its seed's, and a language model gives no scalar")
    func freshHead() throws {
        let url = Fixtures.url("models/dense_tied_bf16")
        let heads = try [3, 3, 4].map { try Checkpoint(directory: url, freshHeadSeed: $0).freshHead! }
        #expect(heads[0] == heads[1] && heads[0] != heads[2] && heads[0].count == 64)
        let deviation = (heads[0].reduce(0) { $0 + $1 * $1 } / 64).squareRoot()
        #expect(deviation > 0.014 && deviation < 0.026, "\(deviation)")
        let model = try Qwen3Model(Checkpoint(directory: url), compute: .bf16, pool: ComputePool(threadCount: 1))
        let engine = GenerationEngine(try CachedDecoder(model, pageCount: 8, pageSize: 4), pageCount: 8, pageSize: 4)
        #expect(throws: RequestError.self) {
            try engine.submit(
                GenerationRequest(id: 0, tokens: [1, 2], task: .score(ScoreOptions(detail: .scalar))))
        }
    }

    /// Moves each kind of weight along its gradient: the loss must rise as the gradient says. Differences of fp32
    /// scalars are good to some parts in a thousand.
    @Test("the gradient of the loss through the model is that of finite differences", arguments: names)
    func finiteDifferences(name: String) throws {
        let model = try Self.load(name, .fp32)
        let layout = ParameterLayout.trunk(of: model.configuration)
        if let local = model.localExperts {
            let gradients = ExpertGradients(
                compute: .fp32, hiddenSize: model.configuration.hiddenSize,
                intermediateSize: model.configuration.moeIntermediateSize, pool: model.pool)
            for (layer, weights) in local.layers {
                for expert in weights.experts.indices { try gradients.own(.init(layer: layer, expert: expert)) }
            }
            local.gradients = gradients
        }
        let pass = CellPass(model, layout: layout)
        let cell = Self.cell(Self.sequences, shares: true)
        let objective = PreferenceObjective(pairCount: 3, centerCoefficient: 0.5)
        func loss() throws -> (value: Double, gradients: [RowGradient]) {
            var statistics = StepStatistics()
            let scores = try pass.forward(cell, temperature: 1)
            let gradients = objective.evaluate(scores.map(\.logProb), &statistics)
            return (statistics[.preferenceLoss], gradients)
        }
        let vector = try PageBuffer(byteCount: layout.count * 4)
        _ = try pass.backward(try loss().gradients, teacher: nil, auxiliary: nil, into: vector.floats())
        let names = TensorName.layer(1)
        var wanted: [TensorName] = [
            .score, .finalNorm, .embedding, names.qProj, names.kProj, names.vProj, names.oProj, names.postAttentionNorm,
        ]
        wanted += model.configuration.isMoELayer(1) ? [names.router] : [names.downProj]
        for tensorName in wanted {
            let entry = layout[tensorName]
            let count = entry.elementCount
            let gradient = Array(UnsafeBufferPointer(start: vector.floats() + entry.offset, count: count))
            let norm = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
            #expect(norm > 1e-5, "\(tensorName)")
            let weights = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
                model.values(of: entry.tensor, into: buffer.baseAddress!)
                initialized = count
            }
            // So that the loss moves by about 1e-4 either way: further, and routers choose other experts.
            let step = 1e-4 / norm
            func moved(_ distance: Double) throws -> Double {
                let values = zip(weights, gradient).map { Float(Double($0) + distance * Double($1) / norm) }
                model.refresh(entry.tensor, rows: 0..<entry.rows, values)
                return try loss().value
            }
            let slope = (try moved(step) - moved(-step)) / (2 * step)
            _ = try moved(0)
            #expect(abs(slope - norm) < 0.02 * norm, "\(tensorName): \(slope), gradient \(norm)")
        }
    }
}
