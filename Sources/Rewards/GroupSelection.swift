// SPDX-License-Identifier: Apache-2.0

/// Which groups, and which of their members, reach training.
package struct GroupSelection: Equatable, Sendable {
    /// What a failed verification takes with it.
    package enum FailurePolicy: String, CaseIterable, Sendable {
        /// The response leaves its group; the others are compared among themselves.
        case dropMember = "drop_member"
        /// The whole group goes: a failure may depend on the response, and then the rest is a biased sample.
        case dropGroup = "drop_group"
    }

    /// Why a response does not reach training.
    package enum DropReason: String, CaseIterable, Sendable {
        /// Its own verification failed.
        case failed
        /// It was truncated.
        case truncated
        /// A sibling's verification failed.
        case failedSibling = "failed_sibling"
        /// All rewards of its group are equal.
        case zeroVariance = "zero_variance"
        /// Fewer than two responses of its group are left, so there is nothing to compare with.
        case alone
    }

    /// The judgement of one group.
    package struct Judgement: Equatable, Sendable {
        /// Weighted rewards; nil where a response has none that counts.
        package let rewards: [Double?]
        /// 0 where the response is dropped.
        package let advantages: [Double]
        /// nil: the response reaches training.
        package let drops: [DropReason?]
        /// At least one reward, and all rewards equal.
        package let hasZeroVariance: Bool
    }

    package let dropsZeroVariance: Bool
    package let keepsTruncated: Bool
    package let onFailure: FailurePolicy

    package init(
        dropsZeroVariance: Bool = false, keepsTruncated: Bool = true, onFailure: FailurePolicy = .dropMember
    ) {
        self.dropsZeroVariance = dropsZeroVariance
        self.keepsTruncated = keepsTruncated
        self.onFailure = onFailure
    }

    /// Judges one group.
    /// - Parameters:
    ///   - reports: one per response (G), all of the same terms.
    ///   - weights: one per term.
    ///   - estimator: its `batch` scale takes this group for the batch.
    package func judge(
        _ reports: [RewardReport], weights: [Double], _ estimator: GroupRelativeAdvantage
    ) -> Judgement {
        precondition(!reports.isEmpty, "a group without responses")
        var drops: [DropReason?] = reports.map { report in
            switch report.total {
            case .ok: nil
            case .truncated: keepsTruncated ? nil : .truncated
            case .verifierTimeout, .infrastructureError: .failed
            }
        }
        if onFailure == .dropGroup, drops.contains(.failed) {
            drops = drops.map { $0 ?? .failedSibling }
        }
        let values: [[Double?]] = weights.indices.map { term in
            reports.indices.map { index in
                drops[index] == nil
                    ? reports[index].outcomes[term].value(keepingTruncated: keepsTruncated) : nil
            }
        }
        let batch = estimator.advantages(rewards: values, weights: weights, groupSize: reports.count)
        if drops.count(where: { $0 == nil }) == 1, reports.count > 1 { drops = drops.map { $0 ?? .alone } }
        if dropsZeroVariance, batch.hasZeroVariance[0] { drops = drops.map { $0 ?? .zeroVariance } }
        let advantages = zip(drops, batch.advantages).map { $0 == nil ? $1 : 0 }
        return Judgement(
            rewards: batch.rewards, advantages: advantages, drops: drops,
            hasZeroVariance: batch.hasZeroVariance[0])
    }
}
