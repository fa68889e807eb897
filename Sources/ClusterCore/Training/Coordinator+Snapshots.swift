// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of a training job: asked for between two steps, named by the shell, journaled; what they replace is removed
// after that. One that cannot be used is given up for the one before.
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

extension Coordinator {
    func partialDirectory(_ job: JobRecord, _ version: UInt64) -> String {
        let digits = String(version)
        let number = String(repeating: "0", count: max(0, 6 - digits.count)) + digits
        return "\(job.admitted.output)/checkpoints/step-\(number).partial"
    }

    mutating func sendSnapshot(_ job: JobRecord, _ run: TrainingRun, to worker: WorkerNumber) {
        guard let member = members[worker] else { return }
        let directory = partialDirectory(job, run.version)
        send(to: member.identity) {
            $0.takeSnapshot = .with {
                $0.epoch = run.epoch
                $0.version = run.version
                $0.directory = directory
            }
        }
    }

    mutating func snapshotSealed(
        job id: UInt64, version: UInt64, directory: String, problem: String?, _ now: MonotonicInstant
    ) {
        guard current?.id == id, var run = current?.training, run.phase == .sealing, run.version == version else {
            return
        }
        if let problem {
            log("the checkpoint of version \(version) could not be named: \(problem)")
            run.failedSnapshot = (problem, now.advanced(byMilliseconds: Self.repeatMilliseconds))
        } else {
            record(
                .with {
                    $0.snapshotTaken = .with {
                        $0.job = id; $0.version = version; $0.directory = directory
                    }
                })
            run.failedSnapshot = nil
            log("checkpoint \(directory)")
            // What it replaces goes once it is durable itself: until then the job would go on from the old one.
            if let job = state.jobs[id] {
                emit(.removeSnapshots(job: id, keeping: job.snapshots.map(\.version)))
            }
        }
        run.enter(.ready, now)
        current?.training = run
    }
    // MARK: - Unusable ones

    /// Failures of one worker, or of the whole state, before anything is concluded from them.
    private static let attemptCount = 2

    /// Members could not read the checkpoint that they were to begin from. One alone is left aside; what several cannot
    /// read, or the last one, is at fault itself.
    mutating func beginningFailed(_ job: JobRecord, _ run: TrainingRun, _ now: MonotonicInstant) {
        let reason = run.unreadable.sorted { $0.key < $1.key }.map { "worker \($0): \($1)" }.joined(separator: "; ")
        for worker in run.unreadable.keys { current?.unreadable[worker, default: 0] += 1 }
        let unable = (current?.unreadable ?? [:]).filter { $0.value >= Self.attemptCount }.keys.sorted()
        restartTraining("the training state cannot be read: \(reason)", now)
        guard current?.id == job.id, !unable.isEmpty else { return }
        guard unable.count == 1, run.members.contains(where: { !unable.contains($0) }) else {
            return loseSnapshot(job, reason, now)
        }
        for worker in unable {
            deployments[run.model]?.fail(
                worker, run.unreadable[worker] ?? reason, weight: LoadProblem.countMax, times, now)
        }
    }

    /// The checkpoint was read, and what it holds is not what was committed.
    mutating func stateDiffers(_ job: JobRecord, _ run: TrainingRun, _ now: MonotonicInstant) {
        let reason =
            "it does not hold the state that was committed as version \(run.version); its disk or some host's memory is "
            + "at fault"
        current?.mismatchCount += 1
        restartTraining("\(job.snapshot?.directory ?? "the checkpoint"): \(reason)", now)
        guard current?.id == job.id, current?.mismatchCount ?? 0 >= Self.attemptCount else { return }
        loseSnapshot(job, reason, now)
    }

    /// The job goes on from the checkpoint before, or from its beginning: the journal has all that it needs to take the
    /// steps since then again, to the same bits.
    private mutating func loseSnapshot(_ job: JobRecord, _ reason: String, _ now: MonotonicInstant) {
        guard let lost = job.snapshot, let run = current else { return }
        record(
            .with {
                $0.snapshotLost = .with {
                    $0.job = job.id; $0.version = lost.version; $0.reason = reason
                }
            })
        emit(.discardSnapshot(directory: lost.directory))
        let next = state.jobs[job.id]?.snapshot?.directory ?? "the weights that the job started from"
        log("job \(job.id): \(lost.directory) cannot be used (\(reason)); training goes on from \(next)")
        current?.unreadable = [:]
        current?.mismatchCount = 0
        // Each time there is one checkpoint less: this ends without a bound of its own.
        current?.restarts = nil
        for worker in run.unreadable.keys { deployments[job.admitted.policyModel]?.forgive(worker) }
    }
}
