// SPDX-License-Identifier: Apache-2.0
//
// The experts of one layer over gathered rows: rows are sorted by (expert, row), each expert streams its weights once
// over all its rows as (expert, output slab) tasks, gate, up and SiLU fused; then each row's outputs are scaled by
// their router weights (one rounding each) and added along the expert tree up to the maximal owned subtrees.
internal import CKernels
internal import Glibc
package import RuntimeSupport
package import Tensors

/// Computes owned experts for rows that may come from several sources. Keeps its buffers between calls; one call at
/// a time.
package final class ExpertComputation {
    private let compute: ComputeType
    private let hiddenSize: Int
    private let intermediateSize: Int
    private let pool: ComputePool
    private var gathered: ScratchBuffer
    private var activations: ScratchBuffer
    private var outputs: ScratchBuffer

    package init(compute: ComputeType, hiddenSize: Int, intermediateSize: Int, pool: ComputePool) {
        self.compute = compute
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
        self.pool = pool
        gathered = ScratchBuffer()
        activations = ScratchBuffer()
        outputs = ScratchBuffer()
    }

    /// For each row and each subtree that it touches, one fp32 row `[C]`: the sum of weight × expert(x) over the row's
    /// experts in the subtree.
    ///
    /// - Parameters:
    ///   - rows: pointer to each row's input, `[C]` of the compute type.
    ///   - assignment: only experts that `weights` holds may appear.
    ///   - subtrees: for a row, the ascending disjoint subtrees that its source wants sums of; they cover its experts.
    ///   - emit: called once per (row, subtree), possibly on several threads at once, with the finished sum.
    /// - Throws: ``MemoryError``.
    package func run(
        weights: ExpertWeights, rows: [UnsafeRawPointer], assignment: ExpertAssignment,
        subtrees: (_ row: Int) -> [ExpertSubtree], priority: ComputePool.Priority,
        emit: (_ row: Int, _ subtree: ExpertSubtree, UnsafePointer<Float>) -> Void
    ) throws(MemoryError) {
        let order = ExpertOrder(assignment, expertCount: weights.experts.count)
        let width = hiddenSize
        let x = try gathered.reserve(order.count * width * compute.byteCount)
        let act = try activations.reserve(order.count * intermediateSize * compute.byteCount)
        let y = try outputs.reserve(order.count * width * 4).assumingMemoryBound(to: Float.self)
        let rowBytes = width * compute.byteCount
        pool.parallel((order.count + 15) / 16, priority: priority) { block in
            for place in block * 16..<min(order.count, block * 16 + 16) {
                memcpy(x + place * rowBytes, rows[order.rowOfPlace[place]], rowBytes)
            }
        }
        let active = order.active.map { (range: order.places(of: $0), weights: weights.experts[$0]!) }
        let actBytes = intermediateSize * compute.byteCount
        run(active, slabs: { $0.gate.slabCount * 2 }, priority) { entry, index in
            // Gate and up together move twice the bytes of a slab, so each task takes half of one.
            let gate = entry.weights.gate
            let half = max(16, gate.slabRowCount / 2 / 16 * 16)
            let first = index * half
            if first >= gate.outputCount { return }
            let base = entry.range.lowerBound
            ck_swiglu(
                compute.kernelValue, gate.pointer, entry.weights.up.pointer, Int64(gate.outputCount),
                Int64(gate.inputCount), x + base * rowBytes, Int64(width), Int64(entry.range.count),
                act + base * actBytes, Int64(intermediateSize), Int64(first),
                Int64(min(gate.outputCount, first + half)))
        }
        run(active, slabs: { $0.down.slabCount }, priority) { entry, index in
            let down = entry.weights.down
            let base = entry.range.lowerBound
            down.multiply(
                act + base * actBytes, xStride: intermediateSize, rowCount: entry.range.count, into: y + base * width,
                yStride: width, outputs: down.slab(index))
        }
        combine(assignment, subtrees, order, y, priority, emit)
    }

    private func run(
        _ active: [(range: Range<Int>, weights: SwiGLUWeights)], slabs: (SwiGLUWeights) -> Int,
        _ priority: ComputePool.Priority, _ body: ((range: Range<Int>, weights: SwiGLUWeights), Int) -> Void
    ) {
        guard let first = active.first else { return }
        let each = slabs(first.weights)  // all experts of a model have one shape
        pool.parallel(active.count * each, priority: priority) { task in body(active[task / each], task % each) }
    }

    private func combine(
        _ assignment: ExpertAssignment, _ subtrees: (Int) -> [ExpertSubtree], _ order: ExpertOrder,
        _ y: UnsafeMutablePointer<Float>, _ priority: ComputePool.Priority,
        _ emit: (Int, ExpertSubtree, UnsafePointer<Float>) -> Void
    ) {
        let width = hiddenSize
        pool.parallel(assignment.rowCount, priority: priority) { row in
            let entries = assignment.entries(of: row)
            let wanted = subtrees(row)
            withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<Float>.self, capacity: max(1, entries.count)) {
                leaves in
                for (slot, entry) in entries.enumerated() {
                    leaves[slot] = y + order.placeOfEntry[entry] * width
                    ck_scale(leaves[slot], assignment.weights[entry], Int64(width), leaves[slot])
                }
                assignment.experts.withUnsafeBufferPointer { experts in
                    var from = entries.lowerBound
                    while from < entries.upperBound {
                        let subtree = wanted.last { $0.first <= Int(experts[from]) }!
                        var to = from + 1
                        while to < entries.upperBound, Int(experts[to]) < subtree.first + subtree.size { to += 1 }
                        let local = from - entries.lowerBound
                        ExpertTree.sum(
                            positions: UnsafeBufferPointer(rebasing: experts[from..<to]),
                            rows: UnsafeBufferPointer(rebasing: leaves[local..<local + to - from]), width: width)
                        emit(row, subtree, leaves[local])
                        from = to
                    }
                }
            }
        }
    }
}

/// Assignment entries sorted by (expert, row): a counting sort.
private struct ExpertOrder {
    /// For each place in sorted order, the row it gathers.
    let rowOfPlace: [Int]
    /// For each assignment entry, its place.
    let placeOfEntry: [Int]
    /// Experts with at least one row, ascending.
    let active: [Int]
    private let starts: [Int]

    var count: Int { rowOfPlace.count }

    init(_ assignment: ExpertAssignment, expertCount: Int) {
        var starts = [Int](repeating: 0, count: expertCount + 1)
        for expert in assignment.experts { starts[Int(expert) + 1] += 1 }
        for expert in 0..<expertCount { starts[expert + 1] += starts[expert] }
        self.starts = starts
        active = (0..<expertCount).filter { starts[$0 + 1] > starts[$0] }
        var next = starts
        var rowOfPlace = [Int](repeating: 0, count: assignment.experts.count)
        var placeOfEntry = rowOfPlace
        for row in 0..<assignment.rowCount {
            for entry in assignment.entries(of: row) {
                let expert = Int(assignment.experts[entry])
                rowOfPlace[next[expert]] = row
                placeOfEntry[entry] = next[expert]
                next[expert] += 1
            }
        }
        self.rowOfPlace = rowOfPlace
        self.placeOfEntry = placeOfEntry
    }

    func places(of expert: Int) -> Range<Int> { starts[expert]..<starts[expert + 1] }
}
