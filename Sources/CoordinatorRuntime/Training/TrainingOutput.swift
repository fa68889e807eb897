// SPDX-License-Identifier: Apache-2.0
//
// What a training run leaves beside its checkpoints: job.yaml, metrics.jsonl, rollouts, lineage.json, recorded steps, and
// `model`, a link to the last checkpoint. No time, host or attempt: the same job gives the same bytes.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification

struct TrainingOutput {
    let journal: Journal
    let job: JobRecord
    let models: [UInt32: WireModelDescription]

    func write() throws {
        guard case .train(let specification) = try Job.parse(job.admitted.resolvedYaml) else {
            preconditionFailure("a job with steps is a training job")
        }
        let directory = URL(fileURLWithPath: job.admitted.output, isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        // The coordinator may have died between a checkpoint's journal entry and the removal of what it replaced.
        try SavedCheckpoints(output: job.admitted.output).remove(keeping: job.snapshots.map(\.version))
        let metrics = job.prepared.values.sorted { $0.version < $1.version }.map { StepMetrics($0).line + "\n" }
        try DurableFile.write(metrics.joined(), to: directory.appendingPathComponent("metrics.jsonl"))
        var board = TensorBoardFile()
        for step in job.prepared.values.sorted(by: { $0.version < $1.version }) {
            board.add(step: Int(step.version) + 1, StepMetrics(step).values.filter { $0.key != "step" })
        }
        try DurableFile.write([UInt8](board.data), to: directory.appendingPathComponent(TensorBoardFile.name))
        if specification.generates { try writeTexts(directory, specification) }
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
            job.committed[job.stepCount].map {
                $0.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
            })
        try DurableFile.write(lineage.text + "\n", to: directory.appendingPathComponent("lineage.json"))
        if let last = job.snapshot {
            let link = directory.appendingPathComponent("model").path
            try? FileManager.default.removeItem(atPath: link)
            let name = URL(fileURLWithPath: last.directory).lastPathComponent
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "checkpoints/\(name)")
        }
        // Its files had no names.
        try? FileManager.default.removeItem(at: directory.appendingPathComponent("optimizer"))
        try ReplayFiles.write(journal, job, specification, models, to: directory)
        // Last: whoever finds it finds everything else.
        try DurableFile.write(job.admitted.resolvedYaml, to: directory.appendingPathComponent("job.yaml"))
    }

    /// One line per response, for people.
    private func writeTexts(_ directory: URL, _ specification: TrainJob) throws {
        let rollouts = directory.appendingPathComponent("rollouts", isDirectory: true)
        try FileManager.default.createDirectory(at: rollouts, withIntermediateDirectories: true)
        let texts = try LineFile(rollouts.appendingPathComponent("text.jsonl"))
        var order = DataOrder(seed: UInt64(specification.seed), job.admitted)
        for group in 0..<job.groupCount where job.failedGroups[group] == nil {
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
                try texts.append(line.text)
            }
        }
        try texts.commit()
    }
}
