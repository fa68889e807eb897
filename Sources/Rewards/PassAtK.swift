// SPDX-License-Identifier: Apache-2.0

/// The unbiased estimator of pass@k (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1).
package enum PassAtK {
    /// Probability that at least one of k answers drawn without replacement from n, of which c are right, is right.
    ///
    /// - Returns: nil where k exceeds n.
    package static func estimate(count n: Int, correct c: Int, k: Int) -> Double? {
        precondition((0...n).contains(c) && k >= 1)
        if k > n { return nil }
        if n - c < k { return 1 }
        // 1 - prod over i in (n - c, n] of (1 - k / i): no factorials, no overflow.
        return 1 - ((n - c + 1)..<(n + 1)).reduce(1.0) { $0 * (1 - Double(k) / Double($1)) }
    }
}
