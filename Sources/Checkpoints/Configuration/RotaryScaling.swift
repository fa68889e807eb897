// SPDX-License-Identifier: Apache-2.0

/// How rotary embeddings are stretched beyond the context of pre-training.
package enum RotaryScaling: Hashable, Sendable {
    case yarn(YaRNScaling)
    case llama3(Llama3Scaling)

    /// Context length of pre-training, in tokens.
    package var originalMaxPositionEmbeddings: Int {
        switch self {
        case .yarn(let yarn): yarn.originalMaxPositionEmbeddings
        case .llama3(let llama3): llama3.originalMaxPositionEmbeddings
        }
    }
}

/// The way of Llama 3.1: long waves are stretched, short ones are not, and those between are blended.
///
/// Source: `_compute_llama3_parameters` of transformers 5.x.
package struct Llama3Scaling: Hashable, Sendable {
    package var factor: Double
    /// Waves longer than the original context divided by this are stretched by `factor`.
    package var lowFrequencyFactor: Double
    /// Waves shorter than the original context divided by this stay.
    package var highFrequencyFactor: Double
    package var originalMaxPositionEmbeddings: Int

    package init(
        factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalMaxPositionEmbeddings: Int
    ) {
        self.factor = factor
        self.lowFrequencyFactor = lowFrequencyFactor
        self.highFrequencyFactor = highFrequencyFactor
        self.originalMaxPositionEmbeddings = originalMaxPositionEmbeddings
    }
}

/// YaRN, the way that Qwen documents.
///
/// Source: Peng et al. 2023 and `_compute_yarn_parameters` of transformers 5.x.
package struct YaRNScaling: Hashable, Sendable {
    /// Ratio of the new context to the old one, as it stands in the file (never recomputed).
    package var factor: Double
    /// Context length of pre-training, in tokens.
    package var originalMaxPositionEmbeddings: Int
    package var betaFast: Double
    package var betaSlow: Double
    /// Multiplies cos and sin; nil: derived from `factor`, `mscale` and `mscaleAllDim`.
    package var attentionFactor: Double?
    package var mscale: Double?
    package var mscaleAllDim: Double?
    /// Whether the ends of the ramp are rounded to whole dimensions.
    package var truncate: Bool

    package init(
        factor: Double, originalMaxPositionEmbeddings: Int, betaFast: Double = 32, betaSlow: Double = 1,
        attentionFactor: Double? = nil, mscale: Double? = nil, mscaleAllDim: Double? = nil,
        truncate: Bool = true
    ) {
        self.factor = factor
        self.originalMaxPositionEmbeddings = originalMaxPositionEmbeddings
        self.betaFast = betaFast
        self.betaSlow = betaSlow
        self.attentionFactor = attentionFactor
        self.mscale = mscale
        self.mscaleAllDim = mscaleAllDim
        self.truncate = truncate
    }
}

extension Qwen3Configuration {
    /// This configuration with YaRN by `factor`, as the model card's serving instructions have it: the context is
    /// `factor` times the original one.
    ///
    /// - Parameter original: context of training in tokens; nil: 32,768 of the released models (whose
    ///   `max_position_embeddings` of 40,960 keeps room for a prompt beside it), otherwise `max_position_embeddings`.
    package func extended(yarnFactor factor: Double, original: Int? = nil) -> Qwen3Configuration {
        let original =
            original ?? ropeScaling?.originalMaxPositionEmbeddings
            ?? (maxPositionEmbeddings == 40_960 ? 32_768 : maxPositionEmbeddings)
        var copy = self
        copy.ropeScaling = .yarn(YaRNScaling(factor: factor, originalMaxPositionEmbeddings: original))
        copy.maxPositionEmbeddings = max(maxPositionEmbeddings, Int((Double(original) * factor).rounded()))
        return copy
    }
}
