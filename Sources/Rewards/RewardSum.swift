// SPDX-License-Identifier: Apache-2.0

/// One reward of a job: which function, with which options, and how much it counts.
package struct RewardTerm: Codable, Equatable, Sendable {
    package let name: String
    package let weight: Double
    package let options: [String: String]

    package init(_ name: String, weight: Double = 1, options: [String: String] = [:]) {
        self.name = name
        self.weight = weight
        self.options = options
    }
}

/// What each of a job's rewards says of one response.
package struct RewardReport: Equatable, Sendable {
    /// One per term, in the job's order.
    package let outcomes: [RewardOutcome]
    /// The weighted sum; the first failure where any term failed, since part of a reward is no reward.
    package let total: RewardOutcome

    /// Sums in the order of the terms.
    package init(_ outcomes: [RewardOutcome], terms: [RewardTerm]) {
        precondition(outcomes.count == terms.count, "\(outcomes.count) outcomes for \(terms.count) rewards")
        self.outcomes = outcomes
        if let failure = outcomes.first(where: \.isFailure) {
            total = failure
            return
        }
        var sum = 0.0
        var isTruncated = false
        var details: [String] = []
        for (outcome, term) in zip(outcomes, terms) {
            switch outcome {
            case .ok(let value, let detail):
                sum += term.weight * value
                details.append("\(term.name): \(detail)")
            case .truncated(let value, let detail):
                sum += term.weight * value
                details.append("\(term.name): \(detail)")
                isTruncated = true
            case .verifierTimeout, .infrastructureError: preconditionFailure("failures were returned above")
            }
        }
        guard sum.isFinite else {
            total = .infrastructureError(reason: "the weighted sum of the rewards is \(sum)")
            return
        }
        let total = RewardOutcome.ok(value: sum, detail: details.joined(separator: "; "))
        self.total = isTruncated ? total.asTruncated : total
    }

    /// Every term has the same outcome, as when the verifier itself failed.
    package init(all outcome: RewardOutcome, terms: [RewardTerm]) {
        precondition(!terms.isEmpty, "a report on no reward")
        self.init(Array(repeating: outcome, count: terms.count), terms: terms)
    }
}

/// The rewards of a job, ready to judge responses in this process.
package struct RewardSum: Sendable {
    package let terms: [RewardTerm]
    private let functions: [any RewardFunction]

    /// - Throws: ``RewardOptionError`` for an unknown name, option or value.
    package init(_ terms: [RewardTerm]) throws(RewardOptionError) {
        self.terms = terms
        var functions: [any RewardFunction] = []
        for term in terms { functions.append(try RewardRegistry.named(term.name, options: term.options)) }
        self.functions = functions
    }

    /// Judges one response with every function.
    package func evaluate(_ sample: RewardSample) -> RewardReport {
        let outcomes = functions.map { function in
            let outcome = function.evaluate(sample)
            return sample.isTruncated ? outcome.asTruncated : outcome
        }
        return RewardReport(outcomes, terms: terms)
    }
}
