// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport
internal import Synchronization

/// The transport over libzmq: a ROUTER for each channel where it listens and a DEALER for each channel of
/// each peer it dials, all on the process's one socket thread.
///
/// Under CURVE one key means one live process: when two processes dial with the same key, the newer one is
/// served and the older one is reported as disconnected.
package final class ZeroMQTransport: Transport {
    package let identity: PeerIdentity
    /// Where this transport listens, with real ports; nil when it only dials.
    package let endpoints: ChannelEndpoints?

    private let configuration: ZeroMQConfiguration
    private let thread: SocketThread
    private let directory = PeerDirectory()
    private let counters = TransportCounters()
    private let handle = Locked<NodeHandle?>(nil)

    /// Names the node on the socket thread; the node itself never leaves it.
    private final class NodeHandle: @unchecked Sendable {
        // @unchecked: `node` is touched on the socket thread only.
        var node: Node?
    }

    private static let lastDomain = Atomic<UInt64>(0)

    /// Opens the sockets and proves that access control works; returns when peers can connect.
    ///
    /// - throws: ``TransportError``: `refusedInsecure` for plain text outside 127/8, `badEndpoint`,
    ///   `bindFailed`,
    ///   `badKey`, `overLimit` for limits that do not fit together, `selfTestFailed`.
    package init(_ configuration: ZeroMQConfiguration) throws(TransportError) {
        identity = try Self.validate(configuration)
        var configuration = configuration
        if let listen = configuration.listen {
            for channel in Channel.allCases {
                let endpoint = try Endpoint(listen[channel], isForBinding: true).resolvedForBinding()
                configuration.listen?[channel] = endpoint.text
            }
        }
        self.configuration = configuration
        let thread = try SocketThread.acquire()
        self.thread = thread
        let domain = "apus-\(Self.lastDomain.add(1, ordering: .relaxed).newValue)"
        let handle = NodeHandle()
        let (identity, directory, counters, settings) = (identity, directory, counters, configuration)
        let result: Result<ChannelEndpoints?, TransportError> = thread.call { loop, answer in
            let node = Node(
                configuration: settings, identity: identity, zapDomain: domain, directory: directory,
                counters: counters, loop: loop)
            handle.node = node
            loop.add(node)
            Self.open(node, answer)
        }
        switch result {
        case .success(let endpoints): self.endpoints = endpoints
        case .failure(let error):
            SocketThread.release()
            throw error
        }
        self.handle.withLock { $0 = handle }
        for channel in Channel.allCases {
            guard case .queue(let queue) = configuration.deliveries[channel] else { continue }
            queue.setSpaceHandler { thread.perform { _ in handle.node?.drainOverflow() } }
        }
    }

    deinit { close() }

    private static func validate(_ configuration: ZeroMQConfiguration) throws(TransportError) -> PeerIdentity {
        for channel in Channel.allCases { try configuration[limits: channel].validate(channel) }
        if let listen = configuration.listen {
            for channel in Channel.allCases {
                try checkSecurity(configuration, Endpoint(listen[channel], isForBinding: true), "listen on")
            }
        }
        switch configuration.security {
        case .curve(let keys, _): return keys.publicKey
        case .insecureLoopback(let name):
            guard (1...64).contains(name.utf8.count) else {
                throw TransportError(.badKey, "a loopback name has 1 to 64 bytes; '\(name)' does not")
            }
            return PeerIdentity(name)
        }
    }

    private static func checkSecurity(
        _ configuration: ZeroMQConfiguration, _ endpoint: Endpoint, _ verb: String
    ) throws(TransportError) {
        guard case .insecureLoopback = configuration.security, !endpoint.isLoopback else { return }
        throw TransportError(
            .refusedInsecure,
            "refusing to \(verb) \(endpoint.text) without CURVE keys; create some with `apus keys` or use 127.0.0.1"
        )
    }

    private static func open(
        _ node: Node, _ answer: @escaping @Sendable (Result<ChannelEndpoints?, TransportError>) -> Void
    ) {
        guard let listen = node.configuration.listen else { return answer(.success(nil)) }
        let bound: ChannelEndpoints
        do throws(TransportError) {
            bound = try node.listen(on: listen)
        } catch {
            node.close()
            return answer(.failure(error))
        }
        guard case .curve(let keys, _) = node.configuration.security else { return answer(.success(bound)) }
        // The test keeps itself alive through its timer and monitors until it has completed.
        let test = SelfTest(node: node, serverKey: keys.publicKey) { error in
            if let error {
                node.close()
                answer(.failure(error))
            } else {
                answer(.success(bound))
            }
        }
        test.start(bound)
    }

    // MARK: Transport

    package func send(_ message: Message) throws(TransportError) { try send(message, deadline: nil) }

    package func send(_ message: Message, waitingUntil deadline: MonotonicInstant) throws(TransportError) {
        precondition(!thread.isCurrent, "a handler on the socket thread may not wait")
        try send(message, deadline: deadline)
    }

    private func send(_ message: Message, deadline: MonotonicInstant?) throws(TransportError) {
        try configuration[limits: message.channel].check(message)
        guard let link = directory.link(message.peer, message.channel) else {
            let isClosed = handle.withLock { $0 == nil }
            throw isClosed
                ? TransportError(.closed, "the transport is closed")
                : TransportError(.unknownPeer, "peer \(message.peer) is not connected on \(message.channel)")
        }
        switch link.budget.take(message.chargedByteCount, until: deadline) {
        case .granted: thread.outbox.push(.send(link, message))
        case .full:
            throw TransportError(
                .backpressure, "the \(message.channel) queue to \(message.peer) is full; wait for `writable`")
        case .closed: throw TransportError(.closed, "the connection to \(message.peer) was closed")
        }
    }

    package func connect(to peer: PeerAddress) throws(TransportError) {
        var endpoints: [Channel: Endpoint] = [:]
        var usesIPv6: [String: Bool] = [:]
        for channel in Channel.allCases {
            var endpoint = try Endpoint(peer.endpoints[channel], isForBinding: false)
            try Self.checkSecurity(configuration, endpoint, "dial")
            guard !HostAddress.isWildcard(endpoint.host) else {
                throw TransportError(
                    .badEndpoint,
                    "\(endpoint.text) stands for all addresses of a host and cannot be dialled; the process there needs "
                        + "--advertise ADDRESS")
            }
            // Here and not on the socket thread, which must not wait for name servers.
            endpoint.usesIPv6 = usesIPv6[endpoint.host] ?? endpoint.resolvedForDialling().usesIPv6
            usesIPv6[endpoint.host] = endpoint.usesIPv6
            endpoints[channel] = endpoint
        }
        if case .curve = configuration.security, !CurveKeyPair.isKey(peer.identity.rawValue) {
            throw TransportError(.badKey, "the server key of peer '\(peer.identity.rawValue)' is not Z85")
        }
        let handle = try openHandle()
        let (identity, targets) = (peer.identity, endpoints)
        let result: Result<Void, TransportError> = thread.call { _, answer in
            do throws(TransportError) {
                try handle.node?.dial(identity, targets)
                answer(.success(()))
            } catch {
                answer(.failure(error))
            }
        }
        try result.get()
    }

    package func discard(_ channel: Channel, where isUnwanted: @escaping @Sendable (Message) -> Bool) {
        guard let handle = try? openHandle() else { return }
        thread.perform { _ in handle.node?.discard(channel, where: isUnwanted) }
    }

    package func disconnect(from peer: PeerIdentity) {
        guard let handle = try? openHandle() else { return }
        thread.perform { _ in handle.node?.disconnect(peer) }
    }

    /// Closes the sockets; the last transport of the process waits until its messages have left or the linger
    /// time is over. Not to be called from a handler.
    package func close() {
        let handle = handle.withLock { handle -> NodeHandle? in
            defer { handle = nil }
            return handle
        }
        guard let handle else { return }
        for channel in Channel.allCases {
            if case .queue(let queue) = configuration.deliveries[channel] { queue.setSpaceHandler(nil) }
        }
        let _: Bool = thread.call { _, answer in
            handle.node?.close()
            handle.node = nil
            answer(true)
        }
        SocketThread.release()
    }

    /// Counts since the start.
    package var statistics: TransportStatistics { counters.snapshot }

    /// Bytes that wait here for a peer on a channel.
    package func queuedByteCount(to peer: PeerIdentity, _ channel: Channel) -> Int {
        directory.link(peer, channel)?.budget.usedByteCount ?? 0
    }

    private func openHandle() throws(TransportError) -> NodeHandle {
        guard let handle = handle.withLock({ $0 }) else {
            throw TransportError(.closed, "the transport is closed")
        }
        return handle
    }
}
