// SPDX-License-Identifier: Apache-2.0

/// A limit on thinking, enforced inside the decode loop (Qwen3 Technical Report section 4.7; Qwen documentation,
/// "thinking budget"): once that many tokens follow `<think>` without `</think>`, the stop-thinking text is fed in.
package struct ThinkingBudget: Hashable, Sendable {
    /// Tokens after `<think>`.
    package var tokenCount: Int
    /// `<think>`.
    package var startID: Int32
    /// `</think>`.
    package var endID: Int32
    /// The stop-thinking text, `</think>` included (24 ids with the Qwen3 tokenizer). Fed, never sampled.
    package var stopIDs: [Int32]

    package init(tokenCount: Int, startID: Int32, endID: Int32, stopIDs: [Int32]) {
        self.tokenCount = tokenCount
        self.startID = startID
        self.endID = endID
        self.stopIDs = stopIDs
    }
}

/// What a sequence is for.
package enum SequenceTask: Sendable {
    /// Sample a continuation.
    case generate(GenerationOptions)
    /// Score given tokens: log-prob of each under the model, and more of the distribution if wanted.
    case score(ScoreOptions)

    /// Whether a reward model is asked.
    var wantsScalar: Bool { if case .score(let options) = self { options.detail == .scalar } else { false } }
}

package struct GenerationOptions: Sendable {
    package var sampling: SamplingParameters
    package var maxNewTokens: Int
    package var stopIDs: [Int32]
    package var random: RolloutRandom
    package var thinkingBudget: ThinkingBudget?
    /// Ids from here on are padding rows of the vocabulary and never drawn; nil: all may be drawn.
    package var usableVocabulary: Int?
    /// Asked after each drawn token with the output so far: whether a stop string is complete. A pure function of
    /// the tokens, so that it ends a sequence at the same place everywhere.
    package var endsWithStopString: (@Sendable (ArraySlice<Int32>) -> Bool)?
    /// Of a trajectory in several turns; nil for a single answer.
    package var turns: TurnLimits?

    package init(
        sampling: SamplingParameters, maxNewTokens: Int, stopIDs: [Int32], random: RolloutRandom,
        thinkingBudget: ThinkingBudget? = nil, usableVocabulary: Int? = nil,
        endsWithStopString: (@Sendable (ArraySlice<Int32>) -> Bool)? = nil, turns: TurnLimits? = nil
    ) {
        self.turns = turns
        self.endsWithStopString = endsWithStopString
        self.sampling = sampling
        self.maxNewTokens = maxNewTokens
        self.stopIDs = stopIDs
        self.random = random
        self.thinkingBudget = thinkingBudget
        self.usableVocabulary = usableVocabulary
    }
}

/// A trajectory stops at the end of each turn, until it is told what the environment answered.
package struct TurnLimits: Equatable, Sendable {
    /// Tokens that one turn may draw.
    package var tokensMax: Int

    package init(tokensMax: Int) { self.tokensMax = tokensMax }
}

package struct ScoreOptions: Sendable {
    /// What is returned for each scored position besides the token's own log-prob.
    package enum Detail: Hashable, Sendable {
        case sampledToken
        /// The k most likely ids with their log-probs and the probability of all others together.
        case topK(Int)
        /// Log-probs of the whole vocabulary.
        case full
        /// A reward model's scalar at the last token, in the place of the one log-prob; no token is scored.
        case scalar
    }

    package var temperature: Float
    package var detail: Detail
    /// Tokens from here on are scored (at least 1: the first token follows nothing).
    package var firstScored: Int

    package init(temperature: Float = 1, detail: Detail = .sampledToken, firstScored: Int = 1) {
        self.temperature = temperature
        self.detail = detail
        self.firstScored = max(1, firstScored)
    }
}

/// One sequence for the engine.
package struct GenerationRequest: Sendable {
    package var id: UInt64
    package var tokens: [Int32]
    package var task: SequenceTask

    package init(id: UInt64, tokens: [Int32], task: SequenceTask) {
        self.id = id
        self.tokens = tokens
        self.task = task
    }
}

/// Why a sequence ended.
package enum FinishReason: String, Sendable, Codable {
    /// A stop id was drawn.
    case stop
    /// `max_new_tokens` was reached.
    case length
    /// The context of the model was full.
    case contextLength = "context_length"
    /// All given tokens were scored.
    case scored
}

/// What came of a sequence. Arrays run along the output (generation) or the scored tokens.
package struct GenerationResult: Sendable {
    package var id: UInt64
    package var promptCount: Int
    package var tokens: [Int32]
    package var logProbs: [Float]
    package var entropies: [Float]
    /// Tokens that were fed by the thinking budget or an environment instead of drawn; masked from every loss.
    package var forced: [Bool]
    package var finishReason: FinishReason
    package var thinkingTokenCount: Int
    /// Where the last turn begins among `tokens`.
    package var turnStart: Int
    /// Per scored position, most likely first; only with ``ScoreOptions/Detail/topK(_:)``.
    package var topIDs: [[Int32]]
    package var topLogProbs: [[Float]]
    /// Probability of everything outside the top k.
    package var tailMass: [Float]
    /// Log-probs `[V]` per scored position; only with ``ScoreOptions/Detail/full``.
    package var fullLogProbs: [[Float]]
    /// Chosen experts of every token that went through the model, `[tokens, layers, k]`; empty for dense models.
    package var routedExperts: [UInt8]

    package var budgetForced: Bool { forced.contains(true) }
}
