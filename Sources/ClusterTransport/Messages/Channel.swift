// SPDX-License-Identifier: Apache-2.0

/// The three kinds of traffic between processes. Each has sockets, limits and queues of its own, so that a
/// slow transfer of weights never delays a lease and a burst of control messages never delays an expert
/// dispatch.
package enum Channel: UInt8, CaseIterable, Sendable {
    /// Protobuf control messages. No byte credits; the socket's high-water mark is the limit.
    case control = 0
    /// Tensor frames of the expert exchange and of gradient reduction, many per second, latency first.
    case exchange = 1
    /// Weights, snapshots and records in chunks of at most 1 MiB.
    case bulk = 2

    /// Whether the receiver grants byte credits on this channel.
    package var usesCredits: Bool { self != .control }
}

/// Who a peer is: under CURVE its public key (Z85, 40 characters) as the ZAP handler verified it, never a
/// name the peer chose. In the insecure loopback form it is the name the peer gave, which proves nothing.
package struct PeerIdentity: Hashable, Sendable, CustomStringConvertible, Comparable {
    /// The Z85 public key or, in the insecure loopback form, the name.
    package let rawValue: String

    /// Wraps a Z85 public key or a loopback name.
    package init(_ rawValue: String) { self.rawValue = rawValue }

    /// The first 8 characters: enough for a log line.
    package var description: String { String(rawValue.prefix(8)) }

    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// One byte message to or from a peer. A receiver sees it whole or not at all, at most once, and in the order
/// of sending per (peer, channel) for as long as the connection lives.
package struct Message: Sendable {
    /// The destination when sending, the verified origin when receiving.
    package var peer: PeerIdentity
    /// The channel it travels on.
    package var channel: Channel
    /// Byte parts, kept apart on the wire so that a header and a tensor need not be copied together.
    package var parts: [Payload]

    /// Describes a message; limits are checked by `send`.
    package init(peer: PeerIdentity, channel: Channel, parts: [Payload]) {
        self.peer = peer
        self.channel = channel
        self.parts = parts
    }

    /// Bytes of all parts.
    package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }

    /// What one message is counted for beyond its bytes, so that a flood of empty messages is bounded too.
    package static let overheadByteCount = 256

    /// Bytes charged against queues and credit windows, computed alike on both sides.
    package var chargedByteCount: Int { byteCount + Self.overheadByteCount }
}
