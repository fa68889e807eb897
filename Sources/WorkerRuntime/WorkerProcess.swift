// SPDX-License-Identifier: Apache-2.0
//
// A worker: the session with the coordinator on this loop; engine, loader, expert server, reward threads and the record
// sender each on their own. The loop never blocks, so a busy worker still beats.
internal import CKernels
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import ExpertParallel
internal import Foundation
package import Logging
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

/// A running worker.
package final class WorkerProcess: @unchecked Sendable {
    // @unchecked: everything mutable belongs to the loop's thread; other threads push into the queue.
    enum Input: Sendable {
        case message(Message)
        case connected(PeerIdentity)
        /// Transfers of this peer that are not complete will not become so.
        case bulkLost(PeerIdentity)
        /// A line about a peer that cannot be reached.
        case trouble(String)
        /// The exchange connection to another worker stands, or has broken.
        case link(PeerIdentity, isUp: Bool)
        case finished(WireUnitResult)
        case leaseEnded(UInt64, WireUnitFailed?)
        case shards(WireShardReport)
        case log(String)
        case refused(TransportEvent.HandshakeFailure)
        case drain(String, milliseconds: UInt64, exitCode: Int32)
        case report(WireEnvelope)
    }

    private let configuration: WorkerConfiguration
    private let logger: Logger
    private let allowList = AllowList()
    private let inputs = BoundedQueue<Input>(itemCountMax: 1 << 20, byteCountMax: 1 << 30)
    private let transport: ZeroMQTransport
    /// What other workers are told to dial.
    private let endpoints: ChannelEndpoints
    private let environment: WorkerEnvironment
    private let server: ExpertServer
    private let loader: ShardLoader
    private let engine: EngineLoop
    private let training: TrainingHost
    private let rewards: RewardStage
    private let sender: RecordSender
    private let hosts = Locked<[UInt32: ModelHost]>([:])
    private var session: WorkerSession
    private var address: PeerAddress?
    private var lastDial = MonotonicInstant.now
    private var routes = RouteBook()
    private var delivery = StepDelivery()
    private var reassembler = BulkReassembler(transferByteCountMax: 1 << 30, totalByteCountMax: 2 << 30)
    /// A message of the coordinator found no room among the inputs.
    private let hasMissed: Locked<Bool>
    private var lastSendFailure: MonotonicInstant?
    private var links = PeerLinks()
    private var exitCode: Int32?
    private var lastRefusal: MonotonicInstant?

    /// Opens the sockets and starts the threads.
    /// - Throws: one line about keys or ports.
    package init(_ configuration: WorkerConfiguration, judge: any ResponseJudge, logger: Logger) throws {
        self.configuration = configuration
        self.logger = logger
        let inputs = inputs
        let port = ExchangePort()
        let hasMissed = Locked(false)
        self.hasMissed = hasMissed
        let take: @Sendable (Message) -> Void = { message in
            guard inputs.tryPush(.message(message), byteCount: message.chargedByteCount) != .accepted else { return }
            hasMissed.withLock { $0 = true }
        }
        let environment = WorkerEnvironment(
            pool: ComputePool(threadCount: configuration.threadCount), port: port, shards: ExpertShardStore(),
            routing: ExpertRouting())
        self.environment = environment
        let options = ZeroMQConfiguration(
            security: .curve(keys: configuration.keys, allowList: allowList), listen: configuration.listen,
            deliveries: ChannelDeliveries(
                control: .direct(take), exchange: port.delivery, bulk: .direct(take)),
            onEvent: { event in
                switch event {
                case .connected(let peer, .control): _ = inputs.tryPush(.connected(peer))
                case .disconnected(let peer, .bulk, _): _ = inputs.tryPush(.bulkLost(peer))
                case .connected(let peer, .exchange): _ = inputs.tryPush(.link(peer, isUp: true))
                case .disconnected(let peer, .exchange, _): _ = inputs.tryPush(.link(peer, isUp: false))
                case .handshakeFailed(let failure, _): _ = inputs.tryPush(.refused(failure))
                case .dialFailed(_, _, let text), .acceptFailed(_, let text): _ = inputs.tryPush(.trouble(text))
                default: break
                }
            })
        let transport = try ZeroMQTransport(options)
        self.transport = transport
        port.attach(transport)
        server = ExpertServer(
            port: port, store: environment.shards, training: environment.training, pool: environment.pool
        ) { peer, text in
            _ = inputs.tryPush(.log("expert server, \(peer): \(text)"))
        }
        let incarnation = UInt64.random(in: 1 ... .max)
        let fingerprint = NumericsFingerprint.current
        sender = RecordSender(transport)
        // The loop is made after those who ask it.
        let loop = Locked<EngineLoop?>(nil)
        let client = JudgeClient(allowed: configuration.judging) { question in
            guard let engine = loop.withLock({ $0 }) else { return .failure(JudgeFailure(description: "no engine")) }
            engine.consult(question)
            return question.wait()
        }
        let rewards = RewardStage(
            judge, client: client, threadCount: configuration.judgeCount, incarnation: incarnation,
            fingerprint: fingerprint
        ) { _ = inputs.tryPush(.finished($0)) }
        self.rewards = rewards
        let training = TrainingHost(environment) { _ = inputs.tryPush(.report($0)) }
        self.training = training
        // The stage is made after the loop that it answers to.
        let tools = Locked<ToolStage?>(nil)
        let engine = EngineLoop(
            .init(
                onFinished: { rewards.take($0) }, onTurn: { task in tools.withLock { $0 }?.take(task) },
                onLeaseEnded: { lease, failure in _ = inputs.tryPush(.leaseEnded(lease, failure)) }),
            training: training)
        tools.withLock {
            $0 = ToolStage(judge, threadCount: configuration.judgeCount) { engine.observe($0) }
        }
        loop.withLock { $0 = engine }
        self.engine = engine
        let hosts = hosts
        loader = ShardLoader(
            environment,
            .init(
                onHost: { host in
                    hosts.withLock { $0[host.description.id] = host }
                    engine.host(host)
                },
                onDrop: { id in
                    // Wakes the engine if it waits in the model's exchange.
                    hosts.withLock { $0.removeValue(forKey: id) }?.exchange?.cancel()
                    engine.drop(id)
                }, onReport: { _ = inputs.tryPush(.shards($0)) }, onLog: { _ = inputs.tryPush(.log($0)) }))
        guard let bound = transport.endpoints else { preconditionFailure("a listening transport has endpoints") }
        let endpoints = try bound.advertised(
            as: configuration.advertise, towards: configuration.coordinator()?.endpoints)
        self.endpoints = endpoints
        var hello = WireHello()
        hello.version = configuration.version
        hello.numericsFingerprint = fingerprint
        hello.blasFingerprint = BLASFingerprint.current
        hello.host = ProcessInfo.processInfo.hostName
        hello.processID = getpid()
        hello.threadCount = UInt32(configuration.threadCount)
        hello.memoryByteCount = configuration.memoryByteCount
        hello.judging = configuration.judging
        hello.endpoints.control = endpoints.control
        hello.endpoints.exchange = endpoints.exchange
        hello.endpoints.bulk = endpoints.bulk
        var times = WorkerSession.Times()
        times.orphan = configuration.orphanMilliseconds
        session = WorkerSession(incarnation: incarnation, hello: hello, now: .now, times: times)
    }

    /// Takes no new work, finishes what is in hand (what is not done after `milliseconds` goes back) and ends ``run()``
    /// with `exitCode`; from any thread.
    package func drain(_ reason: String, milliseconds: UInt64, exitCode: Int32) {
        _ = inputs.tryPush(.drain(reason, milliseconds: milliseconds, exitCode: exitCode))
    }

    /// Runs until told to stop. Returns the exit code: 0 after a proper end, 75 to be started again, 4 when the
    /// cluster refused or was lost; after ``drain(_:milliseconds:exitCode:)`` the code given there.
    package func run() -> Int32 {
        logger.info("\(configuration.threadCount) threads, kernels \(String(cString: ck_isa()))")
        while exitCode == nil {
            dial()
            let deadline = MonotonicInstant.now.advanced(byMilliseconds: 50)
            if let first = inputs.pop(until: deadline) {
                take(first)
                var count = 1
                while count < 1024, exitCode == nil, let input = inputs.tryPop() {
                    take(input)
                    count += 1
                }
            }
            if hasMissed.withLock({ missed in
                defer { missed = false }
                return missed
            }) {
                logger.warning("messages of the coordinator found no room here; saying hello to be told again")
                perform(session.apply(.messageLost, at: .now))
            }
            perform(session.apply(.tick(beat()), at: .now))
        }
        transport.close()
        return exitCode ?? 0
    }

    // MARK: - In

    private func take(_ input: Input) {
        switch input {
        case .message(let message):
            guard message.peer == address?.identity else { return }
            do {
                if message.channel == .bulk {
                    guard let transfer = try reassembler.accept(message) else { return }
                    let envelope = try WireEnvelope(encoded: transfer.content, byteCountMax: .max)
                    return perform(session.apply(.message(envelope), at: .now))
                }
                let envelope = try WireEnvelope(encoded: message.parts.flatMap(\.bytes))
                perform(session.apply(.message(envelope), at: .now))
            } catch { logger.warning("a message of the coordinator was dropped: \(error)") }
        case .connected(let peer):
            if peer == address?.identity { perform(session.apply(.connected, at: .now)) }
        case .bulkLost(let peer): reassembler.forget(peer: peer)
        case .trouble(let text): logger.warning("\(text)")
        case .link(let peer, let isUp): links.note(peer, isUp: isUp, .now)
        case .finished(let result): perform(session.apply(.finished(result), at: .now))
        case .leaseEnded(let lease, let failure):
            perform(session.apply(.leaseEnded(lease, failure: failure), at: .now))
        case .shards(let report):
            if !report.problem.isEmpty { logger.error("model \(report.model): \(report.problem)") }
            perform(session.apply(.shards(report), at: .now))
        case .log(let text): logger.info("\(text)")
        case .refused(let failure): noteRefusal(failure)
        case .report(let envelope):
            if case .trainFailed(let failed) = envelope.body { logger.error("training: \(failed.reason)") }
            perform(session.apply(.report(envelope), at: .now))
        case .drain(let reason, let milliseconds, let code):
            logger.info("\(reason): leaves within \(milliseconds / 1000) s, \(session.leases.count) leases in hand")
            perform(session.apply(.drain(reason, milliseconds: milliseconds, exitCode: code), at: .now))
        }
    }

    /// Says once in a while whose key was refused; it may be put on the list while we try.
    private func noteRefusal(_ failure: TransportEvent.HandshakeFailure) {
        guard MonotonicInstant.now.milliseconds(since: lastRefusal ?? MonotonicInstant(nanoseconds: 0)) > 5000 else {
            return
        }
        lastRefusal = .now
        let own = configuration.keys.publicKey.rawValue
        guard case .auth(let key) = failure, key == address?.identity else {
            return logger.warning(
                "a handshake failed (\(failure)): is the other side this cluster's, with the key of its address file?")
        }
        logger.error(
            "the coordinator refuses this worker's key; add the line '\(own) worker' to its allow-list and restart it")
    }

    /// Connects to the coordinator, and to its new place when it moved.
    private func dial() {
        let now = MonotonicInstant.now
        if address != nil, session.worker != nil || now.milliseconds(since: lastDial) < 1000 { return }
        lastDial = now
        guard let found = configuration.coordinator(), found != address else { return }
        if let problem = found.reachProblem(from: endpoints) {
            logger.error("\(problem)")
            exitCode = 4
            return
        }
        if let old = address, old.identity != found.identity { transport.disconnect(from: old.identity) }
        allowList.add(found.identity, role: .coordinator)
        do {
            try transport.connect(to: found)
            address = found
            logger.info("dialling the coordinator at \(found.endpoints.control)")
        } catch { logger.error("\(error)") }
    }

    private func beat() -> WireBeat {
        let status = engine.status.withLock { $0 }
        let exchange = environment.port.counters.snapshot
        var beat = WireBeat()
        beat.progress = status.progress + UInt64(exchange.servedRuns) + WorkProgress.count
        beat.unreachable = links.unreachable(.now)
        let loading = loader.activity.withLock { $0 }
        beat.activity = loading.map { status.activity == "idle" ? $0 : "\(status.activity), \($0)" } ?? status.activity
        let hosted = hosts.withLock { Array($0.values) }
        for host in hosted.sorted(by: { $0.description.id < $1.description.id }) {
            guard let waiting = host.exchange?.waiting else { continue }
            beat.waitingFor = describe(waiting)
            beat.waitingMilliseconds = MonotonicInstant.now.milliseconds(since: waiting.since)
            beat.note(waiting)
        }
        if beat.waitingFor.isEmpty, status.activity == "idle", let waiting = rewards.waiting {
            beat.waitingFor = "verifiers of \(waiting.count) responses"
            beat.waitingMilliseconds = MonotonicInstant.now.milliseconds(since: waiting.since)
        }
        if let activity = training.activity { beat.activity = activity }
        for waiting in training.expertWaits { beat.note(waiting) }
        if let waiting = training.waiting {
            beat.waitingFor = "\(waiting.peers.map(name).joined(separator: ", ")) \(waiting.reason)"
            beat.waitingMilliseconds = MonotonicInstant.now.milliseconds(since: waiting.since)
            beat.note(waiting)
        }
        for (model, count) in status.freeSlots.sorted(by: { $0.key < $1.key }) {
            var slots = WireFreeSlots()
            slots.model = model
            slots.count = UInt32(max(0, count))
            beat.freeSlots.append(slots)
        }
        let models = Set(hosted.map(\.description.id))
        for (model, rows) in environment.port.counters.expertRows.sorted(by: { $0.key < $1.key })
        where models.contains(model) {
            var load = WireExpertLoad()
            load.model = model
            load.rows = rows
            beat.expertLoads.append(load)
        }
        beat.counters.residentTrunkByteCount = hosted.reduce(0) { $0 + $1.description.trunkByteCount }
        beat.counters.residentExpertByteCount = UInt64(environment.shards.residentByteCount)
        beat.counters.tokensDispatched = UInt64(exchange.tokensDispatched)
        beat.counters.tokensServed = UInt64(exchange.tokensServed)
        beat.counters.exchangeBytesSent = UInt64(exchange.bytesOut)
        beat.counters.exchangeBytesReceived = UInt64(exchange.bytesIn)
        beat.counters.generatedTokenCount = status.generatedTokenCount
        beat.counters.scoredTokenCount = status.scoredTokenCount
        beat.counters.runningSequenceCount = UInt64(status.runningCount)
        beat.counters.processedTokenCount = status.processedTokenCount
        return beat
    }

    private func describe(_ wait: ExchangeWait) -> String {
        "experts of layer \(wait.layer) from \(wait.peer.map(name) ?? "anybody"): \(wait.reason.rawValue)"
    }

    private func name(_ peer: PeerIdentity) -> String {
        routes.number(of: peer).map { "worker \($0)" } ?? "peer \(peer)"
    }

    // MARK: - Out

    private func perform(_ effects: [WorkerSession.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let envelope): send(envelope)
            case .transfer(let result): if let address { sender.send(result, to: address.identity) }
            case .perform(let envelope): obey(envelope)
            case .work(let grant): engine.work(grant)
            case .abandon(let lease): engine.abandon(lease)
            case .exit(let code, let reason):
                let status = engine.status.withLock { $0 }
                logger.info(
                    "ends: \(reason); \(status.generatedTokenCount) tokens generated, \(status.scoredTokenCount) scored"
                )
                exitCode = code
            case .log(let text): logger.info("\(text)")
            }
        }
    }

    private func send(_ envelope: WireEnvelope) {
        guard let address else { return }
        do {
            try transport.send(Message(peer: address.identity, channel: .control, parts: envelope.payloads))
        } catch {
            let now = MonotonicInstant.now
            // Before the first connection there is nobody to hear it; the session says hello until it is welcomed.
            if error.code == .unknownPeer { return }
            if lastSendFailure.map({ now.milliseconds(since: $0) > 5000 }) ?? true {
                lastSendFailure = now
                logger.warning("'\(envelope.kind)' was not sent to the coordinator \(address.identity): \(error)")
            }
            // Everything that counts is said again with the next hello.
            switch envelope.body {
            case .hello, .beat, .goodbye: break
            default: perform(session.apply(.messageLost, at: now))
            }
        }
    }

    private func obey(_ envelope: WireEnvelope) {
        switch envelope.body {
        case .welcome(let welcome):
            // Who is not named was forgotten while this worker did not listen.
            let others = Set(welcome.peers)
            let gone = routes.peers.filter { $0 != transport.identity && !others.contains($0.rawValue) }
            routes.welcome(as: welcome.worker, transport.identity)
            links.forgetPeers()
            for peer in gone { forget(peer) }
            if welcome.firstTrainingEpoch > 0 { endTraining(epoch: welcome.firstTrainingEpoch - 1) }
        case .allowPeer(let allow):
            let peer = PeerIdentity(allow.identity)
            guard CurveKeyPair.isKey(allow.identity), allowList.add(peer, role: .worker) else { return }
            publish(routes.name(allow.worker, peer))
            links.expect(peer, .now)
            var reply = WireEnvelope()
            reply.peerAllowed.identity = allow.identity
            reply.protocolVersion = clusterProtocolVersion
            reply.epoch = session.epoch
            reply.incarnation = session.incarnation
            send(reply)
        case .connectPeer(let connect):
            let peer = PeerAddress(
                identity: PeerIdentity(connect.identity),
                endpoints: ChannelEndpoints(
                    control: connect.endpoints.control, exchange: connect.endpoints.exchange,
                    bulk: connect.endpoints.bulk))
            do { try transport.connect(to: peer) } catch { logger.error("worker \(connect.worker): \(error)") }
        case .forgetPeer(let gone):
            let peer = PeerIdentity(gone.identity)
            publish(routes.forget(gone.worker, peer))
            // The same key may be back already under a new number.
            if !routes.isKnown(peer) { forget(peer) }
        case .deploy(let deploy): loader.hold(deploy)
        case .undeploy(let undeploy):
            routes.undeploy(undeploy.model)
            environment.routing.remove(model: undeploy.model)
            hosts.withLock { $0[undeploy.model] }?.exchange?.cancel()
            loader.drop(undeploy.model)
        case .routes(let new): publish(routes.take(new))
        case .pathQuestion(let question): look(question)
        default: train(envelope)
        }
    }

    /// Off this thread: a file system that hangs must not stop the worker.
    private func look(_ question: WirePathQuestion) {
        guard let coordinator = address?.identity else { return }
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.epoch = session.epoch
        envelope.incarnation = session.incarnation
        _ = DedicatedThread.start(name: "path-reader") { [self, envelope] in
            var envelope = envelope
            envelope.pathAnswer.job = question.job
            envelope.pathAnswer.unseen = question.models.filter {
                !FileManager.default.isReadableFile(atPath: $0 + "/config.json")
            }
            if !question.output.isEmpty, !ShardLoader.seesOutput(question.output) {
                envelope.pathAnswer.unseen.append(question.output)
            }
            // The coordinator does without an answer that is lost.
            try? transport.send(Message(peer: coordinator, channel: .control, parts: envelope.payloads))
        }
    }

    private func forget(_ peer: PeerIdentity) {
        links.forget(peer)
        allowList.remove(peer)
        transport.disconnect(from: peer)
    }

    private func publish(_ tables: [RouteBook.Table]) {
        for table in tables {
            environment.routing.update(
                model: table.model,
                ExpertRouteTable(
                    epoch: table.revision, holders: table.holders, requester: transport.identity,
                    requesterIndex: Int(session.worker ?? 0)))
        }
    }

    // MARK: - Training

    private func train(_ envelope: WireEnvelope) {
        switch envelope.body {
        case .trainBegin(let begin):
            // A coordinator that died after an earlier epoch's last order says nothing more of that epoch: its members may
            // wait for each other in the middle of a step.
            if begin.epoch > 0 { endTraining(epoch: begin.epoch - 1) }
            delivery.begin(begin)
            order(.begin, begin.epoch, begin.version, envelope)
        case .trainCells(let cells): take(delivery.take(cells))
        case .trainStep(let step): take(delivery.take(step))
        case .stepQuestion(let question):
            var answer = WireEnvelope()
            answer.stepHeld = delivery.held(question)
            let sealed = training.sealed(epoch: question.epoch, version: question.version)
            perform(session.apply(.report(sealed ?? answer), at: .now))
        case .stepApply(let apply): order(.apply, apply.epoch, apply.version, envelope)
        case .takeSnapshot(let snapshot): order(.snapshot, snapshot.epoch, snapshot.version, envelope)
        case .trainAbort(let abort): endTraining(epoch: abort.epoch)
        default: break
        }
    }

    private func order(_ kind: TrainingOrders.Kind, _ epoch: UInt32, _ version: UInt64, _ envelope: WireEnvelope) {
        guard training.isNew(kind, epoch: epoch, version: version), !engine.train(envelope) else { return }
        training.refuse(kind, epoch: epoch, version: version, "this worker has too many commands waiting")
    }

    private func take(_ whole: StepDelivery.Whole?) {
        guard let whole, training.isNew(.step, epoch: whole.step.epoch, version: whole.step.version),
            !engine.train(whole)
        else { return }
        training.refuse(
            .step, epoch: whole.step.epoch, version: whole.step.version, "this worker has too many commands waiting")
    }

    private func endTraining(epoch: UInt32) {
        delivery.end(epoch: epoch)
        training.abort(epoch: epoch)
        transport.discard(.exchange) { ExchangePort.isTraining($0, upTo: epoch) }
        var abort = WireEnvelope()
        abort.trainAbort.epoch = epoch
        _ = engine.train(abort)
    }
}
