// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import DequeModule
internal import Glibc
internal import RuntimeSupport

/// Sending. Each link has its own queue, so a peer that takes nothing stops only what is meant for it.
extension Node {
    private enum Outcome { case sent, wouldBlock, unreachable }

    var hasBlockedLinks: Bool { !blockedLinks.isEmpty }

    /// Takes a message from a sender, whose budget it has used.
    func enqueue(_ message: Message, on link: PeerLink) {
        link.pending.append(message)
        if link.pending.count == 1 { flush(link) }
    }

    /// Drops what waits here and matches.
    func discard(_ channel: Channel, where isUnwanted: (Message) -> Bool) {
        for link in directory.all where link.channel == channel && link.pending.contains(where: isUnwanted) {
            let unwanted = link.pending.filter(isUnwanted)
            link.pending.removeAll(where: isUnwanted)
            for message in unwanted { releaseBudget(message, link) }
            counters.update { $0.messagesDropped += unwanted.count }
            flush(link)
        }
    }

    /// Sends what credit and libzmq allow.
    func flush(_ link: PeerLink) {
        while let message = link.pending.first {
            guard let connection = link.readyConnection else {
                if link.dialed == nil {
                    emit(.peerUnreachable(link.peer, link.channel, droppedCount: drop(link)))
                }
                return
            }
            let charge = message.chargedByteCount
            if connection.needsHello { return markBlocked(connection) }
            if link.channel.usesCredits && connection.sendCredit < charge { return }
            switch transmit(message, on: connection) {
            case .sent:
                link.pending.removeFirst()
                connection.sendCredit -= charge
                releaseBudget(message, link)
                counters.update {
                    $0.messagesSent += 1
                    $0.bytesSent += message.byteCount
                }
                if link.channel == .exchange {
                    loop.lastExchangeNanoseconds = MonotonicInstant.now.nanoseconds
                }
            case .wouldBlock: return markBlocked(connection)
            case .unreachable: lose(connection, isUnreachable: true)
            }
        }
    }

    /// Tries blocked accepted peers again.
    func retryBlockedLinks() {
        let links = blockedLinks
        blockedLinks = []
        for link in links {
            if let connection = link.accepted { sendControl(connection) }
            flush(link)
        }
    }

    /// Sends hello and grants that are due.
    func sendControl(_ connection: Connection) {
        if connection.needsHello {
            let window = connection.account?.openSession() ?? 0
            connection.unsentGrant = 0
            let hello = WireHeader(kind: .hello, session: connection.session, value: UInt64(window))
            switch send(hello, on: connection, hasMore: false) {
            case .sent: connection.needsHello = false
            case .wouldBlock: return markBlocked(connection)
            case .unreachable: return lose(connection, isUnreachable: true)
            }
        }
        guard connection.unsentGrant > 0 else { return }
        let grant = WireHeader(
            kind: .credit, session: connection.session, value: UInt64(connection.unsentGrant))
        switch send(grant, on: connection, hasMore: false) {
        case .sent: connection.unsentGrant = 0
        case .wouldBlock: markBlocked(connection)
        case .unreachable: lose(connection, isUnreachable: true)
        }
    }

    /// Grants what consumers have released.
    func grantCredit(_ link: PeerLink, isDialed: Bool) {
        guard let account = isDialed ? link.dialedAccount : link.acceptedAccount else { return }
        guard let connection = isDialed ? link.dialed : link.accepted, connection.isReady,
            !connection.needsHello
        else { return }  // `complete` looks again; before hello is sent, hello announces it
        connection.unsentGrant += account.takeGrant()
        sendControl(connection)
    }

    private func markBlocked(_ connection: Connection) {
        if connection.isDialed {
            guard !connection.socket.wantsOutput else { return }
            connection.socket.wantsOutput = true
            loop.isPollSetStale = true
        } else if !blockedLinks.contains(where: { $0 === connection.link }) {
            blockedLinks.append(connection.link)
        }
    }

    private func transmit(_ message: Message, on connection: Connection) -> Outcome {
        let header = WireHeader(
            kind: .data, partCount: UInt16(message.parts.count), session: connection.session,
            value: UInt64(message.byteCount))
        let outcome = send(header, on: connection, hasMore: !message.parts.isEmpty)
        guard case .sent = outcome else { return outcome }
        let socket = connection.socket.socket
        for (index, part) in message.parts.enumerated() {
            let more = index + 1 < message.parts.count ? ZMQ_SNDMORE : 0
            let error = socket.send(part, flags: ZMQ_DONTWAIT | more, scratch: loop.scratch)
            // A DEALER whose pipe ended in mid-message takes the whole message back and says EAGAIN.
            if error != 0 { return error == EAGAIN ? .wouldBlock : .unreachable }
        }
        return .sent
    }

    private func send(_ header: WireHeader, on connection: Connection, hasMore: Bool) -> Outcome {
        let socket = connection.socket.socket
        guard !socket.isClosed else { return .unreachable }
        if !connection.routingID.isEmpty {
            let error = connection.routingID.withUnsafeBytes {
                socket.send($0, flags: ZMQ_DONTWAIT | ZMQ_SNDMORE)
            }
            if error != 0 { return error == EAGAIN ? .wouldBlock : .unreachable }
        }
        let error = withUnsafeTemporaryAllocation(byteCount: WireHeader.byteCount, alignment: 8) { bytes in
            header.encode(into: bytes)
            return socket.send(
                UnsafeRawBufferPointer(bytes), flags: ZMQ_DONTWAIT | (hasMore ? ZMQ_SNDMORE : 0))
        }
        return error == 0 ? .sent : error == EAGAIN ? .wouldBlock : .unreachable
    }
}
