// SPDX-License-Identifier: Apache-2.0
//
// The two products behind every linear layer y = x·Wᵀ: dx = dy·W and dW = dyᵀ·x.
//
// dx runs on the forward kernels with the weights packed transposed, so each row's result depends on that row alone,
// whatever it is batched with. dW reduces over rows, whose number and order the caller fixes: under bf16 on the forward
// kernels with both operands transposed (dy rounded, fp32 accumulation), under fp32 on OpenBLAS, single-threaded, on
// blocks of outputs that depend on shapes alone.
internal import CKernels
internal import COpenBLAS
internal import Glibc
package import RuntimeSupport
package import Tensors

/// Working memory and the products. One caller at a time.
package final class GradientProducts {
    package let compute: ComputeType
    package let pool: ComputePool
    private let priority: ComputePool.Priority
    private var transposedWeights = ScratchBuffer()
    private var rounded = ScratchBuffer()
    private var transposedRows = ScratchBuffer()
    private var packedRows = ScratchBuffer()
    private var sums = ScratchBuffer()

    /// Outputs of one weight-gradient task: by shape alone, since OpenBLAS's sums depend on how it is called. Larger
    /// blocks pack the rows less often.
    private static func outputBlock(_ outputs: Int) -> Int { outputs >= 512 ? 256 : 64 }

    /// OpenBLAS threads of its own would compete with the pool's and change how sums are cut. Set once: the call is not
    /// safe beside running products.
    private static let singleThreaded: Void = openblas_set_num_threads(1)

    package init(compute: ComputeType, pool: ComputePool, priority: ComputePool.Priority = .local) {
        self.compute = compute
        self.pool = pool
        self.priority = priority
        Self.singleThreaded
    }

    /// dx[r, i] = Σₒ dy[r, o] · W[o, i], or added to what `dx` holds.
    ///
    /// - Parameters:
    ///   - dy: `[rows, O]`, fp32, rounded to the compute type here.
    ///   - dx: `[rows, I]`, fp32.
    /// - Throws: ``MemoryError``.
    package func inputGradient(
        _ dy: UnsafePointer<Float>, _ weights: PackedMatrix, rows: Int, into dx: UnsafeMutablePointer<Float>,
        adds: Bool = false
    ) throws(MemoryError) {
        try inputGradient(
            narrowed: try narrowed(dy, rows * weights.outputCount), weights, rows: rows, into: dx, adds: adds)
    }

    /// The same for a `dy` of the compute type.
    package func inputGradient(
        narrowed dy: UnsafeRawPointer, _ weights: PackedMatrix, rows: Int, into dx: UnsafeMutablePointer<Float>,
        adds: Bool = false
    ) throws(MemoryError) {
        if rows == 0 { return }
        let (outputs, inputs) = (weights.outputCount, weights.inputCount)
        let storage = try transposedWeights.reserve(PackedMatrix.byteCount(compute, outputs: inputs, inputs: outputs))
        let blocks = (inputs + 15) / 16
        pool.parallel((blocks + 3) / 4, priority: priority) { task in
            ck_repack_transposed(
                compute.kernelValue, weights.pointer, Int64(outputs), Int64(inputs), Int64(task * 64),
                Int64(min(inputs, task * 64 + 64)), storage)
        }
        let target = adds ? try sums.reserve(rows * inputs * 4).assumingMemoryBound(to: Float.self) : dx
        let slab = max(64, min(1024, 262_144 / max(1, outputs * compute.byteCount) / 64 * 64))
        pool.parallel((inputs + slab - 1) / slab, priority: priority) { task in
            ck_linear(
                compute.kernelValue, storage, Int64(inputs), Int64(outputs), dy, Int64(outputs), Int64(rows), target,
                Int64(inputs), Int64(task * slab), Int64(min(inputs, task * slab + slab)))
        }
        if adds { add(target, to: dx, rows * inputs) }
    }

    /// dW[o, i] = Σᵣ dy[r, o] · x[r, i], or added to what `dw` holds.
    ///
    /// - Parameters:
    ///   - dy: `[rows, O]`, fp32, rounded to the compute type here.
    ///   - x: `[rows, I]`, compute type.
    /// - Throws: ``MemoryError``.
    package func weightGradient(
        _ dy: UnsafePointer<Float>, outputs: Int, _ x: UnsafeRawPointer, inputs: Int, rows: Int,
        into dw: UnsafeMutablePointer<Float>, adds: Bool
    ) throws(MemoryError) {
        if rows == 0 {
            if !adds { dw.update(repeating: 0, count: outputs * inputs) }
            return
        }
        let block = Self.outputBlock(outputs)
        let tasks = (outputs + block - 1) / block
        switch compute {
        case .fp32:
            let rowsOfX = x.assumingMemoryBound(to: Float.self)
            pool.parallel(tasks, priority: priority) { task in
                let first = task * block
                cblas_sgemm(
                    CblasRowMajor, CblasTrans, CblasNoTrans, blasint(min(block, outputs - first)), blasint(inputs),
                    blasint(rows), 1, dy + first, blasint(outputs), rowsOfX, blasint(inputs), adds ? 1 : 0,
                    dw + first * inputs, blasint(inputs))
            }
        case .bf16:
            let packed = try packedRows.reserve(PackedMatrix.byteCount(.bf16, outputs: inputs, inputs: rows))
            pool.parallel((inputs + 63) / 64, priority: priority) { task in
                ck_pack_transposed(
                    CK_BF16, CK_STORED_BF16, x, Int64(inputs), Int64(inputs), Int64(rows), Int64(task * 64),
                    Int64(min(inputs, task * 64 + 64)), packed)
            }
            let columns = try transposedRows.reserve(outputs * rows * 2)
            pool.parallel(tasks, priority: priority) { task in
                let first = task * block
                let count = min(block, outputs - first)
                let dyColumns = columns + first * rows * 2
                ck_transpose(
                    CK_BF16, dy + first, Int64(outputs), Int64(rows), Int64(count), dyColumns, Int64(rows))
                let target = dw + first * inputs
                if !adds {
                    return ck_linear(
                        CK_BF16, packed, Int64(inputs), Int64(rows), dyColumns, Int64(rows), Int64(count), target,
                        Int64(inputs), 0, Int64(inputs))
                }
                withUnsafeTemporaryAllocation(of: Float.self, capacity: count * inputs) { sum in
                    ck_linear(
                        CK_BF16, packed, Int64(inputs), Int64(rows), dyColumns, Int64(rows), Int64(count),
                        sum.baseAddress, Int64(inputs), 0, Int64(inputs))
                    ck_add(target, sum.baseAddress, Int64(count * inputs), target)
                }
            }
        }
    }

    /// Working memory for `count` floats, valid until the next product that adds.
    func reserveSum(_ count: Int) throws(MemoryError) -> UnsafeMutablePointer<Float> {
        try sums.reserve(count * 4).assumingMemoryBound(to: Float.self)
    }

    /// x += y.
    package func add(_ y: UnsafePointer<Float>, to x: UnsafeMutablePointer<Float>, _ count: Int) {
        let piece = 16_384
        pool.parallel((count + piece - 1) / piece, priority: priority) { task in
            let first = task * piece
            ck_add(x + first, y + first, Int64(min(piece, count - first)), x + first)
        }
    }

    /// The values in the compute type: themselves under fp32.
    private func narrowed(_ values: UnsafePointer<Float>, _ count: Int) throws(MemoryError) -> UnsafeRawPointer {
        if compute == .fp32 { return UnsafeRawPointer(values) }
        let target = try rounded.reserve(count * 2).assumingMemoryBound(to: UInt16.self)
        let piece = 16_384
        pool.parallel((count + piece - 1) / piece, priority: priority) { task in
            let first = task * piece
            ck_f32_to_bf16(values + first, Int64(min(piece, count - first)), target + first)
        }
        return UnsafeRawPointer(target)
    }
}
