// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// Moves byte messages between named endpoints. Delivery is at most once: what was queued when a connection
/// breaks is lost and reported, and the protocol above resends until it is acknowledged.
package protocol Transport: Sendable {
    /// How peers know this endpoint.
    var identity: PeerIdentity { get }

    /// Queues `message` and returns at once; never sleeps.
    ///
    /// - throws: ``TransportError``: `unknownPeer`, `overLimit`, `closed`, or `backpressure` when the queue
    ///   towards
    ///   this peer and channel is full. After a `backpressure` a ``TransportEvent/writable(_:_:)`` follows.
    func send(_ message: Message) throws(TransportError)

    /// Like `send`, but sleeps until there is room or `deadline` has passed (then `backpressure` is thrown).
    /// For plain threads only; never from a task, a direct handler or an event handler.
    func send(_ message: Message, waitingUntil deadline: MonotonicInstant) throws(TransportError)

    /// Starts to connect to `peer` on all channels and keeps reconnecting until `disconnect`. Messages may be
    /// sent at once; they wait for the connection. A second call for the same peer replaces its addresses.
    func connect(to peer: PeerAddress) throws(TransportError)

    /// Drops what still waits here on a channel, to any peer, and matches: nobody wants it any more.
    func discard(_ channel: Channel, where isUnwanted: @escaping @Sendable (Message) -> Bool)

    /// Drops the connections to `peer` and what is queued for it. It may come back by dialling.
    func disconnect(from peer: PeerIdentity)

    /// Ends this endpoint: queued messages leave within the linger time. Later calls throw `closed`.
    func close()
}

/// Where a peer listens.
package struct PeerAddress: Hashable, Sendable {
    /// The key (or loopback name) that it must prove.
    package let identity: PeerIdentity
    /// One endpoint for each channel.
    package let endpoints: ChannelEndpoints
    /// Where it runs, when it says so.
    package let place: HostPlace?

    /// Describes a peer.
    package init(identity: PeerIdentity, endpoints: ChannelEndpoints, place: HostPlace? = nil) {
        self.identity = identity
        self.endpoints = endpoints
        self.place = place
    }
}

/// One `tcp://host:port` for each channel.
package struct ChannelEndpoints: Hashable, Sendable {
    package var control: String
    package var exchange: String
    package var bulk: String

    /// Names the three endpoints.
    package init(control: String, exchange: String, bulk: String) {
        self.control = control
        self.exchange = exchange
        self.bulk = bulk
    }

    /// System-chosen ports on one host address or interface name.
    package static func anyPort(on host: String) -> Self {
        Self(control: "tcp://\(host):*", exchange: "tcp://\(host):*", bulk: "tcp://\(host):*")
    }

    /// The endpoint of one channel.
    package subscript(channel: Channel) -> String {
        get {
            switch channel {
            case .control: control
            case .exchange: exchange
            case .bulk: bulk
            }
        }
        set {
            switch channel {
            case .control: control = newValue
            case .exchange: exchange = newValue
            case .bulk: bulk = newValue
            }
        }
    }
}

/// How the messages of one channel reach the application.
package enum Delivery: Sendable {
    /// Through a queue that any thread pops. When it is full: on `control` the socket thread stops reading
    /// that channel; on `exchange` and `bulk` it goes on reading into an overflow that the peers' credit
    /// windows bound, and each sender stops when its own window is used up.
    case queue(BoundedQueue<Message>)
    /// Called on the socket thread. The handler must return within microseconds, must not sleep, and may call
    /// the non-waiting `send`, whose message then leaves without another thread hop.
    case direct(@Sendable (Message) -> Void)
}

/// The deliveries of all channels.
package struct ChannelDeliveries: Sendable {
    package var control: Delivery
    package var exchange: Delivery
    package var bulk: Delivery

    /// Names the three deliveries.
    package init(control: Delivery, exchange: Delivery, bulk: Delivery) {
        self.control = control
        self.exchange = exchange
        self.bulk = bulk
    }

    /// One handler for every channel, called on the transport's thread.
    package static func direct(_ handler: @escaping @Sendable (Message) -> Void) -> Self {
        Self(control: .direct(handler), exchange: .direct(handler), bulk: .direct(handler))
    }

    /// The delivery of one channel.
    package subscript(channel: Channel) -> Delivery {
        switch channel {
        case .control: control
        case .exchange: exchange
        case .bulk: bulk
        }
    }
}

/// What a transport reports about its connections. Handlers run on the socket thread and must only enqueue.
package enum TransportEvent: Hashable, Sendable {
    /// Why a handshake failed.
    package enum HandshakeFailure: Hashable, Sendable {
        /// The key is not on the allow-list (here or at the peer), with the key when it is known.
        case auth(key: PeerIdentity?)
        /// No common mechanism, a wrong server key, or bytes that are no handshake; libzmq's error number.
        case `protocol`(code: UInt32)
    }

    /// Messages can flow to and from the peer.
    case connected(PeerIdentity, Channel)
    /// The connection broke; `droppedCount` messages queued here for it were dropped.
    case disconnected(PeerIdentity, Channel, droppedCount: Int)
    /// A handshake failed; `suppressedCount` further failures were not reported because of their rate.
    case handshakeFailed(HandshakeFailure, suppressedCount: Int)
    /// A send found no route; `droppedCount` messages were dropped.
    case peerUnreachable(PeerIdentity, Channel, droppedCount: Int)
    /// The peer broke a rule (limits, header, credit); after three it is disconnected.
    case protocolViolation(PeerIdentity, Channel, String)
    /// There is room again after a `backpressure` error.
    case writable(PeerIdentity, Channel)
    /// A peer could not be dialled for want of sockets or descriptors here, in one line; it is tried again and again. Said
    /// once a minute per peer and channel.
    case dialFailed(PeerIdentity, Channel, String)
    /// Somebody could not be let in for want of descriptors here, in one line. Said once a minute per channel.
    case acceptFailed(Channel, String)
}
