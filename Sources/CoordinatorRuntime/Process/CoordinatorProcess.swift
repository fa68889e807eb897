// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's only loop: takes what came in, lets the reducer decide, makes the decisions durable in one commit,
// then lets everything out. Slow work (reading jobs, writing outputs) happens on two threads of its own.
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import JobSpecification
package import Logging
internal import Rewards
internal import RuntimeSupport

/// A running coordinator.
package final class CoordinatorProcess: @unchecked Sendable {
    // @unchecked: everything mutable is touched by the loop's thread alone; other threads only push into the queue.
    enum Input: Sendable {
        case message(Message)
        case event(TransportEvent)
        /// A record lies in the intake.
        case result
        /// A line about something that a thread could not do.
        case trouble(String)
        case prepared(PreparedSubmission, replaced: UInt64?, SubmissionOrder)
        /// What the workers are to be asked before a job is accepted.
        case ask(WirePathQuestion)
        /// The same job was submitted before.
        case known(job: UInt64, SubmissionOrder)
        case refused(SubmissionError, SubmissionOrder)
        case files(RunFileWriter.Report)
        case built(TrainingOrder, Result<BuiltStep, SubmissionError>)
        case sealed(job: UInt64, version: UInt64, directory: String, problem: String?)
        case stop
    }

    /// A submitted job to be read.
    struct SubmissionOrder: Sendable {
        let submission: WireSubmitJob
        let job: UInt64
        let client: PeerIdentity
        let request: UInt64
        let role: Role
        let known: [KnownJob]
        /// Who can be asked whether they see the job's paths.
        let workers: [PeerIdentity]
    }

    /// A client's request; it sends the same one again while it has no answer.
    private struct Request: Hashable {
        let client: PeerIdentity
        let number: UInt64
    }

    /// A step to be cut into cells.
    struct TrainingOrder: Sendable {
        let job: JobRecord
        let epoch: UInt32
        let version: UInt64
        let members: [PeerIdentity]
    }

    private enum TrainingWork: Sendable {
        case build(TrainingOrder)
        case seal(JobRecord, version: UInt64, directory: String)
        case remove(output: String, keeping: [UInt64])
        case discard(directory: String)
    }

    private let configuration: CoordinatorConfiguration
    private let logger: Logger
    private let journal: Journal
    private let inputs = BoundedQueue<Input>(itemCountMax: 65_536, byteCountMax: 512 << 20)
    private let transport: ZeroMQTransport
    private var coordinator: Coordinator
    private let intake = RecordIntake()
    private let submissions = BoundedQueue<SubmissionOrder>(itemCountMax: 256, byteCountMax: 256 << 20)
    private let pathSurvey = PathSurvey()
    /// Requests whose jobs are being read.
    private var submitting: Set<Request> = []
    private let runFiles: RunFileWriter
    private let trainingWork = BoundedQueue<TrainingWork>(itemCountMax: 4096, byteCountMax: 1 << 30)
    private let stepSender: StepSender
    /// The step under way, of which parts are sent again to who lost them.
    private var builtStep: (order: TrainingOrder, step: BuiltStep)?
    private var specifications: [UInt64: TrainJob] = [:]
    private var dataOrders: [UInt64: DataOrder] = [:]
    private var threads: [DedicatedThread] = []
    private var lastJob: UInt64
    private var settings: [UInt64: WireGenerationSettings] = [:]
    private var isStopping = false
    /// The whole cluster is to end, not this process alone.
    private var isClusterEnding = false
    /// Effects that wait for room on the disk, in order; nothing behind them gets out before they are durable.
    private var blocked: [Coordinator.Effect] = []
    private var retryAt = MonotonicInstant.now

    /// Opens the journal, listens, publishes the address.
    /// - Throws: one line about the state directory, the keys or the port.
    package init(_ configuration: CoordinatorConfiguration, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        let journal = try Journal(directory: configuration.state)
        self.journal = journal
        let state = DurableState(replaying: try journal.entries())
        lastJob = state.nextJob - 1
        coordinator = Coordinator(
            state: state, incarnation: UInt64.random(in: 1 ... .max),
            expectedWorkerCount: configuration.expectedWorkerCount)
        let inputs = inputs
        runFiles = RunFileWriter(journal, logger: logger) { _ = inputs.push(.files($0), until: .distantFuture) }
        let options = ZeroMQConfiguration(
            security: .curve(keys: configuration.keys, allowList: configuration.allowList),
            listen: Self.earlierEndpoints(configuration) ?? configuration.listen,
            deliveries: ChannelDeliveries(
                control: .direct { message in
                    _ = inputs.tryPush(.message(message), byteCount: message.chargedByteCount)
                }, exchange: .direct { _ in }, bulk: .queue(intake.chunks)),
            onEvent: { _ = inputs.tryPush(.event($0)) })
        transport = try Self.listen(options, otherwise: configuration.listen)
        stepSender = StepSender(transport) { _ = inputs.tryPush(.trouble($0)) }
        guard let endpoints = transport.endpoints else { preconditionFailure("a listening transport has endpoints") }
        let published = try endpoints.advertised(as: configuration.advertise, towards: nil)
        let address = CoordinatorAddress(
            PeerAddress(identity: transport.identity, endpoints: published, place: HostPlace.current))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        try encoder.encode(address).write(
            to: configuration.state.appendingPathComponent(CoordinatorAddress.fileName), options: .atomic)
        let publication = published == endpoints ? "" : ", published as \(published.control)"
        logger.info(
            "epoch \(state.epoch + 1), listening on \(endpoints.control)\(publication), \(state.jobs.count) jobs in the journal"
        )
    }

    /// Listens where `options` say or, when someone else has the port of our earlier life, at `fallback`: workers read
    /// the new one from the address file.
    private static func listen(
        _ options: ZeroMQConfiguration, otherwise fallback: ChannelEndpoints
    ) throws -> ZeroMQTransport {
        if options.listen != fallback, let transport = try? ZeroMQTransport(options) { return transport }
        var options = options
        options.listen = fallback
        return try ZeroMQTransport(options)
    }

    /// A restarted coordinator comes back where its workers look for it.
    private static func earlierEndpoints(_ configuration: CoordinatorConfiguration) -> ChannelEndpoints? {
        let file = configuration.state.appendingPathComponent(CoordinatorAddress.fileName)
        guard let address = try? CoordinatorAddress(file: file), address.key == configuration.keys.publicKey.rawValue,
            configuration.listen.control.hasSuffix(":*")
        else { return nil }
        // What is published may not be what is listened on; the ports are the same.
        return address.peer.endpoints.on(host: configuration.listen.host)
    }

    /// Ends ``run()`` soon; from any thread.
    package func stop() { _ = inputs.tryPush(.stop) }

    /// Runs until ``stop()`` and seals the journal. Returns the exit code: 75 when jobs are unfinished, so that a
    /// supervisor starts it again and its workers wait for it; otherwise 0, and the workers are told to end.
    package func run() -> Int32 {
        startThreads()
        runFiles.mend(coordinator.state)
        var nextTick = MonotonicInstant.now
        while !isStopping {
            var events: [Coordinator.Event] = []
            if let first = inputs.pop(until: nextTick) {
                take(first, &events)
                var count = 1
                while count < 1024, let input = inputs.tryPop() {
                    take(input, &events)
                    count += 1
                }
            }
            if MonotonicInstant.now >= nextTick {
                nextTick = MonotonicInstant.now.advanced(byMilliseconds: 100)
                events.append(.tick)
            }
            execute(events.isEmpty ? [] : coordinator.apply(events, at: .now))
            runFiles.tick(coordinator.state, running: coordinator.runningJob)
        }
        let hasUnfinishedJobs = coordinator.state.jobs.values.contains { $0.ended == nil }
        if isClusterEnding || !hasUnfinishedJobs {
            endWorkers()
        }
        submissions.close()
        pathSurvey.close()
        intake.close()
        trainingWork.close()
        stepSender.close()
        transport.close()
        runFiles.stop()
        do { try journal.seal() } catch { logger.error("the journal was not sealed: \(error)") }
        logger.info("ends; \(hasUnfinishedJobs ? "jobs are unfinished" : "all jobs have ended")")
        return hasUnfinishedJobs && !isClusterEnding ? 75 : 0
    }

    /// Tells the workers to end and waits a moment until they hang up: what is sent just before a socket closes may be lost.
    private func endWorkers() {
        var waiting = Set(coordinator.workerIdentities)
        for worker in waiting { send(stopMessage, to: worker) }
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 1000)
        while !waiting.isEmpty, let input = inputs.pop(until: deadline) {
            if case .event(.disconnected(let peer, .control, _)) = input { waiting.remove(peer) }
        }
    }

    // MARK: - In

    private func take(_ input: Input, _ events: inout [Coordinator.Event]) {
        switch input {
        case .stop: isStopping = true
        case .event(let event): take(event, &events)
        case .trouble(let text): logger.warning("\(text)")
        case .message(let message): take(message, &events)
        case .result:
            // Workers send again what is not acknowledged: while the disk is full nothing more is taken in.
            guard let (result, peer) = intake.take(), blocked.isEmpty else { return }
            events.append(.result(result, from: peer))
        case .prepared(let prepared, let replaced, let order):
            answered(order)
            settings[order.job] = prepared.settings
            for warning in prepared.warnings.prefix(5) { logger.warning("job \(order.job): \(warning)") }
            events.append(
                .jobPrepared(
                    .init(
                        admitted: prepared.admitted, policy: prepared.policy, scorer: prepared.scorer,
                        furtherScorers: prepared.furtherScorers, client: order.client, request: order.request,
                        replaced: replaced)))
        case .ask(let question):
            var envelope = WireEnvelope()
            envelope.pathQuestion = question
            for worker in coordinator.workerIdentities { send(envelope, to: worker) }
        case .known(let job, let order):
            answered(order)
            var envelope = WireEnvelope()
            envelope.jobAccepted.job = job
            envelope.jobAccepted.output = coordinator.state.jobs[job]?.admitted.output ?? ""
            envelope.jobAccepted.isKnown = true
            send(envelope, to: order.client, request: order.request)
        case .refused(let error, let order):
            answered(order)
            send(failure(error.description, error.exitCode), to: order.client, request: order.request)
        case .files(.updated(let job, let problem)): runFiles.updated(job: job, problem: problem)
        case .files(.finished(let job, let problem)): events.append(.jobWritten(job: job, problem: problem))
        case .files(.delayed(let job, let problem)): events.append(.jobWriting(job: job, waitingFor: problem))
        case .built(let order, let result):
            var (plan, problem): (StepPlan?, String?) = (nil, nil)
            switch result {
            case .success(let step):
                builtStep = (order, step)
                plan = step.plan
            case .failure(let error): problem = error.description
            }
            events.append(
                .stepBuilt(
                    job: order.job.id, epoch: order.epoch, version: order.version, plan, problem: problem))
        case .sealed(let job, let version, let directory, let problem):
            events.append(
                .snapshotSealed(job: job, version: version, directory: directory, problem: problem))
        }
    }

    private func take(_ event: TransportEvent, _ events: inout [Coordinator.Event]) {
        switch event {
        case .disconnected(let peer, let channel, _):
            if channel == .bulk { intake.forget(peer) }
            if channel == .control { events.append(.connectionLost(peer)) }
        case .handshakeFailed(let failure, let suppressed):
            logger.warning("a connection was refused: \(failure)\(suppressed > 0 ? " (and \(suppressed) more)" : "")")
        case .protocolViolation(let peer, let channel, let text):
            logger.warning("\(peer) broke a rule on \(channel): \(text)")
        case .dialFailed(_, _, let text), .acceptFailed(_, let text): logger.warning("\(text)")
        case .connected, .peerUnreachable, .writable: break
        }
    }

    private func take(_ message: Message, _ events: inout [Coordinator.Event]) {
        guard let role = configuration.allowList.role(of: message.peer) else { return }
        do {
            let envelope = try WireEnvelope(encoded: message.parts.flatMap(\.bytes))
            if case .submitJob(let submission) = envelope.body, role == .submit || role == .admin {
                return submit(submission, envelope, from: message.peer, role)
            }
            if case .pathAnswer(let answer) = envelope.body, role == .worker {
                return pathSurvey.take(answer, from: message.peer)
            }
            if case .stop = envelope.body, role == .admin {
                isStopping = true
                isClusterEnding = true
                var done = WireEnvelope()
                done.done = WireDone()
                return send(done, to: message.peer, request: envelope.request)
            }
            events.append(.message(envelope, from: message.peer, role: role))
        } catch {
            logger.warning("a message of \(message.peer) was dropped: \(error)")
        }
    }

    private func submit(
        _ submission: WireSubmitJob, _ envelope: WireEnvelope, from peer: PeerIdentity, _ role: Role
    ) {
        guard submitting.insert(Request(client: peer, number: envelope.request)).inserted else { return }
        lastJob += 1
        let state = coordinator.state
        let order = SubmissionOrder(
            submission: submission, job: lastJob, client: peer, request: envelope.request, role: role,
            known: state.jobs.values.sorted { $0.id < $1.id }.map { KnownJob($0, state.models) },
            workers: coordinator.workerIdentities)
        guard case .accepted = submissions.tryPush(order, byteCount: submission.jobText.utf8.count) else {
            answered(order)
            return send(failure("too many submissions at once; try again", 4), to: peer, request: envelope.request)
        }
    }

    private func answered(_ order: SubmissionOrder) {
        submitting.remove(Request(client: order.client, number: order.request))
    }

    // MARK: - Out

    private func execute(_ effects: [Coordinator.Effect]) {
        if blocked.isEmpty {
            if commit(effects) { perform(effects) } else { block(effects) }
            return
        }
        for effect in effects {
            if let answer = answerWhileBlocked(effect) { perform([answer]) } else { blocked.append(effect) }
        }
        guard MonotonicInstant.now >= retryAt else { return }
        guard commit(blocked) else { return block([]) }
        logger.info("there is room on the disk again")
        let waiting = blocked
        blocked = []
        perform(waiting)
    }

    private func block(_ effects: [Coordinator.Effect]) {
        blocked += effects
        retryAt = MonotonicInstant.now.advanced(byMilliseconds: 1000)
    }

    /// What may go out while decisions are not durable: answers to questions, and signs of life.
    private func answerWhileBlocked(_ effect: Coordinator.Effect) -> Coordinator.Effect? {
        guard case .send(var envelope, let peer) = effect else { return nil }
        switch envelope.body {
        case .done, .workerList: return effect
        case .jobList(var list):
            for index in list.jobs.indices where list.jobs[index].status != "queued" {
                list.jobs[index].waitingFor = "room on the disk of \(configuration.state.path)"
            }
            envelope.jobList = list
            return .send(envelope, to: peer)
        default: return nil
        }
    }

    private func perform(_ effects: [Coordinator.Effect]) {
        let grants = grants(among: effects)
        for effect in effects {
            switch effect {
            case .journal(let entry, _): runFiles.note(entry, coordinator.state)
            case .send(let envelope, let peer): send(envelope, to: peer)
            case .grant(let lease, _, _, _, let peer):
                if let grant = grants[lease.id] { send(grant, to: peer) }
            case .buildStep(let job, let epoch, let version, let members):
                guard let record = coordinator.state.jobs[job] else { continue }
                runFiles.noteBuilding(record)
                order(.build(TrainingOrder(job: record, epoch: epoch, version: version, members: members)))
            case .sendStep(let job, let epoch, let version, let workers, let held):
                sendStep(job, epoch, version, workers, held)
            case .sealSnapshot(let job, let version, let directory):
                guard let record = coordinator.state.jobs[job] else { continue }
                order(.seal(record, version: version, directory: directory))
            case .removeSnapshots(let job, let versions):
                guard let record = coordinator.state.jobs[job] else { continue }
                order(.remove(output: record.admitted.output, keeping: versions))
            case .discardSnapshot(let directory): order(.discard(directory: directory))
            case .forget(let job): runFiles.forget(job)
            case .finish(let job):
                guard let record = coordinator.state.jobs[job] else { continue }
                runFiles.finish(record, coordinator.state.models)
            case .log(let text): logger.info("\(text)")
            }
        }
    }

    /// Hands something to the step builder; an answer comes for what needs one, also when there is no room.
    private func order(_ work: TrainingWork) {
        if case .accepted = trainingWork.tryPush(work) { return }
        let problem = "the coordinator has too much to do at once"
        switch work {
        case .build(let order):
            _ = inputs.tryPush(.built(order, .failure(SubmissionError(description: problem, exitCode: 4))))
        case .seal(let job, let version, let directory):
            _ = inputs.tryPush(.sealed(job: job.id, version: version, directory: directory, problem: problem))
        case .remove, .discard: logger.warning("\(problem): an old checkpoint stays")
        }
    }

    private func sendStep(
        _ job: UInt64, _ epoch: UInt32, _ version: UInt64, _ workers: [WorkerNumber], _ held: Set<UInt32>
    ) {
        guard let (order, step) = builtStep, order.job.id == job, order.epoch == epoch, order.version == version else {
            return
        }
        for worker in workers {
            guard let peer = coordinator.identity(of: worker), let rank = order.members.firstIndex(of: peer) else {
                continue
            }
            let missing = step.messages[rank].filter { message in
                guard case .trainCells(let cells)? = message.body else { return true }
                return !cells.cells.allSatisfy { held.contains($0.index) }
            }
            stepSender.send(missing.map { addressed($0, to: peer) }, to: peer)
        }
    }

    /// The row of data behind a group: of a training job rows come in a shuffled order, epoch after epoch.
    private func rowIndex(_ job: UInt64, _ group: Int) -> Int {
        guard let record = coordinator.state.jobs[job], record.isTraining else { return group }
        if specifications[job] == nil, case .train(let found)? = try? Job.parse(record.admitted.resolvedYaml) {
            specifications[job] = found
            dataOrders[job] = DataOrder(seed: UInt64(found.seed), record.admitted)
        }
        return dataOrders[job]?.row(at: group) ?? group
    }

    /// One group commit of the entries among `effects`. False when the disk is full: nothing that was not stored may get
    /// out.
    private func commit(_ effects: [Coordinator.Effect]) -> Bool {
        let entries = effects.compactMap { effect -> (entry: WireJournalEntry, record: WireUnitResult?)? in
            if case .journal(let entry, let record) = effect { (entry, record) } else { nil }
        }
        if entries.isEmpty { return true }
        do { try journal.append(entries) } catch {
            logger.error("\(error)")
            if error.isDiskFull { return false }
            // What was decided cannot be kept; a fresh process starts from what is on disk.
            logger.critical("the journal cannot be written; the coordinator ends")
            exit(4)
        }
        return true
    }

    /// The messages of all leases among `effects`, by lease. What they carry is read in one transaction.
    private func grants(among effects: [Coordinator.Effect]) -> [UInt64: WireEnvelope] {
        var grants: [UInt64: WireEnvelope] = [:]
        let isGranting = effects.contains { if case .grant = $0 { true } else { false } }
        guard isGranting else { return grants }
        do throws(JournalError) {
            try journal.reading { reader in
                for case .grant(let lease, let job, let model, let siblings, _) in effects {
                    do { grants[lease.id] = try grant(lease, job, model, siblings, reader) } catch {
                        logger.error("lease \(lease.id) could not be sent: \(error)")
                    }
                }
            }
        } catch {
            logger.error("leases could not be sent: \(error)")
        }
        return grants
    }

    private func grant(
        _ lease: Lease, _ job: UInt64, _ model: UInt32, _ siblings: [Int], _ reader: JournalReader
    ) throws -> WireEnvelope {
        if settings[job] == nil { settings[job] = try reader.settings(of: job) }
        let settings = settings[job] ?? WireGenerationSettings()
        let row = try reader.row(job: job, group: rowIndex(job, lease.unit.group))
        var grant = WireGrant()
        grant.lease = lease.id
        grant.job = job
        grant.attempt = lease.attempt
        grant.model = model
        let record = coordinator.state.jobs[job]
        grant.policyVersion =
            record?.isTraining == true
            ? record!.policyVersion(ofGroup: lease.unit.group) : coordinator.state.models[model]?.policyVersion ?? 0
        switch lease.unit {
        case .rollout(let group):
            grant.rollout.group = UInt32(group)
            grant.rollout.siblings = siblings.map(UInt32.init)
            grant.rollout.prompt = Data(littleEndian: row.tokens)
            grant.rollout.row = row.json
            grant.rollout.settings = settings
        case .score(let id):
            grant.score.group = UInt32(id.group)
            grant.score.sibling = UInt32(id.sibling)
            grant.score.settings = settings.score
            grant.score.firstScored = 1
            grant.score.tokens = Data(littleEndian: row.tokens)
            let rollout = try reader.record(job: job, isScore: false, group: id.group, sibling: id.sibling)
            if case .rollout(let record)? = rollout?.record {
                grant.score.firstScored = UInt32(row.tokens.count)
                grant.score.tokens += record.tokens
            }
        }
        var envelope = WireEnvelope()
        envelope.grant = grant
        return envelope
    }

    private var stopMessage: WireEnvelope {
        var envelope = WireEnvelope()
        envelope.stop.reason = "the coordinator stops"
        return envelope
    }

    private func failure(_ text: String, _ code: Int32) -> WireEnvelope {
        var envelope = WireEnvelope()
        envelope.requestFailed.text = text
        envelope.requestFailed.exitCode = code
        return envelope
    }

    private func addressed(_ envelope: WireEnvelope, to peer: PeerIdentity) -> WireEnvelope {
        var envelope = envelope
        envelope.protocolVersion = clusterProtocolVersion
        envelope.epoch = coordinator.state.epoch
        envelope.incarnation = coordinator.incarnation
        if envelope.recipient == 0 { envelope.recipient = coordinator.incarnation(of: peer) }
        return envelope
    }

    private func send(_ envelope: WireEnvelope, to peer: PeerIdentity, request: UInt64? = nil) {
        var envelope = addressed(envelope, to: peer)
        if let request { envelope.request = request }
        do { try transport.send(Message(peer: peer, channel: .control, parts: envelope.payloads)) } catch {
            unsent(envelope, peer, error)
        }
    }

    /// No message is lost without a word, and none leaves a worker behind: one that takes nothing more is cut off, so that
    /// it says hello again and is told everything.
    private func unsent(_ envelope: WireEnvelope, _ peer: PeerIdentity, _ error: TransportError) {
        switch error.code {
        case .unknownPeer, .closed:
            // It hung up; when it comes back it says hello.
            logger.debug("'\(envelope.kind)' was not sent to \(peer): \(error)")
        case .backpressure:
            logger.warning("'\(envelope.kind)' was not sent to \(peer): \(error); cutting it off")
            transport.disconnect(from: peer)
        default:
            logger.warning("'\(envelope.kind)' was not sent to \(peer): \(error)")
            if envelope.request != 0 {
                send(failure("the answer is too large to be sent: \(error)", 4), to: peer, request: envelope.request)
            }
        }
    }

    // MARK: - Threads

    private static func build(_ order: TrainingOrder, _ journal: Journal) -> Result<BuiltStep, SubmissionError> {
        do {
            guard case .train(let specification) = try Job.parse(order.job.admitted.resolvedYaml) else {
                throw SubmissionError(description: "job \(order.job.id) is no training job", exitCode: 5)
            }
            return .success(
                try StepBuilder(
                    journal: journal, job: order.job, specification: specification, epoch: order.epoch,
                    version: order.version, memberCount: order.members.count
                ).build())
        } catch {
            return .failure(SubmissionError(description: String(describing: error), exitCode: 5))
        }
    }

    private func startThreads() {
        let allowList = configuration.allowList
        threads.append(
            intake.start(isWorker: { allowList.role(of: $0) == .worker }, logger: logger) { [inputs] in
                _ = inputs.push(.result, until: .distantFuture)
            })
        let (submissions, inputs, logger) = (submissions, inputs, logger)
        let roots = configuration.submissionRoots
        let (journal, pathSurvey) = (journal, pathSurvey)
        threads.append(
            .start(name: "job-reader") {
                var claims = OutputClaim(journal)
                while let order = submissions.pop() {
                    do throws(SubmissionError) {
                        let prepared = try JobPreparation(
                            submission: order.submission, roots: order.role == .admin ? nil : roots
                        ).run(job: order.job)
                        try prepared.checkGrants()
                        let outcome = try claims.settle(prepared, order.known, resumes: order.submission.resumes)
                        guard case .new(let replaced) = outcome else {
                            if case .known(let job) = outcome {
                                _ = inputs.push(.known(job: job, order), until: .distantFuture)
                            }
                            continue
                        }
                        do throws(SubmissionError) {
                            try pathSurvey.check(prepared, job: order.job, workers: order.workers) {
                                _ = inputs.push(.ask($0), until: .distantFuture)
                            }
                            do throws(JournalError) {
                                try journal.store(job: order.job, settings: prepared.settings, rows: prepared.rows)
                            } catch { throw SubmissionError(description: error.description, exitCode: 4) }
                        } catch {
                            claims.giveBack(prepared)
                            throw error
                        }
                        _ = inputs.push(.prepared(prepared, replaced: replaced, order), until: .distantFuture)
                    } catch {
                        _ = inputs.push(.refused(error, order), until: .distantFuture)
                    }
                }
            })
        let trainingWork = trainingWork
        threads.append(
            .start(name: "step-builder") {
                while let work = trainingWork.pop() {
                    switch work {
                    case .build(let order):
                        let result = Self.build(order, journal)
                        _ = inputs.push(.built(order, result), until: .distantFuture)
                    case .seal(let job, let version, let directory):
                        var (name, problem): (String, String?) = (directory, nil)
                        do {
                            guard case .train(let specification) = try Job.parse(job.admitted.resolvedYaml) else {
                                throw SubmissionError(description: "job \(job.id) is no training job", exitCode: 5)
                            }
                            name = try SnapshotSealer(
                                job: job, specification: specification,
                                partial: URL(fileURLWithPath: directory, isDirectory: true), version: version
                            ).seal()
                        } catch { problem = String(describing: error) }
                        _ = inputs.push(
                            .sealed(job: job.id, version: version, directory: name, problem: problem),
                            until: .distantFuture)
                    case .remove(let output, let versions):
                        do { try SavedCheckpoints(output: output).remove(keeping: versions) } catch {
                            logger.warning("an old checkpoint could not be removed: \(error)")
                        }
                    case .discard(let directory): SavedCheckpoints.discard(directory)
                    }
                }
            })
    }
}
