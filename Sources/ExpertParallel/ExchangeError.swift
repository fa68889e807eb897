// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
package import RuntimeSupport

/// Why an exchange ended without its sums.
package enum ExchangeError: Error, Hashable, CustomStringConvertible {
    case cancelled
    /// The transport refused for good.
    case transport(TransportError)

    package var description: String {
        switch self {
        case .cancelled: "the expert exchange was cancelled; resume() allows new ones"
        case .transport(let error): "the expert exchange cannot send: \(error)"
        }
    }
}

/// What a thread in `exchange` waits for.
package struct ExchangeWait: Hashable, Sendable, CustomStringConvertible {
    package enum Reason: String, Sendable {
        case answer = "no answer yet"
        case queueFull = "the queue to it is full"
        case notConnected = "it is not connected"
        case notHeld = "it does not hold the experts (any more)"
        case failed = "it could not compute them"
        case noHolder = "nobody holds the experts"
    }

    /// The peer waited for; nil when no peer is known to hold the experts.
    package let peer: PeerIdentity?
    package let layer: Int
    package let since: MonotonicInstant
    package let reason: Reason
    /// Dispatches without an answer, this one included.
    package let requestCount: Int
    /// What the peer said about it; empty: nothing.
    package let detail: String

    package var description: String {
        "experts of layer \(layer) from \(peer?.description ?? "anybody"): \(reason.rawValue)"
            + (detail.isEmpty ? "" : " (\(detail))")
    }
}

/// Times and sizes of an exchange; the defaults suit real clusters, tests shorten them.
package struct ExchangeSettings: Sendable {
    /// An unanswered dispatch is repeated after this time, then after twice, four and at most eight times it.
    package var resendMilliseconds: UInt64 = 2000
    /// Longest sleep between two looks at routes, deadlines and flags.
    package var tickMilliseconds: UInt64 = 100
    /// Most bytes of rows in one message, either way.
    package var messageByteCount = ExchangeLimits.messageByteCount
    /// Most bytes on their way to one owner, and most bytes of answers expected from it; well under the
    /// transport's windows, so that owners can always answer.
    package var outstandingByteCount = 16 << 20

    package init() {}
}
