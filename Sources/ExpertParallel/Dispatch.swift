// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
package import Qwen3
package import Tensors

/// Rows that a source sends to one owner of experts.
package struct Dispatch: Sendable {
    package let topic: ExchangeTopic
    package let request: UInt64
    package let compute: ComputeType
    package let width: Int
    /// Ascending and disjoint; the owner returns one row per (row, touched subtree).
    package let subtrees: [ExpertSubtree]
    package let assignment: ExpertAssignment
    /// Token rows in parts of at most 1 MiB.
    package let tokens: [Payload]

    package init(
        topic: ExchangeTopic, request: UInt64, compute: ComputeType, width: Int, subtrees: [ExpertSubtree],
        assignment: ExpertAssignment, tokens: [Payload]
    ) {
        self.topic = topic
        self.request = request
        self.compute = compute
        self.width = width
        self.subtrees = subtrees
        self.assignment = assignment
        self.tokens = tokens
    }

    /// The subtrees that each row touches, in order: the order of the answer's rows.
    package func touched(row: Int) -> [Int] {
        var result: [Int] = []
        for entry in assignment.entries(of: row) {
            let expert = Int(assignment.experts[entry])
            let index = subtrees.lastIndex { $0.first <= expert }!
            if result.last != index { result.append(index) }
        }
        return result
    }

    /// Calls `body` with a pointer to every token row; valid during the call.
    package func withRows<R>(_ body: ([UnsafeRawPointer]) throws -> R) rethrows -> R {
        let layout = RowParts(rowByteCount: width * compute.byteCount)
        func collect(_ part: Int, _ rows: [UnsafeRawPointer]) throws -> R {
            if part == tokens.count { return try body(rows) }
            return try tokens[part].withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in
                let count = bytes.count / layout.rowByteCount
                return try collect(part + 1, rows + (0..<count).map { bytes.baseAddress! + $0 * layout.rowByteCount })
            }
        }
        return try collect(0, [])
    }

    // MARK: - Wire

    /// The message's parts.
    package func encode() -> [Payload] {
        var header = ExchangeHeader(
            kind: .dispatch, compute: compute, topic: topic, request: request, rowCount: assignment.rowCount, width: width)
        header.entryCount = assignment.experts.count
        header.subtreeCount = subtrees.count
        var routing: [UInt8] = []
        func put(_ values: some Sequence<Int32>) {
            for value in values { withUnsafeBytes(of: value.littleEndian) { routing += $0 } }
        }
        put(subtrees.flatMap { [Int32($0.first), Int32($0.size)] })
        put(assignment.rowStarts)
        put(assignment.experts)
        put(assignment.weights.map { Int32(bitPattern: $0.bitPattern) })
        let rest = [Payload(routing)] + tokens
        header.checksum = rest.checksum
        return [header.encode()] + rest
    }

    /// Reads a dispatch that a peer sent.
    /// - Throws: ``FrameError``.
    package init(_ parts: [Payload]) throws(FrameError) {
        guard parts.count >= 2 else { throw FrameError("a dispatch of \(parts.count) parts") }
        let header = try ExchangeHeader(parts[0])
        guard header.kind == .dispatch else { throw FrameError("not a dispatch") }
        let counts = (header.subtreeCount * 2, header.rowCount + 1, header.entryCount)
        guard parts[1].byteCount == (counts.0 + counts.1 + 2 * counts.2) * 4 else {
            throw FrameError("the routing has \(parts[1].byteCount) bytes, not what the header says")
        }
        let layout = RowParts(rowByteCount: header.width * header.compute.byteCount)
        guard layout.fits(parts[2...], rows: header.rowCount) else {
            throw FrameError("the token rows are not what the header says")
        }
        guard parts[1...].checksum == header.checksum else { throw FrameError("checksum mismatch") }
        let words = parts[1].withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map { Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self)) }
        }
        subtrees = try Self.subtrees(words[..<counts.0])
        var assignment = ExpertAssignment()
        assignment.rowStarts = Array(words[counts.0..<counts.0 + counts.1])
        assignment.experts = Array(words[(counts.0 + counts.1)...].prefix(counts.2))
        assignment.weights = words.suffix(counts.2).map { Float(bitPattern: UInt32(bitPattern: $0)) }
        try Self.check(assignment, subtrees, entryCount: counts.2)
        self.assignment = assignment
        topic = header.topic
        request = header.request
        compute = header.compute
        width = header.width
        tokens = Array(parts[2...])
    }

    private static func subtrees(_ words: ArraySlice<Int32>) throws(FrameError) -> [ExpertSubtree] {
        var result: [ExpertSubtree] = []
        for at in stride(from: words.startIndex, to: words.endIndex, by: 2) {
            let (first, size) = (Int(words[at]), Int(words[at + 1]))
            guard first >= 0, size > 0, size & (size - 1) == 0, first % size == 0, size <= 1 << 20,
                first >= (result.last.map { $0.first + $0.size } ?? 0)
            else { throw FrameError("subtree \(first)+\(size) is not aligned or out of order") }
            result.append(ExpertSubtree(first: first, size: size))
        }
        return result
    }

    private static func check(
        _ assignment: ExpertAssignment, _ subtrees: [ExpertSubtree], entryCount: Int
    ) throws(FrameError) {
        guard assignment.rowStarts.first == 0, Int(assignment.rowStarts.last!) == entryCount,
            zip(assignment.rowStarts, assignment.rowStarts.dropFirst()).allSatisfy({ $0 <= $1 })
        else { throw FrameError("row starts are not ascending") }
        for row in 0..<assignment.rowCount {
            var previous = -1
            for entry in assignment.entries(of: row) {
                let expert = Int(assignment.experts[entry])
                guard expert > previous, assignment.weights[entry].isFinite,
                    let subtree = subtrees.last(where: { $0.first <= expert }), expert < subtree.first + subtree.size
                else { throw FrameError("row \(row): expert \(expert) is out of order or in no subtree") }
                previous = expert
            }
        }
    }
}

/// An owner's answer: sums in the order of (row, touched subtree).
package struct Combine: Sendable {
    package let topic: ExchangeTopic
    package let request: UInt64
    package let status: CombineStatus
    package let rowCount: Int
    package let width: Int
    package let sums: [Payload]

    package init(_ parts: [Payload]) throws(FrameError) {
        guard let first = parts.first else { throw FrameError("an empty message") }
        let header = try ExchangeHeader(first)
        guard header.kind == .combine else { throw FrameError("not a combine") }
        guard RowParts(rowByteCount: header.width * 4).fits(parts[1...], rows: header.rowCount) else {
            throw FrameError("the sum rows are not what the header says")
        }
        guard parts[1...].checksum == header.checksum else { throw FrameError("checksum mismatch") }
        topic = header.topic
        request = header.request
        status = header.status
        rowCount = header.rowCount
        width = header.width
        sums = Array(parts[1...])
    }

    /// The parts of an answer to `dispatch`.
    package static func encode(
        _ dispatch: Dispatch, status: CombineStatus, sums: [Payload], rowCount: Int
    ) -> [Payload] {
        var header = ExchangeHeader(
            kind: .combine, status: status, compute: dispatch.compute, topic: dispatch.topic, request: dispatch.request,
            rowCount: rowCount, width: dispatch.width)
        header.checksum = sums.checksum
        return [header.encode()] + sums
    }

    /// Copies row `index` to `target`, `[width]`.
    package func copyRow(_ index: Int, to target: UnsafeMutablePointer<Float>) {
        let layout = RowParts(rowByteCount: width * 4)
        sums[index / layout.rowsPerPart].withUnsafeBytes { bytes in
            let source = bytes.baseAddress! + index % layout.rowsPerPart * layout.rowByteCount
            UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: layout.rowByteCount)
        }
    }

    /// Whether a frame is an answer (and not a dispatch), told by its header alone.
    package static func isCombine(_ parts: [Payload]) -> Bool {
        guard let first = parts.first, let header = try? ExchangeHeader(first) else { return false }
        return header.kind == .combine
    }
}
