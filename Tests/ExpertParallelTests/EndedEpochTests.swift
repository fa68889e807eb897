// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import Qwen3
import RuntimeSupport
import Tensors
import Testing

@testable import ExpertParallel

/// What is left of a training epoch that was cancelled in the middle must not stand in the way of what comes next.
@Suite("Ended training epochs", .serialized)
struct EndedEpochTests {
    private static let shape = ServerTests.shape

    private static var limits: ChannelLimits {
        var limits = ChannelLimits.exchange
        (limits.partByteCountMax, limits.messageByteCountMax) = (256 << 10, 512 << 10)
        (limits.windowByteCount, limits.queueByteCountMax) = (1 << 20, 2 << 20)
        return limits
    }

    /// Sends gradients of an epoch from one worker to another until no more go.
    private func fill(_ cluster: TestCluster, epoch: UInt32) throws {
        let (from, to) = (cluster.workers[1], cluster.workers[0])
        let part = Payload([UInt8](repeating: 1, count: 256 << 10))
        var isFull = false
        var sentCount = 0
        while !isFull {
            let frame = TrainingFrame(
                kind: .gradient, model: TestCluster.model, epoch: epoch, version: 1, index: 0, payload: part)
            do throws(TransportError) {
                try from.port.send(
                    frame.encode(), to: to.identity, waitingUntil: MonotonicInstant.now.advanced(byMilliseconds: 300))
                sentCount += 1
            } catch {
                if error.code == .unknownPeer { continue }
                #expect(error.code == .backpressure)
                isFull = true
            }
        }
        #expect(sentCount >= 8, "the window and the queue")
    }

    @Test("cancelled in the middle of reduce, with more under way than a window holds: experts are asked and answer")
    func creditReturns() throws {
        let cluster = try TestCluster(zeroMQ: 2, exchange: Self.limits)
        defer { cluster.stop() }
        let experts = try RandomExperts(Self.shape, seed: 51)
        let input = RoutedRows(Self.shape, rowCount: 6, topK: 3, seed: 52)
        cluster.place(experts, holders: (0..<8).map { _ in [1] })
        try fill(cluster, epoch: 3)
        // Worker 0 asks worker 1, whose answer goes over the link that is full of gradients.
        let exchange = cluster.workers[0].exchange(Self.shape, settings: .impatient)
        let answer = Background { try input.run(exchange) }
        #expect(cluster.workers[0].port.training.count > 0)
        cluster.workers[0].port.endTraining(epoch: 3)
        #expect(cluster.workers[0].port.training.count == 0)
        #expect(eventually { cluster.workers[0].port.training.count == 0 && exchange.waiting == nil })
        #expect(try answer.join() == experts.expected(input))
        // What still comes of that epoch is dropped; a later one is served.
        try cluster.workers[1].port.send(
            TrainingFrame(kind: .ready, model: TestCluster.model, epoch: 4, version: 1, index: 0).encode(),
            to: cluster.workers[0].identity)
        #expect(eventually { cluster.workers[0].port.training.count == 1 })
    }

    @Test("what waits at the sender goes with its epoch")
    func senderDrops() throws {
        let cluster = try TestCluster(zeroMQ: 2, exchange: Self.limits)
        defer { cluster.stop() }
        let experts = try RandomExperts(Self.shape, seed: 51)
        let input = RoutedRows(Self.shape, rowCount: 6, topK: 3, seed: 52)
        cluster.place(experts, holders: (0..<8).map { _ in [1] })
        try fill(cluster, epoch: 3)
        let transport = try #require(cluster.workers[1].transport as? ZeroMQTransport)
        let other = cluster.workers[0].identity
        #expect(transport.queuedByteCount(to: other, .exchange) > 1 << 20)
        transport.discard(.exchange) { ExchangePort.isTraining($0, upTo: 2) }
        transport.discard(.exchange) { ExchangePort.isTraining($0, upTo: 3) }
        #expect(eventually { transport.queuedByteCount(to: other, .exchange) == 0 })
        cluster.workers[0].port.endTraining(epoch: 3)
        #expect(try input.run(cluster.workers[0].exchange(Self.shape, settings: .impatient)) == experts.expected(input))
    }

    @Test("a member that gives an epoch up keeps nothing of what the others sent")
    func memberLetsGo() throws {
        let cluster = try TestCluster(zeroMQ: 2, exchange: Self.limits)
        defer { cluster.stop() }
        let experts = try RandomExperts(Self.shape, seed: 51)
        let input = RoutedRows(Self.shape, rowCount: 6, topK: 3, seed: 52)
        cluster.place(experts, holders: (0..<8).map { _ in [1] })
        let member = cluster.workers[0]
        let exchange = TrainingExchange(port: member.port, model: TestCluster.model)
        exchange.begin(epoch: 3, members: cluster.workers.map(\.identity), rank: 0)
        // It waits for its peer to finish and takes meanwhile what comes.
        let waiter = Background { () -> Bool in
            do { _ = try exchange.meet(version: 1, point: 1) } catch { return true }
            return false
        }
        try fill(cluster, epoch: 3)
        exchange.cancel()
        #expect(try waiter.join())
        member.port.endTraining(epoch: 3)
        exchange.end(epoch: 3)
        #expect(try input.run(member.exchange(Self.shape, settings: .impatient)) == experts.expected(input))
    }

    @Test("a repeat that came while its dispatch was computed is not computed again")
    func repeatsWhileServing() throws {
        let network = InMemoryNetwork()
        let gate = BoundedQueue<Bool>(itemCountMax: 1, byteCountMax: 1)
        let isInTrouble = BoundedQueue<Bool>(itemCountMax: 1, byteCountMax: 1)
        // The server's thread stands in the trouble that one dispatch of the batch makes until the gate opens.
        let worker = try TestWorker(
            serves: false,
            onTrouble: { _, _ in
                _ = isInTrouble.tryPush(true)
                _ = gate.pop(until: MonotonicInstant.now.advanced(byMilliseconds: 60_000))
            }
        ) {
            InMemoryTransport(
                identity: PeerIdentity("server"), network: network,
                deliveries: ChannelDeliveries(control: .direct { _ in }, exchange: $0, bulk: .direct { _ in }))
        }
        defer {
            worker.stop()
            network.close()
        }
        let experts = try RandomExperts(Self.shape, seed: 51)
        worker.store.add(model: TestCluster.model, policyVersion: 1, shape: Self.shape, layers: experts.layers)
        let client = InMemoryTransport(
            identity: PeerIdentity("client"), network: network, deliveries: .direct { _ in })
        try client.connect(
            to: PeerAddress(
                identity: worker.identity, endpoints: ChannelEndpoints(control: "", exchange: "", bulk: "")))
        func send(_ request: UInt64, expert: Int32) throws {
            var assignment = ExpertAssignment()
            assignment.rowStarts = [0, 1]
            assignment.experts = [expert]
            assignment.weights = [1]
            let dispatch = Dispatch(
                topic: ExchangeTopic(model: TestCluster.model, policyVersion: 1, layer: 0), request: request,
                compute: .fp32, width: 16, subtrees: [ExpertSubtree(first: 0, size: 16)], assignment: assignment,
                tokens: [Payload([UInt8](repeating: 0, count: 64))])
            try client.send(Message(peer: worker.identity, channel: .exchange, parts: dispatch.encode()))
        }
        try send(1, expert: 9)
        try send(2, expert: 0)
        #expect(eventually { worker.port.dispatches.count == 2 })
        worker.serve()
        #expect(isInTrouble.pop(until: MonotonicInstant.now.advanced(byMilliseconds: 60_000)) == true)
        for _ in 0..<3 { try send(2, expert: 0) }
        try send(3, expert: 1)
        #expect(eventually { worker.port.dispatches.count == 4 })
        _ = gate.tryPush(true)
        #expect(eventually { worker.counts.dispatchesServed == 2 && worker.counts.repeatsDropped == 3 })
        // Asked for after the answer was given: that was lost, and is computed again.
        try send(2, expert: 0)
        #expect(eventually { worker.counts.dispatchesServed == 3 })
    }

    @Test("the time until a repeat follows the owner, upwards at once and downwards slowly")
    func resendTimer() {
        var timer = ResendTimer(base: 2000)
        #expect((0..<5).map { timer.delay(sent: $0) } == [2000, 4000, 8000, 16_000, 16_000])
        timer.note(milliseconds: 20)
        #expect(timer.delay(sent: 0) == 2000)
        timer.note(milliseconds: 5000)
        #expect(timer.delay(sent: 0) == 10_000 && timer.delay(sent: 3) == 60_000)
        timer.note(milliseconds: 1000)
        #expect(timer.delay(sent: 0) == 9000)
        for _ in 0..<30 { timer.note(milliseconds: 10) }
        #expect(timer.delay(sent: 0) == 2000)
        timer.note(milliseconds: 10_000_000)
        #expect(timer.delay(sent: 0) == 60_000)
    }
}
