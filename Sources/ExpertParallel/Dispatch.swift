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
    /// What a backward pass sends besides; nil in a forward pass.
    package let backward: BackwardShare?

    package init(
        topic: ExchangeTopic, request: UInt64, compute: ComputeType, width: Int, subtrees: [ExpertSubtree],
        assignment: ExpertAssignment, tokens: [Payload], backward: BackwardShare? = nil
    ) {
        self.backward = backward
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
        try withRows(of: tokens, body)
    }

    /// The same for the rows of the output's gradient in a backward dispatch.
    package func withGradientRows<R>(_ body: ([UnsafeRawPointer]) throws -> R) rethrows -> R {
        try withRows(of: backward?.gradients ?? [], body)
    }

    private func withRows<R>(of tokens: [Payload], _ body: ([UnsafeRawPointer]) throws -> R) rethrows -> R {
        let layout = RowParts(rowByteCount: width * compute.byteCount)
        func collect(_ part: Int, _ rows: [UnsafeRawPointer]) throws -> R {
            if part == tokens.count { return try body(rows) }
            return try tokens[part].withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in
                let count = bytes.count / layout.rowByteCount
                return try collect(
                    part + 1, rows + (0..<count).map { bytes.baseAddress! + $0 * layout.rowByteCount })
            }
        }
        return try collect(0, [])
    }

    // MARK: - Wire

    /// The message's parts.
    package func encode() -> [Payload] {
        var header = ExchangeHeader(
            kind: backward == nil ? .dispatch : .backward, compute: compute, topic: topic, request: request,
            rowCount: assignment.rowCount, width: width)
        header.cell = backward?.cell ?? 0
        header.trainingEpoch = backward?.trainingEpoch ?? 0
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
        put(backward?.rowNumbers ?? [])
        return header.encode(before: [Payload(routing)] + tokens + (backward?.gradients ?? []))
    }

    /// Reads a dispatch that a peer sent.
    /// - Throws: ``FrameError``.
    package init(_ parts: [Payload]) throws(FrameError) {
        guard parts.count >= 2 else { throw FrameError("a dispatch of \(parts.count) parts") }
        let header = try ExchangeHeader(parts[0])
        guard header.kind == .dispatch || header.kind == .backward else { throw FrameError("not a dispatch") }
        let isBackward = header.kind == .backward
        let counts = (header.subtreeCount * 2, header.rowCount + 1, header.entryCount)
        let numberCount = isBackward ? header.rowCount : 0
        guard parts[1].byteCount == (counts.0 + counts.1 + 2 * counts.2 + numberCount) * 4 else {
            throw FrameError("the routing has \(parts[1].byteCount) bytes, not what the header says")
        }
        let layout = RowParts(rowByteCount: header.width * header.compute.byteCount)
        let partCount = layout.partCount(header.rowCount)
        let rows = parts[2...]
        guard rows.count == partCount * (isBackward ? 2 : 1),
            layout.fits(rows.prefix(partCount), rows: header.rowCount),
            !isBackward || layout.fits(ArraySlice(rows.suffix(partCount)), rows: header.rowCount)
        else { throw FrameError("the token rows are not what the header says") }
        guard ExchangeHeader.isIntact(parts) else { throw FrameError("checksum mismatch") }
        let words = parts[1].withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map {
                Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self))
            }
        }
        subtrees = try Self.subtrees(words[..<counts.0])
        var assignment = ExpertAssignment()
        assignment.rowStarts = Array(words[counts.0..<counts.0 + counts.1])
        assignment.experts = Array(words[(counts.0 + counts.1)...].prefix(counts.2))
        assignment.weights = words[(counts.0 + counts.1 + counts.2)...].prefix(counts.2).map {
            Float(bitPattern: UInt32(bitPattern: $0))
        }
        try Self.check(assignment, subtrees, entryCount: counts.2)
        self.assignment = assignment
        topic = header.topic
        request = header.request
        compute = header.compute
        width = header.width
        tokens = Array(rows.prefix(partCount))
        backward =
            isBackward
            ? BackwardShare(
                trainingEpoch: header.trainingEpoch, cell: header.cell,
                rowNumbers: Array(words.suffix(numberCount)), gradients: Array(rows.suffix(partCount))) : nil
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
            var place = 0
            for entry in assignment.entries(of: row) {
                let expert = Int(assignment.experts[entry])
                while place < subtrees.count, subtrees[place].first + subtrees[place].size <= expert {
                    place += 1
                }
                guard expert > previous, place < subtrees.count, subtrees[place].first <= expert else {
                    throw FrameError("row \(row): expert \(expert) is out of order or in no subtree")
                }
                previous = expert
            }
        }
    }
}

/// What a backward dispatch carries besides the rows of the forward pass.
package struct BackwardShare: Sendable {
    package let trainingEpoch: UInt32
    package let cell: UInt32
    /// For each row its number in the cell, ascending.
    package let rowNumbers: [Int32]
    /// Rows of the gradient of the combined output, as the token rows.
    package let gradients: [Payload]

    package init(trainingEpoch: UInt32, cell: UInt32, rowNumbers: [Int32], gradients: [Payload]) {
        self.trainingEpoch = trainingEpoch
        self.cell = cell
        self.rowNumbers = rowNumbers
        self.gradients = gradients
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
    /// Of a backward pass: the gradient of each entry's router weight.
    package let entryGradients: [Float]
    /// Why there are no sums, where the owner says so.
    package let reason: String

    package init(_ parts: [Payload]) throws(FrameError) {
        guard let first = parts.first else { throw FrameError("an empty message") }
        let header = try ExchangeHeader(first)
        guard header.kind == .combine || header.kind == .backwardCombine else { throw FrameError("not a combine") }
        var rows = parts[1...]
        if header.kind == .backwardCombine, header.status == .ok {
            guard let entries = rows.popFirst(), entries.byteCount == header.entryCount * 4 else {
                throw FrameError("the gradients of the router weights are not what the header says")
            }
            entryGradients = entries.withUnsafeBytes { bytes in
                (0..<header.entryCount).map {
                    Float(
                        bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)))
                }
            }
        } else {
            entryGradients = []
        }
        var text: Payload?
        if header.status == .failed, header.rowCount == 0, rows.count == 1 {
            text = rows.popFirst()
            guard text!.byteCount <= ExchangeLimits.reasonByteCount else { throw FrameError("a reason too long") }
        }
        guard RowParts(rowByteCount: header.width * 4).fits(rows, rows: header.rowCount) else {
            throw FrameError("the sum rows are not what the header says")
        }
        guard ExchangeHeader.isIntact(parts) else { throw FrameError("checksum mismatch") }
        reason = text.map { String(decoding: $0.bytes, as: UTF8.self) } ?? ""
        topic = header.topic
        request = header.request
        status = header.status
        rowCount = header.rowCount
        width = header.width
        sums = Array(rows)
    }

    /// The parts of an answer that says why there is none.
    package static func failed(_ dispatch: Dispatch, _ reason: String) -> [Payload] {
        let text = Payload(Array(reason.utf8.prefix(ExchangeLimits.reasonByteCount)))
        return encode(dispatch, status: .failed, sums: [text], rowCount: 0)
    }

    /// The parts of an answer to `dispatch`.
    package static func encode(
        _ dispatch: Dispatch, status: CombineStatus, sums: [Payload], rowCount: Int, entryGradients: [Float] = []
    ) -> [Payload] {
        let isBackward = dispatch.backward != nil
        var header = ExchangeHeader(
            kind: isBackward ? .backwardCombine : .combine, status: status, compute: dispatch.compute,
            topic: dispatch.topic,
            request: dispatch.request,
            rowCount: rowCount, width: dispatch.width)
        var rest = sums
        if isBackward, status == .ok {
            header.entryCount = entryGradients.count
            rest.insert(
                Payload(
                    byteCount: entryGradients.count * 4,
                    fill: { target in
                        for (index, value) in entryGradients.enumerated() {
                            target.storeBytes(
                                of: value.bitPattern.littleEndian, toByteOffset: index * 4, as: UInt32.self)
                        }
                    }), at: 0)
        }
        return header.encode(before: rest)
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
        return header.kind == .combine || header.kind == .backwardCombine
    }
}
