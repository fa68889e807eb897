// SPDX-License-Identifier: Apache-2.0
internal import DequeModule
internal import RuntimeSupport

/// Everything about one peer on one channel. Found by senders in the directory; its queues and connections
/// belong to the socket thread.
final class PeerLink: @unchecked Sendable {
    // @unchecked: `var` properties are touched on the socket thread only; the rest is immutable and Sendable.
    struct Key: Hashable, Sendable {
        let peer: PeerIdentity
        let channel: Channel
    }

    let key: Key
    /// Room for messages that wait in `pending` or in the outbox.
    let budget: SendBudget

    weak var node: Node?
    /// Messages that wait for a connection, for credit or for libzmq.
    var pending = Deque<Message>()
    /// The connection we dialled, preferred for sending.
    var dialed: Connection?
    /// Where to dial the peer, as long as it is wanted.
    var address: Endpoint?
    /// When it was last reported that the peer cannot be dialled.
    var lastDialFailure: MonotonicInstant?
    /// The newest connection the peer dialled.
    var accepted: Connection?
    /// What the peer has in our memory, by direction of the connection. They outlive connections, so a peer
    /// that reconnects does not get its window twice.
    var dialedAccount: CreditAccount?
    var acceptedAccount: CreditAccount?

    init(key: Key, budget: SendBudget) {
        self.key = key
        self.budget = budget
    }

    var peer: PeerIdentity { key.peer }
    var channel: Channel { key.channel }

    /// The connection that a message would take now.
    var readyConnection: Connection? {
        if let dialed, dialed.isReady { return dialed }
        if let accepted, accepted.isReady { return accepted }
        return nil
    }
}

/// The links of one transport, for senders on any thread. At most `linkCountMax`.
final class PeerDirectory: Sendable {
    static let linkCountMax = 3 * 4096

    private let links = Locked<[PeerLink.Key: PeerLink]>([:])

    func link(_ peer: PeerIdentity, _ channel: Channel) -> PeerLink? {
        links.withLock { $0[PeerLink.Key(peer: peer, channel: channel)] }
    }

    /// Adds a link; false when there are too many.
    func add(_ link: PeerLink) -> Bool {
        links.withLock {
            guard $0.count < Self.linkCountMax else { return false }
            $0[link.key] = link
            return true
        }
    }

    func remove(_ link: PeerLink) { links.withLock { $0[link.key] = nil } }

    /// All links, in order of peer and channel.
    var all: [PeerLink] {
        links.withLock { Array($0.values) }.sorted {
            ($0.peer.rawValue, $0.channel.rawValue) < ($1.peer.rawValue, $1.channel.rawValue)
        }
    }
}

/// The 128 random bits that name one dialling socket at the ROUTER it dials; new for each incarnation. It
/// routes replies and proves nothing.
struct RoutingKey: Hashable {
    static let byteCount = 16
    let high: UInt64
    let low: UInt64

    /// Reads the first 16 bytes of a routing id; nil when it is shorter.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.byteCount else { return nil }
        high = bytes.loadUnaligned(as: UInt64.self)
        low = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    }

    /// A routing id for a new DEALER: 16 random bytes (the first not 0, which libzmq reserves) and, in the
    /// insecure loopback form, the name.
    static func random(name: String = "") -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        var bytes = (0..<byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
        bytes[0] |= 0x80
        return bytes + Array(name.utf8)
    }
}

/// One live or hoped-for connection. Socket thread only.
final class Connection {
    unowned let link: PeerLink
    let isDialed: Bool
    /// The DEALER, or the ROUTER it came in by.
    let socket: PolledSocket
    /// Monitor of a DEALER.
    var monitor: PolledSocket?
    /// Where to dial; nil when accepted.
    var address: Endpoint?
    /// First frame towards an accepted peer; empty when dialled.
    let routingID: [UInt8]
    /// File descriptor inside libzmq; -1 when unknown.
    var descriptor: Int32 = -1
    /// The peer's key as C characters, to compare with each message's `User-Id`; empty in the insecure form.
    var userID: [CChar] = []
    /// Drawn by the dialling side at each handshake.
    var session: UInt64 = 0
    /// Both sides have said hello.
    var isReady = false
    /// Hello still has to be sent.
    var needsHello = false
    /// Credit to be granted that could not be sent yet.
    var unsentGrant = 0
    /// Bytes the peer still takes.
    var sendCredit = 0
    /// Rules broken on this connection.
    var strikeCount = 0

    init(link: PeerLink, isDialed: Bool, socket: PolledSocket, routingID: [UInt8] = []) {
        self.link = link
        self.isDialed = isDialed
        self.socket = socket
        self.routingID = routingID
    }

    var account: CreditAccount? { isDialed ? link.dialedAccount : link.acceptedAccount }
}
