// SPDX-License-Identifier: Apache-2.0
package import CKernels
package import RuntimeSupport

/// A weight matrix `[outputs, inputs]` in the kernels' packed layout (16 outputs × 2 inputs interleaved for bf16).
package struct PackedMatrix: Sendable {
    package let compute: ComputeType
    package let outputCount: Int
    package let inputCount: Int
    private let storage: PageBuffer
    private let byteOffset: Int

    /// Bytes that a matrix of this shape occupies when packed.
    package static func byteCount(_ compute: ComputeType, outputs: Int, inputs: Int) -> Int {
        ck_packed_byte_count(compute.kernelValue, Int64(outputs), Int64(inputs))
    }

    /// A matrix whose bytes are at `byteOffset` of `storage`; the bytes are written by ``pack(from:stored:rows:)``.
    package init(
        _ compute: ComputeType, outputs: Int, inputs: Int, in storage: PageBuffer, at byteOffset: Int
    ) {
        precondition(byteOffset % 64 == 0, "packed matrices start at multiples of 64 bytes")
        precondition(byteOffset + Self.byteCount(compute, outputs: outputs, inputs: inputs) <= storage.byteCount)
        self.compute = compute
        outputCount = outputs
        inputCount = inputs
        self.storage = storage
        self.byteOffset = byteOffset
    }

    package var byteCount: Int { Self.byteCount(compute, outputs: outputCount, inputs: inputCount) }
    package var pointer: UnsafeRawPointer { UnsafeRawPointer(storage.base + byteOffset) }

    /// Packs rows `rows` of a row-major `[outputs, inputs]` matrix at `source`.
    package func pack(from source: UnsafeRawPointer, stored: ElementType, rows: Range<Int>) {
        ck_pack(
            compute.kernelValue, stored.kernelValue, source, Int64(outputCount), Int64(inputCount),
            Int64(rows.lowerBound), Int64(rows.upperBound), storage.base + byteOffset)
    }

    /// Rows as fp32, row-major: what ``pack(from:stored:rows:)`` kept of them.
    package func unpack(rows: Range<Int>, into target: UnsafeMutablePointer<Float>) {
        ck_unpack(
            compute.kernelValue, pointer, Int64(outputCount), Int64(inputCount), Int64(rows.lowerBound),
            Int64(rows.upperBound), target)
    }

    /// Output rows per task: a task moves about 256 KiB of weights, and 64 rows at least, which is the width of the
    /// kernels' register tiles.
    package var slabRowCount: Int {
        let rowBytes = max(1, inputCount * compute.byteCount)
        return max(64, min(1024, (256 * 1024 / rowBytes) / 64 * 64))
    }

    package var slabCount: Int { (outputCount + slabRowCount - 1) / slabRowCount }

    package func slab(_ index: Int) -> Range<Int> {
        index * slabRowCount..<min(outputCount, (index + 1) * slabRowCount)
    }

    /// y[r, o] = Σᵢ x[r, i] · W[o, i] for the outputs of one slab. `x` is of the compute type.
    package func multiply(
        _ x: UnsafeRawPointer, xStride: Int, rowCount: Int, into y: UnsafeMutablePointer<Float>, yStride: Int,
        outputs: Range<Int>
    ) {
        ck_linear(
            compute.kernelValue, pointer, Int64(outputCount), Int64(inputCount), x, Int64(xStride), Int64(rowCount),
            y, Int64(yStride), Int64(outputs.lowerBound), Int64(outputs.upperBound))
    }

    /// All outputs, in parallel over slabs.
    package func multiply(
        _ x: UnsafeRawPointer, rowCount: Int, into y: UnsafeMutablePointer<Float>, on pool: ComputePool
    ) {
        // Few slabs and many rows: rows are cut too, which changes no row's bits.
        let wanted = pool.threadCount == 1 ? 1 : 4 * pool.threadCount
        let blocks = max(1, min(rowCount / 64, (wanted + slabCount - 1) / slabCount))
        let blockRows = (rowCount + blocks - 1) / max(blocks, 1)
        pool.parallel(slabCount * blocks) { task in
            let first = task / slabCount * blockRows
            multiply(
                x + first * inputCount * compute.byteCount, xStride: inputCount,
                rowCount: max(0, min(blockRows, rowCount - first)), into: y + first * outputCount, yStride: outputCount,
                outputs: slab(task % slabCount))
        }
    }
}

extension ComputeType {
    /// Bytes of an activation or weight element.
    package var byteCount: Int { self == .fp32 ? 4 : 2 }
    package var kernelValue: ck_compute { self == .fp32 ? CK_FP32 : CK_BF16 }
}

extension ElementType {
    package var kernelValue: ck_stored {
        switch self {
        case .float32: CK_STORED_F32
        case .bfloat16: CK_STORED_BF16
        case .float16: CK_STORED_F16
        }
    }
}
