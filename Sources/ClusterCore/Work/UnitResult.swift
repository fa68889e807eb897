// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
internal import Foundation
internal import SwiftProtobuf

extension WireUnitResult {
    /// Which sequence this is, and whether it is a score of it.
    package var sequence: (SequenceID, isScore: Bool) {
        switch record {
        case .score(let r): (SequenceID(group: Int(r.group), sibling: Int(r.sibling)), true)
        case .rollout(let r): (SequenceID(group: Int(r.group), sibling: Int(r.sibling)), false)
        case nil: (SequenceID(group: 0, sibling: 0), false)
        }
    }

    package var policyVersion: UInt64 {
        switch record {
        case .score(let r): r.policyVersion
        case .rollout(let r): r.policyVersion
        case nil: 0
        }
    }

    var tokenCount: UInt32 {
        if case .rollout(let r) = record { UInt32(r.tokens.count / 4) } else { 0 }
    }

    /// What a record may have: SQLite keeps no more than 10^9 bytes in one piece.
    package static let byteCountMax = 900_000_000

    /// Its large parts.
    var byteCount: Int {
        switch record {
        case .rollout(let r):
            r.tokens.count + r.logProbs.count + r.entropies.count + r.forced.count + r.routedExperts.count
                + r.text.utf8.count + r.environmentState.utf8.count
        case .score(let r):
            r.logProbs.count + r.entropies.count + r.topIds.count + r.topLogProbs.count + r.tailMass.count
                + r.fullLogProbs.count
        case nil: 0
        }
    }

    /// The weighted sum of rewards of a usable response.
    package var totalReward: Double? {
        guard case .rollout(let r) = record, !r.rewards.isEmpty else { return nil }
        return r.rewards.last { $0.name == "total" }?.value
    }

    /// One line when the record cannot be used: it is malformed, or what judges it failed.
    package var problem: String? {
        if case .rollout(let r) = record, r.outcome == "infra_error" {
            return "its reward could not be computed: \(r.outcomeDetail)"
        }
        return malformation
    }

    /// Whether tools took part, whose observations another execution need not see alike.
    var hasObservations: Bool { if case .rollout(let r) = record { r.turnCount > 0 } else { false } }

    /// One line when the record cannot be what a worker computed.
    var malformation: String? {
        switch record {
        case .rollout(let r):
            if r.outcome == "infra_error" { return nil }
            let count = r.tokens.count / 4
            guard count > 0, r.tokens.count == count * 4, r.logProbs.count == count * 4,
                r.entropies.count == count * 4, r.forced.count == count
            else { return "tokens and log-probabilities have different lengths" }
            return finite(r.logProbs, "log-probability") ?? finite(r.entropies, "entropy")
        case .score(let r):
            let count = r.logProbs.count / 4
            let k = Int(r.topK)
            guard r.logProbs.count == count * 4, r.entropies.count == count * 4, r.topIds.count == count * k * 4,
                r.topLogProbs.count == count * k * 4, r.tailMass.count == (k > 0 ? count * 4 : 0)
            else { return "scores have different lengths" }
            return finite(r.logProbs, "log-probability") ?? finite(r.topLogProbs, "log-probability")
        case nil: return "the record is empty"
        }
    }

    private func finite(_ data: Data, _ what: String) -> String? {
        data.floatElements.allSatisfy(\.isFinite) ? nil : "a \(what) is not finite"
    }
}
