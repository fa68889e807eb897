// SPDX-License-Identifier: Apache-2.0

/// How the next token is chosen, in the order of the filters.
package struct SamplingParameters: Hashable, Sendable {
    /// Above 1, logits of ids in prompt and output are divided (positive) or multiplied (negative) by it. 1 is off.
    package var repetitionPenalty: Float = 1
    /// Subtracted from the logits of ids in the output, before temperature. 0 is off.
    package var presencePenalty: Float = 0
    /// 0 is greedy.
    package var temperature: Float = 1
    /// Keeps the k largest and all ties with the k-th. 0 is off.
    package var topK = 0
    /// Keeps the smallest set of most likely ids whose probability reaches it. 1 is off.
    package var topP: Float = 1
    /// Drops ids less likely than this share of the most likely one. 0 is off.
    package var minP: Float = 0

    package init(
        repetitionPenalty: Float = 1, presencePenalty: Float = 0, temperature: Float = 1, topK: Int = 0,
        topP: Float = 1, minP: Float = 0
    ) {
        self.repetitionPenalty = repetitionPenalty
        self.presencePenalty = presencePenalty
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
    }

    /// Qwen3's recommendation for thinking mode (Qwen3 Technical Report section 4.6).
    package static let thinking = SamplingParameters(temperature: 0.6, topK: 20, topP: 0.95)
    /// Qwen3's recommendation for non-thinking mode.
    package static let nonThinking = SamplingParameters(presencePenalty: 1.5, temperature: 0.7, topK: 20, topP: 0.8)
    /// Always the most likely id, ties to the lowest.
    package static let greedy = SamplingParameters(temperature: 0)

    /// One line about the first value out of range, or nil.
    package var problem: String? {
        func check(_ name: String, _ value: Float, _ valid: Bool, _ range: String) -> String? {
            valid ? nil : "\(name) is \(value); it must be \(range)"
        }
        return check(
            "repetition_penalty", repetitionPenalty, repetitionPenalty > 0 && repetitionPenalty.isFinite, "above 0")
            ?? check("presence_penalty", presencePenalty, presencePenalty.isFinite, "finite")
            ?? check("temperature", temperature, temperature >= 0 && temperature.isFinite, "0 or above")
            ?? check("top_k", Float(topK), topK >= 0, "0 (off) or above")
            ?? check("top_p", topP, topP > 0 && topP <= 1, "in (0, 1]")
            ?? check("min_p", minP, minP >= 0 && minP <= 1, "in [0, 1]")
    }
}
