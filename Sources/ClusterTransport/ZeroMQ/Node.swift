// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import DequeModule
internal import RuntimeSupport

/// The socket-thread side of one ``ZeroMQTransport``: its server sockets, links and connections.
final class Node {
    /// Messages read from one socket before others get their turn.
    static let readBatch = 64
    /// Rules a peer may break before it is disconnected.
    static let strikeCountMax = 3

    let configuration: ZeroMQConfiguration
    let identity: PeerIdentity
    let zapDomain: String
    let directory: PeerDirectory
    let counters: TransportCounters
    unowned let loop: SocketLoop

    var routers: [Channel: PolledSocket] = [:]
    var routerMonitors: [Channel: PolledSocket] = [:]
    /// Descriptors of connections that broke and were not accepted again since.
    var brokenDescriptors: [Channel: Set<Int32>] = [:]
    /// Accepted connections by channel and routing key.
    var accepted: [Channel: [RoutingKey: Connection]] = [:]
    /// The same by descriptor: monitor events name nothing else.
    var acceptedByDescriptor: [Channel: [Int32: Connection]] = [:]
    /// Links that wait for a ROUTER, which cannot say when it is writable for one peer.
    var blockedLinks: [PeerLink] = []
    /// Messages read while the channel's queue was full.
    var overflow: [Channel: Deque<Message>] = [:]
    /// A key let in by the self-test alone.
    var selfTestKey: PeerIdentity?
    private var reportWindowStart: UInt64 = 0
    private var reportCount = 0
    private var suppressedCount = 0
    private var lastAcceptFailure: [Channel: MonotonicInstant] = [:]

    init(
        configuration: ZeroMQConfiguration, identity: PeerIdentity, zapDomain: String,
        directory: PeerDirectory,
        counters: TransportCounters, loop: SocketLoop
    ) {
        self.configuration = configuration
        self.identity = identity
        self.zapDomain = zapDomain
        self.directory = directory
        self.counters = counters
        self.loop = loop
    }

    // MARK: Opening and closing

    /// Binds the three ROUTERs; returns the endpoints with their real ports.
    func listen(on endpoints: ChannelEndpoints) throws(TransportError) -> ChannelEndpoints {
        var bound = endpoints
        for channel in Channel.allCases {
            let endpoint = try Endpoint(endpoints[channel], isForBinding: true)
            let socket = try ZMQSocket(context: loop.context, type: ZMQ_ROUTER)
            let polled = PolledSocket(socket, isLatencyCritical: channel == .exchange)
            loop.add(polled)
            routers[channel] = polled
            try SocketOptions.applyCommon(to: socket, configuration, channel, usesIPv6: endpoint.usesIPv6)
            try SocketOptions.applyServer(to: socket, configuration, zapDomain: zapDomain)
            let monitor = try loop.monitor(socket) { [unowned self] event, value in
                self.routerEvent(event, value, channel)
            }
            routerMonitors[channel] = monitor
            polled.onReadable = { [unowned self, unowned polled] in self.read(polled, channel, dialed: nil) }
            guard zmq_bind(socket.handle, endpoint.text) == 0 else {
                throw SocketOptions.bindError(endpoint.text, zmq_errno())
            }
            bound[channel] = socket.lastEndpoint
        }
        return bound
    }

    /// Sends what can be sent, closes every socket and drops the rest.
    func close() {
        for link in directory.all {
            flush(link)
            drop(link)
            link.budget.close()
            directory.remove(link)
            if let connection = link.dialed { loop.remove(connection.socket, monitor: connection.monitor) }
            link.dialed = nil
            link.accepted = nil
        }
        accepted = [:]
        acceptedByDescriptor = [:]
        blockedLinks = []
        for channel in Channel.allCases {
            if let router = routers[channel] { loop.remove(router, monitor: routerMonitors[channel]) }
        }
        routers = [:]
        routerMonitors = [:]
        overflow = [:]
        loop.remove(self)
    }

    // MARK: Links

    /// The link to a peer, created when it is new; nil when there are too many peers.
    func makeLink(_ peer: PeerIdentity, _ channel: Channel) -> PeerLink? {
        if let link = directory.link(peer, channel) { return link }
        let limits = configuration[limits: channel]
        let link = PeerLink(
            key: PeerLink.Key(peer: peer, channel: channel),
            budget: SendBudget(byteCountMax: limits.queueByteCountMax))
        link.node = self
        if channel.usesCredits {
            let outbox = loop.outbox
            link.dialedAccount = CreditAccount(windowByteCount: limits.windowByteCount) { [weak link] in
                if let link { outbox.push(.grant(link, isDialed: true)) }
            }
            link.acceptedAccount = CreditAccount(windowByteCount: limits.windowByteCount) { [weak link] in
                if let link { outbox.push(.grant(link, isDialed: false)) }
            }
        }
        return directory.add(link) ? link : nil
    }

    /// Drops what waits for a link; returns how many messages that were.
    @discardableResult
    func drop(_ link: PeerLink) -> Int {
        let dropped = link.pending
        link.pending = []
        for message in dropped { releaseBudget(message, link) }
        if !dropped.isEmpty { counters.update { $0.messagesDropped += dropped.count } }
        return dropped.count
    }

    func releaseBudget(_ message: Message, _ link: PeerLink) {
        if link.budget.release(message.chargedByteCount) { emit(.writable(link.peer, link.channel)) }
    }

    // MARK: Access and events

    /// Whether the ZAP handler lets `key` in.
    func admits(_ key: PeerIdentity) -> Bool {
        var isAdmitted = false
        if case .curve(_, let allowList) = configuration.security {
            isAdmitted = allowList.role(of: key) != nil
        }
        if let selfTestKey, key == selfTestKey { isAdmitted = true }
        switch configuration.fault {
        case .admitsEveryKey: isAdmitted = true
        case .refusesEveryKey: isAdmitted = false
        case nil: break
        }
        counters.update {
            $0.keysAdmitted += isAdmitted ? 1 : 0
            $0.keysRefused += isAdmitted ? 0 : 1
        }
        // During the self-test refusals are expected.
        if !isAdmitted && selfTestKey == nil { reportHandshakeFailure(.auth(key: key)) }
        return isAdmitted
    }

    func emit(_ event: TransportEvent) { configuration.onEvent(event) }

    /// Reports a failed handshake, at a bounded rate.
    func reportHandshakeFailure(_ failure: TransportEvent.HandshakeFailure) {
        counters.update { $0.handshakesFailed += 1 }
        let now = MonotonicInstant.now.nanoseconds
        if now >= reportWindowStart + 1_000_000_000 {
            reportWindowStart = now
            reportCount = 0
        }
        reportCount += 1
        guard reportCount <= configuration.handshakeReportsPerSecondMax else {
            suppressedCount += 1
            return
        }
        emit(.handshakeFailed(failure, suppressedCount: suppressedCount))
        suppressedCount = 0
    }

    private func routerEvent(_ event: Int32, _ value: UInt32, _ channel: Channel) {
        switch event {
        case ZMQ_EVENT_ACCEPTED: brokenDescriptors[channel]?.remove(Int32(bitPattern: value))
        case ZMQ_EVENT_DISCONNECTED:
            let descriptor = Int32(bitPattern: value)
            brokenDescriptors[channel, default: []].insert(descriptor)
            if let connection = acceptedByDescriptor[channel]?[descriptor] {
                lose(connection)
            } else {
                counters.update { $0.connectionsWithoutHello += 1 }
            }
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL, ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            reportHandshakeFailure(.protocol(code: value))
        case ZMQ_EVENT_ACCEPT_FAILED:
            let now = MonotonicInstant.now
            guard lastAcceptFailure[channel].map({ now.milliseconds(since: $0) > 60_000 }) ?? true else { return }
            lastAcceptFailure[channel] = now
            let reason = DescriptorLimit.explain(Int32(bitPattern: value))
            emit(.acceptFailed(channel, "cannot let anybody in on \(channel): \(reason)"))
        default: break  // refused keys are reported by the ZAP handler, which knows the key
        }
    }
}
