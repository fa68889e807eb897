// SPDX-License-Identifier: Apache-2.0
//
// The gradients of the experts that live here. Contributions of all cells of a wave are folded together, layer by
// layer: rows sorted by (cell, row), cut into blocks of fixed size, each block's product added to the one accumulator.
// So neither who sent a row nor when it came shows in a bit.
internal import Checkpoints
internal import Glibc
package import RuntimeSupport
package import Tensors

/// Accumulators, fp32, one flat vector per expert and layer in the order of ``ParameterLayout/expert(of:layer:expert:)``.
package final class ExpertGradients {
    /// Rows of one product of the fold.
    package static let foldRows = 256

    private let compute: ComputeType
    private let hiddenSize: Int
    private let intermediateSize: Int
    private let products: GradientProducts
    private var accumulators: [ExpertID: PageBuffer] = [:]
    private var pending: [Int: [Delivery]] = [:]
    /// Of each layer the first cell that was not folded yet.
    private var firstOpenCell: [Int: Int] = [:]
    private var scratch = ScratchBuffer()

    /// An expert of a layer.
    package struct ExpertID: Hashable, Sendable, Comparable {
        package let layer: Int
        package let expert: Int

        package init(layer: Int, expert: Int) {
            self.layer = layer
            self.expert = expert
        }

        package static func < (a: Self, b: Self) -> Bool { (a.layer, a.expert) < (b.layer, b.expert) }
    }

    /// What one dispatch of one cell delivered.
    package struct Delivery: Sendable {
        fileprivate let cell: Int
        /// For each row of the contribution its row in the cell.
        fileprivate let rows: [Int32]
        fileprivate let contribution: ExpertContribution
    }

    package init(compute: ComputeType, hiddenSize: Int, intermediateSize: Int, pool: ComputePool) {
        self.compute = compute
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
        products = GradientProducts(compute: compute, pool: pool)
    }

    /// Elements of one expert's gradient.
    package var elementCount: Int { 3 * hiddenSize * intermediateSize }

    /// Owned experts, ascending.
    package var owned: [ExpertID] { accumulators.keys.sorted() }

    /// Takes an expert under care, with gradient zero.
    /// - Throws: ``MemoryError``.
    package func own(_ id: ExpertID) throws(MemoryError) {
        accumulators[id] = try PageBuffer(byteCount: elementCount * 4)
    }

    package func disown(_ id: ExpertID) { accumulators[id] = nil }

    /// The gradient folded so far, `[elementCount]`; nil where the expert is not owned.
    package func gradient(_ id: ExpertID) -> UnsafeMutablePointer<Float>? { accumulators[id]?.floats() }

    /// Begins a step: gradients zero, nothing pending.
    package func reset() {
        pending.removeAll()
        firstOpenCell.removeAll()
        for buffer in accumulators.values { memset(buffer.base, 0, buffer.byteCount) }
    }

    /// Bytes of accumulators and of what waits for its wave.
    package var residentByteCount: Int {
        accumulators.values.reduce(0) { $0 + $1.byteCount }
            + pending.values.joined().reduce(0) { $0 + $1.contribution.byteCount }
    }

    /// Keeps what one dispatch delivered until its wave is folded. What was folded is complete: a repeat that comes later
    /// is dropped.
    package func deliver(layer: Int, cell: Int, rows: [Int32], _ contribution: ExpertContribution) {
        guard cell >= firstOpenCell[layer, default: 0] else { return }
        pending[layer, default: []].append(Delivery(cell: cell, rows: rows, contribution: contribution))
    }

    /// Folds what cells below `end` delivered for `layer`. Once per wave, in the order of waves, after all members have
    /// finished the wave; what a faster member already delivered for the next wave keeps waiting.
    /// - Throws: ``MemoryError``.
    package func fold(layer: Int, cellsBelow end: Int) throws(MemoryError) {
        try fold(layer: layer, take(layer: layer, cellsBelow: end))
    }

    /// The first half of ``fold(layer:cellsBelow:)``, which takes no time: what ``fold(layer:_:)`` is to fold. The second
    /// half touches accumulators alone, so deliveries may come meanwhile.
    package func take(layer: Int, cellsBelow end: Int) -> [Delivery] {
        firstOpenCell[layer] = max(end, firstOpenCell[layer, default: 0])
        guard var deliveries = pending.removeValue(forKey: layer) else { return [] }
        let later = deliveries.filter { $0.cell >= end }
        if !later.isEmpty { pending[layer] = later }
        deliveries.removeAll { $0.cell >= end }
        return deliveries
    }

    /// - Throws: ``MemoryError``.
    package func fold(layer: Int, _ deliveries: [Delivery]) throws(MemoryError) {
        for id in owned where id.layer == layer {
            var places: [(cell: Int, row: Int32, delivery: Int, place: Int)] = []
            for (index, delivery) in deliveries.enumerated() {
                for place in delivery.contribution.order.places(of: id.expert) {
                    let row = delivery.rows[delivery.contribution.order.rowOfPlace[place]]
                    places.append((delivery.cell, row, index, place))
                }
            }
            places.sort { ($0.cell, $0.row) < ($1.cell, $1.row) }
            // Attempts that were cut in other ways may overlap: a row of an expert counts once. Its values are the same in
            // all of them.
            places = places.indices.filter {
                $0 == 0 || (places[$0].cell, places[$0].row) != (places[$0 - 1].cell, places[$0 - 1].row)
            }.map { places[$0] }
            for first in stride(from: 0, to: places.count, by: Self.foldRows) {
                let block = places[first..<min(places.count, first + Self.foldRows)]
                try add(block.map { (deliveries[$0.delivery].contribution, $0.place) }, to: accumulators[id]!.floats())
            }
        }
    }

    private func add(
        _ rows: [(contribution: ExpertContribution, place: Int)], to gradient: UnsafeMutablePointer<Float>
    ) throws(MemoryError) {
        let (width, inner, bytes) = (hiddenSize, intermediateSize, compute.byteCount)
        let sizes = [width * bytes, inner * bytes, inner * 4, inner * 4, width * 4]
        let base = try scratch.reserve(Self.foldRows * sizes.reduce(0, +) + 64 * sizes.count)
        var starts: [UnsafeMutableRawPointer] = []
        var offset = 0
        for size in sizes {
            starts.append(base + offset)
            offset += (size * Self.foldRows + 63) / 64 * 64
        }
        for (row, (c, place)) in rows.enumerated() {
            memcpy(starts[0] + row * sizes[0], c.inputs + place * sizes[0], sizes[0])
            memcpy(starts[1] + row * sizes[1], c.activations + place * sizes[1], sizes[1])
            memcpy(starts[2] + row * sizes[2], c.gate + place * inner, sizes[2])
            memcpy(starts[3] + row * sizes[3], c.up + place * inner, sizes[3])
            memcpy(starts[4] + row * sizes[4], c.outputGradients + place * width, sizes[4])
        }
        func floats(_ index: Int) -> UnsafePointer<Float> {
            UnsafePointer(starts[index].assumingMemoryBound(to: Float.self))
        }
        let matrix = width * inner
        try products.weightGradient(
            floats(2), outputs: inner, starts[0], inputs: width, rows: rows.count, into: gradient, adds: true)
        try products.weightGradient(
            floats(3), outputs: inner, starts[0], inputs: width, rows: rows.count, into: gradient + matrix, adds: true)
        try products.weightGradient(
            floats(4), outputs: width, starts[1], inputs: inner, rows: rows.count, into: gradient + 2 * matrix,
            adds: true)
    }
}
