// SPDX-License-Identifier: Apache-2.0

/// Named sets of sampling values.
package enum SamplingPreset: String, CaseIterable, Sendable {
    /// The model card's values for thinking mode.
    case thinking
    /// The model card's values for non-thinking mode.
    case nonThinking = "non_thinking"
}

/// `sampling:` how tokens are drawn. Without a preset the distribution is the model's own (temperature 1, no
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

    private static let keys = [
        "preset", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
        "max_new_tokens", "stop",
    ]

    /// Reads the section; nil is an absent one.
    package init(_ reader: YAMLReader?) throws(JobError) {
        let reader = reader ?? YAMLReader(YAMLNode(.mapping([]), .line(1)), path: "sampling")
        let fields = try reader.fields(Self.keys)
        preset = try fields["preset"]?.choice(SamplingPreset.self)
        let (temperature, topP, topK): (Double, Double, Int) =
            switch preset {
            case .thinking: (0.6, 0.95, 20)
            case .nonThinking: (0.7, 0.8, 20)
            case nil: (1, 1, 0)
            }
        self.temperature = try fields.number("temperature", .closed(0, 100), default: temperature)
        self.topP = try fields.number("top_p", .above(0, upTo: 1), default: topP)
        self.topK = try fields.integer("top_k", 0...1_000_000, default: topK)
        minP = try fields.number("min_p", .closed(0, 1), default: 0)
        repetitionPenalty = try fields.number("repetition_penalty", .above(0, upTo: 100), default: 1)
        presencePenalty = try fields.number("presence_penalty", .closed(-2, 2), default: 0)
        maxNewTokens = try fields.integer("max_new_tokens", 1...1_048_576, default: 256)
        var stop: [String] = []
        for item in try fields["stop"]?.items(16) ?? [] { stop.append(try item.string(byteCountMax: 256)) }
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
