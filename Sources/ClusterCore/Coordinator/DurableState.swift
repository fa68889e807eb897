// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator knows after `kill -9`: the fold of its journal. Live changes go through the same `apply`, so a
// replay cannot differ from what happened.
package import ClusterProtocol
internal import ClusterTransport
package import Foundation

/// Names one sequence of a job.
package struct SequenceID: Hashable, Sendable, Comparable {
    package let group: Int
    package let sibling: Int

    package init(group: Int, sibling: Int) {
        self.group = group
        self.sibling = sibling
    }

    package static func < (a: Self, b: Self) -> Bool { (a.group, a.sibling) < (b.group, b.sibling) }
}

/// The durable part of one job.
package struct JobRecord: Sendable {
    package let admitted: WireJobAdmitted
    /// Digests of recorded rollouts and scores.
    package private(set) var rollouts: [SequenceID: Data] = [:]
    package private(set) var scores: [SequenceID: Data] = [:]
    package private(set) var failedGroups: [Int: String] = [:]
    package private(set) var ended: WireJobEnded?
    /// Of a training job: steps by the version they start from, state hashes by version.
    package private(set) var prepared: [UInt64: WireStepPrepared] = [:]
    package private(set) var committed: [UInt64: Data] = [:]
    /// Checkpoints that are kept, oldest first.
    package private(set) var snapshots: [WireSnapshotTaken] = []
    /// Those that could not be used.
    private(set) var lostSnapshots: [WireSnapshotLost] = []
    /// What is told of a job whose records are removed.
    private(set) var summary: WireJobView?
    package private(set) var tokenCount: UInt64 = 0
    /// Groups of which two recorded responses differ in their reward.
    private var groupRewards: [Int: (first: Double, differs: Bool)] = [:]
    package private(set) var rewardSum = 0.0
    package private(set) var rewardCount: UInt64 = 0
    // Counted as records come: the coordinator asks at every event, of jobs with many thousands of groups.
    /// Per group the rollouts and scores that are not recorded yet.
    private var missingRollouts: [Int]
    private var missingScores: [Int]
    /// Groups in which nothing is left to do, and groups that still generate.
    package private(set) var doneGroupCount = 0
    private(set) var generatingGroupCount = 0
    /// Groups from the first on of which nothing is left to do: what the run's files can hold so far.
    package private(set) var finishedGroupCount = 0

    init(_ admitted: WireJobAdmitted) {
        self.admitted = admitted
        let (groups, size) = (Int(admitted.groupCount), Int(admitted.groupSize))
        missingRollouts = Array(repeating: admitted.policyModel == 0 ? 0 : size, count: groups)
        missingScores = Array(repeating: admitted.scoreModel == 0 ? 0 : size, count: groups)
        for group in 0..<groups { count(group, 1) }
    }

    /// Adds a group to the counts, or takes it away before it changes.
    private mutating func count(_ group: Int, _ change: Int) {
        if failedGroups[group] != nil || isDone(group) { doneGroupCount += change }
        if failedGroups[group] == nil, missingRollouts[group] > 0 { generatingGroupCount += change }
        while finishedGroupCount < groupCount, isFinished(finishedGroupCount) { finishedGroupCount += 1 }
    }

    /// Whether nothing is left to do of a group: it failed, or every response and every score is recorded.
    package func isFinished(_ group: Int) -> Bool { failedGroups[group] != nil || isDone(group) }

    /// The record without the digests of what is recorded, which may be many: for whoever writes the run's files.
    package var withoutDigests: JobRecord {
        var record = self
        record.rollouts = [:]
        record.scores = [:]
        record.groupRewards = [:]
        return record
    }

    /// Whether anything came of the job.
    package var isUntouched: Bool {
        rollouts.isEmpty && scores.isEmpty && prepared.isEmpty && failedGroups.isEmpty && !isForgotten
    }
    /// Whether its records are removed.
    package var isForgotten: Bool { summary != nil }

    package var id: UInt64 { admitted.job }
    package var groupCount: Int { Int(admitted.groupCount) }
    package var groupSize: Int { Int(admitted.groupSize) }
    package var hasRollouts: Bool { admitted.policyModel != 0 }
    /// The models that it names, each once.
    package var models: [UInt32] {
        var result: [UInt32] = []
        for id in [admitted.policyModel, admitted.scoreModel] + admitted.furtherScoreModels
        where id != 0 && !result.contains(id) {
            result.append(id)
        }
        return result
    }
    package var hasScores: Bool { admitted.scoreModel != 0 }

    /// Groups that the job is to have, without those that only replace others.
    private var plannedGroupCount: Int { groupCount / (1 + Int(admitted.refillMax)) }

    /// Why the job has failed although it could go on: more of its groups did than it allows; nil: not so many. A job of an
    /// older journal names no share and may lose any.
    package var tooManyFailedGroups: String? {
        let most = admitted.failedGroupsMax
        guard most > 0 || !admitted.dataHashes.isEmpty,
            Double(failedGroups.count) > most * Double(plannedGroupCount)
        else { return nil }
        return "\(failedGroups.count) of \(plannedGroupCount) groups failed, more than the share of \(most) that "
            + "max_failed_groups allows: \(failureReasons)"
    }

    /// Why training cannot go on after a group has failed: too many did, or a whole batch, which teaches nothing.
    func trainingProblem(after group: Int) -> String? {
        let count = Int(admitted.promptsPerBatch) * (1 + Int(admitted.refillMax))
        if count > 0, admitted.failedGroupsMax < 1, !admitted.dataHashes.isEmpty {
            let batch = group / count
            if (batch * count..<(batch + 1) * count).allSatisfy({ failedGroups[$0] != nil }) {
                return "all \(count) groups of batch \(batch + 1) failed: \(failureReasons)"
            }
        }
        return tooManyFailedGroups
    }

    /// Why groups failed, each reason once with its number, the most frequent first.
    package var failureReasons: String {
        let counts = Dictionary(failedGroups.values.map { ($0, 1) }, uniquingKeysWith: +)
        let sorted = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
        return sorted.prefix(3).map { "\($0.value) x \($0.key)" }.joined(separator: "; ")
            + (sorted.count > 3 ? "; and \(sorted.count - 3) other reasons" : "")
    }

    package func isRecorded(_ sequence: SequenceID, score: Bool) -> Data? {
        score ? scores[sequence] : rollouts[sequence]
    }

    /// Siblings of a group whose rollouts are not recorded yet.
    package func missingSiblings(_ group: Int) -> [Int] {
        (0..<groupSize).filter { rollouts[SequenceID(group: group, sibling: $0)] == nil }
    }

    mutating func apply(_ recorded: WireUnitRecorded) {
        let id = SequenceID(group: Int(recorded.group), sibling: Int(recorded.sibling))
        if missingRollouts.indices.contains(id.group) { count(id.group, -1) }
        defer { if missingRollouts.indices.contains(id.group) { count(id.group, 1) } }
        if recorded.isScore {
            if scores.updateValue(recorded.digest, forKey: id) == nil, missingScores.indices.contains(id.group) {
                missingScores[id.group] -= 1
            }
        } else {
            if rollouts.updateValue(recorded.digest, forKey: id) == nil, missingRollouts.indices.contains(id.group) {
                missingRollouts[id.group] -= 1
            }
            tokenCount += UInt64(recorded.tokenCount)
            if recorded.hasReward_p {
                rewardSum += recorded.reward
                let first = groupRewards[id.group]?.first ?? recorded.reward
                let differs = groupRewards[id.group]?.differs ?? false
                groupRewards[id.group] = (first, differs || recorded.reward != first)
                rewardCount += 1
            }
        }
    }

    /// Whether the rewards of a recorded group are not all equal.
    func hasDifference(_ group: Int) -> Bool { groupRewards[group]?.differs ?? false }

    mutating func fail(group: Int, _ reason: String) {
        let isCounted = missingRollouts.indices.contains(group)
        if isCounted { count(group, -1) }
        failedGroups[group] = reason
        if isCounted { count(group, 1) }
    }
    mutating func end(_ ended: WireJobEnded) { self.ended = ended }

    /// Keeps nothing but what is told of an ended job.
    mutating func apply(_ forgotten: WireJobForgotten) {
        guard ended != nil else { return }
        summary = forgotten.summary
        rollouts = [:]
        scores = [:]
        failedGroups = [:]
        prepared = [:]
        committed = [:]
        snapshots = []
        groupRewards = [:]
        missingRollouts = []
        missingScores = []
    }
    mutating func apply(_ step: WireStepPrepared) { prepared[step.version] = step }
    mutating func apply(_ step: WireStepCommitted) { committed[step.version] = step.digest }

    /// The checkpoint that the job goes on from; nil: from the weights that it was given.
    package var snapshot: WireSnapshotTaken? { snapshots.last }

    /// A new checkpoint replaces older ones: kept are the newest of those that were due by number, and the new one. A run
    /// leaves the same checkpoints whoever came and went.
    mutating func apply(_ taken: WireSnapshotTaken) {
        snapshots.removeAll { $0.version >= taken.version }
        snapshots.append(taken)
        let every = UInt64(max(1, admitted.snapshotEvery))
        let due = snapshots.map(\.version).filter { $0 % every == 0 || $0 == stepCount }
        let kept = due.suffix(admitted.snapshotKeep == 0 ? 2 : Int(admitted.snapshotKeep)) + [taken.version]
        snapshots.removeAll { !kept.contains($0.version) }
    }

    mutating func apply(_ lost: WireSnapshotLost) {
        snapshots.removeAll { $0.version == lost.version }
        lostSnapshots.append(lost)
    }

    func isDone(_ group: Int) -> Bool { missingRollouts[group] == 0 && missingScores[group] == 0 }

    /// Whether responses of the group are still to be generated.
    package func isGenerating(_ group: Int) -> Bool { missingRollouts[group] > 0 }
}

/// Everything that survives the coordinator.
package struct DurableState: Sendable {
    package private(set) var epoch: UInt64 = 0
    package private(set) var jobs: [UInt64: JobRecord] = [:]
    package private(set) var models: [UInt32: WireModelDescription] = [:]
    /// Those of them that have ended and are not forgotten, in the order of their ends.
    private(set) var endedJobs: [UInt64] = []
    private(set) var lastForgotten: UInt64?
    /// Copies of the experts of models that an operator has scaled.
    package private(set) var replicas: [UInt32: UInt32] = [:]
    /// Incarnations that an operator has drained, the last of each key.
    private var drained: [String: UInt64] = [:]

    package init() {}

    /// Folds a journal, oldest entry first.
    package init(replaying entries: some Sequence<WireJournalEntry>) {
        for entry in entries { apply(entry) }
    }

    func isDrained(_ peer: PeerIdentity, _ incarnation: UInt64) -> Bool { drained[peer.rawValue] == incarnation }

    package var nextJob: UInt64 { (jobs.keys.max() ?? 0) + 1 }

    mutating func apply(_ entry: WireJournalEntry) {
        switch entry.change {
        case .epochStarted(let started): epoch = started.epoch
        case .modelRegistered(let registered): models[registered.model.id] = registered.model
        case .jobAdmitted(let admitted): jobs[admitted.job] = JobRecord(admitted)
        case .unitRecorded(let recorded): jobs[recorded.job]?.apply(recorded)
        case .groupFailed(let failed): jobs[failed.job]?.fail(group: Int(failed.group), failed.reason)
        case .stepPrepared(let step): jobs[step.job]?.apply(step)
        case .stepCommitted(let step): jobs[step.job]?.apply(step)
        case .snapshotTaken(let taken): jobs[taken.job]?.apply(taken)
        case .snapshotLost(let lost): jobs[lost.job]?.apply(lost)
        case .jobEnded(let ended):
            jobs[ended.job]?.end(ended)
            endedJobs.append(ended.job)
        case .jobForgotten(let forgotten):
            jobs[forgotten.job]?.apply(forgotten)
            endedJobs.removeAll { $0 == forgotten.job }
            lastForgotten = forgotten.job
        case .modelScaled(let scaled): replicas[scaled.model] = scaled.replicas
        case .drainBegun(let drain): drained[drain.identity] = drain.incarnation
        case nil: break
        }
    }
}

extension WireJournalEntry {
    /// The job whose detail this is: once that is forgotten, so can this be.
    package var detailOfJob: UInt64? {
        switch change {
        case .unitRecorded(let recorded): recorded.job
        case .groupFailed(let failed): failed.job
        case .stepPrepared(let step): step.job
        case .stepCommitted(let step): step.job
        case .snapshotTaken(let taken): taken.job
        case .snapshotLost(let lost): lost.job
        default: nil
        }
    }
}
