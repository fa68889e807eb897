internal import CKernels
// SPDX-License-Identifier: Apache-2.0
package import Checkpoints
internal import Foundation
package import Qwen3
package import RuntimeSupport
package import Tensors

/// Everything that one forward pass shows, `[tokens, …]` each.
package struct ForwardTrace {
    package var logits: [Float] = []
    package var entropies: [Float] = []
    package var nextLogProbs: [Float] = []
    package var stages: [ForwardStage: [Float]] = [:]
    package var experts: [Int: [UInt16]] = [:]
    package var routerWeights: [Int: [Float]] = [:]
}

/// A model with all its experts in this process, for checks.
package final class LoadedModel {
    package let model: Qwen3Model
    private let pageSize = 16

    package init(
        _ checkpoint: Checkpoint, _ configuration: Qwen3Configuration, _ compute: ComputeType, _ pool: ComputePool
    ) throws {
        model = try Qwen3Model(checkpoint, configuration: configuration, compute: compute, pool: pool)
    }

    private func pages(for count: Int) -> [Int32] { (0..<Int32((count + pageSize - 1) / pageSize)).map { $0 } }

    /// One prefill of `tokens` with every stage recorded.
    package func trace(tokens: [Int32], rotaryOffset: Int = 0) throws -> ForwardTrace {
        let configuration = model.configuration
        let pages = pages(for: tokens.count)
        let cache = try model.makeCache(pageCount: pages.count, pageSize: pageSize)
        var trace = ForwardTrace()
        model.observer = { stage, values, rows, width in
            trace.stages[stage] = Array(UnsafeBufferPointer(start: values, count: rows * width))
        }
        defer { model.observer = nil }
        let vocabulary = configuration.vocabularySize
        trace.logits = [Float](repeating: 0, count: tokens.count * vocabulary)
        let span = ForwardSpan(tokens: tokens, start: 0, pages: pages, logits: .all, rotaryOffset: rotaryOffset)
        let sink = Locked<[Int: [Float]]>([:])
        try model.forward([span], cache: cache, onRouting: { trace.experts[$0] = $1 }) { row, logits in
            let copy = Array(UnsafeBufferPointer(start: logits, count: vocabulary))
            sink.withLock { $0[row] = copy }
        }
        for (row, logits) in sink.withLock({ $0 }) {
            trace.logits.replaceSubrange(row * vocabulary..<(row + 1) * vocabulary, with: logits)
        }
        for row in tokens.indices {
            trace.logits.withUnsafeBufferPointer { all in
                var maximum: Float = 0
                var sum = 0.0
                var weighted = 0.0
                let logits = all.baseAddress! + row * vocabulary
                ck_softmax_statistics(logits, Int64(vocabulary), 1, &maximum, &sum, &weighted)
                trace.entropies.append(Float(log(sum) - weighted / sum))
                if row + 1 < tokens.count {
                    trace.nextLogProbs.append(
                        Float(Double(logits[Int(tokens[row + 1])]) - Double(maximum) - log(sum)))
                }
            }
        }
        recordRouterWeights(&trace, configuration)
        return trace
    }

    private func recordRouterWeights(_ trace: inout ForwardTrace, _ configuration: Qwen3Configuration) {
        for (layer, chosen) in trace.experts {
            let experts = configuration.expertCount
            let k = configuration.expertsPerToken
            guard var logits = trace.stages[.routerLogits(layer: layer)] else { continue }
            let rows = logits.count / experts
            let assignment = logits.withUnsafeMutableBufferPointer {
                MoERouter.route(
                    logits: $0.baseAddress!, rowCount: rows, expertCount: experts, expertsPerToken: k,
                    normalize: configuration.normTopKProb
                ).assignment
            }
            // The assignment is ascending by expert; the reference lists falling probability.
            trace.routerWeights[layer] = (0..<rows).flatMap { row in
                (0..<k).map { slot in
                    let entry = assignment.entries(of: row).first {
                        assignment.experts[$0] == Int32(chosen[row * k + slot])
                    }!
                    return assignment.weights[entry]
                }
            }
        }
    }

    /// Greedy decoding through the cache; also the logits `[count, V]` that each token was chosen from.
    package func greedy(prompt: [Int32], count: Int) throws -> (tokens: [Int32], logits: [Float]) {
        let pages = pages(for: prompt.count + count)
        let cache = try model.makeCache(pageCount: pages.count, pageSize: pageSize)
        let vocabulary = model.configuration.vocabularySize
        var tokens: [Int32] = []
        var all: [Float] = []
        var pending = prompt
        var start = 0
        while tokens.count < count {
            let span = ForwardSpan(tokens: pending, start: start, pages: pages, logits: .last)
            let sink = Locked<[Float]>([])
            try model.forward([span], cache: cache) { _, logits in
                let copy = Array(UnsafeBufferPointer(start: logits, count: vocabulary))
                sink.withLock { $0 = copy }
            }
            let logits = sink.withLock { $0 }
            let best = logits.indices.max { logits[$0] < logits[$1] || (logits[$0] == logits[$1] && $0 > $1) }!
            start += pending.count
            pending = [Int32(best)]
            tokens.append(Int32(best))
            all += logits
        }
        return (tokens, all)
    }
}
