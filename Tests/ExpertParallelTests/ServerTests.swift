// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import Qwen3
import RuntimeSupport
import Tensors
import Testing

@testable import ExpertParallel

@Suite("The server and what peers may send it", .serialized)
struct ServerTests {
    static let shape = ExpertShape(compute: .fp32, expertCount: 8, hiddenSize: 16, intermediateSize: 16)
    private let experts: RandomExperts
    private let input: RoutedRows

    init() throws {
        experts = try RandomExperts(Self.shape, seed: 41)
        input = RoutedRows(Self.shape, rowCount: 6, topK: 3, seed: 42)
    }

    private func dispatch(_ change: (inout [[UInt8]]) -> Void = { _ in }) -> [Payload] {
        let dispatch = Dispatch(
            topic: ExchangeTopic(model: TestCluster.model, policyVersion: 1, layer: 0), request: 5,
            compute: .fp32,
            width: 16, subtrees: [ExpertSubtree(first: 0, size: 8)], assignment: input.assignment,
            tokens: [Payload(input.tokens)])
        var parts = dispatch.encode().map(\.bytes)
        change(&parts)
        return parts.map { Payload($0) }
    }

    /// Makes the checksum right again after a change.
    private static func seal(_ parts: inout [[UInt8]]) {
        ExchangeHeader.seal(&parts[0], before: parts.dropFirst().map { Payload($0) })
    }

    private static func put(_ value: UInt32, at offset: Int, in part: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { part.replaceSubrange(offset..<offset + 4, with: $0) }
    }

    @Test("malformed frames are counted and dropped, and the server goes on")
    func garbage() throws {
        let cluster = try TestCluster(count: 2)
        defer { cluster.stop() }
        cluster.place(experts, holders: (0..<8).map { _ in [1] })
        var frames: [[Payload]] = [
            [], [Payload([])], [Payload(Array("GET / HTTP/1.1".utf8))], Array(dispatch().dropLast()),
            dispatch() + [Payload([1, 2, 3])], [dispatch()[0]],
            dispatch { $0[0][0] ^= 1 }, dispatch { $0[0][4] = 9 }, dispatch { $0[0][5] = 7 },
            dispatch { $0[0][7] = 3 }, dispatch { $0[2][5] ^= 1 }, dispatch { $0[1][0] ^= 1 },
            // Counts that would ask for gigabytes.
            dispatch { Self.put(.max, at: 36, in: &$0[0]) }, dispatch { Self.put(.max, at: 44, in: &$0[0]) },
            dispatch { Self.put(.max, at: 48, in: &$0[0]) }, dispatch { Self.put(0, at: 40, in: &$0[0]) },
        ]
        // Routing that contradicts itself under a right checksum: subtree, row start, expert.
        for (offset, value) in [(0, 3), (4, 6), (8, 1), (12, .max), (36, 7), (36, UInt32.max)] {
            frames.append(
                dispatch {
                    Self.put(value, at: offset, in: &$0[1])
                    Self.seal(&$0)
                })
        }
        var random = TestRandom(77)
        for _ in 0..<200 {
            frames.append(
                dispatch { $0[0] = (0..<64).map { _ in UInt8.random(in: 0...255, using: &random) } })
            let (part, bit) = (Int(random.next() % 3), Int(random.next() % 512))
            frames.append(dispatch { $0[part][bit / 8] ^= UInt8(1 << (bit % 8)) })
        }
        let sender = cluster.workers[0].transport
        for parts in frames {
            try sender.send(Message(peer: cluster.workers[1].identity, channel: .exchange, parts: parts))
        }
        let exchange = cluster.workers[0].exchange(Self.shape)
        #expect(try input.run(exchange) == experts.expected(input))
        // Flips in the header's model, version, layer or request make other well-formed dispatches; no more
        // than those may pass.
        let counts = cluster.workers[1].counts
        #expect(counts.refusedFrames >= 22 + 300)
        #expect(counts.dispatchesServed >= 1)
    }

    @Test("what makes no sense for the model is refused with an answer and its reason", arguments: [0, 1, 2, 3])
    func senseless(which: Int) throws {
        let trouble = Locked<[String]>([])
        let network = InMemoryNetwork()
        let worker = try TestWorker(onTrouble: { _, line in trouble.withLock { $0.append(line) } }) {
            delivery in
            InMemoryTransport(
                identity: PeerIdentity("server"), network: network,
                deliveries: ChannelDeliveries(
                    control: .direct { _ in }, exchange: delivery, bulk: .direct { _ in }))
        }
        defer {
            worker.stop()
            network.close()
        }
        worker.store.add(
            model: TestCluster.model, policyVersion: 1, shape: Self.shape, layers: experts.layers)
        let answers = BoundedQueue<Message>(itemCountMax: 8, byteCountMax: 1 << 20)
        let client = InMemoryTransport(
            identity: PeerIdentity("client"), network: network,
            deliveries: .direct { _ = answers.tryPush($0) })
        try client.connect(
            to: PeerAddress(
                identity: worker.identity, endpoints: ChannelEndpoints(control: "", exchange: "", bulk: "")))
        var assignment = ExpertAssignment()
        assignment.rowStarts = [0, 1]
        assignment.experts = [which == 0 ? 9 : 0]
        // Without an answer the source would ask again for ever.
        assignment.weights = [which == 3 ? .nan : 1]
        let (compute, width) = (which == 1 ? ComputeType.bf16 : .fp32, which == 2 ? 8 : 16)
        let dispatch = Dispatch(
            topic: ExchangeTopic(model: TestCluster.model, policyVersion: 1, layer: 0), request: 5,
            compute: compute,
            width: width, subtrees: [ExpertSubtree(first: 0, size: 16)], assignment: assignment,
            tokens: [Payload([UInt8](repeating: 0, count: width * compute.byteCount))])
        try client.send(Message(peer: worker.identity, channel: .exchange, parts: dispatch.encode()))
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 60_000)
        let message = try #require(answers.pop(until: deadline))
        let combine = try Combine(message.parts)
        #expect(combine.status == .failed && !combine.reason.isEmpty)
        if which == 3 { #expect(combine.reason.contains("not finite")) }
        #expect(worker.counts.refusedFrames == 1)
        #expect(trouble.withLock { $0.count } == 1)
    }

    @Test("answers from the wrong peer, of the wrong size or broken are not taken")
    func forgedAnswers() throws {
        let network = InMemoryNetwork()
        defer { network.close() }
        let deliveries = { (delivery: Delivery) in
            ChannelDeliveries(control: .direct { _ in }, exchange: delivery, bulk: .direct { _ in })
        }
        let worker = try TestWorker {
            InMemoryTransport(identity: PeerIdentity("worker"), network: network, deliveries: deliveries($0))
        }
        defer { worker.stop() }
        let requests = BoundedQueue<Message>(itemCountMax: 8, byteCountMax: 1 << 20)
        let owner = InMemoryTransport(
            identity: PeerIdentity("owner"), network: network,
            deliveries: deliveries(.direct { _ = requests.tryPush($0) }))
        let forger = InMemoryTransport(
            identity: PeerIdentity("forger"), network: network, deliveries: deliveries(.direct { _ in }))
        let address = PeerAddress(
            identity: worker.identity, endpoints: ChannelEndpoints(control: "", exchange: "", bulk: ""))
        try owner.connect(to: address)
        try forger.connect(to: address)
        worker.routing.update(
            model: TestCluster.model,
            ExpertRouteTable(
                epoch: 1, holders: (0..<8).map { _ in [owner.identity] }, requester: worker.identity))
        let exchange = worker.exchange(Self.shape)
        let input = input
        let run = Background { try input.run(exchange) }
        let request = try #require(requests.pop(until: MonotonicInstant.now.advanced(byMilliseconds: 60_000)))
        let dispatch = try Dispatch(request.parts)
        func answer(_ value: Float, rows: Int) -> [Payload] {
            let sums = [Float](repeating: value, count: rows * 16).withUnsafeBytes { Payload(Array($0)) }
            return Combine.encode(dispatch, status: .ok, sums: [sums], rowCount: rows)
        }
        func send(_ transport: InMemoryTransport, _ parts: [Payload]) throws {
            try transport.send(Message(peer: worker.identity, channel: .exchange, parts: parts))
        }
        try send(forger, answer(1, rows: 6))
        try send(owner, answer(2, rows: 5))
        var broken = answer(3, rows: 6)
        var bytes = broken[1].bytes
        bytes[0] ^= 1
        broken[1] = Payload(bytes)
        try send(owner, broken)
        try send(owner, answer(4, rows: 6))
        #expect(try run.join() == [UInt32](repeating: Float(4).bitPattern, count: 6 * 16))
        #expect(worker.counts.refusedFrames == 3)
    }

    @Test("the store adds, removes, renumbers and counts; a snapshot does not change")
    func store() throws {
        let store = ExpertShardStore()
        let one = try #require(experts.layers[0]?[0])
        let each = one.gate.byteCount + one.up.byteCount + one.down.byteCount
        store.add(model: 1, policyVersion: 4, shape: Self.shape, layers: experts.layers(owned: [1, 2]))
        store.add(model: 1, policyVersion: 4, shape: Self.shape, layers: experts.layers(owned: [3]))
        let before = try #require(store.experts(model: 1, policyVersion: 4))
        #expect(store.residentByteCount == 3 * each)
        store.remove(model: 1, policyVersion: 4, experts: [1])
        #expect(before.layers[0]?.experts[1] != nil && before.byteCount == 3 * each)
        #expect(store.residentByteCount == 2 * each)
        #expect(
            store.experts(model: 1, policyVersion: 4)?.layers[0]?.subtrees == [
                ExpertSubtree(first: 2, size: 2)
            ])
        #expect(store.renumber(model: 1, from: 4, to: 5))
        #expect(store.experts(model: 1, policyVersion: 4) == nil)
        #expect(!store.renumber(model: 1, from: 4, to: 5))
        store.remove(model: 1, policyVersion: 5)
        #expect(store.residentByteCount == 0)
    }

    @Test("routes: local first, replicas by requester, old epochs refused, waiters woken")
    func routes() throws {
        let names = (0..<3).map { PeerIdentity("w\($0)") }
        func table(_ epoch: UInt64, _ requester: Int) -> ExpertRouteTable {
            ExpertRouteTable(
                epoch: epoch, holders: [[names[1], names[2]], [names[0], names[1]], []],
                requester: names[requester],
                requesterIndex: requester)
        }
        #expect(table(1, 0).owner(of: 0) == .peer(names[1]))
        #expect(table(1, 1).owner(of: 0) == .local)
        #expect(table(1, 0).owner(of: 0, excluding: [names[1]]) == .peer(names[2]))
        #expect(table(1, 0).owner(of: 0, excluding: [names[1], names[2]]) == nil)
        #expect(table(1, 0).owner(of: 1) == .local)
        #expect(table(1, 2).owner(of: 1) == .peer(names[0]))
        #expect(table(1, 0).owner(of: 2) == nil)
        let other = ExpertRouteTable(
            epoch: 1, holders: [[names[1], names[2]]], requester: names[0], requesterIndex: 1)
        #expect(other.owner(of: 0) == .peer(names[2]))

        let routing = ExpertRouting()
        let waiter = Background {
            routing.wait(
                model: 1, newerThan: 1, until: MonotonicInstant.now.advanced(byMilliseconds: 60_000))?.epoch
        }
        #expect(routing.update(model: 1, table(1, 0)))
        #expect(!routing.update(model: 1, table(1, 0)))
        #expect(routing.update(model: 1, table(3, 0)))
        #expect(!routing.update(model: 1, table(2, 0)))
        #expect(try waiter.join() == 3)
        #expect(routing.wait(model: 1, newerThan: 3, until: .now) == nil)
    }
}
