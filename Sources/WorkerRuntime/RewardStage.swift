// SPDX-License-Identifier: Apache-2.0
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import Rewards
internal import RuntimeSupport

/// Computes rewards on threads of its own, so that a slow verifier never holds up generation, and hands complete
/// records on.
final class RewardStage: Sendable {
    private let queue = BoundedQueue<EngineLoop.FinishedSequence>(itemCountMax: 1 << 20, byteCountMax: 1 << 40)
    private let judge: any ResponseJudge
    private let client: JudgeClient
    private let incarnation: UInt64
    private let fingerprint: String
    private let onRecord: @Sendable (WireUnitResult) -> Void
    /// Responses that wait for verifiers or are with them, and since when there are any.
    private let pending = Locked<(count: Int, since: MonotonicInstant)>((0, .now))

    init(
        _ judge: any ResponseJudge, client: JudgeClient, threadCount: Int, incarnation: UInt64, fingerprint: String,
        onRecord: @escaping @Sendable (WireUnitResult) -> Void
    ) {
        self.judge = judge
        self.client = client
        self.incarnation = incarnation
        self.fingerprint = fingerprint
        self.onRecord = onRecord
        for index in 0..<max(1, threadCount) {
            _ = DedicatedThread.start(name: "reward-\(index)") { [self] in
                while let finished = queue.pop() {
                    onRecord(complete(finished))
                    pending.withLock { $0.count -= 1 }
                }
            }
        }
    }

    func take(_ finished: EngineLoop.FinishedSequence) {
        // Nothing to judge: no thread hop.
        guard case .rollout(let group) = finished.grant.work,
            !group.settings.rewards.isEmpty || finished.trajectory?.failure != nil
        else {
            return onRecord(finished.unitResult(incarnation: incarnation, fingerprint: fingerprint))
        }
        pending.withLock { $0 = ($0.count + 1, $0.count == 0 ? .now : $0.since) }
        _ = queue.tryPush(finished)
    }

    /// Responses without their rewards yet, and since when there are any; nil when there are none.
    var waiting: (count: Int, since: MonotonicInstant)? { pending.withLock { $0.count > 0 ? $0 : nil } }

    private func complete(_ finished: EngineLoop.FinishedSequence) -> WireUnitResult {
        var result = finished.unitResult(incarnation: incarnation, fingerprint: fingerprint)
        guard case .rollout(let group) = finished.grant.work else { return result }
        let settings = group.settings.rewards
        let judgement = judgement(finished, group, result.rollout)
        if judgement.outcome != "ok" {
            result.rollout.outcome = judgement.outcome
            result.rollout.outcomeDetail = judgement.detail
            return result
        }
        var total = 0.0
        for (name, value) in judgement.rewards {
            var reward = WireRewardValue()
            reward.name = name
            reward.value = value
            result.rollout.rewards.append(reward)
            total += value * (settings.first { $0.name == name }?.weight ?? 1)
        }
        if !judgement.rewards.isEmpty {
            var reward = WireRewardValue()
            reward.name = "total"
            reward.value = total
            result.rollout.rewards.append(reward)
        }
        return result
    }
}

extension RewardStage {
    private func judgement(
        _ finished: EngineLoop.FinishedSequence, _ group: WireRolloutGroup, _ rollout: WireRolloutRecord
    ) -> Judgement {
        if let failure = finished.trajectory?.failure { return Judgement(outcome: "infra_error", detail: failure) }
        var response = JudgedResponse(
            text: finished.trajectory?.lastTurn ?? rollout.text, isTruncated: rollout.outcome == "truncated",
            row: group.row, thinking: group.settings.thinking,
            trajectory: finished.trajectory.map { (rollout.text, $0.state) })
        do throws(JudgeFailure) { try consult(group, &response) } catch {
            return Judgement(outcome: "infra_error", detail: error.description)
        }
        return judge.judge(group.settings.rewards, response)
    }

    /// Asks the models behind the response's rewards. They see what a reader sees: not the thinking.
    private func consult(_ group: WireRolloutGroup, _ response: inout JudgedResponse) throws(JudgeFailure) {
        let settings = group.settings
        guard settings.hasJudge || settings.hasRewardModel else { return }
        let columns = (try? JSONDecoder().decode([String: String].self, from: Data(group.row.utf8))) ?? [:]
        func isAsked(_ name: String) -> Bool {
            settings.rewards.contains { $0.name == name } || columns["reward"] == name
        }
        if settings.hasJudge, isAsked("judge") {
            response.consulted["judge"] = try client.ask(
                settings.judge, question: columns["prompt"] ?? "", reference: columns["answer"] ?? "none",
                response: ThinkingBlock.answer(of: response.text))
        }
        if settings.hasRewardModel, isAsked("reward_model") {
            response.consulted["reward_model"] = try client.scalar(
                settings.rewardModel, prompt: group.prompt.int32Elements,
                response: ThinkingBlock.spoken(of: response.text))
        }
    }
}

/// Sends records in chunks on a thread of its own: a slow coordinator holds up nobody's beat.
final class RecordSender: Sendable {
    private let transport: any Transport
    /// What finds no room is sent later: the session says every record again until it is acknowledged.
    private let queue = BoundedQueue<(WireUnitResult, PeerIdentity)>(itemCountMax: 1 << 16, byteCountMax: 256 << 20)
    /// Records that wait already are not queued twice.
    private let queued = Locked<Set<String>>([])

    init(_ transport: any Transport) {
        self.transport = transport
        _ = DedicatedThread.start(name: "record-sender") { [self] in run() }
    }

    func send(_ result: WireUnitResult, to peer: PeerIdentity) {
        guard queued.withLock({ $0.insert(Self.key(result)).inserted }) else { return }
        guard queue.tryPush((result, peer), byteCount: result.contentByteCount) != .accepted else { return }
        queued.withLock { _ = $0.remove(Self.key(result)) }
    }

    private static func key(_ result: WireUnitResult) -> String {
        let (sequence, isScore) = result.sequence
        return "\(result.job) \(isScore) \(sequence.group) \(sequence.sibling)"
    }

    private func run() {
        var transfer: UInt64 = 0
        while let (result, peer) = queue.pop() {
            transfer += 1
            let content = Payload(result.encoded())
            for message in BulkChunker.messages(transfer: transfer, content: content, to: peer) {
                // A failed chunk spoils the transfer; the session sends the record again.
                do { try transport.send(message, waitingUntil: .now.advanced(byMilliseconds: 10_000)) } catch { break }
            }
            queued.withLock { _ = $0.remove(Self.key(result)) }
            FailPoint.pass("worker.record-sent")
        }
    }
}

extension WireUnitResult {
    /// Bytes of its arrays and texts.
    fileprivate var contentByteCount: Int {
        switch record {
        case .rollout(let rollout):
            rollout.tokens.count + rollout.logProbs.count + rollout.entropies.count + rollout.forced.count
                + rollout.routedExperts.count + rollout.text.utf8.count + rollout.environmentState.utf8.count
        case .score(let score):
            score.logProbs.count + score.entropies.count + score.topIds.count + score.topLogProbs.count
                + score.tailMass.count + score.fullLogProbs.count
        case nil: 0
        }
    }
}
