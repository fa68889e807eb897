// SPDX-License-Identifier: Apache-2.0

/// What a ``ZeroMQTransport`` is started with.
package struct ZeroMQConfiguration: Sendable {
    /// How peers are authenticated.
    package enum Security: Sendable {
        /// CURVE with our key pair; only keys on the list may connect to us.
        case curve(keys: CurveKeyPair, allowList: AllowList)
        /// Plain text, for 127/8 only: identity is the name a peer gives (in its routing id) and proves
        /// nothing.
        case insecureLoopback(name: String)
    }

    /// Keys, or the insecure loopback form.
    package var security: Security
    /// Where to listen; nil for an endpoint that only dials. `tcp://127.0.0.1:*` asks the system for a port.
    package var listen: ChannelEndpoints?
    /// Where the messages of each channel go.
    package var deliveries: ChannelDeliveries
    /// Called on the socket thread; must only enqueue.
    package var onEvent: @Sendable (TransportEvent) -> Void
    package var control = ChannelLimits.control
    package var exchange = ChannelLimits.exchange
    package var bulk = ChannelLimits.bulk
    /// How long the socket thread looks for new work before it sleeps, while an exchange message was seen
    /// within the last millisecond. 0 never spins. Spinning takes a core from the compute threads for that
    /// long.
    package var spinMicroseconds = 0
    /// How long queued messages may take to leave after `close`.
    package var lingerMilliseconds: Int32 = 1000
    /// ZMTP ping interval, reply time-out and the time-out asked of the peer. They prove that the peer's
    /// process runs, not that it makes progress; that is the application's beat.
    package var heartbeatIntervalMilliseconds: Int32 = 350
    package var heartbeatTimeoutMilliseconds: Int32 = 1000
    package var heartbeatTimeToLiveMilliseconds: Int32 = 1400
    /// A connection that does not finish its handshake in this time is closed.
    package var handshakeTimeoutMilliseconds: Int32 = 5000
    /// First and largest delay between attempts to connect; libzmq doubles it in between.
    package var reconnectMilliseconds: Int32 = 100
    package var reconnectMillisecondsMax: Int32 = 2000
    /// Handshake failures reported per second; more are counted and summed up.
    package var handshakeReportsPerSecondMax = 5
    /// Breaks the access control on purpose, so that tests can see the self-test catch it.
    var fault: AccessFault?
    /// Tests only: an error for a dial that is to fail.
    var dialFault: (@Sendable () -> TransportError?)?

    /// Ways to break access control in tests.
    enum AccessFault: Sendable {
        /// The ZAP handler lets every key in.
        case admitsEveryKey
        /// The ZAP handler refuses every key.
        case refusesEveryKey
    }

    /// Starts from the house defaults.
    package init(
        security: Security, listen: ChannelEndpoints? = nil, deliveries: ChannelDeliveries,
        onEvent: @escaping @Sendable (TransportEvent) -> Void = { _ in }
    ) {
        self.security = security
        self.listen = listen
        self.deliveries = deliveries
        self.onEvent = onEvent
    }

    /// The limits of one channel.
    package subscript(limits channel: Channel) -> ChannelLimits {
        switch channel {
        case .control: control
        case .exchange: exchange
        case .bulk: bulk
        }
    }
}

/// The limits of one channel, in bytes and counts. Frames stay near 1 MiB so that a peer without a key can
/// make the process hold no more than that for its connection.
package struct ChannelLimits: Sendable, Equatable {
    /// Largest part.
    package var partByteCountMax: Int
    /// Most parts per message.
    package var partCountMax: Int
    /// Most bytes per message.
    package var messageByteCountMax: Int
    /// Bytes that one peer may have in our memory (channels with credits).
    package var windowByteCount: Int
    /// Bytes that may wait here for one peer; beyond, `send` reports backpressure.
    package var queueByteCountMax: Int
    /// libzmq's own queue, in messages, each way and per connection.
    package var highWaterMark: Int32

    /// Control messages: small and few.
    package static let control = ChannelLimits(
        partByteCountMax: 1 << 20, partCountMax: 8, messageByteCountMax: 4 << 20, windowByteCount: 0,
        queueByteCountMax: 16 << 20, highWaterMark: 256)
    /// Exchange messages: some rows of activations.
    package static let exchange = ChannelLimits(
        partByteCountMax: 1 << 20, partCountMax: 32, messageByteCountMax: 8 << 20, windowByteCount: 32 << 20,
        queueByteCountMax: 64 << 20, highWaterMark: 1024)
    /// Bulk messages: one chunk.
    package static let bulk = ChannelLimits(
        partByteCountMax: 1 << 20, partCountMax: 4, messageByteCountMax: 2 << 20, windowByteCount: 16 << 20,
        queueByteCountMax: 32 << 20, highWaterMark: 64)

    /// libzmq's MAXMSGSIZE. CURVE adds 33 bytes to a frame (probe 8 of the reliability notes lost a frame of
    /// exactly the limit), so there is slack.
    var frameByteCountMax: Int64 { Int64(max(partByteCountMax, 4096) + 1024) }

    func validate(_ channel: Channel) throws(TransportError) {
        let isUsable =
            partByteCountMax > 0 && (1...1024).contains(partCountMax) && messageByteCountMax > 0
            && highWaterMark > 0
            && queueByteCountMax >= messageByteCountMax + Message.overheadByteCount
            && (!channel.usesCredits
                || windowByteCount * 3 / 4 >= messageByteCountMax + Message.overheadByteCount)
        guard isUsable else {
            throw TransportError(
                .overLimit,
                "limits of \(channel) do not fit: a message must fit the queue and 3/4 of the credit window"
            )
        }
    }

    /// Checks an outgoing message.
    func check(_ message: Message) throws(TransportError) {
        guard message.parts.count <= partCountMax else {
            throw TransportError(
                .overLimit,
                "\(message.channel) message with \(message.parts.count) parts; the limit is \(partCountMax)")
        }
        if let part = message.parts.first(where: { $0.byteCount > partByteCountMax }) {
            throw TransportError(
                .overLimit,
                "\(message.channel) part of \(part.byteCount) bytes; the limit is \(partByteCountMax)")
        }
        guard message.byteCount <= messageByteCountMax else {
            throw TransportError(
                .overLimit,
                "\(message.channel) message of \(message.byteCount) bytes; the limit is "
                    + "\(messageByteCountMax)"
            )
        }
    }
}
