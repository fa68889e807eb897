// SPDX-License-Identifier: Apache-2.0
//
// Penalties and filters in the order of transformers (repetition penalty, temperature, top-k, top-p, min-p), with the
// presence penalty as vLLM applies it (output only, before temperature). Every rule is a threshold on sorted
// (logit descending, id ascending) candidates, so the kept set never depends on a sort's treatment of ties.
internal import CKernels

/// The ids that may follow and their unnormalised probabilities.
package struct Candidates {
    /// Ascending.
    package var ids: [Int32]
    /// exp(logit − largest logit), one per id.
    package var weights: [Float]
}

/// Turns one row of logits into candidates.
package struct LogitsProcessor: Sendable {
    private let parameters: SamplingParameters

    package init(_ parameters: SamplingParameters) { self.parameters = parameters }

    /// Penalties and temperature, in place.
    ///
    /// - Parameters:
    ///   - logits: `[count]`.
    ///   - prompt: ids of the prompt.
    ///   - output: ids generated so far.
    package func penalise(
        _ logits: UnsafeMutablePointer<Float>, count: Int, prompt: ArraySlice<Int32>, output: ArraySlice<Int32>
    ) {
        let repetition = parameters.repetitionPenalty
        if repetition != 1 {
            for id in Set(prompt).union(output) where Int(id) < count {
                let logit = logits[Int(id)]
                logits[Int(id)] = logit < 0 ? logit * repetition : logit / repetition
            }
        }
        if parameters.presencePenalty != 0 {
            for id in Set(output) where Int(id) < count { logits[Int(id)] -= parameters.presencePenalty }
        }
        let temperature = parameters.temperature
        if temperature != 1 && temperature > 0 {
            for index in 0..<count { logits[index] /= temperature }
        }
    }

    /// The filters, on penalised logits.
    package func candidates(_ logits: UnsafePointer<Float>, count: Int) -> Candidates {
        var ids: [Int32]
        if parameters.topK > 0 && parameters.topK < count {
            let threshold = Self.largest(parameters.topK, logits, count)
            ids = (0..<Int32(count)).filter { logits[Int($0)] >= threshold }
        } else {
            ids = Array(0..<Int32(count))
        }
        var weights = Self.weights(ids, logits)
        if parameters.topP < 1 { (ids, weights) = nucleus(ids, weights, logits) }
        if parameters.minP > 0 {
            let kept = ids.indices.filter { weights[$0] >= parameters.minP }
            (ids, weights) = (kept.map { ids[$0] }, kept.map { weights[$0] })
        }
        return Candidates(ids: ids, weights: weights)
    }

    /// The k-th largest value, through a heap of the k largest seen.
    private static func largest(_ k: Int, _ logits: UnsafePointer<Float>, _ count: Int) -> Float {
        var heap = (0..<k).map { logits[$0] }.sorted()  // a sorted array is a min-heap
        for index in k..<count where logits[index] > heap[0] {
            let value = logits[index]
            var hole = 0
            while true {
                var child = 2 * hole + 1
                if child >= k { break }
                if child + 1 < k, heap[child + 1] < heap[child] { child += 1 }
                if heap[child] >= value { break }
                heap[hole] = heap[child]
                hole = child
            }
            heap[hole] = value
        }
        return heap[0]
    }

    private static func weights(_ ids: [Int32], _ logits: UnsafePointer<Float>) -> [Float] {
        var largest = -Float.infinity
        for id in ids where logits[Int(id)] > largest { largest = logits[Int(id)] }
        return [Float](unsafeUninitializedCapacity: ids.count) { buffer, initialized in
            for (slot, id) in ids.enumerated() { buffer[slot] = logits[Int(id)] - largest }
            ck_exp(buffer.baseAddress, Int64(ids.count), buffer.baseAddress)
            initialized = ids.count
        }
    }

    /// Keeps an id while the probability of those before it (more likely, or as likely with a lower id) is below
    /// top-p: transformers' "ascending cumulative sum <= 1 - p is dropped", read from the other end.
    private func nucleus(
        _ ids: [Int32], _ weights: [Float], _ logits: UnsafePointer<Float>
    ) -> ([Int32], [Float]) {
        let total = weights.reduce(0.0) { $0 + Double($1) }
        // Sort only those likely enough to matter: lowering the floor until they hold the nucleus.
        var floor: Float = 1e-3
        var slots: [Int] = []
        while true {
            slots = weights.indices.filter { weights[$0] >= floor }
            let mass = slots.reduce(0.0) { $0 + Double(weights[$1]) }
            if mass >= Double(parameters.topP) * total || slots.count == ids.count || floor == 0 { break }
            floor = floor < 1e-30 ? 0 : floor * 1e-4
        }
        slots.sort { (logits[Int(ids[$0])], ids[$1]) > (logits[Int(ids[$1])], ids[$0]) }
        var before = 0.0
        var kept = 0
        while kept < slots.count, kept == 0 || before < Double(parameters.topP) * total {
            before += Double(weights[slots[kept]])
            kept += 1
        }
        let chosen = slots[..<kept].sorted()
        return (chosen.map { ids[$0] }, chosen.map { weights[$0] })
    }
}
