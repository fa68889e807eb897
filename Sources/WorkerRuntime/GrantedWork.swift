// SPDX-License-Identifier: Apache-2.0
//
// Between the wire and the engine: what a grant asks for as requests, what the engine made of it as records.
internal import ClusterProtocol
internal import Foundation
internal import Qwen3
internal import SwiftProtobuf
internal import Tokenization

extension WireGrant {
    /// Bytes of what it carries, about.
    var byteCount: Int {
        switch work {
        case .rollout(let group): group.prompt.count + group.row.utf8.count
        case .score(let sequence): sequence.tokens.count
        case nil: 0
        }
    }

    /// The sequences that this grant asks for.
    func sequences(_ host: ModelHost) -> [(sibling: UInt32, tokens: [Int32], SequenceTask)] {
        switch work {
        case .rollout(let group):
            let tokens = group.prompt.int32Elements
            return group.siblings.map { sibling in
                (sibling, tokens, .generate(group.settings.options(group: group.group, sibling: sibling, host)))
            }
        case .score(let sequence):
            let settings = sequence.settings
            let detail: ScoreOptions.Detail =
                settings.scalar
                ? .scalar : settings.full ? .full : settings.topK > 0 ? .topK(Int(settings.topK)) : .sampledToken
            let options = ScoreOptions(
                temperature: settings.temperature, detail: detail, firstScored: Int(sequence.firstScored))
            return [(sequence.sibling, sequence.tokens.int32Elements, .score(options))]
        case nil: return []
        }
    }
}

extension WireGrant {
    /// Where a response begins that may call tools; nil for any other.
    func trajectory(_ host: ModelHost) -> Trajectory? {
        guard case .rollout(let group) = work, group.settings.hasEnvironment, host.tokenizer != nil else { return nil }
        return Trajectory(group.settings.environment, row: group.row)
    }
}

extension WireGenerationSettings {
    func options(group: UInt32, sibling: UInt32, _ host: ModelHost) -> GenerationOptions {
        let budget =
            hasThinkingLimit
            ? ThinkingBudget(
                tokenCount: Int(thinkingLimit.tokenCount), startID: thinkingLimit.startID, endID: thinkingLimit.endID,
                stopIDs: thinkingLimit.stopIds) : nil
        return GenerationOptions(
            sampling: SamplingParameters(
                repetitionPenalty: repetitionPenalty, presencePenalty: presencePenalty, temperature: temperature,
                topK: Int(topK), topP: topP, minP: minP),
            maxNewTokens: Int(maxNewTokens), stopIDs: stopIds,
            random: RolloutRandom(runSeed: seed, prompt: group, sibling: UInt16(sibling)), thinkingBudget: budget,
            usableVocabulary: usableVocabulary == 0 ? nil : Int(usableVocabulary),
            endsWithStopString: stopStrings.isEmpty
                ? nil : host.tokenizer.map { tokenizer in StopStrings(stopStrings) { tokenizer.bytes(of: $0) }.ends },
            turns: hasEnvironment ? TurnLimits(tokensMax: Int(environment.turnTokensMax)) : nil)
    }
}

extension EngineLoop.FinishedSequence {
    /// The record without a reward.
    func unitResult(incarnation: UInt64, fingerprint: String) -> WireUnitResult {
        var unit = WireUnitResult()
        unit.lease = grant.lease
        unit.job = grant.job
        unit.attempt = grant.attempt
        unit.incarnation = incarnation
        unit.numericsFingerprint = fingerprint
        switch grant.work {
        case .rollout(let group): unit.rollout = rolloutRecord(group)
        case .score(let sequence): unit.score = scoreRecord(sequence)
        case nil: break
        }
        return unit
    }

    private func rolloutRecord(_ group: WireRolloutGroup) -> WireRolloutRecord {
        .with {
            $0.group = group.group
            $0.sibling = sibling
            $0.policyVersion = grant.policyVersion
            $0.tokens = Data(littleEndian: result.tokens)
            $0.logProbs = Data(littleEndian: result.logProbs)
            $0.entropies = Data(littleEndian: result.entropies)
            $0.forced = Data(result.forced.map { $0 ? 1 : 0 })
            $0.finishReason = result.finishReason.rawValue
            $0.thinkingTokenCount = UInt32(result.thinkingTokenCount)
            if !group.settings.dropsRoutes { $0.routedExperts = Data(result.routedExperts) }
            let ended = result.finishReason == .stop && group.settings.stopIds.contains(result.tokens.last ?? -1)
            $0.text = host.tokenizer?.decode(ended ? result.tokens.dropLast() : result.tokens[...]) ?? ""
            $0.outcome = result.finishReason == .stop ? "ok" : "truncated"
            if let trajectory {
                $0.turnCount = UInt32(trajectory.turnCount)
                $0.environmentState = trajectory.stateText
            }
        }
    }

    private func scoreRecord(_ sequence: WireScoreSequence) -> WireScoreRecord {
        .with {
            $0.group = sequence.group
            $0.sibling = sequence.sibling
            $0.policyVersion = grant.policyVersion
            $0.logProbs = Data(littleEndian: result.logProbs)
            $0.entropies = Data(littleEndian: result.entropies)
            if sequence.settings.topK > 0, !sequence.settings.full {
                $0.topK = UInt32(result.topIDs.first?.count ?? Int(sequence.settings.topK))
                $0.topIds = Data(littleEndian: result.topIDs.flatMap { $0 })
                $0.topLogProbs = Data(littleEndian: result.topLogProbs.flatMap { $0 })
                $0.tailMass = Data(littleEndian: result.tailMass)
            }
            if sequence.settings.full {
                for row in result.fullLogProbs { $0.fullLogProbs += Data(littleEndian: row) }
            }
        }
    }
}
