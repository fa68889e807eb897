// SPDX-License-Identifier: Apache-2.0
package import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

/// What a run of the simulation is made of.
package struct SimulationSettings: Sendable {
    package var seed: UInt64
    package var fault: PlantedFault?
    /// Faults stop at this virtual time; from then on the cluster has `patience` to finish. Milliseconds.
    package var chaosUntil: UInt64 = 20_000
    package var patience: UInt64

    package init(seed: UInt64, fault: PlantedFault? = nil) {
        self.seed = seed
        self.fault = fault
        // Some mistakes only make a cluster late.
        patience = fault == nil ? 180_000 : 60_000
    }
}

/// How a run went.
package struct SimulationReport: Sendable, Equatable {
    /// Broken promises; empty for a correct protocol.
    package var violations: [String] = []
    package var trace: UInt64 = 0
    package var eventCount = 0
    package var milliseconds: UInt64 = 0
    package var killCount = 0
    package var breakCount = 0
}

/// One run.
package struct Simulation {
    private let settings: SimulationSettings
    private var chance: SplitMix64
    private var agenda = Agenda()
    private var trace = Trace()
    private var report = SimulationReport()

    private var workers: [SimulatedWorker]
    private var coordinator: Coordinator?
    private var coordinatorLifetime = 0
    /// The disk: what survives, and what is on its way there with the effects that wait for it.
    private var durable: [WireJournalEntry] = []
    private var unsynced: [WireJournalEntry] = []
    private var withheld: [Coordinator.Effect] = []
    private var isSyncing = false
    private var inbox: [CoordinatorInput] = []
    private var coordinatorStalledUntil: UInt64 = 0
    private var lastConnection = 0
    private var acknowledged: Set<String> = []
    private var grantedLeases: Set<UInt64> = []
    private var jobShapes: [(groups: Int, siblings: Int, scores: Bool)] = []
    /// A group whose work kills whoever starts it.
    private var poison: (job: UInt64, group: UInt32)?
    private var isCorruptionPossible = false
    private var times = ClusterTimes()

    private let tell: ((String) -> Void)?

    /// - Parameter tell: hears what happens, line by line.
    package init(_ settings: SimulationSettings, tell: ((String) -> Void)? = nil) {
        self.settings = settings
        self.tell = tell
        chance = SplitMix64(seed: settings.seed)
        workers = (0..<chance.pick(1...4)).map { SimulatedWorker(index: $0) }
        times.canaryEvery = UInt64(chance.pick(0...4))
        for _ in 0..<chance.pick(1...2) {
            jobShapes.append((chance.pick(1...6), chance.pick(1...3), chance.happens(oneIn: 2)))
        }
        if chance.happens(oneIn: 4) { poison = (1, UInt32(chance.pick(0...jobShapes[0].groups - 1))) }
        if workers.count >= 3, chance.happens(oneIn: 5) {
            isCorruptionPossible = true
            workers[chance.pick(0...workers.count - 1)].isCorrupt = true
        }
    }

    /// Runs to the end of all jobs, a broken promise, or the end of patience.
    package mutating func run() -> SimulationReport {
        startCoordinator()
        for index in workers.indices { agenda.schedule(.chaos(.startWorker(index)), after: chance.pick(0...300_000)) }
        planChaos()
        let limit = (settings.chaosUntil + settings.patience) * 1000
        while report.violations.isEmpty, let occurrence = agenda.next() {
            report.eventCount += 1
            if agenda.now - 1_000_000 > limit {
                violation("not done \(settings.patience / 1000) s after the last fault: \(unfinished)")
                break
            }
            take(occurrence.kind)
            if isEverythingDone { break }
        }
        checkEnd()
        report.trace = trace.hash
        report.milliseconds = agenda.milliseconds - 1000
        return report
    }

    private mutating func violation(_ text: String) {
        report.violations.append("at \(agenda.milliseconds - 1000) ms: \(text)")
    }

    private mutating func planChaos() {
        let until = Int(settings.chaosUntil) * 1000
        for _ in 0..<chance.pick(0...14) {
            // Most of it early, while there is work.
            let at = chance.pick(100_000...(chance.happens(oneIn: 2) ? until : until / 5))
            let worker = chance.pick(0...workers.count - 1)
            switch chance.pick(0...10) {
            case 0...1: agenda.schedule(.chaos(.killCoordinator), after: at)
            case 2...4: agenda.schedule(.chaos(.killWorker(worker)), after: at)
            case 5...7: agenda.schedule(.chaos(.breakConnection(worker)), after: at)
            case 8: agenda.schedule(.chaos(.drain(worker)), after: at)
            default:
                let victim = chance.happens(oneIn: 3) ? nil : worker
                agenda.schedule(.chaos(.stall(worker: victim, milliseconds: chance.pick(200...6000))), after: at)
            }
        }
    }

    private mutating func take(_ kind: Occurrence.Kind) {
        switch kind {
        case .coordinator(let lifetime, let input):
            guard lifetime == coordinatorLifetime, coordinator != nil else { return }
            if agenda.now < coordinatorStalledUntil { return agenda.schedule(kind, at: coordinatorStalledUntil) }
            inbox.append(input)
            drain()
        case .synced(let lifetime):
            guard lifetime == coordinatorLifetime, isSyncing else { return }
            durable += unsynced
            unsynced = []
            isSyncing = false
            let effects = withheld
            withheld = []
            for effect in effects { execute(effect) }
            drain()
        case .worker(let index, let lifetime, let input):
            guard workers[index].isAlive, workers[index].lifetime == lifetime else { return }
            if agenda.now < workers[index].stalledUntil {
                return agenda.schedule(kind, at: workers[index].stalledUntil)
            }
            take(input, worker: index)
        case .chaos(let chaos): take(chaos)
        }
    }

    // MARK: - Coordinator

    private mutating func startCoordinator() {
        coordinatorLifetime += 1
        coordinator = Coordinator(
            state: DurableState(replaying: durable), incarnation: UInt64(coordinatorLifetime),
            expectedWorkerCount: workers.count, times: times, fault: settings.fault)
        checkAcknowledgedSurvived()
        agenda.schedule(.coordinator(lifetime: coordinatorLifetime, .tick), after: 0)
        for index in workers.indices { agenda.schedule(.chaos(.mend(index)), after: chance.pick(1_000...200_000)) }
    }

    /// While a commit is on its way to the disk, the loop waits as the real one does; then it takes all that came.
    private mutating func drain() {
        while !isSyncing, !inbox.isEmpty, coordinator != nil {
            let inputs = inbox
            inbox = []
            var events: [Coordinator.Event] = []
            for input in inputs { if let event = event(of: input) { events.append(event) } }
            if events.isEmpty { continue }
            let effects = coordinator!.apply(events, at: agenda.instant)
            let isTick = events.contains { if case .tick = $0 { true } else { false } }
            if isTick, coordinator!.state.jobs.isEmpty { submitJobs() }
            process(effects)
        }
    }

    private mutating func process(_ effects: [Coordinator.Effect]) {
        let entries = effects.compactMap { if case .journal(let entry, _) = $0 { entry } else { nil } }
        trace.note(effects.count)
        if entries.isEmpty {
            for effect in effects { execute(effect) }
            return
        }
        unsynced += entries
        isSyncing = true
        if settings.fault == .acknowledgesBeforeSync {
            for effect in effects { execute(effect) }
        } else {
            withheld = effects
        }
        agenda.schedule(.synced(lifetime: coordinatorLifetime), after: chance.pick(500...15_000))
    }

    private mutating func submitJobs() {
        for (index, shape) in jobShapes.enumerated() {
            let model = WireModelDescription.with {
                $0.path = "policy"
                $0.contentHash = "p"
                $0.compute = "bf16"
                $0.expertCount = 6
            }
            let admitted = WireJobAdmitted.with {
                $0.job = UInt64(index + 1)
                $0.name = "job-\(index)"
                $0.kind = "rollout"
                $0.groupCount = UInt32(shape.groups)
                $0.groupSize = UInt32(shape.siblings)
                $0.engine.replicas = 1
            }
            var teacher = model
            teacher.path = "teacher"
            teacher.expertCount = 0
            let effects = coordinator!.apply(
                .jobPrepared(
                    .init(
                        admitted: admitted, policy: model, scorer: shape.scores ? teacher : nil,
                        client: PeerIdentity("client"), request: 1)), at: agenda.instant)
            // One commit for all, as the real loop batches.
            for effect in effects { if case .journal(let entry, _) = effect { unsynced.append(entry) } }
            withheld += effects
        }
        isSyncing = true
        agenda.schedule(.synced(lifetime: coordinatorLifetime), after: 1000)
    }

    private mutating func event(of input: CoordinatorInput) -> Coordinator.Event? {
        switch input {
        case .tick:
            agenda.schedule(.coordinator(lifetime: coordinatorLifetime, .tick), after: 100_000)
            return .tick
        case .message(let envelope, let index, let connection):
            guard workers[index].connection == connection else { return nil }
            return .message(envelope, from: workers[index].identity, role: .worker)
        case .record(let result, let index, let connection):
            guard workers[index].connection == connection else { return nil }
            return .result(result, from: workers[index].identity)
        case .lost(let index): return .connectionLost(workers[index].identity)
        case .drain(let index):
            let identity = workers[index].identity
            guard let number = (1...64).first(where: { coordinator?.identity(of: $0) == identity }) else { return nil }
            var envelope = WireEnvelope()
            envelope.drainWorker.worker = number
            return .message(envelope, from: PeerIdentity("operator"), role: .admin)
        case .written(let job): return .jobWritten(job: job, problem: nil)
        }
    }

    private mutating func execute(_ effect: Coordinator.Effect) {
        switch effect {
        case .journal: break
        // No training jobs in the simulation yet.
        case .buildStep, .sendStep, .sealSnapshot, .removeSnapshots, .discardSnapshot, .forget: break
        case .log(let text): say("coordinator: \(text)")
        case .send(let envelope, let peer): send(envelope, to: peer)
        case .grant(let lease, let job, let model, let siblings, let peer):
            if !grantedLeases.insert(lease.id).inserted { violation("lease \(lease.id) was granted twice") }
            var grant = WireGrant()
            grant.lease = lease.id
            grant.job = job
            grant.model = model
            grant.attempt = lease.attempt
            switch lease.unit {
            case .rollout(let group):
                grant.rollout.group = UInt32(group)
                grant.rollout.siblings = siblings.map(UInt32.init)
            case .score(let id):
                grant.score.group = UInt32(id.group)
                grant.score.sibling = UInt32(id.sibling)
            }
            var envelope = WireEnvelope()
            envelope.epoch = coordinator?.state.epoch ?? 0
            envelope.recipient = coordinator?.incarnation(of: peer) ?? 0
            envelope.grant = grant
            say("lease \(lease.id & 0xFFFF) to \(peer.rawValue): \(lease.unit), siblings \(siblings)")
            spoil(workers.firstIndex { $0.identity == peer }, oneIn: 30)
            send(envelope, to: peer)
        case .finish(let job):
            checkComplete(job)
            agenda.schedule(
                .coordinator(lifetime: coordinatorLifetime, .written(job: job)), after: chance.pick(1000...50_000))
        }
    }

    /// Now and then a connection breaks with a message on its way.
    private mutating func spoil(_ index: Int?, oneIn count: Int) {
        guard let index, agenda.milliseconds < settings.chaosUntil, chance.happens(oneIn: count) else { return }
        agenda.schedule(.chaos(.breakConnection(index)), after: 100)
    }

    private mutating func send(_ envelope: WireEnvelope, to peer: PeerIdentity) {
        if case .resultAcknowledgement(let acknowledgement) = envelope.body { noteAcknowledged(acknowledgement) }
        if case .routes(let routes) = envelope.body { checkRoutes(routes) }
        if case .deploy(let deploy) = envelope.body {
            say("deploy \(deploy.epoch & 0xFFFF) to \(peer.rawValue): \(deploy.experts)")
        }
        guard let index = workers.firstIndex(where: { $0.identity == peer }), workers[index].connection != 0 else {
            return
        }
        workers[index].lastIn = max(workers[index].lastIn, agenda.now + delay())
        agenda.schedule(
            .worker(
                index: index, lifetime: workers[index].lifetime,
                .message(envelope, connection: workers[index].connection)), at: workers[index].lastIn)
    }

    /// Microseconds; now and then very long.
    private mutating func delay() -> UInt64 {
        UInt64(chance.happens(oneIn: 200) ? chance.pick(100_000...800_000) : chance.pick(200...4000))
    }

    // MARK: - Workers

    private mutating func take(_ input: WorkerInput, worker index: Int) {
        let now = agenda.instant
        switch input {
        case .tick:
            agenda.schedule(.worker(index: index, lifetime: workers[index].lifetime, .tick), after: 100_000)
            let beat = workers[index].beat()
            perform(workers[index].session!.apply(.tick(beat), at: now), worker: index)
        case .connected(let connection):
            guard workers[index].connection == connection else { return }
            perform(workers[index].session!.apply(.connected, at: now), worker: index)
        case .message(let envelope, let connection):
            guard workers[index].connection == connection else { return }
            perform(workers[index].session!.apply(.message(envelope), at: now), worker: index)
        case .loaded(let deploy):
            guard workers[index].deploys[deploy.model.id]?.epoch == deploy.epoch else { return }
            workers[index].held[deploy.model.id] = Set(deploy.experts)
            workers[index].trunks.insert(deploy.model.id)
            let report = workers[index].report(deploy)
            say("worker process \(index) reports \(report.epoch & 0xFFFF): \(report.experts)")
            perform(workers[index].session!.apply(.shards(report), at: now), worker: index)
        case .finished(let lease, let result):
            guard workers[index].leases.contains(lease) else { return }
            perform(workers[index].session!.apply(.finished(result), at: now), worker: index)
        case .leaseEnded(let lease):
            guard workers[index].leases.remove(lease) != nil else { return }
            perform(workers[index].session!.apply(.leaseEnded(lease, failure: nil), at: now), worker: index)
        }
    }

    private mutating func perform(_ effects: [WorkerSession.Effect], worker index: Int) {
        let lifetime = workers[index].lifetime
        trace.note(effects.count)
        for effect in effects {
            guard workers[index].isAlive, workers[index].lifetime == lifetime else { return }
            switch effect {
            case .send(let envelope):
                guard workers[index].connection != 0 else { continue }
                toCoordinator(.message(envelope, from: index, connection: workers[index].connection), from: index)
            case .transfer(let result):
                guard workers[index].connection != 0 else { continue }
                spoil(index, oneIn: 40)
                toCoordinator(.record(result, from: index, connection: workers[index].connection), from: index)
            case .perform(let envelope): obey(envelope, worker: index)
            case .work(let grant): begin(grant, worker: index)
            case .abandon(let lease): workers[index].leases.remove(lease)
            case .exit(_, let reason):
                say("worker process \(index) exits: \(reason)")
                workers[index].die()
                agenda.schedule(.chaos(.startWorker(index)), after: chance.pick(50_000...500_000))
            case .log(let text): say("worker process \(index): \(text)")
            }
        }
    }

    private mutating func toCoordinator(_ input: CoordinatorInput, from index: Int) {
        guard coordinator != nil else { return }
        workers[index].lastOut = max(workers[index].lastOut, agenda.now + delay())
        agenda.schedule(.coordinator(lifetime: coordinatorLifetime, input), at: workers[index].lastOut)
    }

    private mutating func obey(_ envelope: WireEnvelope, worker index: Int) {
        switch envelope.body {
        case .deploy(let deploy):
            workers[index].deploys[deploy.model.id] = deploy
            // What is not wanted any more goes at once; the rest takes time.
            workers[index].held[deploy.model.id, default: []].formIntersection(deploy.experts)
            let isNew =
                !workers[index].held[deploy.model.id]!.isSuperset(of: deploy.experts)
                || !workers[index].trunks.contains(deploy.model.id)
            agenda.schedule(
                .worker(index: index, lifetime: workers[index].lifetime, .loaded(deploy)),
                after: isNew ? chance.pick(50_000...900_000) : 1000)
        case .undeploy(let undeploy):
            workers[index].deploys[undeploy.model] = nil
            workers[index].held[undeploy.model] = nil
            workers[index].trunks.remove(undeploy.model)
        default: break
        }
    }

    private mutating func begin(_ grant: WireGrant, worker index: Int) {
        workers[index].leases.insert(grant.lease)
        let lifetime = workers[index].lifetime
        if case .rollout(let group) = grant.work, let poison, poison.job == grant.job, poison.group == group.group {
            agenda.schedule(.chaos(.killWorker(index)), after: chance.pick(10_000...60_000))
            return
        }
        let siblings: [UInt32] =
            if case .rollout(let group) = grant.work { group.siblings } else { [grant.score.sibling] }
        var last = 0
        for sibling in siblings {
            let result = PretendedModel.record(
                job: grant.job, grant: grant, sibling: sibling, incarnation: workers[index].incarnation,
                isCorrupt: workers[index].isCorrupt)
            let after = chance.pick(50_000...1_500_000)
            last = max(last, after)
            agenda.schedule(
                .worker(index: index, lifetime: lifetime, .finished(lease: grant.lease, result)), after: after)
        }
        agenda.schedule(.worker(index: index, lifetime: lifetime, .leaseEnded(grant.lease)), after: last + 1)
    }

    // MARK: - Faults

    private func say(_ text: String) { tell?("\(agenda.milliseconds - 1000) ms  \(text)") }

    private mutating func take(_ chaos: Chaos) {
        say("\(chaos)")
        switch chaos {
        case .killCoordinator:
            guard coordinator != nil else { return }
            report.killCount += 1
            coordinator = nil
            coordinatorLifetime += 1
            if settings.fault == .diskLiesAboutSync, !durable.isEmpty { durable.removeLast() }
            unsynced = []
            withheld = []
            inbox = []
            isSyncing = false
            for index in workers.indices { workers[index].connection = 0 }
            agenda.schedule(.chaos(.startCoordinator), after: chance.pick(100_000...1_500_000))
        case .startCoordinator: if coordinator == nil { startCoordinator() }
        case .killWorker(let index):
            guard workers[index].isAlive else { return }
            report.killCount += 1
            workers[index].die()
            if coordinator != nil { toCoordinator(.lost(worker: index), from: index) }
            agenda.schedule(.chaos(.startWorker(index)), after: chance.pick(100_000...2_000_000))
        case .startWorker(let index):
            guard !workers[index].isAlive else { return }
            workers[index].start(at: agenda.instant, fault: settings.fault)
            agenda.schedule(.worker(index: index, lifetime: workers[index].lifetime, .tick), after: 0)
            agenda.schedule(.chaos(.mend(index)), after: chance.pick(1000...50_000))
        case .breakConnection(let index):
            guard workers[index].connection != 0 else { return }
            workers[index].connection = 0
            report.breakCount += 1
            if coordinator != nil { toCoordinator(.lost(worker: index), from: index) }
            // Often shorter than the coordinator's patience: then only what was under way is lost.
            let isShort = chance.happens(oneIn: 2)
            agenda.schedule(
                .chaos(.mend(index)), after: isShort ? chance.pick(5_000...700_000) : chance.pick(700_000...5_000_000))
        case .mend(let index):
            guard workers[index].isAlive, coordinator != nil, workers[index].connection == 0 else { return }
            lastConnection += 1
            workers[index].connection = lastConnection
            agenda.schedule(
                .worker(index: index, lifetime: workers[index].lifetime, .connected(connection: lastConnection)),
                after: 1000)
        case .drain(let index):
            guard coordinator != nil else { return }
            agenda.schedule(
                .coordinator(lifetime: coordinatorLifetime, .drain(worker: index)), after: chance.pick(200...4000))
        case .stall(let worker, let milliseconds):
            let until = agenda.now + UInt64(milliseconds) * 1000
            // Never sooner than an earlier stall: what waits for that one would be overtaken.
            if let worker {
                workers[worker].stalledUntil = max(workers[worker].stalledUntil, until)
            } else {
                coordinatorStalledUntil = max(coordinatorStalledUntil, until)
            }
        }
    }

    // MARK: - Promises

    private func key(_ job: UInt64, _ isScore: Bool, _ group: UInt32, _ sibling: UInt32) -> String {
        "\(job) \(isScore) \(group) \(sibling)"
    }

    /// What is acknowledged must be on the disk already.
    private mutating func noteAcknowledged(_ a: WireResultAcknowledgement) {
        let key = key(a.job, a.isScore, a.group, a.sibling)
        let state = DurableState(replaying: durable)
        guard let job = state.jobs[a.job] else {
            return violation("acknowledged a record of job \(a.job), which is not durable")
        }
        let id = SequenceID(group: Int(a.group), sibling: Int(a.sibling))
        // Records of ended jobs and failed groups are acknowledged so that workers forget them.
        if job.ended != nil || job.failedGroups[id.group] != nil { return }
        guard job.isRecorded(id, score: a.isScore) != nil else {
            return violation("acknowledged before it was durable: \(key)")
        }
        acknowledged.insert(key)
    }

    private mutating func checkAcknowledgedSurvived() {
        guard let state = coordinator?.state else { return }
        for key in acknowledged.sorted() {
            let parts = key.split(separator: " ")
            guard let id = UInt64(parts[0]), let job = state.jobs[id], let group = Int(parts[2]),
                let sibling = Int(parts[3]),
                job.isRecorded(SequenceID(group: group, sibling: sibling), score: parts[1] == "true") != nil
            else { return violation("an acknowledged record is gone after a restart: \(key)") }
        }
    }

    /// Routes name members that said they hold the expert.
    private mutating func checkRoutes(_ routes: WireRoutes) {
        guard let coordinator else { return }
        for (expert, holders) in routes.holders.enumerated() {
            for number in holders.workers {
                guard let identity = coordinator.identity(of: number) else {
                    return violation("routes name worker \(number), which is no member")
                }
                guard let worker = workers.first(where: { $0.identity == identity }), worker.isAlive,
                    coordinator.incarnation(of: number) == worker.incarnation
                else { continue }  // it has died and nobody knows yet
                let isHeld = worker.held[routes.model, default: []].contains(UInt32(expert))
                // It may be letting go already, on a newer wish.
                let wish = worker.deploys[routes.model]
                let isLettingGo = wish.map { !$0.experts.contains(UInt32(expert)) } ?? true
                if !isHeld, !isLettingGo {
                    return violation("routes send expert \(expert) to worker \(number), which lacks it")
                }
            }
        }
    }

    private mutating func checkComplete(_ id: UInt64) {
        let state = DurableState(replaying: durable)
        guard let job = state.jobs[id] else { return violation("job \(id) finished before it was durable") }
        if job.doneGroupCount != job.groupCount {
            violation("job \(id) finished with \(job.doneGroupCount) of \(job.groupCount) groups")
        }
    }

    private var isEverythingDone: Bool {
        guard let state = coordinator?.state, !isSyncing else { return false }
        return state.jobs.count == jobShapes.count && state.jobs.values.allSatisfy { $0.ended != nil }
    }

    private var unfinished: String {
        guard let state = coordinator?.state else { return "no coordinator" }
        let jobs = state.jobs.values.filter { $0.ended == nil }.sorted { $0.id < $1.id }
        return jobs.map { "job \($0.id) with \($0.doneGroupCount) of \($0.groupCount) groups" }.joined(separator: ", ")
    }

    private mutating func checkEnd() {
        var seen: Set<String> = []
        for entry in durable {
            guard case .unitRecorded(let r) = entry.change else { continue }
            let key = key(r.job, r.isScore, r.group, r.sibling)
            if !seen.insert(key).inserted { violation("recorded twice: \(key)") }
            let id = SequenceID(group: Int(r.group), sibling: Int(r.sibling))
            if !isCorruptionPossible, r.digest != PretendedModel.digest(job: r.job, id, isScore: r.isScore) {
                violation("a wrong record is durable: \(key)")
            }
        }
        guard report.violations.isEmpty else { return }
        for job in DurableState(replaying: durable).jobs.values.sorted(by: { $0.id < $1.id }) {
            for (group, reason) in job.failedGroups.sorted(by: { $0.key < $1.key }) {
                let isPoisoned = poison?.job == job.id && poison?.group == UInt32(group)
                // Four losses in a row are what the bound takes for poison, whatever they came from.
                if !isPoisoned, report.killCount + report.breakCount < 4 {
                    violation("group \(group) of job \(job.id) failed: \(reason)")
                }
            }
            if job.ended?.status == "failed", !isCorruptionPossible, job.failedGroups.count < job.groupCount {
                violation("job \(job.id) failed: \(job.ended!.problem)")
            }
        }
    }
}
