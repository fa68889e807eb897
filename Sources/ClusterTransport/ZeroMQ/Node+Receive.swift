// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import DequeModule
internal import RuntimeSupport

/// Who sent the message being read from a ROUTER.
struct Origin {
    let key: RoutingKey
    let routingID: [UInt8]
    let descriptor: Int32
    /// The verified key (CURVE) or the claimed name (insecure loopback); nil when there is none.
    let peer: PeerIdentity?
    let userID: [CChar]
}

/// Receiving. Every limit is checked before anything of a message is kept.
extension Node {
    /// Reads up to a batch of messages from one socket.
    func read(_ polled: PolledSocket, _ channel: Channel, dialed: Connection?) {
        for _ in 0..<Node.readBatch {
            guard !polled.socket.isClosed, polled.wantsInput else { return }
            let isDone = dialed.map { !readOne(polled.socket, $0) } ?? !readOne(router: polled, channel)
            if isDone { return }
        }
    }

    /// One message from a DEALER; false when there is none.
    private func readOne(_ socket: ZMQSocket, _ connection: Connection) -> Bool {
        guard socket.receive(loop.scratch) else { return false }
        guard let header = WireHeader(frame) else {
            loop.drain(socket)
            strike(connection, "message without a valid header")
            return true
        }
        if header.kind == .hello {
            loop.drain(socket)
            complete(header, connection)
        } else {
            take(header, connection, socket)
        }
        return true
    }

    /// One message from a ROUTER: routing id, header, parts. False when there is none.
    private func readOne(router polled: PolledSocket, _ channel: Channel) -> Bool {
        let socket = polled.socket
        guard socket.receive(loop.scratch) else { return false }
        guard let key = RoutingKey(frame), frame.count <= 128, zmq_msg_more(loop.scratch) != 0 else {
            loop.drain(socket)
            counters.update { $0.messagesRejected += 1 }
            return true
        }
        // A first message may say hello, which needs the whole routing id.
        let known = accepted[channel]?[key]
        let routingID = known == nil ? Array(frame) : []
        guard socket.receive(loop.scratch) else { return true }
        if let known, isVerified(known) {
            readKnown(known, socket, polled, key, channel)
        } else {
            readUnknown(routingID, socket, polled, key, channel)
        }
        return true
    }

    private func readKnown(
        _ connection: Connection, _ socket: ZMQSocket, _ polled: PolledSocket, _ key: RoutingKey,
        _ channel: Channel
    ) {
        guard let header = WireHeader(frame) else {
            loop.drain(socket)
            return strike(connection, "message without a valid header")
        }
        guard header.kind == .hello else { return take(header, connection, socket) }
        let origin = origin(key, connection.routingID)
        loop.drain(socket)
        welcome(header, origin, polled, channel)
    }

    private func readUnknown(
        _ routingID: [UInt8], _ socket: ZMQSocket, _ polled: PolledSocket, _ key: RoutingKey,
        _ channel: Channel
    ) {
        let header = WireHeader(frame)
        guard let header, header.kind == .hello, !routingID.isEmpty else {
            loop.drain(socket)
            counters.update { $0.messagesStale += 1 }
            return
        }
        let origin = origin(key, routingID)
        loop.drain(socket)
        welcome(header, origin, polled, channel)
    }

    /// Whether the frame in `scratch` carries the identity of the connection. The ZAP handler's User-Id is
    /// libzmq's own metadata of the authenticated connection; a peer cannot set it.
    private func isVerified(_ connection: Connection) -> Bool {
        guard case .curve = configuration.security else { return true }
        guard let userID = zmq_msg_gets(loop.scratch, "User-Id") else { return false }
        return connection.userID.withUnsafeBufferPointer { known in
            for index in 0..<known.count {
                if known[index] != userID[index] { return false }
                if userID[index] == 0 { return true }
            }
            return false
        }
    }

    private func origin(_ key: RoutingKey, _ routingID: [UInt8]) -> Origin {
        var peer: PeerIdentity?
        var userID: [CChar] = []
        switch configuration.security {
        case .curve:
            if let text = zmq_msg_gets(loop.scratch, "User-Id") {
                let name = String(cString: text)
                if CurveKeyPair.isKey(name) { peer = PeerIdentity(name) }
                userID = name.utf8.map { CChar(bitPattern: $0) } + [0]
            }
        case .insecureLoopback:
            let name = String(decoding: routingID.dropFirst(RoutingKey.byteCount), as: UTF8.self)
            if !name.isEmpty { peer = PeerIdentity(name) }
        }
        // ZMQ_SRCFD is deprecated but is the only link between a message and a monitor event.
        return Origin(
            key: key, routingID: routingID, descriptor: zmq_msg_get(loop.scratch, ZMQ_SRCFD), peer: peer,
            userID: userID)
    }

    /// The header of a known connection was read; its parts follow.
    private func take(_ header: WireHeader, _ connection: Connection, _ socket: ZMQSocket) {
        guard header.session == connection.session, connection.isReady else {
            loop.drain(socket)
            counters.update { $0.messagesStale += 1 }
            return
        }
        if header.kind == .credit {
            loop.drain(socket)
            let window = configuration[limits: connection.link.channel].windowByteCount
            connection.sendCredit = min(
                connection.sendCredit + Int(clamping: header.value), max(window, 1 << 40))
            return flush(connection.link)
        }
        let limits = configuration[limits: connection.link.channel]
        let hasParts = zmq_msg_more(loop.scratch) != 0
        guard Int(header.partCount) <= limits.partCountMax,
            header.value <= UInt64(limits.messageByteCountMax),
            hasParts == (header.partCount > 0), hasParts || header.value == 0
        else {
            loop.drain(socket)
            return strike(
                connection, "message of \(header.partCount) parts and \(header.value) bytes breaks the limits"
            )
        }
        let charge = Int(header.value) + Message.overheadByteCount
        var token: CreditToken?
        if let account = connection.account {
            let isWithinWindow = account.charge(charge)
            token = CreditToken(account: account, byteCount: charge)
            guard isWithinWindow else {
                loop.drain(socket)
                return strike(connection, "message of \(header.value) bytes exceeds the granted credit")
            }
        }
        guard let parts = receiveParts(header, limits, socket, token) else {
            return strike(connection, "parts do not match their header")
        }
        deliver(Message(peer: connection.link.peer, channel: connection.link.channel, parts: parts))
    }

    private func receiveParts(
        _ header: WireHeader, _ limits: ChannelLimits, _ socket: ZMQSocket, _ token: CreditToken?
    ) -> [Payload]? {
        var parts: [Payload] = []
        parts.reserveCapacity(Int(header.partCount))
        var byteCount = 0
        for index in 0..<Int(header.partCount) {
            guard socket.receive(loop.scratch) else { return nil }
            let hasMore = zmq_msg_more(loop.scratch) != 0
            let size = zmq_msg_size(loop.scratch)
            byteCount += size
            let isExpected =
                size <= limits.partByteCountMax && byteCount <= Int(header.value)
                && hasMore == (index + 1 < Int(header.partCount))
            guard isExpected else {
                loop.drain(socket)
                return nil
            }
            parts.append(Payload(storage: PayloadStorage(taking: loop.scratch, token: token)))
        }
        return byteCount == Int(header.value) ? parts : nil
    }

    private var frame: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: zmq_msg_data(loop.scratch), count: zmq_msg_size(loop.scratch))
    }

    // MARK: Delivery

    /// Whether reading of a channel is stopped because its queue is full.
    func isPaused(_ channel: Channel) -> Bool {
        !channel.usesCredits && !(overflow[channel]?.isEmpty ?? true)
    }

    private func deliver(_ message: Message) {
        let channel = message.channel
        let byteCount = message.byteCount
        counters.update {
            $0.messagesReceived += 1
            $0.bytesReceived += byteCount
        }
        if channel == .exchange { loop.lastExchangeNanoseconds = MonotonicInstant.now.nanoseconds }
        switch configuration.deliveries[channel] {
        case .direct(let handler): handler(message)
        case .queue(let queue):
            if overflow[channel]?.isEmpty ?? true {
                switch queue.tryPush(message, byteCount: message.chargedByteCount) {
                case .accepted: return
                case .closed: return counters.update { $0.messagesDropped += 1 }
                case .full: break
                }
            }
            overflow[channel, default: []].append(message)
            setPaused(channel)
        }
    }

    /// Moves what overflowed into its queue, as far as it has room.
    func drainOverflow() {
        for channel in Channel.allCases {
            guard case .queue(let queue) = configuration.deliveries[channel] else { continue }
            while let message = overflow[channel]?.first {
                if queue.tryPush(message, byteCount: message.chargedByteCount) == .full { break }
                overflow[channel]?.removeFirst()
            }
            setPaused(channel)
        }
    }

    /// Stops or resumes reading of a channel without credits.
    private func setPaused(_ channel: Channel) {
        guard !channel.usesCredits else { return }
        let isPaused = isPaused(channel)
        let sockets =
            [routers[channel]] + directory.all.map { $0.channel == channel ? $0.dialed?.socket : nil }
        for socket in sockets.compactMap({ $0 }) where socket.wantsInput == isPaused {
            socket.wantsInput = !isPaused
            loop.isPollSetStale = true
        }
    }
}
