// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import Glibc
internal import RuntimeSupport

/// Connections: how they begin, say hello, break and are reset.
///
/// At each handshake the dialling side draws a session number and says hello with the credit it grants; the
/// other side answers with hello and its own. Data flows after that. Both sides start a session with fresh
/// credit, less what is still held from earlier ones, so a broken connection leaks none.
extension Node {
    /// Dials `peer` on every channel, replacing earlier dials to it.
    func dial(_ peer: PeerIdentity, _ endpoints: [Channel: Endpoint]) throws(TransportError) {
        for channel in Channel.allCases {
            guard let endpoint = endpoints[channel] else { continue }
            guard let link = makeLink(peer, channel) else {
                throw TransportError(
                    .overLimit, "too many peers; the limit is \(PeerDirectory.linkCountMax / 3)")
            }
            if let old = link.dialed { hangUp(old) }
            link.address = endpoint
            do throws(TransportError) { try dial(link, endpoint) } catch {
                // What this host lacks it may have later; what is wrong with the address stays wrong.
                guard error.code == .system else { throw error }
                dialFailed(link, error)
            }
        }
    }

    /// Dials again later, as long as the peer is wanted, and says now and then why that is necessary.
    private func dialFailed(_ link: PeerLink, _ error: TransportError) {
        let now = MonotonicInstant.now
        if link.lastDialFailure.map({ now.milliseconds(since: $0) > 60_000 }) ?? true {
            link.lastDialFailure = now
            emit(
                .dialFailed(
                    link.peer, link.channel,
                    "cannot dial \(link.peer) on \(link.channel): \(error.message); trying again"))
        }
        loop.schedule(afterMilliseconds: UInt64(configuration.reconnectMillisecondsMax)) { [weak self, weak link] in
            guard let self, let link, link.dialed == nil, let address = link.address else { return }
            do throws(TransportError) { try self.dial(link, address) } catch { self.dialFailed(link, error) }
        }
    }

    private func dial(_ link: PeerLink, _ endpoint: Endpoint) throws(TransportError) {
        if let fault = configuration.dialFault?() { throw fault }
        let socket = try ZMQSocket(context: loop.context, type: ZMQ_DEALER)
        let polled = PolledSocket(socket, isLatencyCritical: link.channel == .exchange)
        loop.add(polled)
        let connection = Connection(link: link, isDialed: true, socket: polled)
        connection.address = endpoint
        link.dialed = connection
        var keys: CurveKeyPair?
        var name = ""
        switch configuration.security {
        case .curve(let own, _): keys = own
        case .insecureLoopback(let own): name = own
        }
        do throws(TransportError) {
            try SocketOptions.applyCommon(
                to: socket, configuration, link.channel, usesIPv6: endpoint.usesIPv6)
            try SocketOptions.applyClient(
                to: socket, keys: keys, serverKey: link.peer, routingID: RoutingKey.random(name: name),
                connectTimeout: configuration.reconnectMillisecondsMax)
            connection.monitor = try loop.monitor(socket) { [unowned self, unowned connection] event, value in
                self.dialedEvent(event, value, connection)
            }
            polled.wantsInput = !isPaused(link.channel)
            polled.onReadable = { [unowned self, unowned polled, unowned connection] in
                self.read(polled, connection.link.channel, dialed: connection)
            }
            polled.onWritable = { [unowned self, unowned polled, unowned connection] in
                polled.wantsOutput = false
                self.loop.isPollSetStale = true
                self.sendControl(connection)
                self.flush(connection.link)
            }
            guard zmq_connect(socket.handle, endpoint.text) == 0 else {
                throw TransportError(.badEndpoint, "cannot dial \(endpoint.text): \(ZMQSocket.lastError)")
            }
        } catch {
            hangUp(connection)
            throw error
        }
    }

    private func dialedEvent(_ event: Int32, _ value: UInt32, _ connection: Connection) {
        switch event {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            var generator = SystemRandomNumberGenerator()
            connection.session = generator.next()
            connection.isReady = false
            connection.needsHello = true
            connection.strikeCount = 0
            sendControl(connection)
        case ZMQ_EVENT_DISCONNECTED: lose(connection)
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            reportHandshakeFailure(.auth(key: connection.link.peer))
            redialLater(connection)
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
            reportHandshakeFailure(.protocol(code: value))
        default: break
        }
    }

    /// libzmq never retries a refused key, but the key may be allowed later: dial anew after the longest
    /// delay.
    private func redialLater(_ connection: Connection) {
        loop.schedule(afterMilliseconds: UInt64(configuration.reconnectMillisecondsMax)) {
            [weak self, weak connection] in
            guard let self, let connection, connection.link.dialed === connection,
                let address = connection.address
            else { return }
            let link = connection.link
            self.hangUp(connection)
            self.redial(link, address)
        }
    }

    private func redial(_ link: PeerLink, _ address: Endpoint) {
        do throws(TransportError) { try dial(link, address) } catch { dialFailed(link, error) }
    }

    /// Closes a dialled connection for good.
    func hangUp(_ connection: Connection) {
        loop.remove(connection.socket, monitor: connection.monitor)
        if connection.link.dialed === connection { connection.link.dialed = nil }
    }

    /// The peer said hello on a ROUTER: its newest connection is the one that counts.
    func welcome(_ hello: WireHeader, _ origin: Origin, _ router: PolledSocket, _ channel: Channel) {
        guard let peer = origin.peer, let link = makeLink(peer, channel) else {
            counters.update { $0.messagesRejected += 1 }
            return
        }
        // A descriptor used again must not be taken for the connection that had it before.
        routerMonitors[channel]?.onReadable()
        if let old = link.accepted {
            let wasOther = old.routingID != origin.routingID
            forget(old)
            if wasOther { emit(.disconnected(peer, channel, droppedCount: 0)) }
        }
        if let other = accepted[channel]?[origin.key] { forget(other) }
        let connection = Connection(link: link, isDialed: false, socket: router, routingID: origin.routingID)
        connection.session = hello.session
        connection.descriptor = origin.descriptor
        connection.userID = origin.userID
        connection.sendCredit = Int(clamping: hello.value)
        connection.needsHello = true
        connection.isReady = true
        link.accepted = connection
        accepted[channel, default: [:]][origin.key] = connection
        if origin.descriptor >= 0 {
            acceptedByDescriptor[channel, default: [:]][origin.descriptor] = connection
        }
        sendControl(connection)
        emit(.connected(peer, channel))
        flush(link)
        if brokenDescriptors[channel]?.contains(origin.descriptor) ?? false { loseIfStillBroken(connection) }
    }

    /// The connection broke before its hello was read, or the news that its descriptor is in use again is
    /// late.
    private func loseIfStillBroken(_ connection: Connection) {
        loop.schedule(afterMilliseconds: 1000) { [weak self, weak connection] in
            guard let self, let connection else { return }
            let channel = connection.link.channel
            guard self.brokenDescriptors[channel]?.contains(connection.descriptor) ?? false else { return }
            self.lose(connection)
        }
    }

    /// The answer to our hello.
    func complete(_ hello: WireHeader, _ connection: Connection) {
        guard hello.session == connection.session, !connection.isReady else { return }
        connection.sendCredit = Int(clamping: hello.value)
        connection.isReady = true
        emit(.connected(connection.link.peer, connection.link.channel))
        // What was released since our hello left is in no hello.
        grantCredit(connection.link, isDialed: true)
        flush(connection.link)
    }

    /// A connection broke: report it, and drop what waited for it unless the peer has another connection.
    func lose(_ connection: Connection, isUnreachable: Bool = false) {
        let link = connection.link
        let wasReady = connection.isReady
        forget(connection)
        guard wasReady else { return }
        let droppedCount = link.readyConnection == nil ? drop(link) : 0
        if isUnreachable {
            emit(.peerUnreachable(link.peer, link.channel, droppedCount: droppedCount))
        } else {
            emit(.disconnected(link.peer, link.channel, droppedCount: droppedCount))
        }
    }

    /// Takes a connection out of use; a dialled one stays and reconnects.
    private func forget(_ connection: Connection) {
        connection.isReady = false
        connection.needsHello = false
        connection.unsentGrant = 0
        guard !connection.isDialed else { return }
        let link = connection.link
        if link.accepted === connection { link.accepted = nil }
        connection.routingID.withUnsafeBytes { bytes in
            guard let key = RoutingKey(bytes), accepted[link.channel]?[key] === connection else { return }
            accepted[link.channel]?[key] = nil
        }
        if acceptedByDescriptor[link.channel]?[connection.descriptor] === connection {
            acceptedByDescriptor[link.channel]?[connection.descriptor] = nil
        }
    }

    /// Counts a broken rule; the third resets the connection.
    func strike(_ connection: Connection, _ reason: String) {
        counters.update { $0.messagesRejected += 1 }
        connection.strikeCount += 1
        emit(.protocolViolation(connection.link.peer, connection.link.channel, reason))
        if connection.strikeCount >= Node.strikeCountMax { reset(connection) }
    }

    /// Breaks a connection from our side.
    func reset(_ connection: Connection) {
        let link = connection.link
        if connection.isDialed {
            let address = connection.address
            lose(connection)
            hangUp(connection)
            if let address { redial(link, address) }
        } else {
            // libzmq cannot drop one peer of a ROUTER. Shutting its descriptor down makes libzmq see the end
            // of the stream. Monitor events are read first and the descriptor is forgotten with its
            // connection, so a descriptor used again by another connection is hit only within microseconds;
            // that one reconnects.
            if connection.descriptor >= 0 { shutdown(connection.descriptor, Int32(SHUT_RDWR)) }
            lose(connection)
        }
    }

    /// Ends all connections with a peer.
    func disconnect(_ peer: PeerIdentity) {
        for channel in Channel.allCases {
            guard let link = directory.link(peer, channel) else { continue }
            if let connection = link.accepted { reset(connection) }
            if let connection = link.dialed {
                lose(connection)
                hangUp(connection)
            }
            link.address = nil
            drop(link)
            link.budget.close()
            directory.remove(link)
        }
    }
}
