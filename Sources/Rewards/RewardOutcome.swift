// SPDX-License-Identifier: Apache-2.0

/// What a reward function says of one rollout. A failure of the machinery carries no number, so that it can
/// never become a reward.
package enum RewardOutcome: Equatable, Sendable {
    /// A finite reward and, for people, why.
    case ok(value: Double, detail: String)
    /// The response was cut at its length limit; `value` is what the cut text earns. It counts only where the
    /// job's policy keeps truncated responses.
    case truncated(value: Double, detail: String)
    /// The verifier did not answer in time, in any of its attempts.
    case verifierTimeout
    /// The verifier could not do its work; the reason is one line.
    case infrastructureError(reason: String)

    /// The reward; nil for failures, and for truncated responses unless `keepingTruncated`.
    package func value(keepingTruncated: Bool) -> Double? {
        switch self {
        case .ok(let value, _): value
        case .truncated(let value, _): keepingTruncated ? value : nil
        case .verifierTimeout, .infrastructureError: nil
        }
    }

    /// True for ``verifierTimeout`` and ``infrastructureError(reason:)``.
    package var isFailure: Bool {
        switch self {
        case .ok, .truncated: false
        case .verifierTimeout, .infrastructureError: true
        }
    }

    /// The same judgement of a response that hit its length limit.
    package var asTruncated: RewardOutcome {
        if case .ok(let value, let detail) = self { .truncated(value: value, detail: detail) } else { self }
    }

    /// Name in records and metrics: `ok`, `truncated`, `verifier_timeout`, `infra_error`.
    package var name: String {
        switch self {
        case .ok: Name.ok.rawValue
        case .truncated: Name.truncated.rawValue
        case .verifierTimeout: Name.verifierTimeout.rawValue
        case .infrastructureError: Name.infrastructureError.rawValue
        }
    }

    private enum Name: String, Codable {
        case ok, truncated
        case verifierTimeout = "verifier_timeout"
        case infrastructureError = "infra_error"
    }
}

extension RewardOutcome: Codable {
    private enum Key: String, CodingKey { case outcome, value, detail }

    /// `{"outcome": "ok", "value": 1, "detail": "right"}`; `detail` is the reason of an error.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(name, forKey: .outcome)
        switch self {
        case .ok(let value, let detail), .truncated(let value, let detail):
            try container.encode(value, forKey: .value)
            try container.encode(detail, forKey: .detail)
        case .verifierTimeout: break
        case .infrastructureError(let reason): try container.encode(reason, forKey: .detail)
        }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        switch try container.decode(Name.self, forKey: .outcome) {
        case .ok:
            self = .ok(
                value: try container.decode(Double.self, forKey: .value),
                detail: try container.decode(String.self, forKey: .detail))
        case .truncated:
            self = .truncated(
                value: try container.decode(Double.self, forKey: .value),
                detail: try container.decode(String.self, forKey: .detail))
        case .verifierTimeout: self = .verifierTimeout
        case .infrastructureError:
            self = .infrastructureError(reason: try container.decode(String.self, forKey: .detail))
        }
    }
}
