// SPDX-License-Identifier: Apache-2.0
//
// The linear kernels on the shapes of Qwen3-30B-A3B. The weights are a set larger than the caches, used in turn, so
// that they come from memory as in a model; few rows are judged by memory, many by the product instructions.
internal import CKernels
internal import Glibc
package import RuntimeSupport
package import Tensors

package struct KernelSuite {
    /// A matrix of the model, and how many are used side by side in one parallel loop.
    package struct Shape: Sendable {
        package var name: String
        package var outputs: Int
        package var inputs: Int
        package var together: Int

        package init(_ name: String, outputs: Int, inputs: Int, together: Int) {
            self.name = name
            self.outputs = outputs
            self.inputs = inputs
            self.together = together
        }
    }

    package static let shapes = [
        Shape("attention 2048x4096", outputs: 4096, inputs: 2048, together: 1),
        Shape("expert 2048x768", outputs: 768, inputs: 2048, together: 8),
        Shape("expert 768x2048", outputs: 2048, inputs: 768, together: 8),
    ]
    package static let rowCounts = [1, 4, 16, 64, 512]
    /// Up to this many rows weights can be used as fast as they are read.
    private static let memoryRowsMax = 4
    private static let productRowsMin = 64

    private let pool: ComputePool
    private let meter: LimitMeter
    private let weights: PageBuffer
    private let repeats: Int

    /// - Parameter repeats: measurements of each line.
    /// - Throws: ``MemoryError``.
    package init(pool: ComputePool, repeats: Int = 7) throws(MemoryError) {
        self.pool = pool
        self.repeats = repeats
        let memory = try PageBuffer(byteCount: LimitMeter.byteCount)
        pool.parallel(memory.byteCount >> 20) { block in
            // Small values of both signs in either type: 0x3c..bc.. are about ±0.01.
            let words = (memory.base + block << 20).assumingMemoryBound(to: UInt16.self)
            for index in 0..<(1 << 19) {
                words[index] = 0x3c00 | UInt16(truncatingIfNeeded: (index &* 0x9E37) & 0x80ff)
            }
        }
        weights = memory
        meter = LimitMeter(pool: pool, memory: memory)
    }

    package func limits() -> MachineLimits { meter.limits() }

    /// Measures every shape with every number of rows, telling each line as it comes.
    /// - Throws: ``MemoryError``.
    package func run(
        _ computes: [ComputeType], shapes: [Shape] = Self.shapes, rowCounts: [Int] = Self.rowCounts,
        limits: MachineLimits, _ report: (BenchmarkLine) -> Void
    ) throws(MemoryError) {
        for compute in computes {
            for shape in shapes {
                for rows in rowCounts { report(try measure(shape, compute, rows, limits)) }
            }
        }
    }

    private func measure(
        _ shape: Shape, _ compute: ComputeType, _ rows: Int, _ limits: MachineLimits
    ) throws(MemoryError) -> BenchmarkLine {
        let matrixBytes = PackedMatrix.byteCount(compute, outputs: shape.outputs, inputs: shape.inputs)
        let operations = 2 * Double(rows * shape.outputs * shape.inputs)
        let memoryTime = Double(matrixBytes) / limits.readBandwidth
        let productTime = operations / limits.products(compute)
        let isMemoryBound = memoryTime >= productTime
        // About 0.15 s a repeat; the set of matrices goes on where the repeat before stopped.
        let loops = max(1, Int(0.15 / max(memoryTime, productTime)) / shape.together)
        let matrices = (0..<weights.byteCount / matrixBytes).map {
            PackedMatrix(compute, outputs: shape.outputs, inputs: shape.inputs, in: weights, at: $0 * matrixBytes)
        }
        let x = try input(rows: rows, shape.inputs, compute)
        let yStride = rows * shape.outputs
        let y = try PageBuffer(byteCount: shape.together * yStride * 4)
        let slabs = matrices[0].slabCount
        var next = 0
        func pass(_ loops: Int) {
            for _ in 0..<loops {
                pool.parallel(shape.together * slabs) { task in
                    let matrix = matrices[(next + task / slabs) % matrices.count]
                    matrix.multiply(
                        x.base, xStride: shape.inputs, rowCount: rows, into: y.floats() + task / slabs * yStride,
                        yStride: shape.outputs, outputs: matrix.slab(task % slabs))
                }
                next += shape.together
            }
        }
        pass(max(1, loops / 4))
        var values: [Double] = []
        var bounds: [Double] = []
        for _ in 0..<repeats {
            let bandwidth = isMemoryBound ? meter.readBandwidth() : 0
            let products = isMemoryBound ? 0 : meter.products(compute)
            let time = seconds { pass(loops) }
            let count = Double(loops * shape.together)
            values.append((isMemoryBound ? Double(matrixBytes) : operations) * count / time / 1e9)
            bounds.append((isMemoryBound ? bandwidth : products) / 1e9)
        }
        let goal = rows <= Self.memoryRowsMax && isMemoryBound ? 0.9 : rows >= Self.productRowsMin ? 0.85 : nil
        return BenchmarkLine(
            suite: "kernels", name: "\(compute.rawValue) \(shape.name) rows \(rows)", value: median(values),
            unit: isMemoryBound ? "GB/s" : "GFLOP/s", limit: median(bounds),
            bound: isMemoryBound ? "memory" : "products", share: median(zip(values, bounds).map { $0 / $1 }),
            goal: goal)
    }

    /// Rows of small values; zeros would be multiplied as fast, but a wrong kernel would not show in a debugger.
    private func input(rows: Int, _ width: Int, _ compute: ComputeType) throws(MemoryError) -> PageBuffer {
        let buffer = try PageBuffer(byteCount: rows * width * compute.byteCount)
        let words = buffer.base.assumingMemoryBound(to: UInt16.self)
        for index in 0..<buffer.byteCount / 2 { words[index] = 0x3d00 | UInt16(index & 0x7f) }
        return buffer
    }
}
