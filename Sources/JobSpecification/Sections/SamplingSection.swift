// SPDX-License-Identifier: Apache-2.0

/// Named sets of sampling values.
package enum SamplingPreset: String, CaseIterable, Sendable {
    /// The model card's values for thinking mode.
    case thinking
    /// The model card's values for non-thinking mode.
    case nonThinking = "non_thinking"
    /// What the checkpoint's generation_config.json says.
    case checkpoint
}

extension SamplingPreset {
    /// nil: those of the checkpoint, see ``CheckpointDefaults``.
    fileprivate var values: (temperature: Double, topP: Double, topK: Int)? {
        switch self {
        case .thinking: (0.6, 0.95, 20)
        case .nonThinking: (0.7, 0.8, 20)
        case .checkpoint: nil
        }
    }
}

/// `sampling:` how tokens are drawn. In training without a preset the distribution is the model's own (temperature 1, no
/// filter), as TRL does: filters make the sampled policy another one than the trained policy.
package struct SamplingSection: Equatable, Sendable {
    /// The preset that supplied the values which are not written; they are all resolved below.
    package let preset: SamplingPreset?
    /// 0 is greedy.
    package let temperature: Double
    package let topP: Double
    /// 0 is off.
    package let topK: Int
    package let minP: Double
    package let repetitionPenalty: Double
    package let presencePenalty: Double
    /// Tokens of one response at most, thinking included.
    package let maxNewTokens: Int
    /// Strings that end a response, besides the end-of-turn token.
    package let stop: [String]

    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.sampling)
        preset = try fields["preset"]?.choice(SamplingPreset.self)
        let values = preset?.values
        temperature = try fields.number("temperature", default: values?.temperature)
        topP = try fields.number("top_p", default: values?.topP)
        topK = try fields.integer("top_k", default: values?.topK)
        minP = try fields.number("min_p")
        repetitionPenalty = try fields.number("repetition_penalty")
        presencePenalty = try fields.number("presence_penalty")
        maxNewTokens = try fields.integer("max_new_tokens")
        var stop: [String] = []
        for item in try fields["stop"]?.items() ?? [] { stop.append(try item.string()) }
        self.stop = stop
    }

    /// The first setting that draws from another distribution than softmax(logits / temperature); nil: none.
    package var filter: String? {
        if topK > 0 { return "top_k" }
        if topP < 1 { return "top_p" }
        if minP > 0 { return "min_p" }
        if repetitionPenalty != 1 { return "repetition_penalty" }
        return presencePenalty != 0 ? "presence_penalty" : nil
    }

    package var resolved: ResolvedValue {
        .section([
            "preset": preset.map { .string($0.rawValue) }, "temperature": .number(temperature),
            "top_p": .number(topP), "top_k": .integer(topK), "min_p": .number(minP),
            "repetition_penalty": .number(repetitionPenalty), "presence_penalty": .number(presencePenalty),
            "max_new_tokens": .integer(maxNewTokens), "stop": .list(stop.map { .string($0) }),
        ])
    }
}
