// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

/// What is batched, when and in which pages never shows in a token or in a bit of its log-prob.
@Suite("Generation engine", .serialized)
struct GenerationEngineTests {
    struct Schedule {
        var batchTokens = 512
        var sequences = 64
        var sharesPrefixes = true
        var pages = 400
        var threads = 1
        var reversed = false
    }

    static let budgetText: [Int32] = [30, 31, 32, 4, 33]

    static func requests(_ model: Qwen3Model, budget: Bool = false) -> [GenerationRequest] {
        let vocabulary = model.configuration.vocabularySize
        return (0..<12).map { index in
            let prompt = index / 4
            let tokens = (0..<(20 + prompt * 13)).map { Int32(($0 * 29 + prompt * 101 + 7) % vocabulary) }
            let options = GenerationOptions(
                sampling: SamplingParameters(repetitionPenalty: 1.1, temperature: 0.9, topK: 40, topP: 0.98),
                maxNewTokens: 24, stopIDs: [5],
                random: RolloutRandom(runSeed: 11, prompt: UInt32(prompt), sibling: UInt16(index % 4)),
                thinkingBudget: budget
                    ? ThinkingBudget(tokenCount: 6, startID: tokens.last!, endID: 4, stopIDs: budgetText) : nil,
                usableVocabulary: vocabulary - 10)
            return GenerationRequest(id: UInt64(index), tokens: tokens, task: .generate(options))
        }
    }

    /// Everything that must not depend on the schedule.
    struct Outcome: Equatable {
        let tokens: [Int32]
        let logProbs: [UInt32]
        let entropies: [UInt32]
        let forced: [Bool]
        let reason: FinishReason
        let routed: [UInt8]
    }

    static func run(
        _ name: String, _ schedule: Schedule, budget: Bool = false
    ) throws -> (outcomes: [UInt64: Outcome], engine: GenerationEngine) {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/\(name)"))
        let model = try Qwen3Model(
            checkpoint, compute: .bf16, pool: ComputePool(threadCount: schedule.threads))
        let decoder = try CachedDecoder(model, pageCount: schedule.pages, pageSize: 4)
        let engine = GenerationEngine(
            decoder, pageCount: schedule.pages, pageSize: 4,
            limits: EngineLimits(
                batchTokensMax: schedule.batchTokens, sequencesMax: schedule.sequences,
                sharesPrefixes: schedule.sharesPrefixes))
        let all = requests(model, budget: budget)
        for request in schedule.reversed ? all.reversed() : all { try engine.submit(request) }
        var outcomes: [UInt64: Outcome] = [:]
        var steps = 0
        while !engine.isIdle {
            for result in try engine.step() {
                #expect(outcomes[result.id] == nil, "sequence \(result.id) ended twice")
                outcomes[result.id] = Outcome(
                    tokens: result.tokens, logProbs: result.logProbs.map(\.bitPattern),
                    entropies: result.entropies.map(\.bitPattern), forced: result.forced,
                    reason: result.finishReason, routed: result.routedExperts)
            }
            steps += 1
            try #require(steps < 5000, "the engine makes no progress")
        }
        #expect(outcomes.count == all.count)
        return (outcomes, engine)
    }

    static let schedules: [Schedule] = [
        Schedule(batchTokens: 1), Schedule(batchTokens: 7), Schedule(sequences: 1),
        Schedule(sharesPrefixes: false), Schedule(pages: 20), Schedule(batchTokens: 9, pages: 21, reversed: true),
        Schedule(threads: 2, reversed: true),
    ]

    @Test("every schedule gives the same tokens and bits", arguments: ["moe_norm_bf16", "dense_tied_bf16"])
    func invariance(name: String) throws {
        let reference = try Self.run(name, Schedule()).outcomes
        #expect(Set(reference.values.map(\.tokens)).count > 6, "the samples are all alike")
        for schedule in Self.schedules {
            let other = try Self.run(name, schedule).outcomes
            for id in reference.keys.sorted() { #expect(other[id] == reference[id], "sequence \(id), \(schedule)") }
        }
    }

    @Test("preemption really happens when pages are short")
    func preemption() throws {
        let engine = try Self.run("moe_norm_bf16", Schedule(pages: 20)).engine
        #expect(engine.preemptionCount > 0)
    }

    @Test("sharing prefixes computes fewer tokens")
    func sharing() throws {
        let shared = try Self.run("moe_norm_bf16", Schedule()).engine.processedTokenCount
        let alone = try Self.run("moe_norm_bf16", Schedule(sharesPrefixes: false)).engine.processedTokenCount
        #expect(shared < alone)
    }

    @Test("the thinking budget feeds its text once, masked and scored, under every schedule")
    func thinkingBudget() throws {
        let reference = try Self.run("moe_norm_bf16", Schedule(), budget: true).outcomes
        var forcedSequences = 0
        for outcome in reference.values {
            guard let first = outcome.forced.firstIndex(of: true) else { continue }
            forcedSequences += 1
            let count = outcome.forced.filter { $0 }.count
            #expect(first == 6)
            #expect(Array(outcome.tokens[first..<first + count]) == Array(Self.budgetText.prefix(count)))
            #expect(!outcome.forced[(first + count)...].contains(true))
        }
        #expect(forcedSequences > 6)
        for schedule in Self.schedules {
            #expect(try Self.run("moe_norm_bf16", schedule, budget: true).outcomes == reference, "\(schedule)")
        }
    }

    @Test("a think block in a turn that has ended, as a user may write it, does not use up the answer's budget")
    func thinkingInAnEarlierTurn() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/moe_norm_bf16"))
        let model = try Qwen3Model(checkpoint, compute: .bf16, pool: ComputePool(threadCount: 1))
        let engine = GenerationEngine(
            try CachedDecoder(model, pageCount: 40, pageSize: 4), pageCount: 40, pageSize: 4)
        // 6 opens a block, 5 ends a turn: open from the user's text, from the template, from neither.
        for (id, prompt): (UInt64, [Int32]) in [
            (1, [10, 6, 11, 5, 12]), (2, [10, 11, 5, 12, 6]), (3, [10, 11, 5, 12]),
        ] {
            let options = GenerationOptions(
                sampling: SamplingParameters(), maxNewTokens: 12, stopIDs: [5],
                random: RolloutRandom(runSeed: 3, prompt: 0, sibling: UInt16(id)),
                thinkingBudget: ThinkingBudget(tokenCount: 2, startID: 6, endID: 4, stopIDs: Self.budgetText))
            try engine.submit(GenerationRequest(id: id, tokens: prompt, task: .generate(options)))
        }
        var forced: [UInt64: Int] = [:]
        while !engine.isIdle {
            for result in try engine.step() { forced[result.id] = result.forced.firstIndex(of: true) }
        }
        // The template's block ends after two tokens; one that the answer opens itself takes three at least.
        #expect(forced[2] == 2)
        for id: UInt64 in [1, 3] { #expect(forced[id] ?? 3 >= 3, "\(forced)") }
    }

    @Test("teacher forcing gives a rollout's own log-probs, bit for bit")
    func scoring() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/moe_norm_bf16"))
        let model = try Qwen3Model(checkpoint, compute: .bf16, pool: ComputePool(threadCount: 1))
        let requests = Self.requests(model)
        let outcomes = try Self.run("moe_norm_bf16", Schedule()).outcomes
        let engine = GenerationEngine(
            try CachedDecoder(model, pageCount: 200, pageSize: 16), pageCount: 200, pageSize: 16,
            limits: EngineLimits(batchTokensMax: 33))
        for request in requests {
            let outcome = outcomes[request.id]!
            try engine.submit(
                GenerationRequest(
                    id: request.id, tokens: request.tokens + outcome.tokens,
                    task: .score(
                        ScoreOptions(temperature: 0.9, detail: .topK(5), firstScored: request.tokens.count))))
        }
        var scored = 0
        while !engine.isIdle {
            for result in try engine.step() {
                #expect(result.logProbs.map(\.bitPattern) == outcomes[result.id]!.logProbs)
                #expect(result.topIDs.allSatisfy { $0.count == 5 })
                for (top, tail) in zip(result.topLogProbs, result.tailMass) {
                    #expect(abs(top.reduce(tail) { $0 + exp($1) } - 1) < 1e-5)
                }
                scored += 1
            }
        }
        #expect(scored == requests.count)
    }

    @Test("requests that can never run are refused with a reason")
    func refusals() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/dense_tied_bf16"))
        let model = try Qwen3Model(checkpoint, compute: .fp32, pool: ComputePool(threadCount: 1))
        let engine = GenerationEngine(try CachedDecoder(model, pageCount: 4, pageSize: 16), pageCount: 4, pageSize: 16)
        func message(_ tokens: [Int32], maxNewTokens: Int = 4, sampling: SamplingParameters = .greedy) -> String {
            let options = GenerationOptions(
                sampling: sampling, maxNewTokens: maxNewTokens, stopIDs: [],
                random: RolloutRandom(runSeed: 0, prompt: 0, sibling: 0))
            do {
                try engine.submit(GenerationRequest(id: 1, tokens: tokens, task: .generate(options)))
                return ""
            } catch { return "\(error)" }
        }
        #expect(message([]).contains("empty"))
        #expect(message([1, 9999]).contains("9999"))
        #expect(message(Array(repeating: 1, count: 300)).contains("context"))
        #expect(message([1], maxNewTokens: 100).contains("kv_cache_bytes"))
        #expect(message([1], sampling: SamplingParameters(topP: 1.5)).contains("top_p"))
        #expect(message([1]) == "")
    }
}
