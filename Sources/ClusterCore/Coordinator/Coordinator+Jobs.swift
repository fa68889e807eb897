// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import RuntimeSupport
internal import SwiftProtobuf

/// The job at the head of the queue.
struct RunningJob: Sendable {
    let id: UInt64
    var ledger = WorkLedger()
    var isFinishing = false
    /// Units whose executions differed, with the digest that a third execution must confirm.
    var disputes: [Matter: Dispute] = [:]
    /// Recorded sequences that another worker computes again, and who computed them first.
    var canaries: [Matter: WorkerNumber] = [:]
    /// Recorded sequences since the last canary.
    var recordedCount: UInt64 = 0
    /// The training epoch under way, of a training job.
    var training: TrainingRun?
    /// Training epochs that failed since the last new step, and when the next one may begin.
    var restarts: (count: Int, at: MonotonicInstant, reason: String)?
    /// How often each worker could not begin from the last checkpoint.
    var unreadable: [WorkerNumber: Int] = [:]
    /// How often the state in the last checkpoint was another one than the one that was committed.
    var mismatchCount = 0
    /// Why nothing runs, and since when.
    var waiting: (text: String, since: MonotonicInstant)?

    /// A recorded sequence that is computed again.
    struct Matter: Hashable, Sendable {
        let sequence: SequenceID
        let isScore: Bool

        /// What is given out to compute it.
        var unit: WorkUnit { isScore ? .score(sequence) : .rollout(group: sequence.group) }
    }

    struct Dispute: Sendable {
        let worker: WorkerNumber
        /// Who made the durable record, where that is known: no witness while there are others.
        var recorder: WorkerNumber?
    }

    mutating func wait(_ text: String?, _ now: MonotonicInstant) {
        guard let text else { return waiting = nil }
        waiting = (text, waiting?.text == text ? waiting!.since : now)
    }
}

extension Coordinator {
    /// Jobs that have not ended, in order of submission.
    var queue: [JobRecord] { state.jobs.values.filter { $0.ended == nil }.sorted { $0.id < $1.id } }

    mutating func admit(_ prepared: PreparedJob) {
        var admitted = prepared.admitted
        if let text = judgingShortfall(admitted) {
            log("job \(admitted.job) (\(admitted.name)) refused: \(text)")
            return send(to: prepared.client, request: prepared.request) {
                $0.requestFailed.text = text
                $0.requestFailed.exitCode = 3
            }
        }
        admitted.policyModel = register(prepared.policy)
        admitted.scoreModel = register(prepared.scorer)
        admitted.furtherScoreModels = prepared.furtherScorers.map { register($0) }
        if let replaced = prepared.replaced {
            end(replaced, "failed", "its output directory was removed; job \(admitted.job) begins anew")
        }
        record(.with { $0.jobAdmitted = admitted })
        send(to: prepared.client, request: prepared.request) {
            $0.jobAccepted = .with {
                $0.job = admitted.job; $0.output = admitted.output
                $0.firstPrompt = admitted.firstPrompt
            }
        }
        log("job \(admitted.job) (\(admitted.name)) accepted: \(admitted.groupCount) groups of \(admitted.groupSize)")
    }

    private mutating func register(_ model: WireModelDescription?) -> UInt32 {
        guard var model else { return 0 }
        let known = state.models.values.first {
            $0.contentHash == model.contentHash && $0.path == model.path && $0.compute == model.compute
                && $0.policyVersion == model.policyVersion && !$0.isTrained && $0.yarnFactor == model.yarnFactor
                && $0.originalContext == model.originalContext
        }
        if !model.isTrained, let known { return known.id }
        model.id = (state.models.keys.max() ?? 0) + 1
        record(.with { $0.modelRegistered.model = model })
        return model.id
    }

    /// Moves the queue, the deployments and the leases as far as they go.
    mutating func advance(_ now: MonotonicInstant) {
        if let id = current?.id, state.jobs[id]?.ended != nil { current = nil }
        if current == nil, let next = queue.first { current = start(next) }
        // No copy of the ledger here: it would be copied whole when it changes below.
        guard let id = current?.id, let job = state.jobs[id] else {
            // The last models stay until others are needed: the next job often uses them.
            if let engine = deployments.values.first?.engine { deploy(deployments.keys.sorted(), engine, now) }
            return
        }
        if current?.isFinishing == true { return }
        if isComplete(job) || (fault == .finishesEarly && current?.ledger.isOpenEmpty == true) {
            current?.isFinishing = true
            current?.wait("its output files are being written", now)
            return emit(.finish(job: job.id))
        }
        // First: what is in training is placed anew only once its epoch has ended.
        endBrokenEpoch(now)
        let waiting =
            prepareModels(job, now) ?? (job.isTraining ? advanceTraining(job, now) : grantWork(job, now))
        if current?.id != id { return }
        current?.wait(waiting, now)
    }

    private func isComplete(_ job: JobRecord) -> Bool {
        if job.isTraining { return job.snapshot?.version == job.stepCount }
        return job.doneGroupCount == job.groupCount
    }

    private mutating func start(_ job: JobRecord) -> RunningJob {
        var running = RunningJob(id: job.id)
        if job.isTraining {
            log("job \(job.id) (\(job.admitted.name)) starts at step \(job.committed.count) of \(job.stepCount)")
            return running
        }
        // The last ones first: each then goes to the end of the ledger, where adding moves nothing.
        for group in (0..<job.groupCount).reversed() where job.failedGroups[group] == nil {
            openUnits(job, group, &running.ledger)
        }
        log("job \(job.id) (\(job.admitted.name)) starts: \(job.doneGroupCount) of \(job.groupCount) groups are done")
        return running
    }

    /// Opens what is missing of a group: first the responses, then their scores.
    private func openUnits(_ job: JobRecord, _ group: Int, _ ledger: inout WorkLedger) {
        if job.hasRollouts, job.isGenerating(group) { return ledger.add(.rollout(group: group)) }
        guard job.hasScores, !job.isTraining else { return }
        for sibling in 0..<job.groupSize {
            let id = SequenceID(group: group, sibling: sibling)
            if job.scores[id] == nil { ledger.add(.score(id)) }
        }
    }

    // MARK: - Models

    /// - Returns: what has to be waited for before work can be given out, or nil.
    private mutating func prepareModels(_ job: JobRecord, _ now: MonotonicInstant) -> String? {
        let minimum = max(1, Int(job.admitted.workersMin))
        let engine = job.admitted.engine
        let all = job.models
        let phase = phaseModels(job)
        let workers = leaveOutSmallWorkers(phase, engine, minimum: minimum)
        let hasSettled = firstJoin.map { now.milliseconds(since: $0) > times.settle } ?? false
        let wanted = deployments.isEmpty && !hasSettled ? max(minimum, expectedWorkerCount) : minimum
        if workers.count < wanted, deployments.isEmpty || workers.isEmpty {
            let cutOff = liveWorkers.compactMap { members[$0]?.cutOff }
            return (["\(wanted - workers.count) more worker\(wanted - workers.count == 1 ? "" : "s") to join"] + cutOff)
                .joined(separator: "; ")
        }
        if job.isTraining || job.hasRollouts, let text = judgingShortfall(job.admitted) {
            if deployments.isEmpty { end(job.id, "failed", text) }
            return text
        }
        // All models when they fit together; otherwise one after the other.
        let models = fits(all, engine, on: workers) ? all : phase
        if let text = shortfall(models, engine, on: workers) {
            if deployments.isEmpty { end(job.id, "failed", text) } else { deploy(models, engine, now) }
            return text
        }
        deploy(models, engine, now)
        for id in phase { if let text = loading(id) { return text } }
        return nil
    }

    /// The models that the open units need, one phase after the other.
    private func phaseModels(_ job: JobRecord) -> [UInt32] {
        if job.isTraining { return job.models }
        // Whoever generates asks the judge beside it.
        return job.hasRollouts && job.generatingGroupCount > 0
            ? [job.admitted.policyModel] + job.admitted.furtherScoreModels : [job.admitted.scoreModel]
    }

    private func loading(_ id: UInt32) -> String? {
        guard let deployment = deployments[id] else { return "model \(id) to be placed" }
        if usedWorkers.contains(where: deployment.isReady) { return nil }
        let behind = usedWorkers.filter { !deployment.trunkReady.contains($0) }
        if !behind.isEmpty { return waiting(for: behind, toLoad: deployment) }
        let orphans = deployment.placement.routes.enumerated().filter { $0.element.isEmpty }.map(\.offset)
        return "experts \(rangeText(orphans)) of \(deployment.model.path) to be loaded"
    }

    /// Who is still to load a model, and why it takes so long where that is known.
    func waiting(for workers: [WorkerNumber], toLoad deployment: Deployment) -> String {
        let failed = workers.compactMap { worker in
            deployment.problems[worker].map { "worker \(worker) tries again, since it failed: \($0.reason)" }
        }
        return (["\(names(workers)) to load \(deployment.model.path)"] + failed).joined(separator: "; ")
    }

    func names(_ workers: [WorkerNumber]) -> String { workers.map { "worker \($0)" }.joined(separator: ", ") }

    // MARK: - Work

    /// Gives open units to workers with room, one round after another so that all get some.
    /// - Returns: what is waited for, or nil while something runs.
    mutating func grantWork(_ job: JobRecord, _ now: MonotonicInstant) -> String? {
        // With nothing open and no lease old enough to repeat, nobody needs to look.
        var isGranting =
            current.map { current in
                !current.ledger.isOpenEmpty
                    || current.ledger.leases.values.contains { now.milliseconds(since: $0.granted) > times.straggler }
            } ?? false
        while isGranting {
            isGranting = false
            for worker in liveWorkers {
                guard let unit = nextUnit(for: worker, job, now) else { continue }
                give(unit, to: worker, job, now)
                isGranting = true
            }
        }
        guard let current else { return nil }
        return current.ledger.leases.isEmpty && !current.ledger.isOpenEmpty ? "a worker with room" : nil
    }

    /// Whether a worker is no witness in the matter of a unit: it has computed it already.
    private func isPartial(_ worker: WorkerNumber, _ unit: WorkUnit) -> Bool {
        guard let current else { return false }
        for (matter, dispute) in current.disputes where matter.unit == unit {
            if dispute.worker == worker { return true }
            if dispute.recorder == worker, stayingWorkers.count > 2 { return true }
        }
        return current.canaries.contains { $0.key.unit == unit && $0.value == worker }
    }

    private func model(of unit: WorkUnit, _ job: JobRecord) -> UInt32 {
        if case .rollout = unit { job.admitted.policyModel } else { job.admitted.scoreModel }
    }

    private func nextUnit(for worker: WorkerNumber, _ job: JobRecord, _ now: MonotonicInstant) -> WorkUnit? {
        guard let current, let member = members[worker], !member.isDraining, !member.isLeftOut else { return nil }
        // Others may have the model's weights as they were before the first step.
        if job.isTraining, current.training?.members.contains(worker) != true { return nil }
        // Most workers have no room: they need not look at every open unit.
        let hasRoom = [job.admitted.policyModel, job.admitted.scoreModel].contains {
            $0 != 0 && member.freeSlots($0) > 0
        }
        guard hasRoom else { return nil }
        let canJudge = judgingProblem(worker, job.admitted) == nil
        let hasMatters = !current.disputes.isEmpty || !current.canaries.isEmpty
        func canRun(_ unit: WorkUnit) -> Bool {
            let id = model(of: unit, job)
            if case .rollout = unit, !canJudge { return false }
            return member.freeSlots(id) > 0 && deployments[id]?.isReady(worker) == true
                && !(hasMatters && isPartial(worker, unit))
        }
        let mine = current.ledger.leases(of: worker)
        if mine.contains(where: { current.ledger.isSuspect($0.unit) }) { return nil }
        if let unit = current.ledger.firstOpen(where: { canRun($0) && (mine.isEmpty || !current.ledger.isSuspect($0)) })
        {
            return unit
        }
        // Nothing is open: an idle worker repeats the oldest lease of a slow one. Equal bits make that harmless.
        guard mine.isEmpty, current.ledger.isOpenEmpty else { return nil }
        return current.ledger.leases.values
            .filter {
                now.milliseconds(since: $0.granted) > times.straggler && canRun($0.unit)
                    && current.ledger.leaseCount(on: $0.unit) == 1
            }
            .min { ($0.granted, $0.id) < ($1.granted, $1.id) }?.unit
    }

    private mutating func give(_ unit: WorkUnit, to worker: WorkerNumber, _ job: JobRecord, _ now: MonotonicInstant) {
        guard let member = members[worker] else { return }
        lastLease += 1
        let lease = current!.ledger.grant(unit, to: worker, lease: lastLease, now: now)
        let siblings: [Int]
        switch unit {
        case .rollout(let group):
            let again = (Array(current!.disputes.keys) + current!.canaries.keys).filter { $0.unit == unit }
            siblings = Set(job.missingSiblings(group) + again.map(\.sequence.sibling)).sorted()
        case .score(let id): siblings = [id.sibling]
        }
        grantedCounts[job.id, default: 0] += UInt64(siblings.count)
        let model = model(of: unit, job)
        members[worker]?.grantedSinceBeat[model, default: 0] += siblings.count
        if current!.ledger.leases(of: worker).count == 1 { members[worker]?.lastProgress = now }
        emit(.grant(lease, job: job.id, model: model, siblings: siblings, to: member.identity))
    }

    /// Compares what a worker says it works on with what it was given.
    mutating func reconcile(_ worker: WorkerNumber, _ held: [UInt64], _ now: MonotonicInstant) {
        guard let member = members[worker] else { return }
        let mine = current?.ledger.leases(of: worker) ?? []
        for id in held where !mine.contains(where: { $0.id == id }) {
            send(to: member.identity) { $0.withdraw.lease = id }
        }
        // A grant may still be under way; after this long it was lost with a connection.
        if fault == .lostGrantsAreNotMissed { return }
        for lease in mine where !held.contains(lease.id) && now.milliseconds(since: lease.granted) > 5000 {
            current?.ledger.drop(lease.id)
        }
    }

    mutating func unitFailed(_ failed: WireUnitFailed, by worker: WorkerNumber) {
        guard let lease = current?.ledger.leases[failed.lease], lease.worker == worker else { return }
        log("worker \(worker) gave group \(lease.unit.group) back: \(failed.reason)")
        if current?.ledger.failed(failed.lease, countsAgainstUnit: !failed.isWorkerAtFault) == true {
            // Several executions agree, so it is no host's memory: other groups would end the same way.
            if failed.isModelAtFault, let id = current?.id {
                return end(
                    id, "failed", "\(failed.reason): its weights are damaged or have diverged (apus model verify)")
            }
            failGroup(lease.unit.group, failed.reason)
        }
    }

    // MARK: - Results

    mutating func accept(_ result: WireUnitResult, from peer: PeerIdentity) {
        let (sequence, isScore) = result.sequence
        func acknowledge() {
            send(to: peer) {
                $0.resultAcknowledgement = .with {
                    $0.job = result.job
                    $0.isScore = isScore
                    $0.group = UInt32(sequence.group)
                    $0.sibling = UInt32(sequence.sibling)
                }
            }
        }
        let found = examine(result)
        if found.isOver { return acknowledge() }
        if let problem = found.problem {
            log("a record of \(peer) was refused: \(problem)")
            acknowledge()
            if result.malformation != nil, let number = number(of: peer) {
                strikes[peer, default: 0] += 1
                if strikes[peer]! >= Self.strikeCount {
                    return quarantine(number, "\(Self.strikeCount) of its results were malformed, the last: \(problem)")
                }
            }
            if let number = number(of: peer) {
                unitFailed(
                    .with {
                        $0.lease = result.lease; $0.reason = problem
                    }, by: number)
            }
            return
        }
        let digest = result.digest
        if let recorded = found.recorded, fault != .recordsTwice {
            // What tools said twice may differ without anybody's fault: the first durable record counts.
            let isEqual = recorded == digest || result.hasObservations
            settle(sequence, isScore, isEqual: isEqual, result, from: peer)
            return acknowledge()
        }
        record(
            .with {
                $0.unitRecorded = .with {
                    $0.job = result.job
                    $0.isScore = isScore
                    $0.group = UInt32(sequence.group)
                    $0.sibling = UInt32(sequence.sibling)
                    $0.digest = digest
                    $0.tokenCount = result.tokenCount
                    if let reward = result.totalReward { $0.reward = reward; $0.hasReward_p = true }
                }
            }, content: result)
        acknowledge()
        noteRecorded(sequence, isScore: isScore)
        if !result.hasObservations { plantCanary(sequence, isScore: isScore, recorder: peer) }
    }

    /// Malformed results after which a key is shut out.
    private static let strikeCount = 3

    /// Now and then a recorded sequence is computed again by another worker: equal bits are the proof that both compute
    /// rightly.
    private mutating func plantCanary(_ sequence: SequenceID, isScore: Bool, recorder: PeerIdentity) {
        guard times.canaryEvery > 0, let id = current?.id, let number = number(of: recorder) else { return }
        current!.recordedCount += 1
        // Of a whole group: its other siblings would be computed twice as well. Not of a policy that has changed meanwhile.
        guard current!.recordedCount >= times.canaryEvery, stayingWorkers.count > 1, let job = state.jobs[id],
            !job.isTraining, isScore || !job.isGenerating(sequence.group)
        else { return }
        let matter = RunningJob.Matter(sequence: sequence, isScore: isScore)
        current!.recordedCount = 0
        current!.canaries[matter] = number
        current!.ledger.add(matter.unit)
    }

    private mutating func noteRecorded(_ sequence: SequenceID, isScore: Bool) {
        guard current != nil, let job = state.jobs[current!.id] else { return }
        let unit: WorkUnit = isScore ? .score(sequence) : .rollout(group: sequence.group)
        current!.ledger.noteProgress(unit)
        if !isScore, job.isGenerating(sequence.group) { return }
        close(unit)
        openUnits(job, sequence.group, &current!.ledger)
    }

    private mutating func close(_ unit: WorkUnit) {
        for lease in current?.ledger.close(unit) ?? [] {
            guard let member = members[lease.worker] else { continue }
            send(to: member.identity) { $0.withdraw.lease = lease.id }
        }
    }

    /// A unit came twice. Equal is the rule; otherwise a third execution decides who computes wrongly.
    private mutating func settle(
        _ sequence: SequenceID, _ isScore: Bool, isEqual: Bool, _ result: WireUnitResult, from peer: PeerIdentity
    ) {
        guard let number = number(of: peer), current?.id == result.job else { return }
        let matter = RunningJob.Matter(sequence: sequence, isScore: isScore)
        let unit = matter.unit
        if let dispute = current?.disputes[matter] {
            if dispute.worker == number || (dispute.recorder == number && stayingWorkers.count > 2) { return }
            current?.disputes[matter] = nil
            finish(again: unit)
            let place = "group \(sequence.group), sibling \(sequence.sibling)"
            if isEqual {
                log("\(place): the record was confirmed; worker \(dispute.worker) computes other bits and is shut out")
                quarantine(dispute.worker, "its results differ from those of two other executions")
            } else {
                end(
                    result.job, "failed",
                    "\(place): the durable record could not be reproduced by workers "
                        + "\(dispute.worker) and \(number): check the memory of the host that made it")
            }
        } else if !isEqual {
            log(
                "group \(sequence.group), sibling \(sequence.sibling): worker \(number) got other bits; a third execution decides"
            )
            let recorder = current?.canaries.removeValue(forKey: matter)
            current?.disputes[matter] = .init(worker: number, recorder: recorder)
            current?.ledger.add(unit)
        } else if let recorder = current?.canaries[matter], recorder != number {
            current?.canaries[matter] = nil
            finish(again: unit)
        }
    }

    /// Ends what was done again, unless something of the unit is still missing.
    private mutating func finish(again unit: WorkUnit) {
        guard let current, let job = state.jobs[current.id] else { return }
        if case .rollout(let group) = unit, job.isGenerating(group) { return }
        let isWanted =
            current.disputes.keys.contains { $0.unit == unit } || current.canaries.keys.contains { $0.unit == unit }
        if !isWanted { close(unit) }
    }

    /// Whether nobody wants the result any more, what is wrong with it, and the digest of the record that is there
    /// already. A function of its own: a job that were still held when its record is made would be copied, tables and all.
    private func examine(_ result: WireUnitResult) -> (isOver: Bool, problem: String?, recorded: Data?) {
        let (sequence, isScore) = result.sequence
        guard let job = state.jobs[result.job], job.ended == nil, job.failedGroups[sequence.group] == nil else {
            return (true, nil, nil)
        }
        return (false, problem(with: result, job), job.isRecorded(sequence, score: isScore))
    }

    private func problem(with result: WireUnitResult, _ job: JobRecord) -> String? {
        let (sequence, isScore) = result.sequence
        guard sequence.group < job.groupCount, sequence.sibling < job.groupSize else {
            return "group \(sequence.group), sibling \(sequence.sibling) is not of this job"
        }
        guard isScore ? job.hasScores : job.hasRollouts else { return "this job wants no such record" }
        if let numericsFingerprint, result.numericsFingerprint != numericsFingerprint {
            return "it was computed with other kernels"
        }
        if result.byteCount > WireUnitResult.byteCountMax {
            return "it has \(result.byteCount) bytes, and the journal keeps \(WireUnitResult.byteCountMax) at most"
        }
        let model = state.models[isScore ? job.admitted.scoreModel : job.admitted.policyModel]
        let version = job.isTraining ? job.policyVersion(ofGroup: sequence.group) : model?.policyVersion
        guard result.policyVersion == version else { return "policy version \(result.policyVersion)" }
        return result.problem
    }

    mutating func failGroup(_ group: Int, _ reason: String) {
        guard let current, let job = state.jobs[current.id], job.failedGroups[group] == nil else { return }
        if !job.isGenerating(group), job.isTraining || job.isFinished(group) {
            // Whoever failed was to compute it once more, for a comparison: what is recorded stands.
            self.current?.disputes = current.disputes.filter { $0.key.sequence.group != group }
            self.current?.canaries = current.canaries.filter { $0.key.sequence.group != group }
            return closeUnits(job, group)
        }
        record(
            .with {
                $0.groupFailed = .with {
                    $0.job = current.id; $0.group = UInt32(group); $0.reason = reason
                }
            })
        log("group \(group) of job \(current.id) failed: \(reason)")
        closeUnits(job, group)
    }

    private mutating func closeUnits(_ job: JobRecord, _ group: Int) {
        close(.rollout(group: group))
        for sibling in 0..<job.groupSize { close(.score(SequenceID(group: group, sibling: sibling))) }
        // Other jobs go on to the end: what their other groups gave is worth having.
        if job.isTraining, let problem = state.jobs[job.id]?.trainingProblem(after: group) {
            end(job.id, "failed", problem)
        }
    }

    // MARK: - Ends

    mutating func written(_ job: UInt64, _ problem: String?) {
        guard let record = state.jobs[job], record.ended == nil else { return }
        if let problem { return end(job, "failed", problem) }
        let failed = record.failedGroups.count
        if !record.isTraining, failed == record.groupCount {
            end(job, "failed", "every group failed: \(record.failureReasons)")
        } else if let problem = record.tooManyFailedGroups {
            end(job, "failed", problem)
        } else {
            end(job, "done", failed == 0 ? "" : "\(failed) of \(record.groupCount) groups failed")
        }
    }

    mutating func end(_ job: UInt64, _ status: String, _ problem: String) {
        guard state.jobs[job]?.ended == nil else { return }
        record(
            .with {
                $0.jobEnded = .with {
                    $0.job = job; $0.status = status; $0.problem = problem
                }
            })
        log("job \(job) \(status)\(problem.isEmpty ? "" : ": \(problem)")")
        defer { forgetOldJobs() }
        guard current?.id == job else { return }
        if let run = current?.training {
            for worker in run.members {
                guard let member = members[worker] else { continue }
                send(to: member.identity) { $0.trainAbort.epoch = run.epoch }
            }
            // Its weights are nobody else's: the next job loads what it names.
            undeploy(run.model)
        }
        for lease in (current?.ledger.leases.values.sorted { $0.id < $1.id }) ?? [] {
            guard let member = members[lease.worker] else { continue }
            send(to: member.identity) { $0.withdraw.lease = lease.id }
        }
        current = nil
    }

    /// Ended jobs whose records are kept: what writes their last files may still be at it.
    private static let keptJobCount = 2

    /// The journal does not grow with the jobs that have ended.
    private mutating func forgetOldJobs() {
        for id in state.endedJobs.dropLast(Self.keptJobCount) {
            guard let job = state.jobs[id] else { continue }
            let summary = view(job, MonotonicInstant(nanoseconds: 0))
            record(
                .with {
                    $0.jobForgotten = .with {
                        $0.job = id; $0.summary = summary
                    }
                })
            emit(.forget(job: id))
        }
    }

    mutating func cancel(_ cancel: WireCancelJob, _ peer: PeerIdentity, _ envelope: WireEnvelope) {
        guard let job = state.jobs[cancel.job] else {
            return reply(to: peer, envelope) {
                $0.requestFailed = .with {
                    $0.exitCode = 2; $0.text = "there is no job \(cancel.job); see apus jobs"
                }
            }
        }
        guard job.ended == nil else {
            return reply(to: peer, envelope) {
                $0.requestFailed = .with {
                    $0.exitCode = 2; $0.text = "job \(cancel.job) has already ended: \(job.ended!.status)"
                }
            }
        }
        end(cancel.job, "cancelled", "")
        reply(to: peer, envelope) { $0.done = WireDone() }
    }
}
