// SPDX-License-Identifier: Apache-2.0

extension MoERouter {
    /// Gradient of the router's logits, in place of its probabilities.
    ///
    /// With w = p / Σ p over the chosen (or w = p): dp = (dw - Σ dw·w) / Σ p, then the softmax's own backward. The
    /// auxiliary term adds to dp of every expert (`modeling_qwen3_moe.py`, `load_balancing_loss_func`).
    ///
    /// - Parameters:
    ///   - probabilities: `[rows, E]`, softmax of the logits; overwritten by the gradient of the logits.
    ///   - weightGradients: one per entry of the assignment.
    ///   - auxiliary: `[E]`, the gradient of the auxiliary loss in each probability; nil without it.
    static func backward(
        _ probabilities: UnsafeMutablePointer<Float>, expertCount: Int, assignment: ExpertAssignment,
        weightGradients: UnsafePointer<Float>, normalize: Bool, auxiliary: [Float]?, row: Int
    ) {
        let p = probabilities + row * expertCount
        let entries = assignment.entries(of: row)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: expertCount) { gradient in
            for expert in 0..<expertCount { gradient[expert] = auxiliary?[expert] ?? 0 }
            var (sum, inner): (Float, Float) = (1, 0)
            if normalize {
                sum = 0
                for entry in entries {
                    sum += p[Int(assignment.experts[entry])]
                    inner += weightGradients[entry] * assignment.weights[entry]
                }
            }
            for entry in entries { gradient[Int(assignment.experts[entry])] += (weightGradients[entry] - inner) / sum }
            var mean: Float = 0
            for expert in 0..<expertCount { mean += p[expert] * gradient[expert] }
            for expert in 0..<expertCount { p[expert] *= gradient[expert] - mean }
        }
    }
}
