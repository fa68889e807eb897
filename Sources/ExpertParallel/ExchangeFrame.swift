// SPDX-License-Identifier: Apache-2.0
//
// The messages of the expert exchange.
//
//   dispatch   header | routing | token rows …     a source asks an owner for sums over subtrees
//   combine    header | sum rows …                 the owner's answer, one fp32 row per (row, touched
//                                                  subtree); or header | why not
//   backward   header | routing | token rows … | gradient rows …       the same for the backward pass
//   backward combine   header | one gradient per entry | sum rows …    sums of input gradients
//
// A header is 64 little-endian bytes; its checksum covers itself and all that follows. Everything a decoder is told is
// checked against limits and against the bytes that really came before anything is allocated.
internal import ClusterTransport
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

/// What a dispatch is about; owners batch dispatches that agree in all of it.
package struct ExchangeTopic: Hashable, Sendable {
    /// Short id of the model, as the cluster assigned it.
    package var model: UInt32
    /// Version of the weights.
    package var policyVersion: UInt64
    package var layer: UInt16

    package init(model: UInt32, policyVersion: UInt64, layer: UInt16) {
        self.model = model
        self.policyVersion = policyVersion
        self.layer = layer
    }
}

/// Why a frame was refused.
package struct FrameError: Error, Hashable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// How an owner answered.
package enum CombineStatus: UInt8, Sendable {
    case ok = 0
    /// The owner does not hold these experts (any more); ask for the current placement.
    case notHeld = 1
    /// The owner could not compute, for a reason that it gives and logs.
    case failed = 2
}

/// The fixed first part of an exchange message.
struct ExchangeHeader {
    enum Kind: UInt8 {
        case dispatch = 1
        case combine = 2
        case backward = 3
        case backwardCombine = 4
        /// See ``TrainingFrame``.
        case training = 5
    }

    static let byteCount = 64
    static let magic: UInt32 = 0x5853_5041  // "APSX"
    static let version: UInt8 = 2
    private static let checksumOffset = 12

    var kind: Kind
    var status: CombineStatus = .ok
    var compute: ComputeType = .bf16
    var topic: ExchangeTopic
    var request: UInt64
    /// Rows that follow: token rows of a dispatch, sum rows of a combine.
    var rowCount: Int
    /// Elements of a row, C.
    var width: Int
    var entryCount = 0
    var subtreeCount = 0
    /// Of a backward dispatch: the cell its rows are of, and the training epoch that it belongs to.
    var cell: UInt32 = 0
    var trainingEpoch: UInt32 = 0

    /// The parts of a message: the header with the checksum of everything, then `rest`.
    func encode(before rest: [Payload]) -> [Payload] {
        var bytes = [UInt8]()
        bytes.reserveCapacity(Self.byteCount)
        func put<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }
        put(Self.magic)
        put(Self.version)
        put(kind.rawValue)
        put(status.rawValue)
        put(UInt8(compute == .fp32 ? 0 : 1))
        put(topic.model)
        put(UInt32(0))
        put(topic.policyVersion)
        put(request)
        put(topic.layer)
        put(UInt16(0))
        put(UInt32(rowCount))
        put(UInt32(width))
        put(UInt32(entryCount))
        put(UInt32(subtreeCount))
        put(cell)
        put(trainingEpoch)
        bytes += [UInt8](repeating: 0, count: Self.byteCount - bytes.count)
        Self.seal(&bytes, before: rest)
        return [Payload(bytes)] + rest
    }

    /// Whether the parts of a message, of which the first has the size of a header, came as they were sent.
    static func isIntact(_ parts: [Payload]) -> Bool {
        let header = parts[0].bytes
        var sealed = header
        seal(&sealed, before: parts[1...])
        return sealed == header
    }

    /// Writes the checksum of a message to its header: CRC-32C of the header with 0 in its place and of all bytes of
    /// `rest` in order.
    static func seal(_ header: inout [UInt8], before rest: some Sequence<Payload>) {
        let place = checksumOffset..<checksumOffset + 4
        header.replaceSubrange(place, with: [0, 0, 0, 0])
        var checksum = CRC32C()
        header.withUnsafeBytes { checksum.update($0) }
        for part in rest { part.withUnsafeBytes { checksum.update($0) } }
        withUnsafeBytes(of: checksum.value.littleEndian) { header.replaceSubrange(place, with: $0) }
    }

    init(
        kind: Kind, status: CombineStatus = .ok, compute: ComputeType, topic: ExchangeTopic, request: UInt64,
        rowCount: Int, width: Int
    ) {
        self.kind = kind
        self.status = status
        self.compute = compute
        self.topic = topic
        self.request = request
        self.rowCount = rowCount
        self.width = width
    }

    init(_ payload: Payload) throws(FrameError) {
        guard payload.byteCount == Self.byteCount else {
            throw FrameError("a header of \(payload.byteCount) bytes, expected \(Self.byteCount)")
        }
        let bytes = payload.bytes
        var at = 0
        func get<T: FixedWidthInteger>(_: T.Type) -> T {
            defer { at += MemoryLayout<T>.size }
            return bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: T.self)) }
        }
        guard get(UInt32.self) == Self.magic else { throw FrameError("not an exchange frame") }
        let version = get(UInt8.self)
        guard version == Self.version else {
            throw FrameError("exchange version \(version), this build speaks \(Self.version)")
        }
        guard let kind = Kind(rawValue: get(UInt8.self)),
            let status = CombineStatus(rawValue: get(UInt8.self))
        else {
            throw FrameError("unknown kind or status")
        }
        self.kind = kind
        self.status = status
        let type = get(UInt8.self)
        guard type <= 1 else { throw FrameError("unknown compute type \(type)") }
        compute = type == 0 ? .fp32 : .bf16
        topic = ExchangeTopic(model: get(UInt32.self), policyVersion: 0, layer: 0)
        _ = get(UInt32.self)
        topic.policyVersion = get(UInt64.self)
        request = get(UInt64.self)
        topic.layer = get(UInt16.self)
        _ = get(UInt16.self)
        rowCount = Int(get(UInt32.self))
        width = Int(get(UInt32.self))
        entryCount = Int(get(UInt32.self))
        subtreeCount = Int(get(UInt32.self))
        cell = get(UInt32.self)
        trainingEpoch = get(UInt32.self)
        guard rowCount <= ExchangeLimits.rowCount, (1...ExchangeLimits.width).contains(width),
            entryCount <= ExchangeLimits.rowCount * 256, subtreeCount <= ExchangeLimits.subtreeCount
        else { throw FrameError("counts beyond the limits: \(rowCount) rows of \(width)") }
    }
}

/// Limits of one message, checked before allocation.
enum ExchangeLimits {
    static let rowCount = 65_536
    static let width = 1 << 16
    static let subtreeCount = 4096
    /// Bytes of rows in one message, either way; larger batches go in several.
    static let messageByteCount = 4 << 20
    static let partByteCount = 1 << 20
    static let reasonByteCount = 1024
}

/// Rows of one size spread over parts of at most 1 MiB, never across a part's end.
struct RowParts {
    let rowByteCount: Int
    let rowsPerPart: Int

    init(rowByteCount: Int) {
        self.rowByteCount = rowByteCount
        rowsPerPart = max(1, ExchangeLimits.partByteCount / rowByteCount)
    }

    func partCount(_ rows: Int) -> Int { (rows + rowsPerPart - 1) / rowsPerPart }

    /// Payloads for `rows` rows, filled by `write(row, target)`.
    func make(_ rows: Int, _ write: (Int, UnsafeMutableRawPointer) -> Void) -> [Payload] {
        (0..<partCount(rows)).map { part in
            let first = part * rowsPerPart
            let count = min(rowsPerPart, rows - first)
            return Payload(byteCount: count * rowByteCount) { buffer in
                for row in 0..<count { write(first + row, buffer.baseAddress! + row * rowByteCount) }
            }
        }
    }

    /// Whether `parts` hold exactly `rows` rows.
    func fits(_ parts: ArraySlice<Payload>, rows: Int) -> Bool {
        guard parts.count == partCount(rows) else { return false }
        return parts.enumerated().allSatisfy { index, part in
            part.byteCount == min(rowsPerPart, rows - index * rowsPerPart) * rowByteCount
        }
    }
}
