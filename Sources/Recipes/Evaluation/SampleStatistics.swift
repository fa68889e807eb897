// SPDX-License-Identifier: Apache-2.0
internal import Foundation
package import Rewards

/// Figures of a set of questions with several samples each.
package struct SampleStatistics: Sendable {
    /// One question.
    package struct Question: Sendable {
        /// A sample's reward each.
        package let scores: [Double]
        /// What it is grouped by, such as its language.
        package let group: String?
        /// Its rating, where it has one.
        package let difficulty: Double?

        package init(scores: [Double], group: String? = nil, difficulty: Double? = nil) {
            self.scores = scores
            self.group = group
            self.difficulty = difficulty
        }

        var mean: Double { scores.reduce(0, +) / Double(scores.count) }
    }

    package let questions: [Question]

    package init(_ questions: [Question]) { self.questions = questions.filter { !$0.scores.isEmpty } }

    /// Mean over questions of the mean over their samples.
    package var mean: Double { Self.mean(questions.map(\.mean)) }

    /// Half the width of a 95 % interval of ``mean``: the questions are the sample, those of one question are not
    /// independent.
    package var halfWidth: Double { Self.halfWidth(questions.map(\.mean)) }

    /// The unbiased pass@k with its half width; nil where rewards are not 0 or 1 or a question has fewer than k samples.
    package func pass(at k: Int) -> (value: Double, halfWidth: Double)? {
        guard questions.allSatisfy({ $0.scores.allSatisfy { $0 == 0 || $0 == 1 } }) else { return nil }
        let estimates = questions.compactMap {
            PassAtK.estimate(count: $0.scores.count, correct: $0.scores.count { $0 == 1 }, k: k)
        }
        guard estimates.count == questions.count, !estimates.isEmpty else { return nil }
        return (Self.mean(estimates), Self.halfWidth(estimates))
    }

    /// Means by group.
    package var groups: [String: Double] {
        Dictionary(grouping: questions.filter { $0.group != nil }) { $0.group! }
            .mapValues { Self.mean($0.map(\.mean)) }
    }

    /// The mean over groups, each counting the same.
    package var macroMean: Double? {
        let groups = groups
        return groups.isEmpty ? nil : Self.mean(groups.sorted { $0.key < $1.key }.map(\.value))
    }

    /// The rating at which the expected number of solved problems is the number solved, a problem counting as solved when
    /// one attempt at least is right: P = 1 / (1 + 10^((difficulty - rating) / 400)) (Elo 1978; CodeElo, Quan et al. 2025).
    /// Bounded by 0 and 4000, where all or none are solved.
    package var rating: Double? {
        let rated = questions.filter { $0.difficulty != nil }
        guard !rated.isEmpty else { return nil }
        let solved = Double(rated.count { $0.scores.contains(1) })
        var (low, high) = (0.0, 4000.0)
        for _ in 0..<60 {
            let middle = (low + high) / 2
            let expected = rated.reduce(0) { $0 + 1 / (1 + pow(10, ($1.difficulty! - middle) / 400)) }
            if expected < solved { low = middle } else { high = middle }
        }
        return (low + high) / 2
    }

    private static func mean(_ values: [Double]) -> Double {
        values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
    }

    private static func halfWidth(_ values: [Double]) -> Double {
        guard values.count > 1 else { return 0 }
        let mean = mean(values)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)
        return 1.96 * (variance / Double(values.count)).squareRoot()
    }
}
