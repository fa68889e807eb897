// SPDX-License-Identifier: Apache-2.0
internal import CKernels
package import RuntimeSupport
internal import Synchronization
package import Tensors

/// What the machine can do at most with the threads of a pool.
package struct MachineLimits: Codable, Equatable, Sendable {
    /// Bytes per second that a plain read of memory reaches.
    package var readBandwidth: Double
    /// Operations per second of fp32 multiply-adds (a multiply-add counts two).
    package var fp32Products: Double
    /// The same of bf16 products: the better of vdpbf16ps and of two fp32 multiply-adds for a pair.
    package var bf16Products: Double

    package func products(_ compute: ComputeType) -> Double { compute == .fp32 ? fp32Products : bf16Products }
}

/// Measures limits, again and again: between the repeats of a benchmark.
package final class LimitMeter {
    private let pool: ComputePool
    private let memory: PageBuffer
    private var position = 0
    /// Read in one measurement; another part of `memory` each time.
    private static let bytesPerReading = 256 << 20
    /// Larger than any cache together with what runs in between.
    static let byteCount = 1 << 30

    /// - Throws: ``MemoryError``.
    package convenience init(pool: ComputePool) throws(MemoryError) {
        self.init(pool: pool, memory: try PageBuffer(byteCount: Self.byteCount))
        pool.parallel(Self.byteCount >> 20) { index in
            // Untouched anonymous pages are all one page of zeros.
            (memory.base + index << 20).initializeMemory(as: UInt8.self, repeating: 1, count: 1 << 20)
        }
    }

    /// - Parameter memory: at least ``byteCount`` bytes, all written.
    init(pool: ComputePool, memory: PageBuffer) {
        precondition(memory.byteCount >= Self.byteCount)
        self.pool = pool
        self.memory = memory
    }

    /// Bytes per second, each thread reading a run of its own.
    package func readBandwidth() -> Double {
        let threads = pool.threadCount
        let share = Self.bytesPerReading / threads / 256 * 256
        let start = position
        position = (position + Self.bytesPerReading) % Self.byteCount
        let checksum = Atomic<UInt64>(0)
        let time = seconds {
            pool.parallel(threads) { index in
                checksum.wrappingAdd(ck_limit_read(memory.base + start + index * share, share), ordering: .relaxed)
            }
        }
        return Double(share * threads) / time
    }

    /// Operations per second of one product instruction; 0 when this machine lacks it.
    func productRate(_ product: ck_product) -> Double {
        let operations = Atomic<UInt64>(0)
        let time = seconds {
            pool.parallel(pool.threadCount) { _ in
                var sink: Float = 0
                operations.wrappingAdd(UInt64(ck_limit_products(product, 1_000_000, &sink)), ordering: .relaxed)
            }
        }
        return Double(operations.load(ordering: .relaxed)) / time
    }

    /// Operations per second of the products of `compute`.
    package func products(_ compute: ComputeType) -> Double {
        let fp32 = productRate(CK_PRODUCT_FMA)
        return compute == .fp32 ? fp32 : max(fp32, productRate(CK_PRODUCT_BF16_PAIR))
    }

    /// Medians of five measurements each.
    package func limits() -> MachineLimits {
        func middle(_ body: () -> Double) -> Double { median((0..<5).map { _ in body() }) }
        return MachineLimits(
            readBandwidth: middle(readBandwidth), fp32Products: middle { products(.fp32) },
            bf16Products: middle { products(.bf16) })
    }
}
