// SPDX-License-Identifier: Apache-2.0
internal import DequeModule
package import RuntimeSupport
internal import Synchronization

/// Endpoints in one process, joined by a thread that carries messages; for tests of what sits on a transport.
package final class InMemoryNetwork: @unchecked Sendable {
    // @unchecked: every `var` is protected by `lock`.

    /// What happens to one message on its way.
    package enum Fate: Sendable {
        case deliver
        /// Arrives later than what is sent after it.
        case delay(milliseconds: UInt64)
        case lose
        case duplicate
    }

    /// Decides the fate of a message by its origin; called under the network's lock, in order of sending.
    package typealias FateRule = @Sendable (_ from: PeerIdentity, Message) -> Fate

    /// Messages on their way, at most.
    package static let inFlightMax = 65_536

    private let lock = ConditionLock()
    private var endpoints: [PeerIdentity: InMemoryTransport] = [:]
    private var inFlight: [(due: UInt64, sequence: UInt64, from: PeerIdentity, message: Message)] = []
    private var sequence: UInt64 = 0
    private var rule: FateRule
    private var isClosed = false

    /// Starts the carrying thread. Call `close` at the end.
    package init(rule: @escaping FateRule = { _, _ in .deliver }) {
        self.rule = rule
        _ = DedicatedThread.start(name: "in-memory-net") { [weak self] in
            while let step = self?.carryOne() { if !step { return } }
        }
    }

    /// Replaces the rule.
    package func setRule(_ rule: @escaping FateRule) { lock.withLock { self.rule = rule } }

    /// Stops the thread; what is on its way is lost.
    package func close() {
        lock.withLock {
            isClosed = true
            lock.broadcast()
        }
    }

    func register(_ transport: InMemoryTransport) {
        lock.withLock { endpoints[transport.identity] = transport }
    }

    func unregister(_ identity: PeerIdentity) { lock.withLock { endpoints[identity] = nil } }

    func isRegistered(_ identity: PeerIdentity) -> Bool { lock.withLock { endpoints[identity] != nil } }

    /// Queues a message; false when too many are on their way.
    func accept(_ message: Message, from: PeerIdentity) -> Bool {
        lock.withLock {
            guard inFlight.count < Self.inFlightMax else { return false }
            let now = MonotonicInstant.now.nanoseconds
            switch rule(from, message) {
            case .lose: break
            case .deliver: insert(message, from, due: now)
            case .delay(let milliseconds): insert(message, from, due: now + milliseconds * 1_000_000)
            case .duplicate:
                insert(message, from, due: now)
                insert(message, from, due: now)
            }
            lock.broadcast()
            return true
        }
    }

    /// Drops messages on their way, by origin.
    func discard(where isUnwanted: (_ from: PeerIdentity, Message) -> Bool) {
        lock.withLock { inFlight.removeAll { isUnwanted($0.from, $0.message) } }
    }

    private func insert(_ message: Message, _ from: PeerIdentity, due: UInt64) {
        sequence += 1
        let index = inFlight.firstIndex { $0.due > due } ?? inFlight.count
        inFlight.insert((due, sequence, from, message), at: index)
    }

    /// Waits for the next message at most 100 ms (so the thread notices that the network is gone) and
    /// delivers it.
    private func carryOne() -> Bool {
        var delivery: (InMemoryTransport, Message)?
        let goesOn = lock.withLock {
            if isClosed { return false }
            let now = MonotonicInstant.now
            guard let first = inFlight.first, first.due <= now.nanoseconds else {
                let limit = now.advanced(byMilliseconds: 100)
                let due = inFlight.first.map { min($0.due, limit.nanoseconds) } ?? limit.nanoseconds
                _ = lock.wait(until: MonotonicInstant(nanoseconds: due))
                return true
            }
            inFlight.removeFirst()
            if let target = endpoints[first.message.peer] {
                var message = first.message
                message.peer = first.from
                delivery = (target, message)
            }
            return true
        }
        if let (target, message) = delivery { target.deliver(message) }
        return goesOn
    }
}

/// An endpoint of an ``InMemoryNetwork``. It has no byte credits: while a delivery queue is full the whole
/// network waits, and senders meet its limit of messages on their way.
package final class InMemoryTransport: Transport {
    package let identity: PeerIdentity
    private let network: InMemoryNetwork
    private let deliveries: ChannelDeliveries
    private let onEvent: @Sendable (TransportEvent) -> Void
    private let peers = Locked<Set<PeerIdentity>>([])
    private let isClosed = Atomic(false)

    /// Joins `network` under `identity`.
    package init(
        identity: PeerIdentity, network: InMemoryNetwork, deliveries: ChannelDeliveries,
        onEvent: @escaping @Sendable (TransportEvent) -> Void = { _ in }
    ) {
        self.identity = identity
        self.network = network
        self.deliveries = deliveries
        self.onEvent = onEvent
        network.register(self)
    }

    package func send(_ message: Message) throws(TransportError) {
        guard !isClosed.load(ordering: .acquiring) else {
            throw TransportError(.closed, "the transport is closed")
        }
        guard peers.withLock({ $0.contains(message.peer) }) else {
            throw TransportError(.unknownPeer, "peer \(message.peer) is not connected on \(message.channel)")
        }
        guard network.accept(message, from: identity) else {
            throw TransportError(.backpressure, "\(InMemoryNetwork.inFlightMax) messages are on their way")
        }
    }

    package func send(_ message: Message, waitingUntil deadline: MonotonicInstant) throws(TransportError) {
        try send(message)
    }

    /// Connects both ways if the peer is on the network; the endpoints of `peer` are ignored.
    package func connect(to peer: PeerAddress) throws(TransportError) {
        guard network.isRegistered(peer.identity) else {
            throw TransportError(.unknownPeer, "peer \(peer.identity) is not on this network")
        }
        network.connect(identity, peer.identity)
    }

    package func discard(_ channel: Channel, where isUnwanted: @escaping @Sendable (Message) -> Bool) {
        network.discard { $0 == identity && $1.channel == channel && isUnwanted($1) }
    }

    package func disconnect(from peer: PeerIdentity) { network.disconnect(identity, peer) }

    package func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        for peer in peers.withLock({ $0.sorted() }) { disconnect(from: peer) }
        network.unregister(identity)
    }

    func add(_ peer: PeerIdentity) {
        guard peers.withLock({ $0.insert(peer).inserted }) else { return }
        for channel in Channel.allCases { onEvent(.connected(peer, channel)) }
    }

    func remove(_ peer: PeerIdentity) {
        guard peers.withLock({ $0.remove(peer) != nil }) else { return }
        for channel in Channel.allCases { onEvent(.disconnected(peer, channel, droppedCount: 0)) }
    }

    /// Called on the network's thread, which waits for room in a full queue.
    func deliver(_ message: Message) {
        switch deliveries[message.channel] {
        case .direct(let handler): handler(message)
        case .queue(let queue):
            var result = BoundedQueue<Message>.PushResult.full
            while result == .full && !isClosed.load(ordering: .acquiring) {
                let deadline = MonotonicInstant.now.advanced(byMilliseconds: 100)
                result = queue.push(message, byteCount: message.chargedByteCount, until: deadline)
            }
        }
    }
}

extension InMemoryNetwork {
    fileprivate func connect(_ a: PeerIdentity, _ b: PeerIdentity) {
        let (first, second) = lock.withLock { (endpoints[a], endpoints[b]) }
        first?.add(b)
        second?.add(a)
    }

    fileprivate func disconnect(_ a: PeerIdentity, _ b: PeerIdentity) {
        let (first, second) = lock.withLock { (endpoints[a], endpoints[b]) }
        first?.remove(b)
        second?.remove(a)
    }
}
