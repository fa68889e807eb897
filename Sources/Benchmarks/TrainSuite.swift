// SPDX-License-Identifier: Apache-2.0
//
// A training step's parts on the two models of Scripts/bench-trl: forward with scores, backward, AdamW. Cells run as a
// training job runs them, one per thread over the same weights.
internal import Checkpoints
internal import Foundation
internal import Qwen3
package import RuntimeSupport
package import Tensors

package final class TrainSuite {
    package enum Shape: String, CaseIterable, Sendable {
        /// 9 M weights: hidden 256, 4 layers, 16 experts of which 4 serve a token.
        case moe
        /// 29 M weights: hidden 512, 8 layers.
        case dense
    }

    private static let sequenceCount = 4
    private static let tokensEach = 256

    private let shape: Shape
    private let model: Qwen3Model
    private let layout: ParameterLayout
    private let lanes: [CellPass]
    private let gradients: [ExpertGradients]
    private let meter: LimitMeter
    private let activeCount: Double

    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package init(_ shape: Shape, compute: ComputeType, pool: ComputePool) throws {
        self.shape = shape
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-bench-train-\(ProcessInfo.processInfo.processIdentifier)")
        defer { try? FileManager.default.removeItem(at: directory) }
        try CheckpointInitializer(configuration: Self.configuration(shape), seed: 1).write(to: directory)
        let checkpoint = try Checkpoint(directory: directory)
        let model = try Qwen3Model(checkpoint, compute: compute, pool: pool)
        self.model = model
        layout = ParameterLayout.trunk(of: model.configuration)
        // Looking a row up in the embedding takes no product.
        let embedding =
            model.configuration.tieWordEmbeddings
            ? 0 : model.configuration.vocabularySize * model.configuration.hiddenSize
        activeCount = Double(model.configuration.parameterCounts.active - embedding)
        var (lanes, gradients) = ([CellPass](), [ExpertGradients]())
        for _ in 0..<pool.threadCount {
            let inline = ComputePool(threadCount: 1)
            var experts: LocalExpertExchange?
            if let local = model.localExperts {
                let sink = ExpertGradients(
                    compute: compute, hiddenSize: model.configuration.hiddenSize,
                    intermediateSize: model.configuration.moeIntermediateSize, pool: inline)
                for (layer, weights) in local.layers {
                    for expert in weights.experts.indices { try sink.own(.init(layer: layer, expert: expert)) }
                }
                let exchange = LocalExpertExchange(
                    layers: local.layers, compute: compute, hiddenSize: model.configuration.hiddenSize,
                    intermediateSize: model.configuration.moeIntermediateSize, pool: inline)
                exchange.gradients = sink
                gradients.append(sink)
                experts = exchange
            }
            lanes.append(CellPass(model.lane(experts: experts, pool: inline), layout: layout))
        }
        self.lanes = lanes
        self.gradients = gradients
        meter = try LimitMeter(pool: pool)
    }

    package func limits() -> MachineLimits { meter.limits() }

    private static func configuration(_ shape: Shape) -> Qwen3Configuration {
        switch shape {
        case .moe:
            Qwen3Configuration(
                hiddenSize: 256, layerCount: 4, attentionHeadCount: 8, keyValueHeadCount: 4, headSize: 32,
                intermediateSize: 512, experts: .init(expertCount: 16, expertsPerToken: 4, intermediateSize: 128),
                vocabularySize: 4096, maxPositionEmbeddings: 1024)
        case .dense:
            Qwen3Configuration(
                hiddenSize: 512, layerCount: 8, attentionHeadCount: 8, keyValueHeadCount: 4, headSize: 64,
                intermediateSize: 1536, vocabularySize: 4096, maxPositionEmbeddings: 1024, tieWordEmbeddings: true)
        }
    }

    /// - Throws: ``MemoryError``.
    package func run(repeats: Int = 7, _ report: (BenchmarkLine) -> Void) throws {
        let cells = lanes.indices.map { lane in
            let sequences = (0..<Self.sequenceCount).map { sequence in
                (0..<Self.tokensEach).map { Int32(($0 * 37 + sequence * 11 + lane * 5) % 4096) }
            }
            return TrainingCell(
                index: lane, sequences: sequences, scored: sequences.map { (1..<Int32($0.count)).map { $0 } })
        }
        let vectors = try lanes.map { _ in try PageBuffer(byteCount: layout.count * 4) }
        let tokens = Double(cells.reduce(0) { $0 + $1.tokenCount })
        let wanted = cells.map { cell in
            [RowGradient](repeating: RowGradient(logProb: -0.001), count: cell.scored.reduce(0) { $0 + $1.count })
        }
        var rates: [String: [(rate: Double, share: Double, limit: Double)]] = [:]
        for round in 0...repeats {
            let products = meter.products(model.compute)
            let forward = try onLanes { try $1.forward(cells[$0], temperature: 1) }
            let backward = try onLanes { lane, pass in
                try pass.backward(wanted[lane], teacher: nil, auxiliary: nil, into: vectors[lane].floats())
            }
            let (model, gradients) = (model, gradients)
            let fold = try onLanes { lane, _ in
                guard lane < gradients.count else { return }
                for layer in 0..<model.configuration.layerCount {
                    try gradients[lane].fold(layer: layer, cellsBelow: .max)
                }
                gradients[lane].reset()
            }
            if round == 0 { continue }  // working memory grows
            for (name, time, operations) in [("forward", forward, 2.0), ("backward", backward + fold, 4.0)] {
                let limit = products / (operations * activeCount)
                rates[name, default: []].append((tokens / time, tokens / time / limit, limit))
            }
        }
        for name in ["forward", "backward"] {
            let list = rates[name] ?? []
            report(
                BenchmarkLine(
                    suite: "train", name: "\(model.compute.rawValue) \(shape.rawValue) \(name)",
                    value: median(list.map(\.rate)), unit: "tokens/s", limit: median(list.map(\.limit)),
                    bound: "products", share: median(list.map(\.share))))
        }
        report(try optimizer(repeats))
    }

    /// AdamW over the trunk: three vectors read and written, the gradient read.
    private func optimizer(_ repeats: Int) throws -> BenchmarkLine {
        // Larger than any cache, as a real model's state is.
        let count = 32 << 20
        let state = try OptimizerState(count: count)
        let gradient = try PageBuffer(byteCount: count * 4)
        // Untouched pages would all be one page of zeros.
        gradient.floats().update(repeating: 1e-3, count: count)
        state.master.update(repeating: 1, count: count)
        let step = AdamWStep(number: 1, learningRate: 1e-3, gradientScale: 1, settings: AdamWSettings())
        var rates: [(rate: Double, limit: Double)] = []
        for _ in 0...repeats {
            let bandwidth = meter.readBandwidth()
            let time = seconds {
                model.pool.parallel(count / 65_536) { block in
                    let first = block * 65_536
                    state.apply(
                        step, first..<first + 65_536, decays: true, gradient: UnsafePointer(gradient.floats()) + first)
                }
            }
            rates.append((Double(count) / time / 1e6, bandwidth / 28 / 1e6))
        }
        let kept = rates.dropFirst()
        return BenchmarkLine(
            suite: "train", name: "AdamW", value: median(kept.map(\.rate)), unit: "M/s",
            limit: median(kept.map(\.limit)),
            bound: "memory", share: median(kept.map { $0.rate / $0.limit }))
    }

    /// Seconds that all lanes together took.
    private func onLanes(_ body: @escaping (Int, CellPass) throws -> some Any) throws -> Double {
        let failure = Locked<(any Error)?>(nil)
        // @unchecked: each lane is used by one thread, and all threads are joined before this returns.
        nonisolated(unsafe) let (lanes, body) = (lanes, body)
        let time = seconds {
            let threads = lanes.indices.map { lane in
                DedicatedThread.start(name: "lane-\(lane)") {
                    do { _ = try body(lane, lanes[lane]) } catch { failure.withLock { $0 = error } }
                }
            }
            for thread in threads { thread.join() }
        }
        if let error = failure.withLock({ $0 }) { throw error }
        return time
    }
}
