// SPDX-License-Identifier: Apache-2.0
//
// What a rollout or score job leaves, written as its groups end:
//
//   rollouts/records.jsonl      one response per line: ids, log-probs, routing, reward, advantage, teacher log-probs
//   rollouts/text.jsonl         the same for people
//   scores/group-000000.safetensors   what a teacher said beyond sampled tokens (top-k or full)
//   scores/records.jsonl        a score job's log-probs
//   metrics.jsonl               the totals so far, one line
//   lineage.json
//
// Groups in the order of the data, siblings in theirs; no time, host or attempt: the same job gives the same bytes. A group
// that ends before its predecessors waits for them.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import Rewards
internal import Tensors

final class RolloutFiles: RunFiles {
    private let journal: Journal
    private let directory: URL
    /// nil of a score job.
    private let specification: RolloutJob?
    private let isScalar: Bool
    private let records: AppendedFile
    private let texts: AppendedFile?
    /// Where distributions go, one file per group; nil where there are none.
    private let scores: URL?
    private var summary = RunSummary()
    private var metrics = ""
    private var nextGroup = 0

    init(_ journal: Journal, _ job: JobRecord, _ models: [UInt32: WireModelDescription], _ directory: URL) throws {
        self.journal = journal
        self.directory = directory
        func subdirectory(_ name: String) throws -> URL {
            let url = directory.appendingPathComponent(name, isDirectory: true)
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
            return url
        }
        if job.hasRollouts {
            guard case .rollout(let specification) = try Job.parse(job.admitted.resolvedYaml) else {
                preconditionFailure("a job with a policy model is a rollout job")
            }
            self.specification = specification
            isScalar = false
            let rollouts = try subdirectory("rollouts")
            records = try AppendedFile(rollouts.appendingPathComponent("records.jsonl"))
            texts = try AppendedFile(rollouts.appendingPathComponent("text.jsonl"))
            scores = specification.teacher.map { $0.outputs != .sampled } ?? false ? try subdirectory("scores") : nil
        } else {
            specification = nil
            isScalar = try journal.settings(of: job.id).score.scalar
            let scores = try subdirectory("scores")
            records = try AppendedFile(scores.appendingPathComponent("records.jsonl"))
            texts = nil
            self.scores = scores
        }
        try DurableFile.write(
            Self.lineage(job, models) + "\n", to: directory.appendingPathComponent("lineage.json"))
    }

    func update(_ job: JobRecord) throws {
        while nextGroup < job.finishedGroupCount {
            try write(nextGroup, job)
            nextGroup += 1
        }
        try synchronize()
    }

    func complete(_ job: JobRecord) throws {
        try update(job)
        // Of a job that did not get to its end: what lies behind the first gap.
        for group in nextGroup..<max(nextGroup, job.groupCount) where job.isFinished(group) { try write(group, job) }
        nextGroup = max(nextGroup, job.groupCount)
        try synchronize()
    }

    private func synchronize() throws {
        try records.synchronize()
        try texts?.synchronize()
        let line = summary.line
        guard line != metrics else { return }
        try DurableFile.write(line + "\n", to: directory.appendingPathComponent("metrics.jsonl"))
        metrics = line
    }

    private func write(_ group: Int, _ job: JobRecord) throws {
        if let specification {
            try write(rollouts: group, job, specification)
        } else {
            try write(scores: group, job)
        }
    }

    // MARK: - Rollouts

    private func write(rollouts group: Int, _ job: JobRecord, _ specification: RolloutJob) throws {
        if let reason = job.failedGroups[group] {
            var line = JSONLine()
            line.put("group", group)
            line.put("id", try journal.row(job: job.id, group: group).id)
            line.put("failed", reason)
            try records.append(line: line.text)
            try texts?.append(line: line.text)
            summary.addFailedGroup()
            return
        }
        let row = try journal.row(job: job.id, group: group)
        let members = try members(of: group, job)
        let judged = GroupJudgement(specification, members.map(\.rollout))
        for (sibling, member) in members.enumerated() {
            try records.append(line: line(row, member, judged, sibling).text)
            try texts?.append(line: text(row, member, judged, sibling).text)
        }
        summary.add(members.map(\.rollout), judged)
        if let scores { try ScoreFile.write(members.compactMap(\.score), group: group, into: scores) }
    }

    private struct Member {
        let rollout: WireRolloutRecord
        let score: WireScoreRecord?
    }

    private func members(of group: Int, _ job: JobRecord) throws -> [Member] {
        try (0..<job.groupSize).map { sibling in
            let result = try journal.record(job: job.id, isScore: false, group: group, sibling: sibling)
            guard case .rollout(let rollout)? = result?.record else {
                throw JournalError(description: "job \(job.id): group \(group), sibling \(sibling) has no record")
            }
            guard job.hasScores else { return Member(rollout: rollout, score: nil) }
            let scored = try journal.record(job: job.id, isScore: true, group: group, sibling: sibling)
            guard case .score(let score)? = scored?.record else {
                throw JournalError(description: "job \(job.id): group \(group), sibling \(sibling) has no score")
            }
            return Member(rollout: rollout, score: score)
        }
    }

    private func line(_ row: JobRow, _ member: Member, _ judged: GroupJudgement, _ sibling: Int) -> JSONLine {
        let rollout = member.rollout
        var line = JSONLine()
        line.put("group", row.group)
        line.put("sibling", sibling)
        line.put("id", row.id)
        line.put("policy_version", Int(rollout.policyVersion))
        line.put("prompt_ids", row.tokens)
        line.put("completion_ids", rollout.tokens.int32Elements)
        line.put("logprobs", rollout.logProbs.floatElements)
        line.put("entropies", rollout.entropies.floatElements)
        line.put("forced", rollout.forced.enumerated().filter { $0.element != 0 }.map { Int32($0.offset) })
        line.put("finish_reason", rollout.finishReason)
        line.put("thinking_tokens", Int(rollout.thinkingTokenCount))
        line.put("routed_experts", rollout.routedExperts.isEmpty ? nil : rollout.routedExperts.base64EncodedString())
        if rollout.turnCount > 0 {
            line.put("turns", Int(rollout.turnCount))
            line.put("environment_state", rollout.environmentState)
        }
        line.put("outcome", rollout.outcome)
        var rewards = JSONLine()
        for reward in rollout.rewards where reward.name != "total" { rewards.put(reward.name, reward.value) }
        line.put("rewards", rewards)
        line.put("reward", judged.rewards[sibling])
        line.put("advantage", judged.advantages[sibling])
        line.put("dropped", judged.drops[sibling])
        if let score = member.score {
            line.put("teacher_logprobs", score.logProbs.floatElements)
            line.put("teacher_entropies", score.entropies.floatElements)
        }
        return line
    }

    private func text(_ row: JobRow, _ member: Member, _ judged: GroupJudgement, _ sibling: Int) -> JSONLine {
        let fields = (try? JSONDecoder().decode([String: String].self, from: Data(row.json.utf8))) ?? [:]
        var line = JSONLine()
        line.put("group", row.group)
        line.put("sibling", sibling)
        line.put("id", row.id)
        line.put("prompt", fields["prompt"])
        line.put("answer", fields["answer"])
        line.put("completion", member.rollout.text)
        line.put("tokens", member.rollout.tokens.count / 4)
        line.put("finish_reason", member.rollout.finishReason)
        if member.rollout.turnCount > 0 { line.put("turns", Int(member.rollout.turnCount)) }
        line.put("outcome", member.rollout.outcome)
        line.put("outcome_detail", member.rollout.outcomeDetail.isEmpty ? nil : member.rollout.outcomeDetail)
        var rewards = JSONLine()
        for reward in member.rollout.rewards where reward.name != "total" { rewards.put(reward.name, reward.value) }
        line.put("rewards", rewards)
        line.put("reward", judged.rewards[sibling])
        line.put("advantage", judged.advantages[sibling])
        return line
    }

    // MARK: - Scores

    private func write(scores group: Int, _ job: JobRecord) throws {
        var line = JSONLine()
        line.put("group", group)
        if let reason = job.failedGroups[group] {
            line.put("id", try journal.row(job: job.id, group: group).id)
            line.put("failed", reason)
            summary.scalars.skip()
            return try records.append(line: line.text)
        }
        let row = try journal.row(job: job.id, group: group)
        let result = try journal.record(job: job.id, isScore: true, group: group, sibling: 0)
        guard case .score(let score)? = result?.record else {
            throw JournalError(description: "job \(job.id): row \(group) has no score")
        }
        line.put("id", row.id)
        line.put("token_ids", row.tokens)
        if isScalar {
            guard let scalar = score.logProbs.floatElements.first else {
                throw JournalError(description: "job \(job.id): row \(group) has no scalar")
            }
            let side = PairSide(row.json)?.side
            line.put("side", side)
            line.put("reward", Double(scalar))
            summary.scalars.add(Double(scalar), side)
            return try records.append(line: line.text)
        }
        line.put("logprobs", score.logProbs.floatElements)
        line.put("entropies", score.entropies.floatElements)
        if let scores, score.topK > 0 || !score.fullLogProbs.isEmpty {
            try ScoreFile.write([score], group: group, into: scores)
        }
        try records.append(line: line.text)
    }

    private static func lineage(_ job: JobRecord, _ models: [UInt32: WireModelDescription]) -> String {
        var line = JSONLine()
        line.put("job", ContentHash(of: Array(job.admitted.resolvedYaml.utf8)).hexadecimal)
        line.put("data", DataFiles.combined(job.admitted.dataHashes))
        line.put("policy", models[job.admitted.policyModel]?.contentHash)
        line.put("scorer", models[job.admitted.scoreModel]?.contentHash)
        if case .rollout(let specification)? = try? Job.parse(job.admitted.resolvedYaml) {
            let further = job.admitted.furtherScoreModels
            let names = FurtherModels.names(count: further.count, specification.judge, specification.rewardModel)
            for (name, id) in zip(names, further) { line.put(name, models[id]?.contentHash) }
        }
        return line.text
    }
}
