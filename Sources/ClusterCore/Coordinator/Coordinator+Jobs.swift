// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

/// The job at the head of the queue.
struct RunningJob: Sendable {
    let id: UInt64
    var ledger = WorkLedger()
    var isFinishing = false
    /// Units whose executions differed, with the digest that a third execution must confirm.
    var disputes: [SequenceID: Dispute] = [:]
    /// The training epoch under way, of a training job.
    var training: TrainingRun?
    /// Why nothing runs, and since when.
    var waiting: (text: String, since: MonotonicInstant)?

    struct Dispute: Sendable {
        let isScore: Bool
        let worker: WorkerNumber
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
        admitted.policyModel = register(prepared.policy)
        admitted.scoreModel = register(prepared.scorer)
        admitted.furtherScoreModels = prepared.furtherScorers.map { register($0) }
        record(.with { $0.jobAdmitted = admitted })
        send(to: prepared.client, request: prepared.request) {
            $0.jobAccepted = .with {
                $0.job = admitted.job; $0.output = admitted.output
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
            if let engine = deployments.values.first?.engine { deploy(deployments.keys.sorted(), engine) }
            return
        }
        if current?.isFinishing == true { return }
        if isComplete(job) || (fault == .finishesEarly && current?.ledger.isOpenEmpty == true) {
            current?.isFinishing = true
            current?.wait("its output files are being written", now)
            return emit(.finish(job: job.id))
        }
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
        for group in 0..<job.groupCount where job.failedGroups[group] == nil {
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
        let workers = liveWorkers
        let hasSettled = firstJoin.map { now.milliseconds(since: $0) > times.settle } ?? false
        let wanted = deployments.isEmpty && !hasSettled ? max(minimum, expectedWorkerCount) : minimum
        if workers.count < wanted, deployments.isEmpty || workers.isEmpty {
            return "\(wanted - workers.count) more worker\(wanted - workers.count == 1 ? "" : "s") to join"
        }
        let engine = job.admitted.engine
        let all = job.models
        let phase = phaseModels(job)
        // All models when they fit together; otherwise one after the other.
        let models = fits(all, engine, on: workers) ? all : phase
        if let text = shortfall(models, engine, on: workers) {
            if deployments.isEmpty { end(job.id, "failed", text) } else { deploy(models, engine) }
            return text
        }
        deploy(models, engine)
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
        if liveWorkers.contains(where: deployment.isReady) { return nil }
        let behind = liveWorkers.filter { !deployment.trunkReady.contains($0) }.map { "worker \($0)" }
        if !behind.isEmpty { return "\(behind.joined(separator: ", ")) to load \(deployment.model.path)" }
        let orphans = deployment.placement.routes.enumerated().filter { $0.element.isEmpty }.map(\.offset)
        return "experts \(rangeText(orphans)) of \(deployment.model.path) to be loaded"
    }

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

    private func model(of unit: WorkUnit, _ job: JobRecord) -> UInt32 {
        if case .rollout = unit { job.admitted.policyModel } else { job.admitted.scoreModel }
    }

    private func nextUnit(for worker: WorkerNumber, _ job: JobRecord, _ now: MonotonicInstant) -> WorkUnit? {
        guard let current, let member = members[worker] else { return nil }
        // Most workers have no room: they need not look at every open unit.
        let hasRoom = [job.admitted.policyModel, job.admitted.scoreModel].contains {
            $0 != 0 && member.freeSlots($0) > 0
        }
        guard hasRoom else { return nil }
        func canRun(_ unit: WorkUnit) -> Bool {
            let id = model(of: unit, job)
            return member.freeSlots(id) > 0 && deployments[id]?.isReady(worker) == true
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
            let disputed = current!.disputes.keys.filter { $0.group == group }.map(\.sibling)
            siblings = (job.missingSiblings(group) + disputed).sorted()
        case .score(let id): siblings = [id.sibling]
        }
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
        guard let job = state.jobs[result.job], job.ended == nil, job.failedGroups[sequence.group] == nil else {
            return acknowledge()
        }
        if let problem = problem(with: result, job) {
            log("a record of \(peer) was refused: \(problem)")
            acknowledge()
            if let number = number(of: peer) {
                unitFailed(
                    .with {
                        $0.lease = result.lease; $0.reason = problem
                    }, by: number)
            }
            return
        }
        let digest = result.digest
        if let recorded = job.isRecorded(sequence, score: isScore), fault != .recordsTwice {
            settle(sequence, isScore, isEqual: recorded == digest, result, from: peer)
            return acknowledge()
        }
        // Nothing of `job` from here on: a copy that lives on would make the change copy the job's tables.
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
        let unit: WorkUnit = isScore ? .score(sequence) : .rollout(group: sequence.group)
        if let dispute = current?.disputes[sequence] {
            if dispute.worker == number { return }
            current?.disputes[sequence] = nil
            close(unit)
            let place = "group \(sequence.group), sibling \(sequence.sibling)"
            if isEqual {
                log("\(place): the record was confirmed; worker \(dispute.worker) computes other bits and is shut out")
                bury(dispute.worker, "its results differ from those of two other executions")
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
            current?.disputes[sequence] = .init(isScore: isScore, worker: number)
            current?.ledger.add(unit)
        }
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
        let model = state.models[isScore ? job.admitted.scoreModel : job.admitted.policyModel]
        let version = job.isTraining ? job.policyVersion(ofGroup: sequence.group) : model?.policyVersion
        guard result.policyVersion == version else { return "policy version \(result.policyVersion)" }
        return result.problem
    }

    mutating func failGroup(_ group: Int, _ reason: String) {
        guard let current, let job = state.jobs[current.id], job.failedGroups[group] == nil else { return }
        record(
            .with {
                $0.groupFailed = .with {
                    $0.job = current.id; $0.group = UInt32(group); $0.reason = reason
                }
            })
        log("group \(group) of job \(current.id) failed: \(reason)")
        close(.rollout(group: group))
        for sibling in 0..<job.groupSize { close(.score(SequenceID(group: group, sibling: sibling))) }
    }

    // MARK: - Ends

    mutating func written(_ job: UInt64, _ problem: String?) {
        guard let record = state.jobs[job], record.ended == nil else { return }
        if let problem { return end(job, "failed", problem) }
        let failed = record.failedGroups.count
        if record.isTraining {
            end(job, "done", failed == 0 ? "" : "\(failed) of \(record.groupCount) groups failed")
        } else if failed == record.groupCount {
            end(job, "failed", "every group failed; the first: \(record.failedGroups.min { $0.key < $1.key }!.value)")
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
        guard current?.id == job else { return }
        if let run = current?.training {
            for worker in run.members {
                guard let member = members[worker] else { continue }
                send(to: member.identity) { $0.trainAbort.epoch = run.epoch }
            }
            // Its weights are nobody else's: the next job loads what it names.
            deployments[run.model] = nil
            for worker in liveWorkers {
                members[worker]?.reports[run.model] = nil
                send(to: members[worker]!.identity) { $0.undeploy.model = run.model }
            }
        }
        for lease in (current?.ledger.leases.values.sorted { $0.id < $1.id }) ?? [] {
            guard let member = members[lease.worker] else { continue }
            send(to: member.identity) { $0.withdraw.lease = lease.id }
        }
        current = nil
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
