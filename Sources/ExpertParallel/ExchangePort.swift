// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
internal import RuntimeSupport
internal import Synchronization

/// What reaches a thread that exchanges.
enum ExchangeMail: Sendable {
    case answer(Message)
    /// Look at your flags.
    case wake
}

typealias ExchangeMailbox = BoundedQueue<ExchangeMail>

/// Sorts what arrives on the exchange channel: dispatches to the server's queue, answers to the exchange that
/// asked. On the socket thread only the 64-byte header is read; everything else is decoded by whoever takes
/// the message.
package final class ExchangePort: Sendable {
    package let counters: ExchangeCounters
    /// Dispatches of peers. The peers' credit windows bound it; the limits are a second fence.
    let dispatches = BoundedQueue<Message>(itemCountMax: 65_536, byteCountMax: 1 << 30)

    /// Gradients and weights of peers, for the thread that trains.
    let training = BoundedQueue<Message>(itemCountMax: 1 << 20, byteCountMax: 4 << 30)

    /// The first training epoch that is not over.
    private let firstTrainingEpoch = Locked<UInt32>(0)

    private let transport = Locked<(any Transport)?>(nil)
    private let mailboxes = Locked<[UInt64: ExchangeMailbox]>([:])
    /// Random, so that an answer meant for a former process with our key meets nobody.
    private let lastRequest = Atomic<UInt64>(UInt64.random(in: .min ... .max))

    package init(counters: ExchangeCounters = ExchangeCounters()) { self.counters = counters }

    /// How the transport hands its exchange channel to this port.
    package var delivery: Delivery { .direct { [self] message in receive(message) } }

    /// Sets the transport, which was made with ``delivery``.
    package func attach(_ transport: any Transport) { self.transport.withLock { $0 = transport } }

    /// Ends the reference to the transport; later sends throw `closed`.
    package func detach() { transport.withLock { $0 = nil } }

    /// Takes one message of the exchange channel. Returns within microseconds.
    package func receive(_ message: Message) {
        counters.update { $0.bytesIn += message.byteCount }
        guard let first = message.parts.first, let header = try? ExchangeHeader(first) else {
            return counters.update { $0.refusedFrames += 1 }
        }
        switch header.kind {
        case .dispatch, .backward:
            if dispatches.tryPush(message, byteCount: message.byteCount) != .accepted {
                counters.update { $0.droppedMessages += 1 }
            }
        case .training:
            // Kept for nobody, a frame would hold its sender's credit, which dispatches need too.
            let isAccepted = firstTrainingEpoch.withLock {
                header.trainingEpoch >= $0
                    && training.tryPush(message, byteCount: message.byteCount) == .accepted
            }
            if !isAccepted { counters.update { $0.droppedMessages += 1 } }
        case .combine, .backwardCombine:
            guard let mailbox = mailboxes.withLock({ $0[header.request] }) else {
                return counters.update { $0.lateAnswers += 1 }
            }
            if mailbox.tryPush(.answer(message), byteCount: message.byteCount) != .accepted {
                counters.update { $0.droppedMessages += 1 }
            }
        }
    }

    /// Training epochs up to this one are over: their frames, here and still to come, are dropped and their credit
    /// returns.
    package func endTraining(epoch: UInt32) {
        let stale = firstTrainingEpoch.withLock { first -> [Message] in
            first = max(first, epoch &+ 1)
            return training.remove { Self.isTraining($0, upTo: epoch) }
        }
        counters.update { $0.droppedMessages += stale.count }
    }

    /// Whether a message is a frame of a training epoch up to this one.
    package static func isTraining(_ message: Message, upTo epoch: UInt32) -> Bool {
        guard let first = message.parts.first, let header = try? ExchangeHeader(first) else { return false }
        return header.kind == .training && header.trainingEpoch <= epoch
    }

    /// A number for a request whose answer goes to `mailbox` until ``forget(_:)``.
    func register(_ mailbox: ExchangeMailbox) -> UInt64 {
        let request = lastRequest.wrappingAdd(1, ordering: .relaxed).newValue
        mailboxes.withLock { $0[request] = mailbox }
        return request
    }

    func forget(_ request: UInt64) { mailboxes.withLock { _ = $0.removeValue(forKey: request) } }

    /// Queues a message; sleeps at most until `deadline` (not at all for nil) while the peer's queue is full.
    func send(
        _ parts: [Payload], to peer: PeerIdentity, waitingUntil deadline: MonotonicInstant? = nil
    ) throws(TransportError) {
        guard let transport = transport.withLock({ $0 }) else {
            throw TransportError(.closed, "the exchange has no transport")
        }
        let message = Message(peer: peer, channel: .exchange, parts: parts)
        do throws(TransportError) {
            try transport.send(message)
        } catch {
            guard let deadline, error.code == .backpressure else { throw error }
            try transport.send(message, waitingUntil: deadline)
        }
        counters.update { $0.bytesOut += message.byteCount }
    }
}
