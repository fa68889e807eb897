// SPDX-License-Identifier: Apache-2.0
internal import ClusterTransport
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

/// A dispatch that waits for the server, decoded and with the shape of its answer worked out.
struct QueuedDispatch {
    struct Key: Hashable {
        let source: PeerIdentity
        let request: UInt64
    }

    enum Verdict {
        case fine
        case notHeld
        case refused(String)
    }

    let source: PeerIdentity
    let dispatch: Dispatch
    /// For each row of the answer the expert with which its sum begins.
    let headExperts: [Int32]
    /// For each token row the place of its first sum in the answer, and their number at the end.
    let headStarts: [Int]

    init(source: PeerIdentity, _ dispatch: Dispatch) {
        self.source = source
        self.dispatch = dispatch
        let (assignment, subtrees) = (dispatch.assignment, dispatch.subtrees)
        var experts: [Int32] = []
        var starts = [0]
        for row in 0..<assignment.rowCount {
            var end = -1
            var subtree = 0
            for entry in assignment.entries(of: row) where Int(assignment.experts[entry]) >= end {
                let expert = Int(assignment.experts[entry])
                while subtrees[subtree].first + subtrees[subtree].size <= expert { subtree += 1 }
                end = subtrees[subtree].first + subtrees[subtree].size
                experts.append(Int32(expert))
            }
            starts.append(experts.count)
        }
        headExperts = experts
        headStarts = starts
    }

    var key: Key { Key(source: source, request: dispatch.request) }
    var isBackward: Bool { dispatch.backward != nil }

    /// Computes a backward dispatch alone.
    /// - Throws: ``MemoryError``.
    func runBackward(
        _ computation: ExpertBackward, _ weights: ExpertWeights, width: Int
    ) throws -> (EncodedAnswer, ExpertContribution) {
        let sums = SumRows(rowCount: headExperts.count, width: width)
        var entryGradients = [Float](repeating: 0, count: dispatch.assignment.experts.count)
        let contribution = try dispatch.withRows { rows in
            try dispatch.withGradientRows { gradients in
                try computation.run(
                    weights: weights, rows: rows, outputGradients: gradients, assignment: dispatch.assignment,
                    subtrees: { _ in dispatch.subtrees }, weightGradients: &entryGradients
                ) { row, subtree, sum in
                    let place = (headStarts[row]..<headStarts[row + 1]).first {
                        Int(headExperts[$0]) >= subtree.first
                    }!
                    sums.row(place).update(from: sum, count: width)
                }
            }
        }
        let parts = Combine.encode(
            dispatch, status: .ok, sums: sums.payloads(), rowCount: headExperts.count, entryGradients: entryGradients)
        return (EncodedAnswer(peer: source, parts: parts), contribution)
    }

    /// Whether the experts here can answer.
    func check(_ shape: ExpertShape, _ weights: ExpertWeights) -> Verdict {
        guard dispatch.width == shape.hiddenSize, dispatch.compute == shape.compute else {
            return .refused(
                "rows of \(dispatch.width) \(dispatch.compute), the model has \(shape.hiddenSize) "
                    + "\(shape.compute)"
            )
        }
        guard headExperts.count * shape.hiddenSize * 4 <= ExchangeLimits.messageByteCount,
            headExperts.count <= ExchangeLimits.rowCount
        else {
            return .refused("an answer of \(headExperts.count) rows is beyond the limit; send less at a time")
        }
        // The source's router says so before it asks: this is one that does not look.
        guard dispatch.assignment.weights.allSatisfy(\.isFinite) else {
            return .refused("a router's weight is not finite: the model's values are none there")
        }
        for expert in dispatch.assignment.experts {
            guard expert < weights.experts.count else {
                return .refused("expert \(expert) of a model that has \(weights.experts.count)")
            }
            if weights.experts[Int(expert)] == nil { return .notHeld }
        }
        return .fine
    }
}

/// Several dispatches about the same layer as one computation.
struct ServedBatch {
    /// Most token rows of one computation: bounds its working memory.
    static let rowCountMax = 8192

    private let items: [QueuedDispatch]
    private let width: Int
    private let sums: [SumRows]
    /// For each row of the computation its dispatch and its row there.
    private let origins: [(item: Int, row: Int)]

    init(_ items: [QueuedDispatch], width: Int) {
        self.items = items
        self.width = width
        sums = items.map { SumRows(rowCount: $0.headExperts.count, width: width) }
        origins = items.indices.flatMap { item in
            (0..<items[item].dispatch.assignment.rowCount).map { (item, $0) }
        }
    }

    var rowCount: Int { origins.count }

    /// - Throws: ``MemoryError``.
    func run(_ computation: ExpertComputation, _ weights: ExpertWeights) throws {
        var assignment = ExpertAssignment()
        for item in items {
            let part = item.dispatch.assignment
            let base = Int32(assignment.experts.count)
            assignment.rowStarts += part.rowStarts.dropFirst().map { $0 + base }
            assignment.experts += part.experts
            assignment.weights += part.weights
        }
        let rows = items.flatMap { $0.dispatch.withRows { $0 } }
        // A payload's bytes never move; they stay as long as `items` holds the payloads.
        try withExtendedLifetime(items) {
            try computation.run(
                weights: weights, rows: rows, assignment: assignment,
                subtrees: { items[origins[$0].item].dispatch.subtrees }, priority: .serving
            ) { row, subtree, sum in
                let (item, local) = origins[row]
                let starts = items[item].headStarts
                let place = (starts[local]..<starts[local + 1]).first {
                    Int(items[item].headExperts[$0]) >= subtree.first
                }!
                sums[item].row(place).update(from: sum, count: width)
            }
        }
    }

    /// The answers, after ``run(_:_:)``.
    func answers() -> [EncodedAnswer] {
        items.indices.map { index in
            let (item, sums) = (items[index], sums[index])
            return EncodedAnswer(
                peer: item.source,
                parts: Combine.encode(
                    item.dispatch, status: .ok, sums: sums.payloads(), rowCount: item.headExperts.count))
        }
    }
}

/// Sum rows `[rows, C]`, fp32, written by the kernels and lent to the transport without a copy.
private final class SumRows: @unchecked Sendable {
    // @unchecked: written before the first payload is made, and only read from then on.
    private let base: UnsafeMutableRawPointer
    private let rowCount: Int
    private let rowByteCount: Int

    init(rowCount: Int, width: Int) {
        self.rowCount = rowCount
        rowByteCount = width * 4
        base = UnsafeMutableRawPointer.allocate(byteCount: max(64, rowCount * rowByteCount), alignment: 64)
    }

    deinit { base.deallocate() }

    func row(_ index: Int) -> UnsafeMutablePointer<Float> {
        (base + index * rowByteCount).assumingMemoryBound(to: Float.self)
    }

    func payloads() -> [Payload] {
        let layout = RowParts(rowByteCount: rowByteCount)
        return (0..<layout.partCount(rowCount)).map { part in
            let first = part * layout.rowsPerPart
            let count = min(layout.rowsPerPart, rowCount - first)
            return Payload(
                lending: UnsafeRawBufferPointer(
                    start: base + first * rowByteCount, count: count * rowByteCount),
                owner: self)
        }
    }
}
