// SPDX-License-Identifier: Apache-2.0
internal import COpenBLAS
package import RuntimeSupport
internal import Tensors

/// What OpenBLAS makes of fixed products, cut as ``GradientProducts`` cuts them. Only weight gradients under fp32 are
/// OpenBLAS's, so hosts whose libraries differ may do everything else together.
package enum BLASFingerprint {
    /// `sgemm:1a2b3c4d`, computed once.
    package static let current = compute()

    private static func compute() -> String {
        var checksum = CRC32C()
        let products = GradientProducts(compute: .fp32, pool: ComputePool(threadCount: 1))
        // Both sizes of a block, with tails; rows as in NumericsFingerprint, and beyond a block of OpenBLAS's own.
        for (outputs, inputs) in [(75, 83), (600, 301)] {
            for rows in [1, 5, 13, 48, 200, 1030] {
                let values = (0..<rows * (outputs + inputs)).map { index in
                    Float(Int32(bitPattern: Philox.block(counter: (UInt32(index), 9, 0, 0), key: (0x6170_7573, 0)).0))
                        * 0x1p-31
                }
                var gradient = [Float](repeating: 0.125, count: outputs * inputs)
                values.withUnsafeBufferPointer { values in
                    let x = values.baseAddress! + rows * outputs
                    // Working memory is none of it under fp32.
                    try? products.weightGradient(
                        values.baseAddress!, outputs: outputs, x, inputs: inputs, rows: rows, into: &gradient,
                        adds: true)
                }
                gradient.withUnsafeBytes { checksum.update($0) }
            }
        }
        let text = String(checksum.value, radix: 16)
        return "sgemm:" + String(repeating: "0", count: 8 - text.count) + text
    }

    /// The kernels that OpenBLAS has chosen.
    package static var core: String { openblas_get_corename().map { String(cString: $0) } ?? "unknown" }
}
