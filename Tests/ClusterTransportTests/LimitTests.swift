// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@testable import ClusterTransport

/// Credit and descriptors at the moments when a connection begins anew.
@Suite("Credit and limits")
struct LimitTests {
    @Test("what is released between our hello and its answer is granted: the peer's credit does not run dry")
    func creditBetweenHellos() throws {
        let size = 64 << 10
        let clientKeys = try CurveKeyPair.generate()
        func narrow(_ configuration: inout ZeroMQConfiguration) {
            (configuration.exchange.partByteCountMax, configuration.exchange.messageByteCountMax) = (size, size)
            configuration.exchange.windowByteCount = 1 << 20
            configuration.exchange.queueByteCountMax = 8 << 20
        }
        let server = try TestNode(allowing: [clientKeys.publicKey], change: narrow)
        let client = try TestNode(keys: clientKeys, listens: false, change: narrow)
        var address = try server.address
        // Answers take long, so that there is a time between a hello and its answer.
        let line = try SlowLine(to: address.endpoints.exchange, delayMilliseconds: 200)
        address = PeerAddress(
            identity: address.identity,
            endpoints: ChannelEndpoints(
                control: address.endpoints.control, exchange: line.endpoint, bulk: address.endpoints.bulk))
        defer {
            client.transport.close()
            server.transport.close()
            line.close()
        }
        try client.transport.connect(to: address)
        #expect(client.events.waitConnected(server.identity))
        #expect(server.events.waitConnected(client.identity))
        func send(_ count: Int) throws {
            for index in 0..<count {
                try server.transport.send(
                    Message(
                        peer: client.identity, channel: .exchange,
                        parts: [Payload([UInt8](repeating: UInt8(index), count: size))]))
            }
        }
        // Nearly the whole window is held here while the line breaks.
        try send(15)
        var held = try (0..<15).map { _ in try #require(client.receive(.exchange)) }
        line.cut()
        let isBack = server.events.wait { if case .connected(_, .exchange) = $0 { true } else { false } }
        #expect(isBack != nil)
        // The client's hello, with the little credit there was, has come; the answer is on its way.
        held = []
        #expect(client.events.wait { if case .connected(_, .exchange) = $0 { true } else { false } } != nil)
        try send(40)
        for index in 0..<40 {
            let message = try #require(client.receive(.exchange, seconds: 20), "message \(index) did not come")
            #expect(message.byteCount == size)
        }
        _ = held
    }

    @Test("a peer that could not be dialled for want of descriptors is dialled again until it is reached")
    func dialsAgain() throws {
        let clientKeys = try CurveKeyPair.generate()
        let server = try TestNode(allowing: [clientKeys.publicKey])
        let failures = Locked(5)
        let client = try TestNode(keys: clientKeys, listens: false) {
            $0.reconnectMillisecondsMax = 50
            $0.dialFault = {
                failures.withLock { left in
                    left -= 1
                    return left >= 0 ? TransportError(.system, DescriptorLimit.explain(24)) : nil
                }
            }
        }
        defer { client.transport.close(); server.transport.close() }
        try client.transport.connect(to: server.address)
        var line = ""
        _ = client.events.wait {
            guard case .dialFailed(server.identity, .control, let text) = $0 else { return false }
            line = text
            return true
        }
        #expect(line.contains("ulimit -n") && line.contains("trying again"), "\(line)")
        #expect(client.events.waitConnected(server.identity))
    }

    @Test("the limit of open files is as high as it may be")
    func descriptors() throws {
        let node = try TestNode()
        defer { node.transport.close() }
        #expect(DescriptorLimit.current >= DescriptorLimit.highest)
    }
}
