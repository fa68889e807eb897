// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Kullback–Leibler divergence between rows of logits, in fp64.
enum Divergence {
    /// Mean over rows of KL(softmax(p) ‖ softmax(q)), nats.
    static func meanKL(_ p: [Float], _ q: [Float], vocabulary: Int) -> Double {
        let rows = p.count / vocabulary
        var total = 0.0
        for row in 0..<rows {
            let range = row * vocabulary..<(row + 1) * vocabulary
            let (a, b) = (logSoftmax(p[range]), logSoftmax(q[range]))
            total += zip(a, b).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
        }
        return total / Double(rows)
    }

    static func logSoftmax(_ logits: ArraySlice<Float>) -> [Double] {
        let largest = Double(logits.max() ?? 0)
        let sum = logits.reduce(0.0) { $0 + exp(Double($1) - largest) }
        return logits.map { Double($0) - largest - log(sum) }
    }
}
