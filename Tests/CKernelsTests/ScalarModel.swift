// SPDX-License-Identifier: Apache-2.0
internal import CKernels

/// The arithmetic contract of ckernels.h written out one element at a time, to compare kernels with bit by bit.
/// Meaningful only on a thread with flush-to-zero.
enum ScalarModel {
    static func roundedToBF16(_ x: Float) -> UInt16 {
        var result: UInt16 = 0
        withUnsafePointer(to: x) { ck_f32_to_bf16($0, 1, &result) }
        return result
    }

    static func widened(_ x: UInt16) -> Float { Float(bitPattern: UInt32(x) << 16) }

    static func exponential(_ x: Float) -> Float {
        var result: Float = 0
        withUnsafePointer(to: x) { ck_exp($0, 1, &result) }
        return result
    }

    /// One output element: sequential FMA, or pairs odd then even for bf16 (an absent odd element is +0).
    static func dot(_ compute: ck_compute, _ w: ArraySlice<Float>, _ x: ArraySlice<Float>) -> Float {
        let w = Array(w), x = Array(x)
        var sum: Float = 0
        if compute == CK_FP32 {
            for i in w.indices { sum = sum.addingProduct(w[i], x[i]) }
            return sum
        }
        for even in stride(from: 0, to: w.count, by: 2) {
            let odd = even + 1
            sum = sum.addingProduct(odd < w.count ? w[odd] : 0, odd < w.count ? x[odd] : 0)
            sum = sum.addingProduct(w[even], x[even])
        }
        return sum
    }

    /// Lanes 0 to 15 by the fixed tree.
    static func tree(_ lanes: [Float]) -> Float {
        var lanes = lanes
        for half in [8, 4, 2, 1] {
            for i in 0..<half { lanes[i] = lanes[i] + lanes[i + half] }
        }
        return lanes[0]
    }

    static func laneSum(_ values: [Float]) -> Float {
        var lanes = [Float](repeating: 0, count: 16)
        for (i, value) in values.enumerated() { lanes[i % 16] = lanes[i % 16] + value }
        return tree(lanes)
    }

    static func laneDot(_ a: [Float], _ b: [Float]) -> Float {
        var lanes = [Float](repeating: 0, count: 16)
        for i in a.indices { lanes[i % 16] = lanes[i % 16].addingProduct(a[i], b[i]) }
        return tree(lanes)
    }

    /// Attention of one head: keys and values are rows of head_size.
    static func attention(query: [Float], keys: [[Float]], values: [[Float]], scale: Float) -> [Float] {
        var maximum: Float = 0
        var sum: Float = 0
        var accumulated = [Float](repeating: 0, count: query.count)
        for begin in stride(from: 0, to: keys.count, by: Int(CK_ATTENTION_SEGMENT)) {
            let segment = begin..<min(begin + Int(CK_ATTENTION_SEGMENT), keys.count)
            let scores = segment.map { scale * laneDot(query, keys[$0]) }
            let top = scores.max() ?? 0
            let p = scores.map { exponential($0 - top) }
            let partSum = laneSum(p)
            var part = [Float](repeating: 0, count: query.count)
            for (key, weight) in zip(segment, p) {
                for d in part.indices { part[d] = part[d].addingProduct(weight, values[key][d]) }
            }
            if begin == 0 {
                (maximum, sum, accumulated) = (top, partSum, part)
                continue
            }
            let merged = max(maximum, top)
            let old = exponential(maximum - merged)
            let new = exponential(top - merged)
            sum = (sum * old).addingProduct(partSum, new)
            for d in part.indices { accumulated[d] = (accumulated[d] * old).addingProduct(part[d], new) }
            maximum = merged
        }
        return accumulated.map { $0 / sum }
    }
}
