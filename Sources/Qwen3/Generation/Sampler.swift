// SPDX-License-Identifier: Apache-2.0
internal import CKernels

/// What the model says of one position.
package struct TokenScore: Hashable, Sendable {
    /// log p of the token over all vocabulary rows at the job's temperature, before penalties and filters; natural log.
    package var logProb: Float
    /// Entropy of the same distribution, nats.
    package var entropy: Float

    package init(logProb: Float, entropy: Float) {
        self.logProb = logProb
        self.entropy = entropy
    }

    /// Whether the logits that it comes from are.
    package var isFinite: Bool { logProb.isFinite && entropy.isFinite }
}

/// Draws tokens and scores them.
package enum Sampler {
    /// Draws the next token.
    ///
    /// - Parameters:
    ///   - logits: `[count]`; overwritten.
    ///   - usableCount: ids from here on are padding rows of the vocabulary and never drawn.
    ///   - uniform: a number in [0, 1).
    /// - Returns: nil where logits are not finite.
    package static func sample(
        _ logits: UnsafeMutablePointer<Float>, count: Int, usableCount: Int, parameters: SamplingParameters,
        prompt: ArraySlice<Int32>, output: ArraySlice<Int32>, uniform: Double
    ) -> (token: Int32, score: TokenScore)? {
        let statistics = Statistics(logits, count: count, temperature: parameters.temperature)
        guard statistics.isFinite else { return nil }
        let processor = LogitsProcessor(parameters)
        if parameters.temperature == 0 {
            let raw = Array(UnsafeBufferPointer(start: logits, count: usableCount))
            processor.penalise(logits, count: usableCount, prompt: prompt, output: output)
            var best = 0
            for index in 1..<max(usableCount, 1) where logits[index] > logits[best] { best = index }
            return (Int32(best), statistics.score(raw[best]))
        }
        let needsCopy =
            parameters.repetitionPenalty != 1 || parameters.presencePenalty != 0 || parameters.temperature != 1
        let raw = needsCopy ? Array(UnsafeBufferPointer(start: logits, count: usableCount)) : []
        processor.penalise(logits, count: usableCount, prompt: prompt, output: output)
        let candidates = processor.candidates(logits, count: usableCount)
        let slot = draw(candidates.weights, uniform)
        let id = candidates.ids[slot]
        return (id, statistics.score(needsCopy ? raw[Int(id)] : logits[Int(id)]))
    }

    /// Log-prob and entropy of a given token.
    package static func score(
        _ logits: UnsafePointer<Float>, count: Int, token: Int32, temperature: Float
    ) -> TokenScore {
        Statistics(logits, count: count, temperature: temperature).score(logits[Int(token)])
    }

    /// The first slot whose cumulated weight exceeds uniform × total; rounding can carry the target past the end, then
    /// it is the last kept slot.
    private static func draw(_ weights: [Float], _ uniform: Double) -> Int {
        var total = 0.0
        for weight in weights { total += Double(weight) }
        let target = uniform * total
        var cumulated = 0.0
        var last = 0
        for (slot, weight) in weights.enumerated() where weight > 0 {
            cumulated += Double(weight)
            if cumulated > target { return slot }
            last = slot
        }
        return last
    }
}

/// Log-softmax of one row, without storing it.
package struct Statistics {
    package let inverseTemperature: Float
    package let maximum: Float
    package let logSum: Float
    package let entropy: Float

    /// - Parameter temperature: 0 (greedy) scores at temperature 1.
    package init(_ logits: UnsafePointer<Float>, count: Int, temperature: Float) {
        inverseTemperature = temperature > 0 ? 1 / temperature : 1
        var maximum: Float = 0
        var sum = 0.0
        var weighted = 0.0
        ck_softmax_statistics(logits, Int64(count), inverseTemperature, &maximum, &sum, &weighted)
        var narrow = Float(sum)
        var logarithm: Float = 0
        ck_log(&narrow, 1, &logarithm)
        self.maximum = maximum
        logSum = logarithm
        entropy = Float(Double(logarithm) - weighted / sum)
    }

    /// Whether there is a distribution at all: a logit that is not finite leaves none.
    package var isFinite: Bool { maximum.isFinite && logSum.isFinite && entropy.isFinite }

    /// log p of an id whose logit is `logit`.
    package func logProb(_ logit: Float) -> Float { (logit * inverseTemperature - maximum) - logSum }

    /// Sum of the probabilities behind `logProbs`, added in order.
    package func mass(_ logProbs: [Float]) -> Float {
        var probabilities = [Float](repeating: 0, count: logProbs.count)
        ck_exp(logProbs, Int64(logProbs.count), &probabilities)
        return probabilities.reduce(0, +)
    }

    package func score(_ logit: Float) -> TokenScore { TokenScore(logProb: logProb(logit), entropy: entropy) }
}
