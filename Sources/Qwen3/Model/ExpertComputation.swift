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
        ExpertTree.combine(
            assignment, subtrees, order, y, width: width, scales: true, on: pool, priority, emit)
    }

    private func run(
        _ active: [(range: Range<Int>, weights: SwiGLUWeights)], slabs: (SwiGLUWeights) -> Int,
        _ priority: ComputePool.Priority, _ body: ((range: Range<Int>, weights: SwiGLUWeights), Int) -> Void
    ) {
        guard let first = active.first else { return }
        let each = slabs(first.weights)  // all experts of a model have one shape
        pool.parallel(active.count * each, priority: priority) { task in body(active[task / each], task % each) }
    }
}
