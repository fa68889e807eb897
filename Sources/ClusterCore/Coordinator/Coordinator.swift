// SPDX-License-Identifier: Apache-2.0
//
// The coordinator as a pure reducer: events and the time go in, effects come out. The process around it executes the
// effects in order, and lets nothing out that follows a journal entry before that entry is durable: so no peer ever
// sees a state that a crash could take back.
package import ClusterProtocol
package import ClusterTransport
package import RuntimeSupport
internal import SwiftProtobuf

/// All that the coordinator decides.
package struct Coordinator: Sendable {
    /// What happened.
    package enum Event: Sendable {
        /// Time passed; at least every 100 ms.
        case tick
        /// A control message; `role` is what the sender's key may do.
        case message(WireEnvelope, from: PeerIdentity, role: Role)
        case connectionLost(PeerIdentity)
        /// A finished sequence arrived and was checked for form.
        case result(WireUnitResult, from: PeerIdentity)
        /// A submitted job was read, validated and stored; `request` waits for the answer.
        case jobPrepared(PreparedJob)
        /// A training step was cut into cells (or cannot be).
        case stepBuilt(job: UInt64, epoch: UInt32, version: UInt64, StepPlan?, problem: String?)
        /// A checkpoint has its name (or could not get it).
        case snapshotSealed(job: UInt64, version: UInt64, directory: String, problem: String?)
        /// The output files of a job are written (or could not be).
        case jobWritten(job: UInt64, problem: String?)
        /// What the writing of a job's output files waits for.
        case jobWriting(job: UInt64, waitingFor: String)
    }

    /// What must be done, in order.
    package enum Effect: Sendable {
        case send(WireEnvelope, to: PeerIdentity)
        /// Make durable, with the record's content; what follows waits for it.
        case journal(WireJournalEntry, record: WireUnitResult?)
        /// Send the work of a lease; the shell adds prompt and tokens from the store.
        case grant(Lease, job: UInt64, model: UInt32, siblings: [Int], to: PeerIdentity)
        /// Cut the step from `version` into cells for these members.
        case buildStep(job: UInt64, epoch: UInt32, version: UInt64, members: [PeerIdentity])
        /// Send what was built for a step; cells that they hold already are left out.
        case sendStep(job: UInt64, epoch: UInt32, version: UInt64, to: [WorkerNumber], held: Set<UInt32>)
        /// All parts of a checkpoint are in `directory`: complete it and give it its name.
        case sealSnapshot(job: UInt64, version: UInt64, directory: String)
        /// Remove the job's checkpoints up to the newest of `keeping` that are not among them.
        case removeSnapshots(job: UInt64, keeping: [UInt64])
        /// Take away the name of a checkpoint that cannot be used, so that another one can have it.
        case discardSnapshot(directory: String)
        /// Remove a job's rows, records and the entries that are its detail.
        case forget(job: UInt64)
        /// Write the output files of a job whose units are all done.
        case finish(job: UInt64)
        case log(String)
    }

    /// A job that can be admitted.
    package struct PreparedJob: Sendable {
        package var admitted: WireJobAdmitted
        /// Models it needs; an equal one that is known already keeps its number.
        package var policy: WireModelDescription?
        package var scorer: WireModelDescription?
        package var furtherScorers: [WireModelDescription]
        package var client: PeerIdentity
        package var request: UInt64
        /// A job whose output directory was removed, and which this one takes the place of.
        package var replaced: UInt64?

        package init(
            admitted: WireJobAdmitted, policy: WireModelDescription?, scorer: WireModelDescription?,
            furtherScorers: [WireModelDescription] = [], client: PeerIdentity, request: UInt64,
            replaced: UInt64? = nil
        ) {
            self.admitted = admitted
            self.policy = policy
            self.scorer = scorer
            self.furtherScorers = furtherScorers
            self.client = client
            self.request = request
            self.replaced = replaced
        }
    }

    package let times: ClusterTimes
    /// Workers that the operator said will come; the first placement waits for them within `times.settle`.
    package let expectedWorkerCount: Int
    package let incarnation: UInt64
    /// Set by the simulation alone.
    let fault: PlantedFault?
    package private(set) var state: DurableState

    var members: [WorkerNumber: Member] = [:]
    var retired: Set<UInt64> = []
    /// Keys whose results were wrong, and why they are shut out until this process ends.
    var quarantined: [PeerIdentity: String] = [:]
    /// Malformed results of each key.
    var strikes: [PeerIdentity: Int] = [:]
    var lastWorkerNumber: WorkerNumber = 0
    /// Of the first worker; all others must match.
    var numericsFingerprint: String?
    var firstJoin: MonotonicInstant?
    /// Workers that have no connection to each other.
    var apart: Set<WorkerPair> = []
    /// When a wait that was too long was last ended.
    var waitsCheckedAt: MonotonicInstant?
    var deployments: [UInt32: Deployment] = [:]
    var placementEpochs = PlacementEpochs()
    /// Of each model that was undeployed the last number given out before: reports up to it are of what is gone.
    var undeployedEpochs: [UInt32: UInt64] = [:]
    /// The job that runs, with its open work.
    var current: RunningJob?
    var lastLease: UInt64
    /// Sequences given to workers by this process, of each job.
    var grantedCounts: [UInt64: UInt64] = [:]
    /// Training epochs of this process; their numbers hold the coordinator's epoch too.
    var trainingEpochCount: UInt32 = 0
    var lastTick: MonotonicInstant?
    var isStarted = false
    private var effects: [Effect] = []

    /// - Parameters:
    ///   - state: the fold of the journal.
    ///   - incarnation: random; distinguishes this process.
    package init(
        state: DurableState, incarnation: UInt64, expectedWorkerCount: Int = 1, times: ClusterTimes = ClusterTimes(),
        fault: PlantedFault? = nil
    ) {
        self.fault = fault
        self.state = state
        self.incarnation = incarnation
        self.expectedWorkerCount = expectedWorkerCount
        self.times = times
        // Leases of different epochs never share a number.
        lastLease = (fault == .epochStays ? max(1, state.epoch) : state.epoch + 1) << 40
    }

    /// Takes one event; the effects are to be executed in order.
    package mutating func apply(_ event: Event, at now: MonotonicInstant) -> [Effect] { apply([event], at: now) }

    /// Takes events that came together. All are noted before anything is decided: a decision looks at every worker, and
    /// of results there are thousands in a second.
    package mutating func apply(_ events: [Event], at now: MonotonicInstant) -> [Effect] {
        for event in events { note(event, now) }
        advance(now)
        defer { effects = [] }
        return effects
    }

    private mutating func note(_ event: Event, _ now: MonotonicInstant) {
        if !isStarted {
            isStarted = true
            let next = fault == .epochStays ? max(1, state.epoch) : state.epoch + 1
            record(.with { $0.epochStarted.epoch = next })
            placementEpochs.begin(coordinatorEpoch: next)
            // An earlier process may have died over the last one.
            if let job = state.lastForgotten { emit(.forget(job: job)) }
        }
        switch event {
        case .tick:
            forgiveOwnPause(now)
            checkMembers(now)
            checkReachability(now)
            endLongWaits(now)
            releaseDrained()
        case .message(let envelope, let peer, let role): receive(envelope, from: peer, role: role, now)
        case .connectionLost(let peer): connectionLost(peer, now)
        case .result(let result, let peer): accept(result, from: peer)
        case .jobPrepared(let job): admit(job)
        case .stepBuilt(let job, let epoch, let version, let plan, let problem):
            stepBuilt(job: job, epoch: epoch, version: version, plan, problem: problem, now)
        case .snapshotSealed(let job, let version, let directory, let problem):
            snapshotSealed(job: job, version: version, directory: directory, problem: problem, now)
        case .jobWritten(let job, let problem): written(job, problem)
        case .jobWriting(let job, let waitingFor):
            if current?.id == job { current?.wait(waitingFor, now) }
        }
    }

    private mutating func receive(
        _ envelope: WireEnvelope, from peer: PeerIdentity, role: Role, _ now: MonotonicInstant
    ) {
        switch (envelope.body, role) {
        case (.hello(let hello), .worker): greet(envelope, hello, from: peer, now)
        case (.beat, .worker), (.shardReport, .worker), (.peerAllowed, .worker), (.unitFailed, .worker),
            (.goodbye, .worker), (.trainReady, .worker), (.stepSealed, .worker), (.stepApplied, .worker),
            (.snapshotWritten, .worker), (.trainFailed, .worker), (.stepHeld, .worker):
            guard let number = knownWorker(envelope, from: peer) else { return }
            members[number]?.lastHeard = now
            members[number]?.lostUntil = nil
            switch envelope.body {
            case .beat(let beat): note(beat, of: number, now)
            case .shardReport(let report): hear(report, of: number, now)
            case .peerAllowed(let allowed): introduce(allowed, by: number)
            case .unitFailed(let failed): unitFailed(failed, by: number)
            case .goodbye(let goodbye): bury(number, "left: \(goodbye.reason)")
            default: note(envelope, of: number, now)
            }
        case (.listJobs(let list), .submit), (.listJobs(let list), .admin):
            let jobs = jobList(list, now)
            reply(to: peer, envelope) { $0.jobList = jobs }
        case (.listWorkers, .submit), (.listWorkers, .admin):
            let workers = workerList(now)
            reply(to: peer, envelope) { $0.workerList = workers }
        case (.cancelJob(let cancel), .submit), (.cancelJob(let cancel), .admin): self.cancel(cancel, peer, envelope)
        case (.drainWorker(let drain), .admin): self.drain(drain, peer, envelope)
        case (.scaleModel(let scale), .admin): self.scale(scale, peer, envelope)
        default:
            log("a message that \(role.rawValue) \(peer) may not send was ignored")
        }
    }

    // MARK: - Effects

    mutating func emit(_ effect: Effect) { effects.append(effect) }

    mutating func log(_ text: String) { effects.append(.log(text)) }

    /// Sends `body` under this coordinator's epoch.
    mutating func send(
        to peer: PeerIdentity, request: UInt64 = 0, recipient: UInt64? = nil, _ fill: (inout WireEnvelope) -> Void
    ) {
        var envelope = WireEnvelope()
        envelope.recipient = recipient ?? incarnation(of: peer)
        envelope.protocolVersion = clusterProtocolVersion
        envelope.epoch = state.epoch
        envelope.incarnation = incarnation
        envelope.request = request
        fill(&envelope)
        effects.append(.send(envelope, to: peer))
    }

    mutating func reply(to peer: PeerIdentity, _ request: WireEnvelope, _ fill: (inout WireEnvelope) -> Void) {
        send(to: peer, request: request.request, fill)
    }

    /// Changes the durable state: applied at once, journaled before anything that follows gets out.
    mutating func record(_ entry: WireJournalEntry, content: WireUnitResult? = nil) {
        state.apply(entry)
        effects.append(.journal(entry, record: content))
    }
}
