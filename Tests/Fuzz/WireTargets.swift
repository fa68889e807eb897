// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import Foundation
import Qwen3
import RuntimeSupport
import SwiftProtobuf
import Tensors

@testable import ClusterCore
@testable import ClusterTransport
@testable import ExpertParallel

extension FuzzTarget {
    static let wire: [FuzzTarget] = [
        FuzzTarget(name: "wire-envelope", seeds: { ControlSeeds.envelopes }, run: converse),
        FuzzTarget(name: "wire-header", seeds: { [header(.data), header(.hello), header(.credit)] }, run: readHeader),
        FuzzTarget(name: "bulk-chunks", seeds: { [chunks()] }, run: reassemble),
        FuzzTarget(name: "exchange-frame", seeds: { [dispatch(false), dispatch(true), combine()] }, run: readFrame),
        FuzzTarget(name: "training-frame", seeds: { [gradient()] }, run: readTrainingFrame),
        FuzzTarget(name: "records", seeds: { ControlSeeds.records }, run: readRecord),
        FuzzTarget(name: "journal", seeds: { [Parts.join(ControlSeeds.journal)] }, run: replay),
    ]

    // MARK: Control messages

    /// Messages of workers and clients to a coordinator with two workers and a job, and of a coordinator to a worker.
    /// The first byte of each says who speaks and whether it knows the epoch, so that most get past the first check.
    private static func converse(_ input: [UInt8]) {
        var stage = ControlStage()
        for part in Parts.split(input, max: 8) {
            guard let manner = part.first, var envelope = try? WireEnvelope(encoded: Array(part.dropFirst())) else {
                continue
            }
            promise((try? WireEnvelope(encoded: envelope.encoded())) != nil, "a message does not read back")
            if manner & 1 == 0 {
                envelope.epoch = stage.coordinator.state.epoch
                envelope.incarnation = manner & 2 == 0 ? 1 : 2
                envelope.recipient = 0
            }
            stage.hear(envelope, manner)
        }
    }

    private static func readRecord(_ input: [UInt8]) {
        guard let record = try? WireUnitResult(encoded: input) else { return }
        promise(
            (try? WireUnitResult(encoded: record.encoded()))?.digest == record.digest, "a record changed its digest")
        _ = record.problem
        _ = record.totalReward
        var stage = ControlStage()
        _ = stage.coordinator.apply(.result(record, from: PeerIdentity("a")), at: stage.now)
    }

    private static func replay(_ input: [UInt8]) {
        let entries = Parts.split(input).compactMap { try? WireJournalEntry(encoded: $0) }
        // A job of any size costs memory in proportion, as it should; that is no finding.
        let isLarge = entries.contains {
            if case .jobAdmitted(let job) = $0.change { job.groupCount > 1000 || job.groupSize > 1000 } else { false }
        }
        if isLarge { return }
        let state = DurableState(replaying: entries)
        var coordinator = Coordinator(state: state, incarnation: 9)
        _ = coordinator.apply(.tick, at: MonotonicInstant(nanoseconds: 1_000_000_000))
    }

    // MARK: Frames

    private static func header(_ kind: WireHeader.Kind) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: WireHeader.byteCount)
        bytes.withUnsafeMutableBytes {
            WireHeader(kind: kind, partCount: kind == .data ? 2 : 0, session: 5, value: 64).encode(into: $0)
        }
        return bytes
    }

    private static func readHeader(_ input: [UInt8]) {
        guard let header = input.withUnsafeBytes({ WireHeader($0) }) else { return }
        var bytes = [UInt8](repeating: 1, count: WireHeader.byteCount)
        bytes.withUnsafeMutableBytes { header.encode(into: $0) }
        promise(bytes == input, "a header that was accepted is written otherwise")
    }

    private static func chunks() -> [UInt8] {
        let content = Payload([UInt8](repeating: 7, count: 100))
        let messages = BulkChunker.messages(
            transfer: 3, content: content, to: PeerIdentity("a"), chunkByteCount: 40)
        return Parts.join(messages.flatMap { $0.parts.map(\.bytes) })
    }

    private static func reassemble(_ input: [UInt8]) {
        var reassembler = BulkReassembler(transferByteCountMax: 1000, totalByteCountMax: 1500, openCountMax: 3)
        let parts = Parts.split(input, max: 64)
        for (index, pair) in stride(from: 0, to: parts.count - 1, by: 2).enumerated() {
            let message = Message(
                peer: PeerIdentity(index % 5 == 4 ? "b" : "a"), channel: .bulk,
                parts: [Payload(parts[pair]), Payload(parts[pair + 1])])
            if let transfer = try? reassembler.accept(message) {
                promise(transfer.content.count <= 1000, "a transfer beyond its limit")
            }
            promise(reassembler.openCount <= 3, "more transfers are open than allowed")
        }
        reassembler.forget(peer: PeerIdentity("a"))
        reassembler.forget(peer: PeerIdentity("b"))
        promise(reassembler.openCount == 0, "forgotten transfers stay open")
    }

    private static func dispatch(_ isBackward: Bool) -> [UInt8] {
        Parts.join(FrameExamples.dispatch(isBackward: isBackward).encode().map(\.bytes))
    }

    private static func combine() -> [UInt8] {
        let sums = Payload([UInt8](repeating: 3, count: 32))
        return Parts.join(
            Combine.encode(
                FrameExamples.dispatch(isBackward: false), status: .ok, sums: [sums], rowCount: 2
            ).map(\.bytes))
    }

    private static func gradient() -> [UInt8] { Parts.join(FrameExamples.gradient().encode().map(\.bytes)) }

    /// The parts as they are, and with a checksum that fits: behind it lie all other checks.
    private static func both(_ input: [UInt8], _ body: ([Payload]) -> Void) {
        var parts = Parts.split(input)
        body(parts.map { Payload($0) })
        guard parts.first?.count == ExchangeHeader.byteCount else { return }
        ExchangeHeader.seal(&parts[0], before: parts[1...].map { Payload($0) })
        body(parts.map { Payload($0) })
    }

    private static func readFrame(_ input: [UInt8]) {
        both(input) { parts in
            if let dispatch = try? Dispatch(parts) {
                promise(!Combine.isCombine(parts), "a dispatch is also an answer")
                promise(
                    (try? Dispatch(dispatch.encode()))?.assignment.experts == dispatch.assignment.experts,
                    "a dispatch reads back as another")
                let queued = QueuedDispatch(source: PeerIdentity("a"), dispatch)
                let sums = (0..<dispatch.assignment.rowCount).reduce(0) { $0 + dispatch.touched(row: $1).count }
                promise(queued.headExperts.count == sums, "owner and source count \(sums) sums differently")
                dispatch.withRows { promise($0.count == dispatch.assignment.rowCount, "rows are missing") }
                dispatch.withGradientRows { rows in
                    promise(rows.count == (dispatch.backward == nil ? 0 : dispatch.assignment.rowCount), "rows")
                }
            } else if let combine = try? Combine(parts), combine.status == .ok {
                var row = [Float](repeating: 0, count: combine.width)
                for index in 0..<combine.rowCount {
                    row.withUnsafeMutableBufferPointer { combine.copyRow(index, to: $0.baseAddress!) }
                }
            }
        }
    }

    private static func readTrainingFrame(_ input: [UInt8]) {
        both(input) { parts in
            guard let frame = try? TrainingFrame(parts) else { return }
            let again = try? TrainingFrame(frame.encode())
            promise(again?.index == frame.index && again?.offset == frame.offset, "a frame reads back as another")
        }
    }
}

/// Frames as they really travel.
enum FrameExamples {
    static func dispatch(isBackward: Bool) -> Dispatch {
        var assignment = ExpertAssignment()
        assignment.rowStarts = [0, 2, 3]
        assignment.experts = [1, 5, 6]
        assignment.weights = [0.25, 0.75, 1]
        let rows = [Payload([UInt8](repeating: 7, count: 16))]
        return Dispatch(
            topic: ExchangeTopic(model: 3, policyVersion: 9, layer: 2), request: 11, compute: .bf16, width: 4,
            subtrees: [ExpertSubtree(first: 0, size: 2), ExpertSubtree(first: 4, size: 4)], assignment: assignment,
            tokens: rows,
            backward: isBackward
                ? BackwardShare(trainingEpoch: 1, cell: 2, rowNumbers: [0, 3], gradients: rows) : nil)
    }

    static func gradient() -> TrainingFrame {
        TrainingFrame(
            kind: .gradient, model: 3, epoch: 1, version: 2, index: 4, first: 8, size: 4, offset: 12,
            payload: Payload([UInt8](repeating: 1, count: 64)))
    }
}
