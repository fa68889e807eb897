// SPDX-License-Identifier: Apache-2.0
//
// Cells and steps travel as bulk transfers: a cell may be larger than a control message, and its bytes keep no lease
// waiting. A thread of its own feeds each member as fast as that one takes them.
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport

/// Sends steps to the members of a training epoch. What breaks off is asked for again.
final class StepSender: @unchecked Sendable {
    // @unchecked: everything mutable is used under `lock`, but for `transfer` and `chunks`, which belong to the thread.
    private let transport: any Transport
    private let onTrouble: @Sendable (String) -> Void
    private let lock = ConditionLock()
    /// The step that each member is being sent, and what of it is still to come.
    private var steps: [PeerIdentity: (place: [UInt64]?, messages: [WireEnvelope])] = [:]
    private var isClosed = false
    private var transfer: UInt64 = 0
    /// Of the message under way to each member, last chunk first.
    private var chunks: [PeerIdentity: [Message]] = [:]

    init(_ transport: any Transport, onTrouble: @escaping @Sendable (String) -> Void) {
        self.transport = transport
        self.onTrouble = onTrouble
        _ = DedicatedThread.start(name: "step-sender") { [self] in run() }
    }

    func close() {
        lock.withLock {
            isClosed = true
            lock.broadcast()
        }
    }

    /// Sends `messages` in order. While the same step is still being sent to this member nothing is done; what is left of
    /// an earlier one is given up.
    func send(_ messages: [WireEnvelope], to peer: PeerIdentity) {
        let place = messages.first?.stepPlace
        lock.withLock {
            if let step = steps[peer], step.place == place { return }
            steps[peer] = (place, messages)
            lock.broadcast()
        }
    }

    private func run() {
        while let peers = lock.withLock({ () -> [PeerIdentity]? in
            while steps.isEmpty, !isClosed { lock.wait() }
            return isClosed ? nil : steps.keys.sorted()
        }) {
            // Every member in turn, as much as it takes.
            let hasMoved = peers.map(push).contains(true)
            if !hasMoved { _ = lock.withLock { lock.wait(until: .now.advanced(byMilliseconds: 5)) } }
        }
    }

    /// - Returns: whether anything got on.
    private func push(to peer: PeerIdentity) -> Bool {
        if chunks[peer] == nil {
            let next = lock.withLock { () -> WireEnvelope? in
                guard let step = steps[peer], !step.messages.isEmpty else {
                    steps[peer] = nil
                    return nil
                }
                return steps[peer]!.messages.removeFirst()
            }
            guard let next else { return true }
            transfer += 1
            chunks[peer] = BulkChunker.messages(
                transfer: transfer, content: Payload(next.encoded()), to: peer
            ).reversed()
        }
        var hasMoved = false
        while let chunk = chunks[peer]?.last {
            do { try transport.send(chunk) } catch {
                if error.code != .backpressure { giveUp(peer, error) }
                return hasMoved
            }
            hasMoved = true
            chunks[peer]?.removeLast()
        }
        chunks[peer] = nil
        return true
    }

    /// The member is asked what it has once it is back.
    private func giveUp(_ peer: PeerIdentity, _ error: TransportError) {
        chunks[peer] = nil
        let step = lock.withLock { steps.removeValue(forKey: peer) }
        let version = step?.place?.last ?? 0
        onTrouble("the cells of step \(version + 1) were not sent to \(peer): \(error)")
    }
}

extension WireEnvelope {
    /// Epoch and version of a step or of some of its cells.
    fileprivate var stepPlace: [UInt64]? {
        switch body {
        case .trainCells(let cells): [UInt64(cells.epoch), cells.version]
        case .trainStep(let step): [UInt64(step.epoch), step.version]
        default: nil
        }
    }
}
