// SPDX-License-Identifier: Apache-2.0

/// One sequence in the engine: its tokens, what is known of them, and its pages.
struct GenerationSequence {
    let request: GenerationRequest
    let promptCount: Int
    /// Prompt, then output.
    var tokens: [Int32]
    /// Tokens whose keys and values are in the cache.
    var computedCount = 0
    var pages: [Int32] = []
    var scores: [Int: TokenScore] = [:]
    var forcedPositions: Set<Int> = []
    var details: [Int: ScoreDetail] = [:]
    var thinking: ThinkingState
    var finish: FinishReason?
    /// Where the turn under way begins among `tokens`.
    var turnStart: Int

    init(_ request: GenerationRequest) {
        self.request = request
        tokens = request.tokens
        turnStart = request.tokens.count
        switch request.task {
        case .generate(let options):
            promptCount = request.tokens.count
            thinking = ThinkingState(
                prompt: request.tokens, budget: options.thinkingBudget, endsOfTurns: options.stopIDs)
        case .score(let options):
            promptCount =
                options.detail == .scalar ? request.tokens.count : min(options.firstScored, request.tokens.count)
            thinking = ThinkingState(prompt: [], budget: nil, endsOfTurns: [])
        }
    }

    /// Whether the row of `position` has something to tell: its next token is unknown, or known but not yet scored.
    func wantsLogits(at position: Int) -> Bool {
        let next = position + 1
        if next >= tokens.count {
            switch request.task {
            case .generate: return true
            case .score(let options): return options.detail == .scalar
            }
        }
        return next >= promptCount && scores[next] == nil
    }
}

extension GenerationSequence {
    /// The trajectory goes on after what the environment answered.
    mutating func resume(_ observation: [Int32]) {
        finish = nil
        for id in observation {
            forcedPositions.insert(tokens.count)
            tokens.append(id)
        }
        thinking.read(observation)
        turnStart = tokens.count
    }
}

/// More of the distribution at one scored position.
struct ScoreDetail {
    var topIDs: [Int32] = []
    var topLogProbs: [Float] = []
    var tailMass: Float = 0
    var full: [Float] = []
}

/// Counts the tokens of an open think block.
struct ThinkingState {
    private let budget: ThinkingBudget?
    private let endsOfTurns: [Int32]
    private(set) var isOpen = false
    /// Tokens after `<think>` so far, `</think>` not counted.
    private(set) var tokenCount = 0

    init(prompt: [Int32], budget: ThinkingBudget?, endsOfTurns: [Int32]) {
        self.budget = budget
        self.endsOfTurns = endsOfTurns
        guard budget != nil else { return }
        read(prompt)
        // A block that the prompt opened and closed is not the answer's thinking.
        if !isOpen { tokenCount = 0 }
    }

    /// Takes in a text that the model did not write. What stands in a turn that ended there, such as a user's `<think>`,
    /// opens no block of the answer.
    mutating func read(_ tokens: [Int32]) {
        for token in tokens {
            if endsOfTurns.contains(token) { isOpen = false } else { note(token) }
        }
    }

    mutating func note(_ token: Int32) {
        guard let budget else { return }
        if token == budget.startID {
            isOpen = true
            tokenCount = 0
        } else if token == budget.endID {
            isOpen = false
        } else if isOpen {
            tokenCount += 1
        }
    }

    /// The ids to feed now, if the budget is used up.
    var idsToForce: [Int32]? {
        guard let budget, isOpen, tokenCount >= budget.tokenCount else { return nil }
        return budget.stopIDs
    }
}
