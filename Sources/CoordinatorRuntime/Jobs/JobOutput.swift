// SPDX-License-Identifier: Apache-2.0
//
// The run directory of a finished job, written once from the journal and named only when complete:
//
//   job.yaml                    every setting
//   rollouts/records.jsonl      one response per line: ids, log-probs, routing, reward, advantage, teacher log-probs
//   rollouts/text.jsonl         the same for people
//   scores/group-000000.safetensors   what a teacher said beyond sampled tokens (top-k or full)
//   scores/records.jsonl        a score job's log-probs
//   metrics.jsonl, lineage.json
//
// Groups in the order of the data, siblings in theirs; no time, host or attempt: the same job gives the same bytes.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import Rewards
internal import Tensors

struct JobOutput {
    let journal: Journal
    let job: JobRecord
    let models: [UInt32: WireModelDescription]

    /// Writes everything. Does nothing when an earlier process finished it.
    func write() throws {
        let target = URL(fileURLWithPath: job.admitted.output, isDirectory: true)
        if isWritten(target) { return }
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        let directory = try DurableDirectory(target)
        do {
            try write(into: directory.temporary)
            try directory.commit()
        } catch {
            directory.abandon()
            throw error
        }
    }

    private func isWritten(_ target: URL) -> Bool {
        guard let text = try? String(contentsOf: target.appendingPathComponent("job.yaml"), encoding: .utf8) else {
            return false
        }
        return text == job.admitted.resolvedYaml
    }

    private func write(into directory: URL) throws {
        try DurableFile.write(job.admitted.resolvedYaml, to: directory.appendingPathComponent("job.yaml"))
        var summary = RunSummary()
        if job.hasRollouts {
            try writeRollouts(into: directory, &summary)
        } else {
            try writeScores(into: directory, &summary)
        }
        try DurableFile.write(summary.line + "\n", to: directory.appendingPathComponent("metrics.jsonl"))
        try DurableFile.write(lineage + "\n", to: directory.appendingPathComponent("lineage.json"))
    }

    private func subdirectory(_ name: String, of directory: URL) throws -> URL {
        let url = directory.appendingPathComponent(name, isDirectory: true)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false)
        return url
    }

    // MARK: - Rollouts

    private func writeRollouts(into directory: URL, _ summary: inout RunSummary) throws {
        guard case .rollout(let specification) = try Job.parse(job.admitted.resolvedYaml) else {
            preconditionFailure("a job with a policy model is a rollout job")
        }
        let rollouts = try subdirectory("rollouts", of: directory)
        let records = try LineFile(rollouts.appendingPathComponent("records.jsonl"))
        let texts = try LineFile(rollouts.appendingPathComponent("text.jsonl"))
        let wantsScoreFiles = specification.teacher.map { $0.outputs != .sampled } ?? false
        let scores = wantsScoreFiles ? try subdirectory("scores", of: directory) : nil
        for group in 0..<job.groupCount {
            if let reason = job.failedGroups[group] {
                var line = JSONLine()
                line.put("group", group)
                line.put("id", try journal.row(job: job.id, group: group).id)
                line.put("failed", reason)
                try records.append(line.text)
                try texts.append(line.text)
                continue
            }
            let row = try journal.row(job: job.id, group: group)
            let members = try members(of: group)
            let judged = GroupJudgement(specification, members.map(\.rollout))
            for (sibling, member) in members.enumerated() {
                try records.append(line(row, member, judged, sibling).text)
                try texts.append(text(row, member, judged, sibling).text)
            }
            summary.add(members.map(\.rollout), judged)
            if let scores { try ScoreFile.write(members.compactMap(\.score), group: group, into: scores) }
        }
        try records.commit()
        try texts.commit()
    }

    private struct Member {
        let rollout: WireRolloutRecord
        let score: WireScoreRecord?
    }

    private func members(of group: Int) throws -> [Member] {
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

    private func writeScores(into directory: URL, _ summary: inout RunSummary) throws {
        let isScalar = try journal.settings(of: job.id).score.scalar
        let scores = try subdirectory("scores", of: directory)
        let records = try LineFile(scores.appendingPathComponent("records.jsonl"))
        for group in 0..<job.groupCount {
            var line = JSONLine()
            if let reason = job.failedGroups[group] {
                line.put("group", group)
                line.put("id", try journal.row(job: job.id, group: group).id)
                line.put("failed", reason)
                summary.scalars.skip()
            } else {
                let row = try journal.row(job: job.id, group: group)
                let result = try journal.record(job: job.id, isScore: true, group: group, sibling: 0)
                guard case .score(let score)? = result?.record else {
                    throw JournalError(description: "job \(job.id): row \(group) has no score")
                }
                line.put("group", group)
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
                    try records.append(line.text)
                    continue
                }
                line.put("logprobs", score.logProbs.floatElements)
                line.put("entropies", score.entropies.floatElements)
                if score.topK > 0 || !score.fullLogProbs.isEmpty {
                    try ScoreFile.write([score], group: group, into: scores)
                }
            }
            try records.append(line.text)
        }
        try records.commit()
    }

    private var lineage: String {
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

/// A text file of lines that appears under its name when committed.
final class LineFile {
    private let file: DurableFile
    private var offset = 0

    init(_ url: URL) throws { file = try DurableFile(url) }

    func append(_ line: String) throws {
        var text = line
        text += "\n"
        try text.withUTF8 { try file.write(UnsafeRawBufferPointer($0), at: offset) }
        offset += text.utf8.count
    }

    func commit() throws { try file.commit() }
}
