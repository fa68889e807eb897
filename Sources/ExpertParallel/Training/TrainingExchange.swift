internal import CKernels
// SPDX-License-Identifier: Apache-2.0
//
// What the members of a training epoch exchange among themselves, on the thread that trains. A step has points that all
// members reach (`meet`); between the last of them and the next step the gradients' partial sums go to the owners of
// their segments and the new weights to everybody. Nobody pushes data at a member that still computes: it would fill the
// connection on which that member waits for its experts.
//
// A message that is kept holds its sender's credit, and a trunk is larger than any window of credit. So what comes is
// used as it comes (weights) or in an order that all members send in (gradients): whoever waits for the lowest segment
// that is not added up yet waits for a member that no other segment holds up.
package import ClusterTransport
internal import Foundation
package import Qwen3
package import RuntimeSupport
package import Tensors

/// Why a step could not be finished among the members.
package enum TrainingExchangeError: Error, CustomStringConvertible {
    case cancelled
    /// Messages that never came; the step is begun again from the last snapshot.
    case stalled(String)
    case transport(TransportError)

    package var description: String {
        switch self {
        case .cancelled: "the training epoch was ended"
        case .stalled(let text): text
        case .transport(let error): "cannot send to a member: \(error)"
        }
    }
}

/// What the training thread waits for.
package struct TrainingWait: Sendable {
    package let peers: [PeerIdentity]
    /// What is to come from them.
    package let reason: String
    package let since: MonotonicInstant
}

/// The members' side channel. All methods but ``cancel()`` and ``waiting`` on the training thread.
package final class TrainingExchange: @unchecked Sendable {
    // @unchecked: `flags` is locked, the rest belongs to the training thread.
    private struct Flags {
        var isCancelled = false
        var waiting: TrainingWait?
    }

    private struct Point: Hashable {
        let version: UInt64
        let index: Int
    }

    private struct PartKey: Hashable {
        let version: UInt64
        let segment: Int
        let first: Int
    }

    /// New weights that are still to come, and what is done with them.
    private struct Installation {
        let version: UInt64
        var missing: Set<Int>
        let install: (_ block: Int, ComputeType, Payload) throws -> Void
        var error: (any Error)?
    }

    private let port: ExchangePort
    private let model: UInt32
    private let flags = Locked(Flags())
    private var epoch: UInt32 = 0
    package private(set) var members: [PeerIdentity] = []
    package private(set) var rank = 0

    private var ready: [Point: [PeerIdentity: [Int64]]] = [:]
    /// Points that this member has left, with what it said there: for members that lost the message.
    private var left: [Point: TrainingFrame] = [:]
    private var parts: [PartKey: [(offset: Int, payload: Payload)]] = [:]
    private var installation: Installation?
    /// New weights that came before this member was ready for them; no more than a window of credit per member.
    private var earlyWeights: [TrainingFrame] = []
    /// When gradients or weights came last.
    private var lastMessage = MonotonicInstant.now
    /// Of an epoch that has not begun here yet.
    private var early: [(TrainingFrame, PeerIdentity)] = []

    /// Elements of one gradient message: 1 MiB.
    private static let partElements = 262_144
    /// Without any message for this long, after all members said they were ready, something was lost.
    private static let stallMilliseconds: UInt64 = 60_000

    package init(port: ExchangePort, model: UInt32) {
        self.port = port
        self.model = model
    }

    /// Ends waits of the epoch under way; a new ``begin(epoch:members:rank:)`` allows them again.
    package func cancel() { flags.withLock { $0.isCancelled = true } }

    /// What the training thread waits for; nil while it does not wait.
    package var waiting: TrainingWait? { flags.withLock { $0.waiting } }

    private func wait(_ peers: [PeerIdentity], _ reason: String) {
        flags.withLock { flags in
            let earlier = flags.waiting.flatMap { $0.reason == reason ? $0.since : nil }
            flags.waiting = TrainingWait(peers: peers, reason: reason, since: earlier ?? .now)
        }
    }

    package func begin(epoch: UInt32, members: [PeerIdentity], rank: Int) {
        self.epoch = epoch
        self.members = members
        self.rank = rank
        flags.withLock { $0 = Flags() }
        ready = [:]
        left = [:]
        parts = [:]
        installation = nil
        earlyWeights = []
        let waiting = early
        early = []
        for (frame, peer) in waiting { take(frame, from: peer) }
    }

    /// Epochs up to this one are over, or this member gives them up: keeps nothing of what the others sent for them.
    package func end(epoch ended: UInt32) {
        early.removeAll { $0.0.epoch <= ended }
        guard epoch <= ended else { return }
        ready = [:]
        left = [:]
        parts = [:]
        installation = nil
        earlyWeights = []
    }

    private var others: [PeerIdentity] { members.indices.filter { $0 != rank }.map { members[$0] } }

    // MARK: - Points

    /// Tells all members that this one has reached a point of the step and waits until all have.
    ///
    /// - Parameter counts: added up over all members; every member passes as many.
    /// - Returns: the sums.
    package func meet(
        version: UInt64, point: Int, _ counts: [Int64] = []
    ) throws(TrainingExchangeError) -> [Int64] {
        let payload =
            counts.isEmpty ? nil : Payload(counts.flatMap { withUnsafeBytes(of: $0.littleEndian, Array.init) })
        let frame = TrainingFrame(
            kind: .ready, model: model, epoch: epoch, version: version, index: point, payload: payload)
        for peer in others { try send(frame, to: peer) }
        let place = Point(version: version, index: point)
        var repeatAt = MonotonicInstant.now.advanced(byMilliseconds: 5000)
        while true {
            let arrived = ready[place] ?? [:]
            let missing = others.filter { arrived[$0] == nil }
            if missing.isEmpty {
                ready[place] = nil
                left = left.filter { $0.key.version == version }
                left[place] = frame
                flags.withLock { $0.waiting = nil }
                var sums = counts
                for peer in others {
                    let theirs = arrived[peer] ?? []
                    guard theirs.count == sums.count else { throw .stalled("\(peer) counts other things") }
                    for index in sums.indices { sums[index] += theirs[index] }
                }
                return sums
            }
            wait(missing, "to finish their cells")
            try pump(milliseconds: 50)
            if MonotonicInstant.now >= repeatAt {
                // A lost connection may have taken it.
                for peer in missing { try send(frame, to: peer) }
                repeatAt = MonotonicInstant.now.advanced(byMilliseconds: 5000)
            }
        }
    }

    // MARK: - Gradients

    /// Sends the partial sums to their segments' owners and adds up what arrives for the own segments, along the tree
    /// over the step's cells. All members must have met after their last cell.
    ///
    /// - Parameters:
    ///   - own: this member's partial sums over its cells, vectors of the whole trunk.
    ///   - cells: per member its range of cells.
    ///   - total: called with each own segment and its gradient, valid during the call; nil where the step has no cell,
    ///     so that the gradient is zero.
    package func reduce(
        version: UInt64, _ own: [PairwiseSum.Item], cells: [Range<Int>], _ segments: TrunkSegments,
        total: (_ segment: Int, UnsafeMutablePointer<Float>?) throws -> Void
    ) throws {
        for segment in segments.segments.indices {
            let elements = segments.segments[segment].elements
            let owner = segments.owner(of: segment, memberCount: members.count)
            if owner != rank {
                for item in own { try sendPart(item, segment, elements, version: version, to: members[owner]) }
                continue
            }
            var rows: [(first: Int, vector: PageBuffer, base: UnsafeMutablePointer<Float>)] = own.map {
                ($0.first, $0.vector, $0.vector.floats() + elements.lowerBound)
            }
            for (member, range) in cells.enumerated() where member != rank {
                for item in pairwiseItems(of: range) {
                    let key = PartKey(version: version, segment: segment, first: item.first)
                    let buffer = try collect(key, elements.count, from: members[member])
                    rows.append((item.first, buffer, buffer.floats()))
                }
            }
            rows.sort { $0.first < $1.first }
            guard !rows.isEmpty else {
                try total(segment, nil)
                continue
            }
            sum(rows.map { (Int32($0.first), $0.base) }, count: elements.count)
            try total(segment, rows[0].base)
        }
    }

    /// One partial sum's part of a segment.
    private func sendPart(
        _ item: PairwiseSum.Item, _ segment: Int, _ elements: Range<Int>, version: UInt64, to peer: PeerIdentity
    ) throws {
        for offset in stride(from: 0, to: elements.count, by: Self.partElements) {
            let count = min(Self.partElements, elements.count - offset)
            let bytes = UnsafeRawBufferPointer(
                start: item.vector.base + (elements.lowerBound + offset) * 4, count: count * 4)
            let frame = TrainingFrame(
                kind: .gradient, model: model, epoch: epoch, version: version, index: segment, first: item.first,
                size: item.size, offset: offset, payload: Payload(lending: bytes, owner: item.vector))
            try send(frame, to: peer)
        }
    }

    /// All parts of one partial sum of a segment.
    private func collect(_ key: PartKey, _ count: Int, from peer: PeerIdentity) throws -> PageBuffer {
        let buffer = try PageBuffer(byteCount: count * 4)
        var filled = 0
        var seen: Set<Int> = []
        lastMessage = .now
        while filled < count {
            for (offset, payload) in parts.removeValue(forKey: key) ?? [] where seen.insert(offset).inserted {
                guard payload.byteCount % 4 == 0, offset + payload.byteCount / 4 <= count else {
                    throw TrainingExchangeError.stalled("\(peer) sent a gradient of another size")
                }
                payload.withUnsafeBytes {
                    (buffer.base + offset * 4).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
                }
                filled += payload.byteCount / 4
            }
            if filled >= count { break }
            if isStalled {
                throw TrainingExchangeError.stalled("gradients of segment \(key.segment) from \(peer) did not come")
            }
            wait([peer], "to send gradients")
            try pump(milliseconds: 20)
        }
        flags.withLock { $0.waiting = nil }
        return buffer
    }

    /// Along the tree; the sum ends in the first row.
    private func sum(_ rows: [(first: Int32, base: UnsafeMutablePointer<Float>)], count: Int) {
        let piece = 16_384
        for offset in stride(from: 0, to: count, by: piece) {
            let width = min(piece, count - offset)
            let positions = rows.map(\.first)
            let pointers = rows.map { $0.base + offset }
            positions.withUnsafeBufferPointer { positions in
                pointers.withUnsafeBufferPointer { ExpertTree.sum(positions: positions, rows: $0, width: width) }
            }
        }
    }

    // MARK: - Weights

    /// Sends the own blocks' new weights to all members and installs theirs as they come.
    ///
    /// - Parameters:
    ///   - missing: blocks of the others.
    ///   - install: called on this thread, also while `body` publishes.
    ///   - body: makes the own blocks and gives each to `publish`.
    package func exchangeWeights(
        version: UInt64, missing: Set<Int>, install: @escaping (_ block: Int, ComputeType, Payload) throws -> Void,
        _ body: (_ publish: (_ block: Int, ComputeType, Payload) throws -> Void) throws -> Void
    ) throws {
        installation = Installation(version: version, missing: missing, install: install)
        defer { installation = nil }
        let early = earlyWeights
        earlyWeights = []
        for frame in early { use(frame) }
        try body { block, type, payload in
            let frame = TrainingFrame(
                kind: .weights, model: model, epoch: epoch, version: version, index: block, elementType: type,
                payload: payload)
            for peer in others { try send(frame, to: peer) }
        }
        lastMessage = .now
        while let first = installation?.missing.min() {
            if let error = installation?.error { throw error }
            if isStalled { throw TrainingExchangeError.stalled("weights of block \(first) did not come") }
            wait(others, "to send new weights")
            try pump(milliseconds: 20)
        }
        flags.withLock { $0.waiting = nil }
        if let error = installation?.error { throw error }
    }

    private func use(_ frame: TrainingFrame) {
        guard let payload = frame.payload, installation?.version == frame.version,
            installation?.missing.remove(frame.index) != nil
        else { return }
        do { try installation?.install(frame.index, frame.elementType, payload) } catch { installation?.error = error }
    }

    // MARK: - Messages

    private func send(_ frame: TrainingFrame, to peer: PeerIdentity) throws(TrainingExchangeError) {
        let message = frame.encode()
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 4 * Self.stallMilliseconds)
        while true {
            if MonotonicInstant.now >= deadline { throw .stalled("\(peer) takes nothing") }
            do throws(TransportError) {
                return try port.send(message, to: peer, waitingUntil: MonotonicInstant.now.advanced(byMilliseconds: 2))
            } catch {
                switch error.code {
                case .backpressure:
                    // The peer may be waiting for room here: take what it sent.
                    wait([peer], "to take gradients or weights")
                    try pump(milliseconds: 0)
                case .unknownPeer:
                    wait([peer], "to be connected")
                    try pump(milliseconds: 20)
                default: throw .transport(error)
                }
            }
        }
    }

    /// Whether nothing has come for so long that something must have been lost.
    private var isStalled: Bool { MonotonicInstant.now.milliseconds(since: lastMessage) > Self.stallMilliseconds }

    /// Takes what has come; waits for the first message at most so long.
    private func pump(milliseconds: UInt64) throws(TrainingExchangeError) {
        if flags.withLock({ $0.isCancelled }) { throw .cancelled }
        if milliseconds > 0,
            let message = port.training.pop(until: MonotonicInstant.now.advanced(byMilliseconds: milliseconds))
        {
            take(message)
        }
        while let message = port.training.tryPop() { take(message) }
    }

    private func take(_ message: Message) {
        guard let frame = try? TrainingFrame(message.parts) else {
            return port.countRefusedFrame()
        }
        take(frame, from: message.peer)
    }

    private func take(_ frame: TrainingFrame, from peer: PeerIdentity) {
        guard frame.model == model, frame.epoch >= epoch else { return }
        if frame.epoch > epoch { return early.append((frame, peer)) }
        guard members.contains(peer) else { return }
        switch frame.kind {
        case .ready:
            let counts = frame.payload?.bytes ?? []
            let point = Point(version: frame.version, index: frame.index)
            if var answer = left[point] {
                // Answers are not answered.
                answer.size = 1
                if frame.size == 0 { try? port.send(answer.encode(), to: peer) }
                return
            }
            ready[point, default: [:]][peer] = stride(
                from: 0, to: counts.count - 7, by: 8
            ).map { at in
                counts[at..<at + 8].enumerated().reduce(Int64(0)) { $0 | Int64($1.element) << (8 * $1.offset) }
            }
        case .gradient:
            lastMessage = .now
            guard let payload = frame.payload else { return }
            parts[PartKey(version: frame.version, segment: frame.index, first: frame.first), default: []].append(
                (frame.offset, payload))
        case .weights:
            lastMessage = .now
            if installation == nil { earlyWeights.append(frame) } else { use(frame) }
        }
    }
}

extension ExchangePort {
    func countRefusedFrame() { counters.update { $0.refusedFrames += 1 } }
}
