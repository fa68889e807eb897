internal import CKernels
// SPDX-License-Identifier: Apache-2.0
//
// What the members of a training epoch exchange among themselves, on the thread that trains. A step has points that all
// members reach (`meet`); between the last of them and the next step the gradients' partial sums go to the owners of
// their segments and the new weights to everybody. Nobody pushes data at a member that still computes: it would fill the
// connection on which that member waits for its experts.
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

/// The members' side channel. All methods but ``cancel()`` and ``waiting`` on the training thread.
package final class TrainingExchange: @unchecked Sendable {
    // @unchecked: `flags` is locked, the rest belongs to the training thread.
    private struct Flags {
        var isCancelled = false
        var waiting: String?
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
    private var weights: [Point: (type: ComputeType, payload: Payload)] = [:]
    /// Of an epoch that has not begun here yet.
    private var early: [(TrainingFrame, PeerIdentity)] = []

    /// Elements of one gradient message: 1 MiB.
    private static let partElements = 262_144
    /// Without any message for this long, after all members said they were ready, something was lost.
    private static let stallMilliseconds: UInt64 = 15_000

    package init(port: ExchangePort, model: UInt32) {
        self.port = port
        self.model = model
    }

    /// Ends waits of the epoch under way; a new ``begin(epoch:members:rank:)`` allows them again.
    package func cancel() { flags.withLock { $0.isCancelled = true } }

    /// What the training thread waits for; nil while it does not wait.
    package var waiting: String? { flags.withLock { $0.waiting } }

    package func begin(epoch: UInt32, members: [PeerIdentity], rank: Int) {
        self.epoch = epoch
        self.members = members
        self.rank = rank
        flags.withLock { $0 = Flags() }
        ready = [:]
        left = [:]
        parts = [:]
        weights = [:]
        let waiting = early
        early = []
        for (frame, peer) in waiting { take(frame, from: peer) }
    }

    private var others: [PeerIdentity] { members.indices.filter { $0 != rank }.map { members[$0] } }

    // MARK: - Points

    /// Tells all members that this one has reached a point of the step and waits until all have.
    ///
    /// - Parameter counts: added up over all members; every member passes as many.
    /// - Returns: the sums.
    package func meet(
        version: UInt64, point: Int, _ counts: [Int64] = [], name: (PeerIdentity) -> String = { "\($0)" }
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
            flags.withLock { $0.waiting = "\(missing.map(name).joined(separator: ", ")) to finish their cells" }
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
    ///   - total: called with each own segment and its gradient, valid during the call.
    package func reduce(
        version: UInt64, _ own: [PairwiseSum.Item], cells: [Range<Int>], _ segments: TrunkSegments,
        total: (_ segment: Int, UnsafeMutablePointer<Float>) throws -> Void
    ) throws {
        for item in own {
            for segment in segments.segments.indices {
                let owner = segments.owner(of: segment, memberCount: members.count)
                if owner == rank { continue }
                let elements = segments.segments[segment].elements
                for offset in stride(from: 0, to: elements.count, by: Self.partElements) {
                    let count = min(Self.partElements, elements.count - offset)
                    let bytes = UnsafeRawBufferPointer(
                        start: item.vector.base + (elements.lowerBound + offset) * 4, count: count * 4)
                    let frame = TrainingFrame(
                        kind: .gradient, model: model, epoch: epoch, version: version, index: segment,
                        first: item.first,
                        size: item.size, offset: offset, payload: Payload(lending: bytes, owner: item.vector))
                    try send(frame, to: members[owner])
                }
            }
        }
        for segment in segments.owned(by: rank, memberCount: members.count) {
            let elements = segments.segments[segment].elements
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
            guard !rows.isEmpty else { continue }
            sum(rows.map { (Int32($0.first), $0.base) }, count: elements.count)
            try total(segment, rows[0].base)
        }
    }

    /// All parts of one partial sum of a segment.
    private func collect(_ key: PartKey, _ count: Int, from peer: PeerIdentity) throws -> PageBuffer {
        let buffer = try PageBuffer(byteCount: count * 4)
        var filled = 0
        var seen: Set<Int> = []
        var deadline = MonotonicInstant.now.advanced(byMilliseconds: Self.stallMilliseconds)
        while filled < count {
            for (offset, payload) in parts.removeValue(forKey: key) ?? [] where seen.insert(offset).inserted {
                guard payload.byteCount % 4 == 0, offset + payload.byteCount / 4 <= count else {
                    throw TrainingExchangeError.stalled("\(peer) sent a gradient of another size")
                }
                payload.withUnsafeBytes {
                    (buffer.base + offset * 4).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
                }
                filled += payload.byteCount / 4
                deadline = MonotonicInstant.now.advanced(byMilliseconds: Self.stallMilliseconds)
            }
            if filled >= count { break }
            if MonotonicInstant.now >= deadline {
                throw TrainingExchangeError.stalled("gradients of segment \(key.segment) from \(peer) did not come")
            }
            flags.withLock { $0.waiting = "gradients from \(peer)" }
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

    /// Sends a block's new weights to all members.
    package func publish(version: UInt64, block: Int, _ type: ComputeType, _ payload: Payload)
        throws(TrainingExchangeError)
    {
        let frame = TrainingFrame(
            kind: .weights, model: model, epoch: epoch, version: version, index: block, elementType: type,
            payload: payload)
        for peer in others { try send(frame, to: peer) }
    }

    /// A block's new weights from its owner.
    package func weights(version: UInt64, block: Int, owner: Int) throws(TrainingExchangeError) -> (
        type: ComputeType, payload: Payload
    ) {
        let point = Point(version: version, index: block)
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 4 * Self.stallMilliseconds)
        while true {
            if let found = weights.removeValue(forKey: point) {
                flags.withLock { $0.waiting = nil }
                return found
            }
            if MonotonicInstant.now >= deadline {
                throw .stalled("weights of block \(block) from \(members[owner]) did not come")
            }
            flags.withLock { $0.waiting = "weights from \(members[owner])" }
            try pump(milliseconds: 20)
        }
    }

    // MARK: - Messages

    private func send(_ frame: TrainingFrame, to peer: PeerIdentity) throws(TrainingExchangeError) {
        let message = frame.encode()
        while true {
            do throws(TransportError) {
                return try port.send(message, to: peer, waitingUntil: MonotonicInstant.now.advanced(byMilliseconds: 2))
            } catch {
                switch error.code {
                case .backpressure:
                    // The peer may be waiting for room here: take what it sent.
                    flags.withLock { $0.waiting = "\(peer) to take gradients" }
                    try pump(milliseconds: 0)
                case .unknownPeer:
                    flags.withLock { $0.waiting = "a connection to \(peer)" }
                    try pump(milliseconds: 20)
                default: throw .transport(error)
                }
            }
        }
    }

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
            guard let payload = frame.payload else { return }
            parts[PartKey(version: frame.version, segment: frame.index, first: frame.first), default: []].append(
                (frame.offset, payload))
        case .weights:
            guard let payload = frame.payload else { return }
            weights[Point(version: frame.version, index: frame.index)] = (frame.elementType, payload)
        }
    }
}

extension ExchangePort {
    func countRefusedFrame() { counters.update { $0.refusedFrames += 1 } }
}
