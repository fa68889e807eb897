// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import Synchronization
import Testing

@testable import ClusterTransport

@Suite("Transport security")
struct SecurityTests {
    private func isAuthFailure(_ event: TransportEvent, of key: PeerIdentity) -> Bool {
        if case .handshakeFailed(.auth(key: key), _) = event { true } else { false }
    }

    private func isProtocolFailure(_ event: TransportEvent) -> Bool {
        if case .handshakeFailed(.protocol, _) = event { true } else { false }
    }

    @Test("an unknown key is refused on both sides' reports, and let in once it is allowed")
    func unknownKey() throws {
        let server = try TestNode()
        let client = try TestNode(listens: false) { $0.reconnectMillisecondsMax = 300 }
        defer { client.transport.close(); server.transport.close() }
        try client.transport.connect(to: server.address)
        try client.transport.send(Message(peer: server.identity, channel: .control, parts: [Payload([1])]))
        #expect(client.events.wait { isAuthFailure($0, of: server.identity) } != nil)
        #expect(server.events.wait { isAuthFailure($0, of: client.identity) } != nil)
        #expect(server.transport.statistics.messagesReceived == 0)
        server.allowList.add(client.identity, role: .worker)
        #expect(server.allowList.role(of: client.identity) == .worker)
        #expect(server.receive(.control)?.peer == client.identity)
    }

    @Test("a client with the wrong server key fails in the handshake")
    func wrongServerKey() throws {
        let client = try TestNode(listens: false)
        let server = try TestNode(allowing: [client.identity])
        defer { client.transport.close(); server.transport.close() }
        let wrong = PeerAddress(
            identity: try CurveKeyPair.generate().publicKey,
            endpoints: try #require(server.transport.endpoints))
        try client.transport.connect(to: wrong)
        #expect(server.events.wait(isProtocolFailure) != nil)
        #expect(server.transport.statistics.keysAdmitted == 3, "only the self-test's own key was let in")
    }

    @Test("a client without keys fails in the handshake")
    func plainClient() throws {
        let server = try TestNode()
        let client = try TestNode(listens: false, plainName: "plain")
        defer { client.transport.close(); server.transport.close() }
        try client.transport.connect(to: server.address)
        try client.transport.send(Message(peer: server.identity, channel: .control, parts: [Payload([1])]))
        #expect(server.events.wait(isProtocolFailure) != nil)
        #expect(server.transport.statistics.messagesReceived == 0)
    }

    @Test("two clients with their own keys keep their own identities")
    func identities() throws {
        let (server, first) = try connectedPair()
        let second = try TestNode(listens: false)
        defer { first.transport.close(); second.transport.close(); server.transport.close() }
        server.allowList.add(second.identity, role: .submit)
        try second.transport.connect(to: server.address)
        for node in [first, second, first] {
            try node.transport.send(
                Message(
                    peer: server.identity, channel: .control, parts: [Payload(node.identity.rawValue.utf8)]))
            let message = try #require(server.receive(.control))
            #expect(message.parts[0].bytes == Array(message.peer.rawValue.utf8))
        }
    }

    @Test("the self-test refuses a server whose access control is broken", arguments: [true, false])
    func selfTest(admitsAll: Bool) {
        let error = #expect(throws: TransportError.self) {
            try TestNode { $0.fault = admitsAll ? .admitsEveryKey : .refusesEveryKey }
        }
        #expect(error?.code == .selfTestFailed)
    }

    @Test("the self-test refuses to run without a ZAP handler")
    func selfTestWithoutHandler() async {
        await #expect(processExitsWith: .success) {
            SocketThread.omitsZAPHandler.store(true, ordering: .relaxed)
            do {
                _ = try TestNode()
                exit(1)
            } catch {
                exit((error as? TransportError)?.code == .selfTestFailed ? 0 : 2)
            }
        }
    }

    @Test("garbage and a giant declared frame leave the server small and serving")
    func garbage() throws {
        let (server, client) = try connectedPair()
        defer { client.transport.close(); server.transport.close() }
        let before = try residentByteCount()
        for channel in Channel.allCases {
            let endpoint = try #require(server.transport.endpoints)[channel]
            for seed in 0..<20 {
                let connection = try RawConnection(endpoint)
                connection.send(
                    seed % 2 == 0 ? Array("GET / HTTP/1.1\r\n\r\n".utf8) : pattern(400, seed: UInt64(seed)))
                #expect(seed > 4 || connection.waitClosed(seconds: 10))
            }
            // A ZMTP greeting, then a command frame that declares 4 GiB.
            let connection = try RawConnection(endpoint)
            connection.send(
                [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1] + Array("CURVE".utf8)
                    + [UInt8](repeating: 0, count: 47))
            connection.send([6, 0, 0, 0, 1, 0, 0, 0, 0])
            #expect(connection.waitClosed(seconds: 10))
        }
        #expect(try residentByteCount() - before < 64 << 20)
        try client.transport.send(Message(peer: server.identity, channel: .control, parts: [Payload([5])]))
        #expect(server.receive(.control)?.parts.map(\.bytes) == [[5]])
        // The self-test's own three refused dials are among them.
        #expect(server.transport.statistics.connectionsWithoutHello >= 63)
    }

    @Test("failed handshakes are reported at a bounded rate")
    func rateLimit() throws {
        let server = try TestNode { $0.handshakeReportsPerSecondMax = 2 }
        defer { server.transport.close() }
        let endpoint = try #require(server.transport.endpoints).control
        for _ in 0..<30 {
            let connection = try RawConnection(endpoint)
            // A greeting with another mechanism than CURVE.
            connection.send(
                [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0] + Array("NULL".utf8)
                    + [UInt8](repeating: 0, count: 48))
            #expect(connection.waitClosed(seconds: 10))
        }
        var reported = 0
        while server.events.wait(seconds: 1, isProtocolFailure) != nil { reported += 1 }
        #expect(server.transport.statistics.handshakesFailed == 30)
        #expect((1..<30).contains(reported))
    }
}
