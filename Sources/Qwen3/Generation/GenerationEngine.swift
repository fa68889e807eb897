// SPDX-License-Identifier: Apache-2.0
//
// Continuous batching: every step takes the pending tokens of running sequences (one in decode, a chunk in prefill),
// admits waiting ones while tokens and pages last, runs one forward pass and samples. When no page is left the
// youngest sequence gives its pages back and is recomputed later. None of this can change a number: rows are computed
// alone, draws depend on (rollout, position), and what was drawn is kept when a sequence is recomputed.
internal import RuntimeSupport

/// Limits of an engine.
package struct EngineLimits: Sendable {
    /// Tokens of one forward pass.
    package var batchTokensMax: Int
    /// Sequences that run at once.
    package var sequencesMax: Int
    /// Whether prompts with a common prefix share its pages.
    package var sharesPrefixes: Bool

    package init(batchTokensMax: Int = 512, sequencesMax: Int = 64, sharesPrefixes: Bool = true) {
        precondition(batchTokensMax > 0 && sequencesMax > 0)
        self.batchTokensMax = batchTokensMax
        self.sequencesMax = sequencesMax
        self.sharesPrefixes = sharesPrefixes
    }
}

/// Why a request cannot be served, before anything is allocated for it.
package struct RequestError: Error, CustomStringConvertible {
    package let description: String
}

/// Generates and scores sequences with one model. One thread drives it.
package final class GenerationEngine {
    private let model: any DecoderModel
    private let limits: EngineLimits
    private var blocks: BlockManager
    private var waiting: [GenerationSequence] = []
    private var running: [GenerationSequence] = []
    /// Trajectories at the end of a turn, by request; they hold no pages.
    private var paused: [UInt64: GenerationSequence] = [:]
    /// Routing of what each page holds, `[page, offset, bytes]`: shared with the page.
    private var routing: [UInt8]
    private let pageSize: Int

    /// Tokens sent through the model so far, recomputed ones included.
    package private(set) var processedTokenCount = 0
    /// Tokens drawn so far.
    package private(set) var sampledTokenCount = 0
    package private(set) var preemptionCount = 0

    /// - Parameters:
    ///   - pageCount: pages of the model's cache, each of `pageSize` tokens.
    package init(_ model: any DecoderModel, pageCount: Int, pageSize: Int, limits: EngineLimits = EngineLimits()) {
        self.model = model
        self.limits = limits
        self.pageSize = pageSize
        blocks = BlockManager(pageCount: pageCount, pageSize: pageSize)
        routing = [UInt8](repeating: 0, count: pageCount * pageSize * model.routingByteCount)
    }

    package var isIdle: Bool { waiting.isEmpty && running.isEmpty }
    package var runningCount: Int { running.count }
    package var waitingCount: Int { waiting.count }

    /// Queues a request.
    /// - Throws: ``RequestError`` when it can never run.
    package func submit(_ request: GenerationRequest) throws {
        let count = request.tokens.count
        guard count > 0 else { throw RequestError(description: "sequence \(request.id) is empty") }
        if let id = request.tokens.first(where: { !(0..<model.vocabularySize).contains(Int($0)) }) {
            throw RequestError(
                description: "sequence \(request.id): token id \(id) is not below the vocabulary size "
                    + "\(model.vocabularySize); was it made with another tokenizer?")
        }
        guard count <= model.contextLength else {
            throw RequestError(
                description: "sequence \(request.id): the prompt has \(count) tokens, the context "
                    + "\(model.contextLength); shorten it or use YaRN")
        }
        guard request.task.wantsScalar == model.isRewardModel else {
            throw RequestError(
                description: model.isRewardModel
                    ? "sequence \(request.id): a reward model gives one scalar; it neither generates nor scores tokens"
                    : "sequence \(request.id): a language model has no scalar; it takes a reward model")
        }
        var most = count
        if case .generate(let options) = request.task {
            if let problem = options.sampling.problem { throw RequestError(description: problem) }
            guard options.maxNewTokens > 0 else { throw RequestError(description: "max_new_tokens must be above 0") }
            most = min(count + options.maxNewTokens, model.contextLength)
        }
        guard blocks.pagesNeeded(for: most) <= blocks.pageCount else {
            throw RequestError(
                description: "sequence \(request.id) may grow to \(most) tokens, the key/value cache holds "
                    + "\(blocks.pageCount * pageSize); give it more memory (kv_cache_bytes) or lower max_new_tokens")
        }
        waiting.append(GenerationSequence(request))
    }

    /// Goes on with a trajectory whose turn ended: `observation` is fed in, then the next turn is drawn. The result of
    /// that turn holds the whole trajectory.
    /// - Returns: false where there is no room for it and a token more: the last result stands.
    package func resume(_ id: UInt64, with observation: [Int32]) -> Bool {
        guard var sequence = paused.removeValue(forKey: id), case .generate(let options) = sequence.request.task else {
            return false
        }
        let count = sequence.tokens.count + observation.count
        guard count - sequence.promptCount < options.maxNewTokens, count < model.contextLength else { return false }
        sequence.resume(observation)
        waiting.append(sequence)
        return true
    }

    /// A trajectory's last turn was its last.
    package func release(_ id: UInt64) { paused[id] = nil }

    /// Drops all sequences; their pages are free again.
    package func cancelAll() {
        paused.removeAll()
        for sequence in running { blocks.release(sequence.pages) }
        running.removeAll()
        waiting.removeAll()
    }

    /// Drops some sequences; their pages are free again.
    package func cancel(_ ids: Set<UInt64>) {
        for sequence in running where ids.contains(sequence.request.id) { blocks.release(sequence.pages) }
        running.removeAll { ids.contains($0.request.id) }
        waiting.removeAll { ids.contains($0.request.id) }
        for id in ids { paused[id] = nil }
    }

    /// Forgets shared prefixes after a change of weights. Only when idle.
    package func dropPrefixes() { blocks.dropPrefixes() }

    /// One forward pass; returns the sequences that ended with it.
    /// - Throws: what the model throws (the step may be repeated), ``NotFiniteError``.
    package func step() throws -> [GenerationResult] {
        let plan = makePlan()
        if plan.isEmpty { return [] }
        let spans = plan.map { span($0) }
        try run(plan, spans)
        return finishStep(plan)
    }

    // MARK: - Planning

    private struct PlannedSpan {
        let index: Int
        let count: Int
    }

    private func makePlan() -> [PlannedSpan] {
        var budget = limits.batchTokensMax
        var plan: [PlannedSpan] = []
        var index = 0
        while index < running.count && budget > 0 {
            let count = min(running[index].tokens.count - running[index].computedCount, budget)
            if reservePages(index, upTo: running[index].computedCount + count) {
                plan.append(PlannedSpan(index: index, count: count))
                budget -= count
                index += 1
            } else {
                preemptYoungest()  // possibly this one; the loop looks again
            }
        }
        while budget > 0, running.count < limits.sequencesMax, let next = waiting.first, canStart(next) {
            var sequence = waiting.removeFirst()
            if limits.sharesPrefixes {
                // The last token is always computed: its logits are needed.
                sequence.pages = blocks.acquirePrefix(of: sequence.tokens.dropLast())
                sequence.computedCount = sequence.pages.count * pageSize
            }
            running.append(sequence)
            let count = min(sequence.tokens.count - sequence.computedCount, budget)
            if reservePages(running.count - 1, upTo: sequence.computedCount + count) {
                plan.append(PlannedSpan(index: running.count - 1, count: count))
                budget -= count
            } else {
                preemptYoungest()
                break
            }
        }
        return plan
    }

    /// A sibling waits while another sequence is computing the prompt that both share: it then finds it done.
    private func canStart(_ sequence: GenerationSequence) -> Bool {
        guard limits.sharesPrefixes else { return true }
        let shared = sequence.tokens.prefix(sequence.promptCount)
        if shared.count <= pageSize { return true }
        return !running.contains {
            $0.computedCount < $0.promptCount && $0.tokens.prefix($0.promptCount) == shared
        }
    }

    private func reservePages(_ index: Int, upTo tokenCount: Int) -> Bool {
        let missing = blocks.pagesNeeded(for: tokenCount) - running[index].pages.count
        if missing <= 0 { return true }
        guard let pages = blocks.allocate(missing) else { return false }
        running[index].pages += pages
        return true
    }

    private func preemptYoungest() {
        var sequence = running.removeLast()
        blocks.release(sequence.pages)
        sequence.pages = []
        sequence.computedCount = 0
        preemptionCount += 1
        waiting.insert(sequence, at: 0)
    }

    private func span(_ planned: PlannedSpan) -> ForwardSpan {
        let sequence = running[planned.index]
        let start = sequence.computedCount
        let end = start + planned.count
        let wanted = (start..<end).filter(sequence.wantsLogits)
        let logits: ForwardSpan.Logits = wanted.isEmpty ? .none : wanted == [end - 1] ? .last : .all
        return ForwardSpan(
            tokens: Array(sequence.tokens[start..<end]), start: start, pages: sequence.pages, logits: logits)
    }

    // MARK: - Running

    /// What one row of logits said.
    private enum RowOutcome: Sendable {
        case sampled(token: Int32, TokenScore)
        case scored(TokenScore, topIDs: [Int32], topLogProbs: [Float], tailMass: Float, full: [Float])
        case notFinite
    }

    private func run(_ plan: [PlannedSpan], _ spans: [ForwardSpan]) throws {
        var rowOwner: [(planned: Int, position: Int)] = []
        for (slot, span) in spans.enumerated() {
            for offset in span.tokens.indices { rowOwner.append((slot, span.start + offset)) }
        }
        let outcomes = Locked<[Int: RowOutcome]>([:])
        let sequences = running
        let vocabulary = model.vocabularySize
        let stride = model.routingByteCount
        try model.forward(
            spans,
            onRouting: { row, bytes in
                let (slot, position) = rowOwner[row]
                let page = Int(spans[slot].pages[position / pageSize])
                let at = (page * pageSize + position % pageSize) * stride
                routing.replaceSubrange(at..<at + stride, with: bytes)
            },
            onLogits: { row, logits in
                let (slot, position) = rowOwner[row]
                let sequence = sequences[plan[slot].index]
                guard sequence.wantsLogits(at: position) else { return }
                let outcome = Self.read(logits, vocabulary, sequence, position)
                outcomes.withLock { $0[row] = outcome }
            })
        let read = outcomes.withLock { $0 }
        if read.values.contains(where: { if case .notFinite = $0 { true } else { false } }) {
            throw model.notFinite(spans)
        }
        processedTokenCount += rowOwner.count
        for (slot, planned) in plan.enumerated() {
            running[planned.index].computedCount = spans[slot].start + planned.count
        }
        for (row, outcome) in read.sorted(by: { $0.key < $1.key }) {
            apply(outcome, to: plan[rowOwner[row].planned].index, position: rowOwner[row].position)
        }
    }

    private static func read(
        _ logits: UnsafeMutablePointer<Float>, _ vocabulary: Int, _ sequence: GenerationSequence, _ position: Int
    ) -> RowOutcome {
        let next = position + 1
        switch sequence.request.task {
        case .generate(let options):
            if next < sequence.tokens.count {
                let score = Sampler.score(
                    logits, count: vocabulary, token: sequence.tokens[next], temperature: options.sampling.temperature)
                guard score.isFinite else { return .notFinite }
                return .scored(score, topIDs: [], topLogProbs: [], tailMass: 0, full: [])
            }
            let drawn = Sampler.sample(
                logits, count: vocabulary, usableCount: min(options.usableVocabulary ?? vocabulary, vocabulary),
                parameters: options.sampling, prompt: sequence.tokens[..<sequence.promptCount],
                output: sequence.tokens[sequence.promptCount...],
                uniform: options.random.uniform(position: next - sequence.promptCount))
            return drawn.map { .sampled(token: $0.token, $0.score) } ?? .notFinite
        case .score(let options):
            if options.detail == .scalar {
                guard logits[0].isFinite else { return .notFinite }
                return .scored(
                    TokenScore(logProb: logits[0], entropy: 0), topIDs: [], topLogProbs: [], tailMass: 0, full: [])
            }
            let statistics = Statistics(logits, count: vocabulary, temperature: options.temperature)
            guard statistics.isFinite else { return .notFinite }
            let score = statistics.score(logits[Int(sequence.tokens[next])])
            switch options.detail {
            case .sampledToken, .scalar: return .scored(score, topIDs: [], topLogProbs: [], tailMass: 0, full: [])
            case .topK(let k):
                let ids = Self.mostLikely(logits, vocabulary, min(k, vocabulary))
                let logProbs = ids.map { statistics.logProb(logits[Int($0)]) }
                let mass = statistics.mass(logProbs)
                return .scored(score, topIDs: ids, topLogProbs: logProbs, tailMass: max(0, 1 - mass), full: [])
            case .full:
                let all = (0..<vocabulary).map { statistics.logProb(logits[$0]) }
                return .scored(score, topIDs: [], topLogProbs: [], tailMass: 0, full: all)
            }
        }
    }

    /// Ids by (logit descending, id ascending).
    private static func mostLikely(_ logits: UnsafePointer<Float>, _ count: Int, _ k: Int) -> [Int32] {
        var best: [Int32] = []
        for id in 0..<Int32(count) {
            let value = logits[Int(id)]
            if best.count == k, !(value > logits[Int(best[k - 1])]) { continue }
            var place = best.count
            while place > 0, value > logits[Int(best[place - 1])] { place -= 1 }
            best.insert(id, at: place)
            if best.count > k { best.removeLast() }
        }
        return best
    }

    // MARK: - After the pass

    private func apply(_ outcome: RowOutcome, to index: Int, position: Int) {
        // A forced text may reach the length limit in the middle of the pass that scores it.
        guard running[index].finish == nil else { return }
        let next = position + 1
        switch outcome {
        case .notFinite: break  // thrown before
        case .scored(let score, let topIDs, let topLogProbs, let tailMass, let full):
            running[index].scores[next] = score
            running[index].details[next] = ScoreDetail(
                topIDs: topIDs, topLogProbs: topLogProbs, tailMass: tailMass, full: full)
        case .sampled(let token, let score):
            guard case .generate(let options) = running[index].request.task else { return }
            if let forced = running[index].thinking.idsToForce {
                force(forced, index, options)
                // The drawn token is dropped; this row scores the first forced one in a later pass over it.
                running[index].computedCount -= 1
                return
            }
            running[index].tokens.append(token)
            sampledTokenCount += 1
            running[index].scores[next] = score
            running[index].thinking.note(token)
            if options.stopIDs.contains(token)
                || options.endsWithStopString?(running[index].tokens[running[index].promptCount...]) == true
            {
                running[index].finish = .stop
            }
        }
        checkLength(index)
    }

    private func force(_ ids: [Int32], _ index: Int, _ options: GenerationOptions) {
        let room = min(
            options.maxNewTokens - (running[index].tokens.count - running[index].promptCount),
            model.contextLength - running[index].tokens.count)
        for id in ids.prefix(room) {
            running[index].forcedPositions.insert(running[index].tokens.count)
            running[index].tokens.append(id)
            running[index].thinking.note(id)
        }
    }

    private func checkLength(_ index: Int) {
        guard running[index].finish == nil else { return }
        let sequence = running[index]
        switch sequence.request.task {
        case .generate(let options):
            // Every output token needs its score before the sequence may end.
            guard sequence.scores.count == sequence.tokens.count - sequence.promptCount else { return }
            if sequence.scores.count >= options.maxNewTokens
                || sequence.tokens.count - sequence.turnStart >= options.turns?.tokensMax ?? .max
            {
                running[index].finish = .length
            } else if sequence.tokens.count >= model.contextLength {
                running[index].finish = .contextLength
            }
        case .score:
            break
        }
    }

    private func finishStep(_ plan: [PlannedSpan]) -> [GenerationResult] {
        for planned in plan {
            let sequence = running[planned.index]
            if case .score = sequence.request.task, sequence.computedCount == sequence.tokens.count {
                running[planned.index].finish = .scored
            }
            if limits.sharesPrefixes, sequence.computedCount >= sequence.promptCount {
                blocks.registerPrefix(sequence.tokens.prefix(sequence.promptCount), pages: sequence.pages)
            }
        }
        let finished = running.filter { $0.finish != nil }
        running.removeAll { $0.finish != nil }
        return finished.map { sequence in
            let result = result(of: sequence)
            blocks.release(sequence.pages)
            if case .generate(let options) = sequence.request.task, options.turns != nil, sequence.finish == .stop {
                var sequence = sequence
                sequence.pages = []
                sequence.computedCount = 0
                paused[sequence.request.id] = sequence
            }
            return result
        }
    }

    private func result(of sequence: GenerationSequence) -> GenerationResult {
        // The last token of a text that was fed in may have been computed, which no token follows: a record has routes
        // of the rows that predict, as of any other text.
        let routedCount: Int =
            switch sequence.request.task {
            case .generate: min(sequence.computedCount, sequence.tokens.count - 1)
            case .score: sequence.computedCount
            }
        // A scalar stands one past the last token.
        let end = sequence.tokens.count + (sequence.request.task.wantsScalar ? 1 : 0)
        let positions = sequence.promptCount..<end
        let stride = model.routingByteCount
        let routed = (0..<routedCount).flatMap { position -> ArraySlice<UInt8> in
            let at = (Int(sequence.pages[position / pageSize]) * pageSize + position % pageSize) * stride
            return routing[at..<at + stride]
        }
        let details = positions.map { sequence.details[$0] ?? ScoreDetail() }
        return GenerationResult(
            id: sequence.request.id, promptCount: sequence.promptCount,
            tokens: Array(sequence.tokens[sequence.promptCount...]),
            logProbs: positions.map { sequence.scores[$0]!.logProb },
            entropies: positions.map { sequence.scores[$0]!.entropy },
            forced: positions.map(sequence.forcedPositions.contains), finishReason: sequence.finish!,
            thinkingTokenCount: sequence.thinking.tokenCount, turnStart: sequence.turnStart - sequence.promptCount,
            topIDs: details.map(\.topIDs),
            topLogProbs: details.map(\.topLogProbs), tailMass: details.map(\.tailMass),
            fullLogProbs: details.map(\.full), routedExperts: routed)
    }
}
