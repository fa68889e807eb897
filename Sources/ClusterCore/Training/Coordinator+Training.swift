// SPDX-License-Identifier: Apache-2.0
//
// A training job: batches of rollouts under one version of the weights, then one or more optimizer steps that all live
// workers take together. `prepared` makes a step's clip factor and learning rate durable before anybody applies them,
// `committed` the hash of the state after it; a repeated step must reproduce both.
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import RuntimeSupport
internal import SwiftProtobuf

extension Coordinator {
    /// An order without an answer is repeated after this time; members answer repeats from memory.
    static let repeatMilliseconds: UInt64 = 5000
    /// Epochs that may end without a committed step in between before the job is given up.
    private static let restartMax = 10

    /// Moves a training job as far as it goes.
    /// - Returns: what is waited for.
    mutating func advanceTraining(_ job: JobRecord, _ now: MonotonicInstant) -> String? {
        endBrokenEpoch(now)
        guard var run = current?.training else {
            if let restarts = current?.restarts, now < restarts.at {
                return "another try at step \((job.snapshot?.version ?? 0) + 1) (failure \(restarts.count) of "
                    + "\(Self.restartMax), then it is given up): \(restarts.reason)"
            }
            return beginEpoch(job, now)
        }
        defer { if current?.training?.epoch == run.epoch { current?.training = run } }
        repeatOrders(job, &run, now)
        while true {
            let before = (run.phase, run.version)
            // A step changes what is durable of the job.
            guard let job = state.jobs[job.id], job.ended == nil else { return nil }
            let text = advance(job, &run, now)
            if before == (run.phase, run.version) || current?.id != job.id { return text }
        }
    }

    private mutating func advance(_ job: JobRecord, _ run: inout TrainingRun, _ now: MonotonicInstant) -> String? {
        switch run.phase {
        case .loading:
            guard run.missing.isEmpty else { return waiting(run, "to load the training state") }
            if !run.unreadable.isEmpty {
                beginningFailed(job, run, now)
                return nil
            }
            if let committed = job.committed[run.version], digest(run) != committed {
                stateDiffers(job, run, now)
                return nil
            }
            current?.unreadable = [:]
            current?.mismatchCount = 0
            run.enter(.ready, now)
            return nil
        case .ready: return continueFromReady(job, &run, now)
        case .building: return "step \(run.version + 1) to be cut into cells"
        case .gradients:
            guard run.sealed.count == run.members.count else { return waiting(run, "to finish gradients") }
            return prepare(job, &run, now)
        case .applying:
            guard run.applied.count == run.members.count else { return waiting(run, "to apply the step") }
            return commit(job, &run, now)
        case .snapshot:
            guard run.missing.isEmpty else { return waiting(run, "to write the checkpoint") }
            run.enter(.sealing, now)
            emit(.sealSnapshot(job: job.id, version: run.version, directory: partialDirectory(job, run.version)))
            return "the checkpoint to be named"
        case .sealing: return "the checkpoint to be named"
        }
    }

    private func waiting(_ run: TrainingRun, _ what: String) -> String {
        return "step \(run.version + 1): \(names(run.owing)) \(what)"
    }

    // MARK: - Epochs

    private mutating func beginEpoch(_ job: JobRecord, _ now: MonotonicInstant) -> String? {
        let id = job.admitted.policyModel
        guard let model = state.models[id], let deployment = deployments[id] else { return "the model to be placed" }
        let workers = trainableWorkers
        if workers.isEmpty {
            let problems = stayingWorkers.compactMap { worker in loadProblem(worker).map { "worker \(worker) \($0)" } }
            return "a worker that can load the job's models: " + problems.joined(separator: "; ")
        }
        // Teachers and references too: every member asks the ones beside it.
        for deployment in job.models.compactMap({ deployments[$0] }) {
            let behind = workers.filter { !deployment.isReady($0) }
            if !behind.isEmpty { return waiting(for: behind, toLoad: deployment) }
        }
        guard model.expertCount == 0 || deployment.placement.isSettled else { return "experts to settle" }
        if let text = differingProducts(workers, model) { return text }
        let snapshot = job.snapshot
        let epoch = firstTrainingEpoch
        trainingEpochCount += 1
        let run = TrainingRun(
            epoch: epoch, members: workers,
            experts: workers.map { deployment.placement.targets[$0] ?? [] }, model: id,
            version: snapshot?.version ?? 0, since: now, orderedAt: now)
        current?.training = run
        log(
            "job \(job.id): training epoch \(run.epoch) from version \(run.version) with "
                + "\(workers.count) worker\(workers.count == 1 ? "" : "s")")
        for rank in workers.indices { sendBegin(job, run, rank) }
        return waiting(run, "to load the training state")
    }

    /// Those that can take part in training: all but those that are to leave or could not load a model.
    var trainableWorkers: [WorkerNumber] {
        stayingWorkers.filter { worker in deployments.values.allSatisfy { $0.problems[worker] == nil } }.sorted()
    }

    /// The epoch under way or, between epochs, the next one: whoever waits for an earlier one waits for nothing.
    var firstTrainingEpoch: UInt32 {
        current?.training?.epoch ?? (UInt32(truncatingIfNeeded: state.epoch << 16) | trainingEpochCount + 1)
    }

    /// Under fp32 the weight gradients are OpenBLAS's, whose versions may add in other orders.
    /// - Returns: what to do where two members would give different bits.
    private func differingProducts(_ workers: [WorkerNumber], _ model: WireModelDescription) -> String? {
        guard model.compute == "fp32" else { return nil }
        let words = workers.compactMap { number in members[number].map { ($0, $0.hello.blasFingerprint) } }
        guard let first = words.first, let other = words.first(where: { $0.1 != first.1 }) else { return nil }
        return "members that multiply alike: OpenBLAS gives other bits (sgemm) on \(other.0.name), \(other.1), than on "
            + "\(first.0.name), \(first.1); install the same version on every host, drain one of the two, or train with "
            + "compute: bf16"
    }

    private mutating func sendBegin(_ job: JobRecord, _ run: TrainingRun, _ rank: Int) {
        guard let member = members[run.members[rank]], let model = state.models[run.model] else { return }
        let identities = run.members.compactMap { members[$0]?.identity.rawValue }
        let lanes = laneCount(job.models, job.admitted.engine, member, of: run.members.count)
        send(to: member.identity) {
            $0.trainBegin = .with {
                $0.lanes = UInt32(lanes)
                $0.job = job.id
                $0.model = run.model
                $0.epoch = run.epoch
                $0.version = run.version
                $0.snapshot = job.snapshot?.directory ?? model.path
                $0.members = identities
                $0.rank = UInt32(rank)
                $0.experts = run.experts[rank].map(UInt32.init)
                $0.resumes = job.snapshot != nil || job.admitted.resumesOptimizer
                if job.admitted.optimizerOnDisk { $0.diskDirectory = "\(job.admitted.output)/optimizer" }
            }
        }
    }

    /// Ends an epoch that has lost a member.
    mutating func endBrokenEpoch(_ now: MonotonicInstant) {
        guard let run = current?.training,
            run.members.contains(where: { members[$0] == nil }) || deployments[run.model] == nil
        else { return }
        endEpoch("it lost a member", now)
    }

    /// Ends the epoch: members stop, and what they generate for it is withdrawn, since the weights go back.
    mutating func endEpoch(_ reason: String, _ now: MonotonicInstant) {
        guard let run = current?.training else { return }
        log("training epoch \(run.epoch) ends: \(reason)")
        current?.training = nil
        for worker in run.members {
            guard let member = members[worker] else { continue }
            send(to: member.identity) { $0.trainAbort.epoch = run.epoch }
        }
        for lease in (current?.ledger.leases.values.sorted { $0.id < $1.id }) ?? [] {
            current?.ledger.drop(lease.id)
            guard let member = members[lease.worker] else { continue }
            send(to: member.identity) { $0.withdraw.lease = lease.id }
        }
    }

    private mutating func repeatOrders(_ job: JobRecord, _ run: inout TrainingRun, _ now: MonotonicInstant) {
        guard now.milliseconds(since: run.orderedAt) > Self.repeatMilliseconds else { return }
        run.orderedAt = now
        switch run.phase {
        case .loading:
            for (rank, worker) in run.members.enumerated() where !run.answered.contains(worker) {
                sendBegin(job, run, rank)
            }
        case .gradients:
            // Not the step again, which may be gigabytes: whether it is there.
            for worker in run.members where run.sealed[worker] == nil {
                guard let member = members[worker] else { continue }
                send(to: member.identity) {
                    $0.stepQuestion = .with {
                        $0.epoch = run.epoch
                        $0.version = run.version
                    }
                }
            }
        case .applying: for worker in run.members where run.applied[worker] == nil { sendApply(run, to: worker) }
        case .snapshot: for worker in run.missing { sendSnapshot(job, run, to: worker) }
        case .ready, .building, .sealing: break
        }
    }

    // MARK: - Steps

    private mutating func continueFromReady(
        _ job: JobRecord, _ run: inout TrainingRun, _ now: MonotonicInstant
    ) -> String? {
        let every = UInt64(max(1, job.admitted.snapshotEvery))
        // Who joined or wants to leave is heeded here, between two steps: with a checkpoint of this version nothing is
        // repeated. Responses under way are finished first.
        let workers = trainableWorkers
        let isChanging =
            run.members != workers && !workers.isEmpty && run.version < job.stepCount
            && current?.ledger.leases.isEmpty == true
        let isDue =
            run.version > 0 && (run.version % every == 0 || run.version == job.stepCount || isChanging)
        if isDue, (job.snapshot?.version ?? 0) < run.version {
            if let failed = run.failedSnapshot, now < failed.retryAt {
                return "the checkpoint to be written again: \(failed.problem)"
            }
            run.enter(.snapshot, now)
            for worker in run.members { sendSnapshot(job, run, to: worker) }
            return waiting(run, "to write the checkpoint")
        }
        if run.version >= job.stepCount { return nil }
        if isChanging {
            endEpoch("its members change", now)
            return "the new members"
        }
        if job.admitted.promptsPerBatch > 0 {
            let batch = job.batch(of: run.version)
            let open = job.groups(ofBatch: batch).open
            if let last = open.last {
                if (run.openedGroups ?? -1) < last {
                    run.openedGroups = last
                    for group in open { current?.ledger.add(.rollout(group: group)) }
                }
                return grantWork(job, now)
            }
        }
        run.enter(.building, now)
        emit(
            .buildStep(
                job: job.id, epoch: run.epoch, version: run.version,
                members: run.members.compactMap { members[$0]?.identity }))
        return "step \(run.version + 1) to be cut into cells"
    }

    mutating func stepBuilt(
        job id: UInt64, epoch: UInt32, version: UInt64, _ plan: StepPlan?, problem: String?, _ now: MonotonicInstant
    ) {
        guard current?.id == id, var run = current?.training, run.epoch == epoch, run.version == version,
            run.phase == .building
        else { return }
        guard let plan else { return end(id, "failed", "step \(version + 1): \(problem ?? "cannot be built")") }
        run.plan = plan
        run.sealed = [:]
        run.heldCells = [:]
        run.enter(.gradients, now)
        current?.training = run
        emit(.sendStep(job: id, epoch: epoch, version: version, to: run.members, held: []))
    }

    /// What a member says; answers of other epochs are old.
    mutating func note(_ envelope: WireEnvelope, of number: WorkerNumber, _ now: MonotonicInstant) {
        guard var run = current?.training, run.members.contains(number) else { return }
        switch envelope.body {
        case .trainReady(let ready):
            guard ready.epoch == run.epoch, run.phase == .loading else { return }
            run.answered.insert(number)
            run.applied[number] = ready.state
        case .stepSealed(let sealed):
            guard sealed.epoch == run.epoch, sealed.version == run.version, run.phase == .gradients else { return }
            run.sealed[number] = sealed
        case .stepHeld(let held):
            guard held.epoch == run.epoch, held.version == run.version, run.phase == .gradients, !held.isWhole else {
                return
            }
            // While more and more is there, the rest is on its way.
            if run.heldCells[number, default: 0] == held.cells.count {
                emit(
                    .sendStep(
                        job: current!.id, epoch: run.epoch, version: run.version, to: [number], held: Set(held.cells)))
            }
            run.heldCells[number] = held.cells.count
        case .stepApplied(let applied):
            guard applied.epoch == run.epoch, applied.version == run.version + 1, run.phase == .applying else { return }
            run.applied[number] = applied
        case .snapshotWritten(let written):
            guard written.epoch == run.epoch, written.version == run.version, run.phase == .snapshot else { return }
            if written.problem.isEmpty {
                run.answered.insert(number)
            } else {
                log("the checkpoint of version \(run.version) could not be written: \(written.problem)")
                run.enter(.ready, now)
                run.failedSnapshot = (written.problem, now.advanced(byMilliseconds: Self.repeatMilliseconds))
            }
        case .trainFailed(let failed):
            guard failed.epoch == run.epoch else { return }
            if failed.isModelAtFault, let id = current?.id, let job = state.jobs[id] {
                return end(id, "failed", "step \(run.version + 1): \(failed.reason); \(lastCheckpoint(job))")
            }
            guard failed.isSnapshotUnreadable, run.phase == .loading else {
                return restartTraining("worker \(number): \(failed.reason)", now)
            }
            // The others' answers tell whose fault it is.
            run.answered.insert(number)
            run.unreadable[number] = failed.reason
        default: return
        }
        current?.training = run
    }

    /// Ends the epoch for another try: a bounded number of times, each after a longer pause, so that a file system or a
    /// network that is away for a moment costs no job.
    mutating func restartTraining(_ reason: String, _ now: MonotonicInstant) {
        endEpoch(reason, now)
        let count = (current?.restarts?.count ?? 0) + 1
        let delay = ClusterTimes.delay(times.restart, times.restartMax, count: count)
        current?.restarts = (count, now.advanced(byMilliseconds: delay), reason)
        if count > Self.restartMax, let id = current?.id {
            end(
                id, "failed",
                "training does not get on: \(count) epochs have failed since the last new step, the last one: \(reason)"
            )
        }
    }

    private func lastCheckpoint(_ job: JobRecord) -> String {
        job.snapshot.map { "the last checkpoint is \($0.directory)" } ?? "no checkpoint was due yet"
    }

    private func digest(_ run: TrainingRun) -> Data {
        StepReduction.digest(
            run.members.enumerated().compactMap { rank, worker in run.applied[worker].map { ($0, run.experts[rank]) } })
    }

    private mutating func prepare(_ job: JobRecord, _ run: inout TrainingRun, _ now: MonotonicInstant) -> String? {
        let reports = run.members.compactMap { run.sealed[$0] }
        guard let plan = run.plan else { return nil }
        if let name = reports.map(\.notFinite).first(where: { !$0.isEmpty }) {
            end(
                job.id, "failed",
                "step \(run.version + 1): the gradient of \(name) is not finite; \(lastCheckpoint(job))")
            return nil
        }
        let prepared = StepReduction.prepared(
            reports, clipNorm: plan.clipNorm, learningRate: plan.learningRate, report: plan.report,
            isSkipped: plan.isSkipped, job: job.id, version: run.version)
        if let earlier = job.prepared[run.version] {
            guard earlier == prepared else {
                end(
                    job.id, "failed",
                    "step \(run.version + 1), repeated from the journal, gives other bits: the memory or the kernels of "
                        + "some host are at fault")
                return nil
            }
        } else {
            record(.with { $0.stepPrepared = prepared })
        }
        run.prepared = prepared
        run.applied = [:]
        run.enter(.applying, now)
        for worker in run.members { sendApply(run, to: worker) }
        return waiting(run, "to apply the step")
    }

    private mutating func sendApply(_ run: TrainingRun, to worker: WorkerNumber) {
        guard let member = members[worker], let plan = run.plan, let prepared = run.prepared else { return }
        send(to: member.identity) {
            $0.stepApply = .with {
                $0.epoch = run.epoch
                $0.version = run.version
                $0.number = plan.number
                $0.learningRate = prepared.learningRate
                $0.gradientScale = prepared.gradientScale
                $0.beta1 = plan.beta1
                $0.beta2 = plan.beta2
                $0.adamEpsilon = plan.epsilon
                $0.weightDecay = plan.weightDecay
            }
        }
    }

    private mutating func commit(_ job: JobRecord, _ run: inout TrainingRun, _ now: MonotonicInstant) -> String? {
        let digest = digest(run)
        let version = run.version + 1
        if let earlier = job.committed[version] {
            guard earlier == digest else {
                end(
                    job.id, "failed",
                    "the state after step \(version), repeated from the journal, is another one: the memory or the "
                        + "kernels of some host are at fault")
                return nil
            }
        } else {
            record(
                .with {
                    $0.stepCommitted = .with {
                        $0.job = job.id; $0.version = version; $0.digest = digest
                    }
                })
            current?.restarts = nil
        }
        run.version = version
        run.enter(.ready, now)
        return nil
    }
}
