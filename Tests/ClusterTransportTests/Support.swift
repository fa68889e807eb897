// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import Foundation
import RuntimeSupport
import Synchronization
import Testing

/// Collects events; the socket thread appends, a test waits for a match.
final class EventLog: Sendable {
    private let queue = BoundedQueue<TransportEvent>(itemCountMax: 4096, byteCountMax: 1 << 30)

    func record(_ event: TransportEvent) { _ = queue.tryPush(event) }

    /// The first event that matches, in time; earlier ones are dropped.
    func wait(seconds: UInt64 = 10, _ matches: (TransportEvent) -> Bool) -> TransportEvent? {
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: seconds * 1000)
        while let event = queue.pop(until: deadline) { if matches(event) { return event } }
        return nil
    }

    /// Waits until the connections of `peer` broke on all three channels, in any order.
    func waitDisconnected(_ peer: PeerIdentity) -> Bool {
        var missing = Set(Channel.allCases)
        _ = wait { event in
            if case .disconnected(peer, let channel, _) = event { missing.remove(channel) }
            return missing.isEmpty
        }
        return missing.isEmpty
    }

    /// Waits until `peer` is connected on all three channels.
    func waitConnected(_ peer: PeerIdentity) -> Bool {
        var missing = Set(Channel.allCases)
        _ = wait { event in
            if case .connected(peer, let channel) = event { missing.remove(channel) }
            return missing.isEmpty
        }
        return missing.isEmpty
    }
}

/// A transport with a queue for each channel and an event log.
final class TestNode: Sendable {
    let keys: CurveKeyPair
    let allowList: AllowList
    let queues: [BoundedQueue<Message>]
    let events = EventLog()
    let transport: ZeroMQTransport

    init(
        allowing: [PeerIdentity] = [], keys: CurveKeyPair? = nil, listens: Bool = true,
        plainName: String? = nil, queueItems: Int = 4096,
        change: (inout ZeroMQConfiguration) -> Void = { _ in }
    ) throws {
        self.keys = try keys ?? CurveKeyPair.generate()
        allowList = AllowList(Dictionary(uniqueKeysWithValues: allowing.map { ($0, Role.worker) }))
        queues = Channel.allCases.map { _ in BoundedQueue(itemCountMax: queueItems, byteCountMax: 64 << 20) }
        let events = events
        var configuration = ZeroMQConfiguration(
            security: plainName.map { .insecureLoopback(name: $0) }
                ?? .curve(keys: self.keys, allowList: allowList),
            listen: listens ? .anyPort(on: "127.0.0.1") : nil,
            deliveries: ChannelDeliveries(
                control: .queue(queues[0]), exchange: .queue(queues[1]), bulk: .queue(queues[2])),
            onEvent: { events.record($0) })
        change(&configuration)
        transport = try ZeroMQTransport(configuration)
    }

    var identity: PeerIdentity { transport.identity }

    var address: PeerAddress {
        get throws {
            PeerAddress(identity: identity, endpoints: try #require(transport.endpoints))
        }
    }

    func receive(_ channel: Channel, seconds: UInt64 = 10) -> Message? {
        queues[Int(channel.rawValue)].pop(
            until: MonotonicInstant.now.advanced(byMilliseconds: seconds * 1000))
    }
}

/// A listening server and a client that it allows, connected on all channels.
func connectedPair(
    server changeServer: (inout ZeroMQConfiguration) -> Void = { _ in },
    client changeClient: (inout ZeroMQConfiguration) -> Void = { _ in }, queueItems: Int = 4096
) throws -> (server: TestNode, client: TestNode) {
    let clientKeys = try CurveKeyPair.generate()
    let server = try TestNode(allowing: [clientKeys.publicKey], queueItems: queueItems, change: changeServer)
    let client = try TestNode(keys: clientKeys, listens: false, change: changeClient)
    try client.transport.connect(to: server.address)
    #expect(client.events.waitConnected(server.identity))
    #expect(server.events.waitConnected(client.identity))
    return (server, client)
}

/// Bytes that depend on `seed` alone.
func pattern(_ byteCount: Int, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return (0..<byteCount).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return UInt8(truncatingIfNeeded: state >> 24)
    }
}

/// Resident memory of this process in bytes.
func residentByteCount() throws -> Int {
    let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
    return (Int(fields[1]) ?? 0) * 4096
}

/// A plain TCP connection, for bytes that no peer would send.
final class RawConnection {
    private let descriptor: Int32

    init(_ endpoint: String) throws {
        let port = try #require(endpoint.split(separator: ":").last.flatMap { UInt16($0) })
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0)
    }

    deinit { close(descriptor) }

    /// Sends without waiting; false once the other side has closed.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        let sent = bytes.withUnsafeBytes {
            Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
        return sent >= 0 || errno == EAGAIN
    }

    /// Waits until the other side closes.
    func waitClosed(seconds: Int) -> Bool {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var buffer = [UInt8](repeating: 0, count: 256)
        while true {
            let got = recv(descriptor, &buffer, buffer.count, 0)
            if got > 0 { continue }
            return got == 0 || (errno != EAGAIN && errno != EINTR)
        }
    }
}
