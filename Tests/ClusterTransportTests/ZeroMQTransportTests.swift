// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import Synchronization
import Testing

@testable import ClusterTransport

@Suite("ZeroMQ transport")
struct ZeroMQTransportTests {
    @Test("messages of every shape arrive whole, both ways, on each channel", arguments: Channel.allCases)
    func integrity(channel: Channel) throws {
        let (server, client) = try connectedPair()
        defer { client.transport.close(); server.transport.close() }
        let shapes: [[Int]] = [[], [0], [1], [512, 513], [0, 4096, 0], [1 << 20], [100_000, 7, 65_536]]
        for (index, shape) in shapes.enumerated() {
            let parts = shape.enumerated().map { pattern($1, seed: UInt64(index * 10 + $0)) }
            try client.transport.send(
                Message(peer: server.identity, channel: channel, parts: parts.map { Payload($0) }))
            let received = try #require(server.receive(channel))
            #expect(received.peer == client.identity)
            #expect(received.channel == channel)
            #expect(received.parts.map(\.bytes) == parts)
            // Sending a received payload on borrows libzmq's memory.
            try server.transport.send(Message(peer: client.identity, channel: channel, parts: received.parts))
            let back = try #require(client.receive(channel))
            #expect(back.peer == server.identity)
            #expect(back.parts.map(\.bytes) == parts)
        }
    }

    @Test("a direct handler answers on the socket thread")
    func directHandler() throws {
        let holder = Holder()
        let clientKeys = try CurveKeyPair.generate()
        let server = try TestNode(allowing: [clientKeys.publicKey]) {
            $0.deliveries = .direct { message in holder.reply(message) }
        }
        holder.transport.withLock { $0 = server.transport }
        let client = try TestNode(keys: clientKeys, listens: false)
        defer { client.transport.close(); server.transport.close() }
        try client.transport.connect(to: server.address)
        // Sent before the connection stands: it waits.
        for index in 0..<100 {
            try client.transport.send(
                Message(peer: server.identity, channel: .exchange, parts: [Payload([UInt8(index)])]))
        }
        for index in 0..<100 { #expect(client.receive(.exchange)?.parts.map(\.bytes) == [[UInt8(index)]]) }
        holder.transport.withLock { $0 = nil }
    }

    final class Holder: Sendable {
        let transport = Locked<ZeroMQTransport?>(nil)
        func reply(_ message: Message) { transport.withLock { try? $0?.send(message) } }
    }

    @Test("a thousand random messages each way at once, in order")
    func manyBothWays() throws {
        let (server, client) = try connectedPair()
        defer { client.transport.close(); server.transport.close() }
        let count = 1000
        let sides = [(client, server.identity, 1), (server, client.identity, 2)]
        let threads = sides.map { node, peer, seed in
            DedicatedThread.start(name: "sender") {
                for index in 0..<count {
                    let bytes = pattern(index * 37 % 5000, seed: UInt64(seed * count + index))
                    let deadline = MonotonicInstant.now.advanced(byMilliseconds: 20_000)
                    let message = Message(
                        peer: peer, channel: index % 2 == 0 ? .exchange : .bulk, parts: [Payload(bytes)])
                    try? node.transport.send(message, waitingUntil: deadline)
                }
            }
        }
        for (node, seed) in [(server, 1), (client, 2)] {
            for channel in [Channel.exchange, .bulk] {
                for index in stride(from: channel == .exchange ? 0 : 1, to: count, by: 2) {
                    let expected = pattern(index * 37 % 5000, seed: UInt64(seed * count + index))
                    try #require(node.receive(channel)?.parts.map(\.bytes) == [expected], "message \(index)")
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(server.transport.statistics.messagesReceived == count)
        #expect(server.transport.statistics.messagesRejected == 0)
    }

    @Test("a slow consumer bounds memory, loses nothing, and stops only its own traffic")
    func backpressure() throws {
        let (server, client) = try connectedPair(
            server: {
                $0.exchange.windowByteCount = 4 << 20; $0.exchange.messageByteCountMax = 1 << 20
            },
            client: { $0.exchange.queueByteCountMax = 10 << 20 }, queueItems: 2)
        let other = try TestNode(allowing: [client.identity])
        defer { client.transport.close(); server.transport.close(); other.transport.close() }
        try client.transport.connect(to: other.address)
        #expect(client.events.waitConnected(other.identity))
        var sent = 0
        let stopped = try #require(
            throws: TransportError.self,
            performing: {
                for index in 0..<1000 {
                    let bytes = pattern(256 << 10, seed: UInt64(index))
                    let deadline = MonotonicInstant.now.advanced(byMilliseconds: 500)
                    try client.transport.send(
                        Message(peer: server.identity, channel: .exchange, parts: [Payload(bytes)]),
                        waitingUntil: deadline)
                    sent = index + 1
                }
            })
        #expect(stopped.code == .backpressure)
        // At most the receiver's window and the sender's queue are under way.
        #expect(sent * (256 << 10) <= 14 << 20)
        #expect(server.transport.statistics.bytesReceived <= 4 << 20)
        for index in 0..<100 {
            try client.transport.send(
                Message(peer: other.identity, channel: .exchange, parts: [Payload([UInt8(index)])]))
            #expect(other.receive(.exchange)?.parts.map(\.bytes) == [[UInt8(index)]])
        }
        for index in 0..<sent {
            let message = try #require(server.receive(.exchange), "message \(index) of \(sent)")
            try #require(message.parts.map(\.bytes) == [pattern(256 << 10, seed: UInt64(index))])
        }
        #expect(client.events.wait { $0 == .writable(server.identity, .exchange) } != nil)
    }

    @Test("a full control queue stops reading, loses nothing, and leaves other channels alone")
    func controlBackpressure() throws {
        let (server, client) = try connectedPair(queueItems: 4)
        defer { client.transport.close(); server.transport.close() }
        let count = 500
        for index in 0..<count {
            try client.transport.send(
                Message(
                    peer: server.identity, channel: .control,
                    parts: [Payload(pattern(1000, seed: UInt64(index)))]))
        }
        try client.transport.send(Message(peer: server.identity, channel: .exchange, parts: [Payload([1])]))
        #expect(server.receive(.exchange) != nil)
        for index in 0..<count {
            try #require(server.receive(.control)?.parts.map(\.bytes) == [pattern(1000, seed: UInt64(index))])
        }
    }

    @Test("limits are checked before sending, and exactly the limit passes")
    func sendLimits() throws {
        let (server, client) = try connectedPair()
        defer { client.transport.close(); server.transport.close() }
        let limits = ChannelLimits.control
        func code(_ parts: [Payload], to peer: PeerIdentity) -> TransportError.Code? {
            do {
                try client.transport.send(Message(peer: peer, channel: .control, parts: parts))
                return nil
            } catch { return error.code }
        }
        let largest = Payload(byteCount: limits.partByteCountMax) {
            $0.initializeMemory(as: UInt8.self, repeating: 1)
        }
        let tooLarge = Payload(byteCount: limits.partByteCountMax + 1) { _ in }
        #expect(code([largest], to: server.identity) == nil)
        #expect(server.receive(.control)?.byteCount == limits.partByteCountMax)
        #expect(code([tooLarge], to: server.identity) == .overLimit)
        #expect(code(Array(repeating: Payload([]), count: 9), to: server.identity) == .overLimit)
        #expect(code(Array(repeating: largest, count: 5), to: server.identity) == .overLimit)
        #expect(code([], to: PeerIdentity("nobody")) == .unknownPeer)
    }

    @Test("a peer that ignores our limits is struck three times and disconnected; others go on")
    func overLimitPeer() throws {
        // The client believes in larger limits than the server's.
        let (server, client) = try connectedPair(
            server: {
                $0.exchange.partCountMax = 4; $0.exchange.messageByteCountMax = 1 << 20
            })
        let other = try TestNode(listens: false)
        defer { client.transport.close(); server.transport.close(); other.transport.close() }
        server.allowList.add(other.identity, role: .worker)
        try other.transport.connect(to: server.address)
        #expect(other.events.waitConnected(server.identity))
        let part = Payload(pattern(1000, seed: 1))
        for _ in 0..<3 {
            try client.transport.send(
                Message(peer: server.identity, channel: .exchange, parts: Array(repeating: part, count: 5)))
            let event = server.events.wait { if case .protocolViolation = $0 { true } else { false } }
            #expect(event != nil)
        }
        #expect(
            client.events.wait {
                if case .disconnected(server.identity, .exchange, _) = $0 { true } else { false }
            } != nil)
        #expect(server.transport.statistics.messagesRejected == 3)
        // It may come back with a new session, and the server still serves.
        #expect(client.events.wait { $0 == .connected(server.identity, .exchange) } != nil)
        for node in [client, other] {
            try node.transport.send(Message(peer: server.identity, channel: .exchange, parts: [part]))
            #expect(server.receive(.exchange)?.peer == node.identity)
        }
    }

    @Test("a frame beyond the socket's limit is refused by the receiver, which lives on")
    func oversizeFrame() throws {
        let (server, client) = try connectedPair(
            client: { $0.control.partByteCountMax = 4 << 20 })
        let other = try TestNode(listens: false)
        defer { client.transport.close(); server.transport.close(); other.transport.close() }
        let big = Payload(byteCount: 3 << 20) { $0.initializeMemory(as: UInt8.self, repeating: 1) }
        try client.transport.send(Message(peer: server.identity, channel: .control, parts: [big]))
        #expect(
            client.events.wait {
                if case .disconnected(server.identity, .control, _) = $0 { true } else { false }
            } != nil)
        server.allowList.add(other.identity, role: .worker)
        try other.transport.connect(to: server.address)
        #expect(other.events.waitConnected(server.identity))
        try other.transport.send(Message(peer: server.identity, channel: .control, parts: [Payload([9])]))
        #expect(server.receive(.control)?.parts.map(\.bytes) == [[9]])
    }

    @Test("a closed peer is reported, messages to it fail, and it may return")
    func closedPeer() throws {
        let (server, client) = try connectedPair()
        defer { server.transport.close() }
        let keys = client.keys
        client.transport.close()
        #expect(server.events.waitDisconnected(client.identity))
        try server.transport.send(Message(peer: client.identity, channel: .control, parts: []))
        #expect(
            server.events.wait {
                $0 == .peerUnreachable(client.identity, .control, droppedCount: 1)
            } != nil)
        #expect(throws: TransportError.self) {
            try client.transport.send(Message(peer: server.identity, channel: .control, parts: []))
        }
        let reborn = try TestNode(keys: keys, listens: false)
        defer { reborn.transport.close() }
        try reborn.transport.connect(to: server.address)
        #expect(server.events.waitConnected(reborn.identity))
        try server.transport.send(Message(peer: reborn.identity, channel: .control, parts: [Payload([1])]))
        #expect(reborn.receive(.control) != nil)
    }

    @Test("a port in use, an unknown address and plain text outside loopback are refused with a remedy")
    func refusals() throws {
        let server = try TestNode()
        defer { server.transport.close() }
        func failure(_ change: @escaping (inout ZeroMQConfiguration) -> Void) -> TransportError? {
            do {
                _ = try TestNode(plainName: "x", change: change)
                return nil
            } catch { return error as? TransportError }
        }
        let taken = try #require(server.transport.endpoints)
        let inUse = failure { $0.listen?.control = taken.control }
        #expect(inUse?.code == .bindFailed)
        #expect(inUse?.message.contains("in use") == true)
        #expect(failure { $0.listen?.bulk = "tcp://192.0.2.1:*" }?.code == .refusedInsecure)
        #expect(failure { $0.listen?.bulk = "tcp://*:*" }?.code == .refusedInsecure)
        #expect(failure { $0.listen?.bulk = "ipc:///tmp/x" }?.code == .badEndpoint)
        #expect(failure { $0.listen?.bulk = "tcp://127.0.0.1:70000" }?.code == .badEndpoint)
        #expect(throws: TransportError.self) { try TestNode { $0.listen?.bulk = "tcp://192.0.2.1:*" } }
    }

    @Test("plain loopback takes the peer's word for its name")
    func plainLoopback() throws {
        let server = try TestNode(plainName: "server")
        let client = try TestNode(listens: false, plainName: "client-7")
        defer { client.transport.close(); server.transport.close() }
        try client.transport.connect(to: server.address)
        try client.transport.send(Message(peer: server.identity, channel: .bulk, parts: [Payload([3])]))
        #expect(server.receive(.bulk)?.peer == PeerIdentity("client-7"))
    }
}
