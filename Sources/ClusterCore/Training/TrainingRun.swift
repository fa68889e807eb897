// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
internal import RuntimeSupport

/// What a step's optimizer update needs to know besides the gradients; the shell works it out from the job.
package struct StepPlan: Sendable, Equatable {
    /// Of the optimizer, from 1; 0 where the step has no sequence: its update is left out, as weights and moments that
    /// have learned nothing new must not move.
    package var number: UInt64
    package var learningRate: Double
    /// Largest norm of the gradient; nil: never clipped.
    package var clipNorm: Double?
    package var beta1: Double
    package var beta2: Double
    package var epsilon: Double
    package var weightDecay: Double
    /// What the step was built from, JSON with sorted keys.
    package var report: String

    package var isSkipped: Bool { number == 0 }

    package init(
        number: UInt64, learningRate: Double, clipNorm: Double?, beta1: Double, beta2: Double, epsilon: Double,
        weightDecay: Double, report: String
    ) {
        self.number = number
        self.learningRate = learningRate
        self.clipNorm = clipNorm
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.report = report
    }
}

/// A training epoch: a fixed list of members that take steps together. Any change of members ends it; the next one
/// starts from the last snapshot and repeats the steps since, from the journaled rollouts, to the same bits.
struct TrainingRun: Sendable {
    enum Phase: Sendable, Equatable {
        /// Members take the state from a snapshot.
        case loading
        /// Every member is at `version`.
        case ready
        /// The shell cuts the step into cells.
        case building
        case gradients
        case applying
        /// Members write their part of a snapshot; the shell then names it.
        case snapshot
        case sealing
    }

    let epoch: UInt32
    /// By rank.
    let members: [WorkerNumber]
    /// Experts that each member owns.
    let experts: [[Int]]
    let model: UInt32
    var version: UInt64
    var phase = Phase.loading
    var since: MonotonicInstant
    var orderedAt: MonotonicInstant
    var plan: StepPlan?
    var prepared: WireStepPrepared?
    var answered: Set<WorkerNumber> = []
    /// Members that could not read the checkpoint, and why.
    var unreadable: [WorkerNumber: String] = [:]
    var sealed: [WorkerNumber: WireStepSealed] = [:]
    /// Cells of the step that each member had when it was asked last and the step was not whole there.
    var heldCells: [WorkerNumber: Int] = [:]
    var applied: [WorkerNumber: WireStepApplied] = [:]
    /// Last group that has been opened in the ledger.
    var openedGroups: Int?
    /// A snapshot that failed, and why, is tried again later.
    var failedSnapshot: (problem: String, retryAt: MonotonicInstant)?

    mutating func enter(_ phase: Phase, _ now: MonotonicInstant) {
        self.phase = phase
        since = now
        orderedAt = now
        answered = []
    }

    /// Members that have not answered the order of this phase.
    var owing: [WorkerNumber] {
        switch phase {
        case .loading, .snapshot: missing
        case .gradients: members.filter { sealed[$0] == nil }
        case .applying: members.filter { applied[$0] == nil }
        case .ready, .building, .sealing: []
        }
    }

    var missing: [WorkerNumber] { members.filter { !answered.contains($0) } }
}

extension JobRecord {
    package var isTraining: Bool { admitted.stepCount > 0 }
    package var stepCount: UInt64 { UInt64(admitted.stepCount) }

    /// Updates that the optimizer has made before the step from `version`: steps that had no sequence made none.
    package func updateCount(before version: UInt64) -> UInt64 {
        admitted.earlierUpdates + version - UInt64((0..<version).count { prepared[$0]?.skipped == true })
    }

    /// The batch of rollouts that the step from `version` is made of.
    func batch(of version: UInt64) -> Int { Int(version) / max(1, Int(admitted.updatesPerBatch)) }

    /// The groups of one round of a batch: its first `prompts_per_batch`, or a refill.
    package func groups(ofBatch batch: Int, round: Int) -> Range<Int> {
        let count = Int(admitted.promptsPerBatch)
        let first = (batch * (1 + Int(admitted.refillMax)) + round) * count
        return first..<first + count
    }

    /// The groups that a batch is trained on once all of its rounds are recorded, and those of its next round while they
    /// are not: a pure function of what is recorded. With refills, groups whose rewards are all equal are passed over as
    /// long as there are others.
    package func groups(ofBatch batch: Int) -> (chosen: [Int], open: [Int]) {
        let count = Int(admitted.promptsPerBatch)
        var useful: [Int] = []
        var others: [Int] = []
        for round in 0...Int(admitted.refillMax) {
            let groups = groups(ofBatch: batch, round: round)
            let open = groups.filter { failedGroups[$0] == nil && !missingSiblings($0).isEmpty }
            if !open.isEmpty { return ([], open) }
            for group in groups where failedGroups[group] == nil {
                if admitted.refillMax == 0 || hasDifference(group) {
                    useful.append(group)
                } else {
                    others.append(group)
                }
            }
            if useful.count >= count || admitted.refillMax == 0 { break }
        }
        return (Array((useful + others).prefix(count)).sorted(), [])
    }

    /// Version of the policy that generates a group.
    package func policyVersion(ofGroup group: Int) -> UInt64 {
        guard isTraining, admitted.promptsPerBatch > 0 else { return 0 }
        return UInt64(group / (Int(admitted.promptsPerBatch) * (1 + Int(admitted.refillMax))))
            * UInt64(max(1, admitted.updatesPerBatch))
    }
}
