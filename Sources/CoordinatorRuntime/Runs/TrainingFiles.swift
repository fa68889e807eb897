// SPDX-License-Identifier: Apache-2.0
//
// What a training run leaves beside its checkpoints, written as its steps are committed: metrics.jsonl, TensorBoard events,
// rollouts/text.jsonl and lineage.json; at the end the recorded steps. No time, host or attempt: the same job gives the
// same bytes. `model` links to the last checkpoint from the moment on that it is journaled (``linkModel(_:to:)``).
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import Glibc
internal import JobSpecification

final class TrainingFiles: RunFiles {
    private let journal: Journal
    private let directory: URL
    private let specification: TrainJob
    private let models: [UInt32: WireModelDescription]
    private let metrics: AppendedFile
    private let board: AppendedFile
    /// nil where nothing is generated.
    private let texts: AppendedFile?
    private var order: DataOrder
    /// Version from which the next step of metrics starts.
    private var nextVersion: UInt64 = 0
    private var nextGroup = 0
    private var lineage = ""

    init(_ journal: Journal, _ job: JobRecord, _ models: [UInt32: WireModelDescription], _ directory: URL) throws {
        guard case .train(let specification) = try Job.parse(job.admitted.resolvedYaml) else {
            preconditionFailure("a job with steps is a training job")
        }
        self.journal = journal
        self.directory = directory
        self.specification = specification
        self.models = models
        metrics = try AppendedFile(directory.appendingPathComponent("metrics.jsonl"))
        board = try AppendedFile(directory.appendingPathComponent(TensorBoardFile.name))
        try board.append(TensorBoardFile.beginning)
        order = DataOrder(seed: UInt64(specification.seed), job.admitted)
        guard specification.generates else {
            texts = nil
            return
        }
        let rollouts = directory.appendingPathComponent("rollouts", isDirectory: true)
        try FileManager.default.createDirectory(at: rollouts, withIntermediateDirectories: true)
        texts = try AppendedFile(rollouts.appendingPathComponent("text.jsonl"))
    }

    func update(_ job: JobRecord) throws {
        while job.committed[nextVersion + 1] != nil, let step = job.prepared[nextVersion] {
            let figures = StepMetrics(step)
            try metrics.append(line: figures.line)
            try board.append(
                TensorBoardFile.event(step: Int(nextVersion) + 1, figures.values.filter { $0.key != "step" }))
            nextVersion += 1
        }
        while texts != nil, nextGroup < job.groupCount, isSettled(nextGroup, job) {
            try writeTexts(nextGroup, job)
            nextGroup += 1
        }
        try synchronize(job)
    }

    func complete(_ job: JobRecord) throws {
        try update(job)
        if texts != nil {
            // Of a job that did not get to its end: what lies behind the first gap.
            for group in nextGroup..<max(nextGroup, job.groupCount) where isWhole(group, job) {
                try writeTexts(group, job)
            }
            nextGroup = max(nextGroup, job.groupCount)
        }
        try synchronize(job)
        // The coordinator may have died between a checkpoint's journal entry and the removal of what it replaced.
        try SavedCheckpoints(output: job.admitted.output).remove(keeping: job.snapshots.map(\.version))
        try Self.linkModel(directory, to: job.snapshot?.directory)
        // Its files had no names.
        try? FileManager.default.removeItem(at: directory.appendingPathComponent("optimizer"))
        try ReplayFiles.write(journal, job, specification, models, to: directory)
    }

    private func synchronize(_ job: JobRecord) throws {
        for file in [metrics, board, texts].compactMap({ $0 }) { try file.synchronize() }
        let text = lineage(job)
        guard text != lineage else { return }
        try DurableFile.write(text + "\n", to: directory.appendingPathComponent("lineage.json"))
        lineage = text
    }

    /// Whether all responses of a group are recorded.
    private func isWhole(_ group: Int, _ job: JobRecord) -> Bool {
        job.failedGroups[group] == nil && job.missingSiblings(group).isEmpty
    }

    /// Whether nothing will be added to what is recorded of a group: it is whole or failed, or its batch was trained on
    /// without it (a refill that was not needed).
    private func isSettled(_ group: Int, _ job: JobRecord) -> Bool {
        if job.failedGroups[group] != nil || job.missingSiblings(group).isEmpty { return true }
        return job.committed[job.policyVersion(ofGroup: group) + 1] != nil
    }

    /// One line per response, for people.
    private func writeTexts(_ group: Int, _ job: JobRecord) throws {
        guard let texts, isWhole(group, job) else { return }
        let row = try journal.row(job: job.id, group: order.row(at: group))
        let fields = (try? JSONDecoder().decode([String: String].self, from: Data(row.json.utf8))) ?? [:]
        for sibling in 0..<job.groupSize {
            let result = try journal.record(job: job.id, isScore: false, group: group, sibling: sibling)
            guard case .rollout(let rollout)? = result?.record else { continue }
            var line = JSONLine()
            line.put("step", Int(rollout.policyVersion))
            line.put("group", group)
            line.put("sibling", sibling)
            line.put("id", row.id)
            line.put("prompt", fields["prompt"])
            line.put("answer", fields["answer"])
            line.put("completion", rollout.text)
            line.put("tokens", rollout.tokens.count / 4)
            line.put("outcome", rollout.outcome)
            for reward in rollout.rewards where reward.name == "total" { line.put("reward", reward.value) }
            try texts.append(line: line.text)
        }
    }

    /// Hashes of job and models, and of the state after the last committed step.
    private func lineage(_ job: JobRecord) -> String {
        var lineage = JSONLine()
        lineage.put("job", ContentHash(of: Array(job.admitted.resolvedYaml.utf8)).hexadecimal)
        lineage.put("data", DataFiles.combined(job.admitted.dataHashes))
        lineage.put("parent", models[job.admitted.policyModel]?.contentHash)
        lineage.put("teacher", models[job.admitted.scoreModel]?.contentHash)
        let further = job.admitted.furtherScoreModels
        let names = FurtherModels.names(count: further.count, specification.judge, specification.rewardModel)
        for (name, id) in zip(names, further) { lineage.put(name, models[id]?.contentHash) }
        lineage.put(
            "state",
            job.committed[nextVersion].map {
                $0.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
            })
        return lineage.text
    }

    /// Makes `model` of a run the name of a checkpoint, from one moment to the next; nil: of none.
    static func linkModel(_ run: URL, to checkpoint: String?) throws {
        guard let checkpoint else {
            unlink(run.appendingPathComponent("model").path)
            return
        }
        let target = "checkpoints/\(URL(fileURLWithPath: checkpoint).lastPathComponent)"
        let (link, temporary) = (run.appendingPathComponent("model").path, run.appendingPathComponent(".model").path)
        if (try? FileManager.default.destinationOfSymbolicLink(atPath: link)) == target { return }
        unlink(temporary)
        try FileManager.default.createSymbolicLink(atPath: temporary, withDestinationPath: target)
        guard rename(temporary, link) == 0 else {
            throw JournalError(description: "\(link): \(String(cString: strerror(errno)))")
        }
    }
}
