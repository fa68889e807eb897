// SPDX-License-Identifier: Apache-2.0
//
// The backward pass of the experts of one layer over gathered rows. What one row asks for (its input gradient, the
// gradient of its router weights) depends on that row alone and is answered at once; what adds up over rows (the
// weights' gradients) is kept as a contribution and folded later, in an order that the data fixes.
internal import CKernels
internal import Glibc
package import RuntimeSupport
package import Tensors

/// Computes owned experts backward. Keeps its buffers between calls; one call at a time.
package final class ExpertBackward {
    private let compute: ComputeType
    private let hiddenSize: Int
    private let intermediateSize: Int
    private let pool: ComputePool
    private let priority: ComputePool.Priority
    private let products: GradientProducts
    private let free = BufferPool()
    private var inputGradients = ScratchBuffer()
    private var activationGradients = ScratchBuffer()

    package init(
        compute: ComputeType, hiddenSize: Int, intermediateSize: Int, pool: ComputePool,
        priority: ComputePool.Priority = .local
    ) {
        self.compute = compute
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
        self.pool = pool
        self.priority = priority
        products = GradientProducts(compute: compute, pool: pool, priority: priority)
    }

    /// - Parameters:
    ///   - rows: pointer to each row's input, `[C]` of the compute type, as in the forward pass.
    ///   - outputGradients: pointer to each row's gradient of the combined output, `[C]` of the compute type.
    ///   - weightGradients: one per entry of `assignment`, written: the gradient of its router weight.
    ///   - emit: once per (row, subtree), possibly on several threads at once, the input gradient `[C]` summed over the
    ///     row's experts in the subtree.
    /// - Returns: what the weights' gradients need of these rows.
    /// - Throws: ``MemoryError``.
    package func run(
        weights: ExpertWeights, rows: [UnsafeRawPointer], outputGradients: [UnsafeRawPointer],
        assignment: ExpertAssignment, subtrees: (_ row: Int) -> [ExpertSubtree],
        weightGradients: UnsafeMutablePointer<Float>,
        emit: (_ row: Int, _ subtree: ExpertSubtree, UnsafePointer<Float>) -> Void
    ) throws(MemoryError) -> ExpertContribution {
        let order = ExpertOrder(assignment, expertCount: weights.experts.count)
        let contribution = try ExpertContribution(
            order, compute: compute, hiddenSize: hiddenSize, intermediateSize: intermediateSize, from: free)
        let dx = try inputGradients.reserve(order.count * hiddenSize * 4).assumingMemoryBound(to: Float.self)
        gather(rows, outputGradients, order, contribution)
        for expert in order.active {
            try backward(weights.experts[expert]!, order.places(of: expert), assignment, order, contribution, dx)
        }
        for entry in assignment.experts.indices {
            weightGradients[entry] = contribution.routerGradients[order.placeOfEntry[entry]]
        }
        scaleOutputGradients(assignment, order, contribution)
        ExpertTree.combine(
            assignment, subtrees, order, dx, width: hiddenSize, scales: false, on: pool, priority, emit)
        return contribution
    }

    private func gather(
        _ rows: [UnsafeRawPointer], _ gradients: [UnsafeRawPointer], _ order: ExpertOrder, _ c: ExpertContribution
    ) {
        let rowBytes = hiddenSize * compute.byteCount
        pool.parallel((order.count + 15) / 16, priority: priority) { block in
            for place in block * 16..<min(order.count, block * 16 + 16) {
                let row = order.rowOfPlace[place]
                memcpy(c.inputs + place * rowBytes, rows[row], rowBytes)
                memcpy(c.narrowGradients + place * rowBytes, gradients[row], rowBytes)
            }
        }
    }

    private func backward(
        _ weights: SwiGLUWeights, _ places: Range<Int>, _ assignment: ExpertAssignment, _ order: ExpertOrder,
        _ c: ExpertContribution, _ dx: UnsafeMutablePointer<Float>
    ) throws(MemoryError) {
        let (first, count) = (places.lowerBound, places.count)
        let (width, inner) = (hiddenSize, intermediateSize)
        let rowBytes = width * compute.byteCount
        for (matrix, target) in [(weights.gate, c.gate), (weights.up, c.up)] {
            pool.parallel(matrix.slabCount, priority: priority) { slab in
                matrix.multiply(
                    c.inputs + first * rowBytes, xStride: width, rowCount: count, into: target + first * inner,
                    yStride: inner, outputs: matrix.slab(slab))
            }
        }
        let activationGradient = try activationGradients.reserve(count * inner * 4)
            .assumingMemoryBound(to: Float.self)
        try products.inputGradient(
            narrowed: c.narrowGradients + first * rowBytes, weights.down, rows: count, into: activationGradient)
        pool.parallel((count + 3) / 4, priority: priority) { block in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * inner) { scratch in
                let (scaled, wide) = (scratch.baseAddress!, scratch.baseAddress! + inner)
                for row in block * 4..<min(count, block * 4 + 4) {
                    let place = first + row
                    let activation = c.activations + place * inner * compute.byteCount
                    let gradient = activationGradient + row * inner
                    // Of weight * y: the weight's own gradient is the product without it.
                    ck_scale(gradient, order.weight(ofPlace: place, assignment), Int64(inner), scaled)
                    ck_swiglu_backward(
                        compute.kernelValue, c.gate + place * inner, c.up + place * inner, scaled, Int64(inner),
                        activation)
                    var values = UnsafePointer(wide)
                    switch compute {
                    case .fp32: values = UnsafePointer(activation.assumingMemoryBound(to: Float.self))
                    case .bf16:
                        ck_bf16_to_f32(activation.assumingMemoryBound(to: UInt16.self), Int64(inner), wide)
                    }
                    c.routerGradients[place] = ck_dot(gradient, values, Int64(inner))
                }
            }
        }
        let target = dx + first * width
        try products.inputGradient(c.gate + first * inner, weights.gate, rows: count, into: target)
        try products.inputGradient(c.up + first * inner, weights.up, rows: count, into: target, adds: true)
    }

    /// The down projection's weights see weight * dy.
    private func scaleOutputGradients(
        _ assignment: ExpertAssignment, _ order: ExpertOrder, _ c: ExpertContribution
    ) {
        let width = hiddenSize
        pool.parallel((order.count + 15) / 16, priority: priority) { block in
            for place in block * 16..<min(order.count, block * 16 + 16) {
                let target = c.outputGradients + place * width
                let source = c.narrowGradients + place * width * compute.byteCount
                switch compute {
                case .fp32: memcpy(target, source, width * 4)
                case .bf16: ck_bf16_to_f32(source.assumingMemoryBound(to: UInt16.self), Int64(width), target)
                }
                ck_scale(target, order.weight(ofPlace: place, assignment), Int64(width), target)
            }
        }
    }
}

/// What one dispatch leaves for the gradients of the experts' weights: rows sorted by (expert, row).
package final class ExpertContribution: @unchecked Sendable {
    // @unchecked: written by one backward run, then only read.
    let order: ExpertOrder
    let inputs: UnsafeMutableRawPointer  // [n, C], compute type
    let narrowGradients: UnsafeMutableRawPointer  // [n, C], compute type: of the combined output
    let outputGradients: UnsafeMutablePointer<Float>  // [n, C]: times the router weight
    let gate: UnsafeMutablePointer<Float>  // [n, I]: gradients of the pre-activations
    let up: UnsafeMutablePointer<Float>  // [n, I]
    let activations: UnsafeMutableRawPointer  // [n, I], compute type
    let routerGradients: UnsafeMutablePointer<Float>  // [n]
    private let storage: PageBuffer
    private let pool: BufferPool

    fileprivate init(
        _ order: ExpertOrder, compute: ComputeType, hiddenSize: Int, intermediateSize: Int, from pool: BufferPool
    ) throws(MemoryError) {
        self.order = order
        self.pool = pool
        let n = order.count
        let narrow = n * hiddenSize * compute.byteCount
        let sizes = [
            narrow, narrow, n * hiddenSize * 4, n * intermediateSize * 4, n * intermediateSize * 4,
            n * intermediateSize * compute.byteCount, n * 4,
        ].map { ($0 + 63) / 64 * 64 }
        let storage = try pool.take(max(64, sizes.reduce(0, +)))
        self.storage = storage
        var offset = 0
        func take(_ index: Int) -> UnsafeMutableRawPointer {
            defer { offset += sizes[index] }
            return storage.base + offset
        }
        inputs = take(0)
        narrowGradients = take(1)
        outputGradients = take(2).assumingMemoryBound(to: Float.self)
        gate = take(3).assumingMemoryBound(to: Float.self)
        up = take(4).assumingMemoryBound(to: Float.self)
        activations = take(5)
        routerGradients = take(6).assumingMemoryBound(to: Float.self)
    }

    deinit { pool.give(storage) }

    package var byteCount: Int { storage.byteCount }

    /// Experts that rows are of, ascending.
    package var experts: [Int] { order.active }
}

/// Buffers of contributions that were folded, for the next ones: fresh pages cost as much as filling them.
private final class BufferPool: Sendable {
    private let free = Locked<[PageBuffer]>([])

    func take(_ byteCount: Int) throws(MemoryError) -> PageBuffer {
        let found = free.withLock { free -> PageBuffer? in
            guard let index = free.firstIndex(where: { $0.byteCount >= byteCount }) else { return nil }
            return free.remove(at: index)
        }
        if let found { return found }
        // Sizes vary a little from cell to cell.
        return try PageBuffer(byteCount: byteCount + byteCount / 4)
    }

    func give(_ buffer: PageBuffer) {
        free.withLock { free in
            free.append(buffer)
            if free.count > 64 { free.removeFirst() }
        }
    }
}
