// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import RuntimeSupport
import Tensors
import WorkerRuntime

/// Takes recorded steps of a training run again and compares what comes out.
struct StepVerification {
    let run: URL
    let job: TrainJob
    /// The starting model's directory, where it is not where the job says.
    let model: String?
    let threads: Int

    /// - Returns: how many steps differ.
    func verify(count: Int) throws -> Int {
        let replays = try ReplayFiles.read(run)
        guard !replays.isEmpty else { throw InputError("\(run.path): has no recorded step") }
        let replayer = StepReplayer(threads: threads)
        var differing = 0
        let chosen = count == 0 ? replays[...] : replays.suffix(count)
        for replay in chosen {
            let start =
                replay.checkpoint.isEmpty
                ? model ?? job.model.path : run.appendingPathComponent(replay.checkpoint).path
            let policy = try load(
                start, job.model.compute.rawValue, freshHeadSeed: job.method == .reward ? UInt64(job.seed) : nil)
            if replay.checkpoint.isEmpty { try checkIdentity(policy.checkpoint) }
            let guides = try replay.guides.map { guide in
                // A reference may be the starting model, which may lie elsewhere now.
                let isStart = guide.path == job.model.path
                return (guide.id, try load(isStart ? model ?? guide.path : guide.path, guide.compute))
            }
            let outcome = try replayer.run(
                replay, policy: policy, guides: Dictionary(uniqueKeysWithValues: guides),
                resumes: !replay.checkpoint.isEmpty || job.optimizer.resumes)
            let problems = differences(replay, outcome)
            let name = "step \(replay.prepared.version + 1)"
            if problems.isEmpty {
                let tokens = StepMetrics(outcome.prepared).values["num_tokens"] ?? 0
                print(
                    "\(name) with \(Int(tokens)) tokens taken again: all bits are equal, state \(hex(outcome.digest))")
            } else {
                differing += 1
                complain("\(name) differs in \(problems.joined(separator: ", "))")
            }
        }
        return differing
    }

    private func load(
        _ path: String, _ compute: String, freshHeadSeed: UInt64? = nil
    ) throws -> StepReplayer.Model {
        guard let compute = Tensors.ComputeType(rawValue: compute) else {
            throw InputError("unknown compute type")
        }
        let directory = URL(fileURLWithPath: path, isDirectory: true)
        return StepReplayer.Model(try Checkpoint(directory: directory, freshHeadSeed: freshHeadSeed), compute)
    }

    private func differences(_ replay: WireStepReplay, _ outcome: StepReplayer.Outcome) -> [String] {
        var problems: [String] = []
        if outcome.prepared.sumOfSquares != replay.prepared.sumOfSquares { problems.append("the gradient's norm") }
        if outcome.prepared.sums != replay.prepared.sums { problems.append("losses") }
        if outcome.prepared.maxima != replay.prepared.maxima { problems.append("log-probabilities") }
        if outcome.digest != replay.digest { problems.append("the state after it") }
        return problems
    }

    private func checkIdentity(_ checkpoint: Checkpoint) throws {
        let lineage = run.appendingPathComponent("lineage.json")
        guard let fields = try? JSONDecoder().decode([String: String].self, from: Data(contentsOf: lineage)),
            let expected = fields["parent"]
        else { throw InputError("\(lineage.path): cannot be read") }
        guard try checkpoint.identity(withTrainingState: true).hexadecimal == expected else {
            throw InputError(
                "\(checkpoint.directory.path) is not the checkpoint that the run started from; name it with --model")
        }
    }

    private func hex(_ digest: Data) -> String { digest.prefix(8).map { String(format: "%02x", $0) }.joined() }
}
