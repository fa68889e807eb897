// SPDX-License-Identifier: Apache-2.0
//
// The policy-gradient stream of the loss, per token: PPO's clipped ratio as GRPO, DAPO, Dr. GRPO and GSPO use it, and
// CISPO. Same numbers as TRL 1.16 `GRPOTrainer._compute_loss` where it has the form (its `delta` is verl's dual clip).
// Everything in fp64 with operations that all hosts round alike; gradients are rounded to fp32 once at the end.

/// Options of the policy gradient.
package struct PolicyGradientOptions: Sendable, Hashable {
    package enum Form: String, Sendable, CaseIterable {
        /// -min(r A, clip(r) A).
        case clipped
        /// -sg(clamp(r)) A log p, bounds absolute (MiniMax-M1; TRL's `epsilon_high` for cispo).
        case cispo
    }

    /// Of what the importance ratio is.
    package enum RatioLevel: String, Sendable, CaseIterable {
        case token
        /// GSPO: the geometric mean over the response (Zheng et al. 2025).
        case sequence
    }

    package enum KLEstimator: String, Sendable, CaseIterable { case k1, k2, k3 }

    package var form = Form.clipped
    package var ratioLevel = RatioLevel.token
    /// The ratio is kept above 1 - clipLow and below 1 + clipHigh; of CISPO the absolute bounds.
    package var clipLow = 0.2
    package var clipHigh = 0.2
    /// Upper bound of the ratio where the advantage is negative; nil: none.
    package var dualClip: Double?
    /// Coefficient of the divergence from the reference model, as a loss.
    package var klCoefficient = 0.0
    package var klEstimator = KLEstimator.k3
    /// Multiplies the divergence by the ratio (TRL's default).
    package var klBiasCorrection = false
    /// Responses with a negative advantage whose policy has moved further than this are left out; nil: none.
    package var offPolicyThreshold: Double?

    package init() {}
}

/// What one response brings to the objective; all arrays have one element per scored token.
package struct PolicyTokens: Sendable {
    /// log p under the current weights.
    package var current: [Float]
    /// log p under the weights that the update started from: the denominator of the ratio.
    package var old: [Float]
    /// log p as the rollout recorded it; nil where it is `old`.
    package var behaviour: [Float]?
    /// log p of the reference model; needed with a KL coefficient.
    package var reference: [Float]?
    package var advantages: [Float]
    /// Factor of the policy term: truncated importance weights, or 0 to leave a token out of it.
    package var importance: [Float]?
    /// Share of each token in the step's loss: the aggregation, divided by the whole step's divisor. 0: masked.
    package var weights: [Double]

    package init(
        current: [Float], old: [Float], behaviour: [Float]? = nil, reference: [Float]? = nil, advantages: [Float],
        importance: [Float]? = nil, weights: [Double]
    ) {
        self.current = current
        self.old = old
        self.behaviour = behaviour
        self.reference = reference
        self.advantages = advantages
        self.importance = importance
        self.weights = weights
    }
}

/// The loss of one response and its gradient in each token's log-probability.
package struct PolicyLoss: Sendable {
    package var loss = 0.0
    package var gradients: [Double]
    /// Weighted sum of the divergence from the reference.
    package var kl = 0.0
    /// Tokens whose ratio was cut below and above.
    package var clippedLow = 0
    package var clippedHigh = 0
    package var tokenCount = 0
    package var ratioMax = 0.0
    /// Largest |current - behaviour|.
    package var driftMax = 0.0
}

package struct PolicyGradient: Sendable {
    package let options: PolicyGradientOptions

    package init(_ options: PolicyGradientOptions) {
        precondition(
            options.klCoefficient == 0 || options.klEstimator != .k1,
            "k1 as a loss has no gradient in expectation; use k2 or k3, or k1 in the reward")
        self.options = options
    }

    package func evaluate(_ tokens: PolicyTokens) -> PolicyLoss {
        let count = tokens.current.count
        var result = PolicyLoss(gradients: [Double](repeating: 0, count: count))
        let active = (0..<count).filter { tokens.weights[$0] != 0 }
        result.tokenCount = active.count
        if active.isEmpty { return result }
        var logRatios = (0..<count).map { Double(tokens.current[$0]) - Double(tokens.old[$0]) }
        if options.ratioLevel == .sequence {
            let mean = active.reduce(0.0) { $0 + logRatios[$1] } / Double(active.count)
            logRatios = [Double](repeating: mean, count: count)
        }
        let isLeftOut = isOffPolicy(tokens, active)
        // Sum of dL / d log r over the response: with one ratio for all tokens it reaches each of them.
        var shared = 0.0
        for index in active {
            let weight = tokens.weights[index]
            let ratio = portableExp(logRatios[index])
            let advantage = Double(tokens.advantages[index])
            var term = policyTerm(ratio, advantage, logProb: Double(tokens.current[index]))
            if advantage < 0, isLeftOut { term = Term() }
            let importance = Double(tokens.importance?[index] ?? 1)
            term = term.scaled(importance)
            if options.klCoefficient != 0, let reference = tokens.reference {
                let kl = divergence(Double(reference[index]) - Double(tokens.current[index]), ratio)
                result.kl += weight * kl.estimate
                term.loss += kl.term.loss
                term.ratioGradient += kl.term.ratioGradient
                term.gradient += kl.term.gradient
            }
            result.loss += weight * term.loss
            result.gradients[index] += weight * term.gradient
            if options.ratioLevel == .sequence {
                shared += weight * term.ratioGradient
            } else {
                result.gradients[index] += weight * term.ratioGradient
            }
            noteClipping(ratio, advantage, &result)
            if let behaviour = tokens.behaviour {
                result.driftMax = max(result.driftMax, abs(Double(tokens.current[index]) - Double(behaviour[index])))
            }
        }
        if options.ratioLevel == .sequence {
            for index in active { result.gradients[index] += shared / Double(active.count) }
        }
        return result
    }

    /// A loss with its gradients in log r and, beside that, in log p.
    private struct Term {
        var loss = 0.0
        var ratioGradient = 0.0
        var gradient = 0.0

        func scaled(_ factor: Double) -> Term {
            Term(loss: loss * factor, ratioGradient: ratioGradient * factor, gradient: gradient * factor)
        }
    }

    private func policyTerm(_ ratio: Double, _ advantage: Double, logProb: Double) -> Term {
        switch options.form {
        case .cispo:
            let bounded = min(max(ratio, options.clipLow), options.clipHigh)
            return Term(loss: -bounded * advantage * logProb, gradient: -bounded * advantage)
        case .clipped:
            let upper = options.dualClip ?? .infinity
            let free = min(ratio, upper) * advantage
            let clipped = min(max(ratio, 1 - options.clipLow), 1 + options.clipHigh) * advantage
            if free <= clipped {
                return Term(loss: -free, ratioGradient: ratio < upper ? -advantage * ratio : 0)
            }
            return Term(loss: -clipped)
        }
    }

    /// Schulman's estimators of KL(policy || reference), d = log p_reference - log p.
    private func divergence(_ d: Double, _ ratio: Double) -> (estimate: Double, term: Term) {
        var value = -d
        var gradient = 1.0
        switch options.klEstimator {
        case .k1: break
        case .k2: (value, gradient) = (d * d / 2, -d)
        case .k3:
            let exponential = portableExp(d)
            (value, gradient) = (exponential - d - 1, 1 - exponential)
        }
        let factor = options.klCoefficient * (options.klBiasCorrection ? ratio : 1)
        return (
            value,
            Term(
                loss: factor * value, ratioGradient: options.klBiasCorrection ? factor * value : 0,
                gradient: factor * gradient)
        )
    }

    private func isOffPolicy(_ tokens: PolicyTokens, _ active: [Int]) -> Bool {
        guard let threshold = options.offPolicyThreshold else { return false }
        let behaviour = tokens.behaviour ?? tokens.old
        let sum = active.reduce(0.0) { $0 + Double(behaviour[$1]) - Double(tokens.current[$1]) }
        return sum / Double(active.count) > threshold
    }

    private func noteClipping(_ ratio: Double, _ advantage: Double, _ result: inout PolicyLoss) {
        result.ratioMax = max(result.ratioMax, ratio)
        switch options.form {
        case .clipped:
            if ratio < 1 - options.clipLow, advantage < 0 { result.clippedLow += 1 }
            if ratio > 1 + options.clipHigh, advantage > 0 { result.clippedHigh += 1 }
        case .cispo:
            if ratio < options.clipLow { result.clippedLow += 1 }
            if ratio > options.clipHigh { result.clippedHigh += 1 }
        }
    }
}
