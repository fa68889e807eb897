// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@testable import ClusterTransport

@Suite("Addresses")
struct AddressTests {
    @Test("names, IPv4 addresses and IPv6 addresses in brackets are endpoints; other things are not")
    func endpoints() throws {
        for text in [
            "tcp://10.0.0.1:7001", "tcp://node-1.example.org:7001", "tcp://localhost:1", "tcp://[::1]:7001",
            "tcp://[2001:db8::10]:65535", "tcp://[fe80::1%eth0]:7001",
        ] { #expect(try Endpoint(text, isForBinding: false).text == text) }
        for text in [
            "tcp://:7001", "tcp://::1:7001", "tcp://[10.0.0.1]:7001", "tcp://[::1:7001", "tcp://[]:7001",
            "tcp://*:7001",
            "tcp://a b:7001", "tcp://[::1]:0", "tcp://[::1%]:7001", "ipc://[::1]:7001",
        ] { #expect(throws: TransportError.self, "\(text)") { try Endpoint(text, isForBinding: false) } }
        let six = ChannelEndpoints(host: "::1", ports: [0, 7, 0])
        #expect(six.control == "tcp://[::1]:*" && six.exchange == "tcp://[::1]:7" && six.host == "::1")
        #expect(six.on(host: "10.0.0.1").exchange == "tcp://10.0.0.1:7")
        #expect(ChannelEndpoints(host: "[::1]", ports: [0, 7, 0]) == six)
    }

    @Test("loopback and wildcards are known in every form")
    func kinds() {
        for host in ["127.0.0.1", "127.0.1.1", "::1", "0:0:0:0:0:0:0:1"] { #expect(HostAddress.isLoopback(host)) }
        for host in ["localhost", "128.0.0.1", "::", "::2", "127.0.0.1.org"] { #expect(!HostAddress.isLoopback(host)) }
        for host in ["*", "0.0.0.0", "::", "0::0"] { #expect(HostAddress.isWildcard(host)) }
        for host in ["0.0.0.1", "::1", "any"] { #expect(!HostAddress.isWildcard(host)) }
    }

    private func exchange(listening host: String, dialling: (ChannelEndpoints) throws -> [String]) throws {
        let keys = try CurveKeyPair.generate()
        let server = try TestNode(allowing: [keys.publicKey]) {
            $0.listen = ChannelEndpoints(host: host, ports: [0, 0, 0])
        }
        defer { server.transport.close() }
        let bound = try #require(server.transport.endpoints)
        for target in try dialling(bound) {
            let client = try TestNode(keys: keys, listens: false)
            defer { client.transport.close() }
            try client.transport.connect(to: PeerAddress(identity: server.identity, endpoints: bound.on(host: target)))
            #expect(client.events.waitConnected(server.identity), "\(host) dialled as \(target)")
            try client.transport.send(Message(peer: server.identity, channel: .bulk, parts: [Payload([7])]))
            #expect(server.receive(.bulk)?.peer == keys.publicKey)
        }
    }

    private static let hasIPv6: Bool = {
        do {
            let node = try TestNode { $0.listen = .anyPort(on: "[::1]") }
            node.transport.close()
            return true
        } catch { return false }
    }()

    @Test("localhost can be listened on and dialled by name")
    func names() throws {
        try exchange(listening: "localhost") { bound in
            #expect(bound.host == "127.0.0.1", "a name is never published")
            return ["localhost", "127.0.0.1"]
        }
        #expect(throws: TransportError.self) {
            try exchange(listening: "no-such-name.invalid") { _ in [] }
        }
    }

    @Test("IPv6 works where the host has it", .enabled(if: AddressTests.hasIPv6))
    func sixth() throws {
        try exchange(listening: "::1") { bound in
            #expect(bound.host == "::1")
            return ["::1", "[::1]"]
        }
        // All addresses of both kinds.
        try exchange(listening: "::") { _ in ["::1", "127.0.0.1", "localhost"] }
    }

    @Test("a wildcard is listened on, but what is published is an address that others reach, or what the operator says")
    func wildcards() throws {
        try exchange(listening: "0.0.0.0") { (bound) throws in
            #expect(bound.host == "0.0.0.0")
            let local = ChannelEndpoints.anyPort(on: "127.0.0.1")
            #expect(try bound.advertised(as: nil, towards: local).host == "127.0.0.1")
            #expect(try bound.advertised(as: nil, towards: local).exchange == bound.on(host: "127.0.0.1").exchange)
            #expect(try bound.advertised(as: "node-1.example.org", towards: local).host == "node-1.example.org")
            #expect(throws: TransportError.self) { try bound.advertised(as: "0.0.0.0", towards: nil) }
            #expect(throws: TransportError.self) { try bound.advertised(as: "a b", towards: nil) }
            // This host may have one address, several or none: never the wildcard.
            if let own = try? bound.advertised(as: nil, towards: nil) { #expect(!HostAddress.isWildcard(own.host)) }
            return ["127.0.0.1"]
        }
        let fixed = ChannelEndpoints(host: "10.0.0.1", ports: [1, 2, 3])
        #expect(try fixed.advertised(as: nil, towards: nil) == fixed)
        let client = try TestNode(listens: false)
        defer { client.transport.close() }
        #expect(throws: TransportError.self) {
            try client.transport.connect(
                to: PeerAddress(identity: client.identity, endpoints: fixed.on(host: "0.0.0.0")))
        }
    }

    @Test("loopback is of use on its own host alone, and each side that others cannot reach is told so")
    func reach() throws {
        let here = try #require(HostPlace.current)
        func coordinator(_ host: String, _ place: HostPlace?) throws -> PeerAddress {
            PeerAddress(
                identity: try CurveKeyPair.generate().publicKey, endpoints: .anyPort(on: host), place: place)
        }
        let elsewhere = HostPlace(host: "node1", network: "another")
        let (loopback, outside) = (ChannelEndpoints.anyPort(on: "127.0.0.1"), ChannelEndpoints.anyPort(on: "10.0.0.2"))
        #expect(try coordinator("127.0.0.1", here).reachProblem(from: loopback) == nil)
        #expect(try coordinator("127.0.0.1", nil).reachProblem(from: loopback) == nil, "an older address file")
        #expect(try coordinator("10.0.0.1", elsewhere).reachProblem(from: outside) == nil)
        #expect(try coordinator("10.0.0.1", elsewhere).reachProblem(from: nil) == nil)
        let far = try coordinator("127.0.0.1", elsewhere).reachProblem(from: nil)
        #expect(
            far?.hasPrefix("the coordinator listens on 127.0.0.1 of node1, which only processes there reach") == true)
        let deaf = try coordinator("10.0.0.1", elsewhere).reachProblem(from: loopback)
        #expect(deaf?.hasPrefix("this worker listens on 127.0.0.1, which other hosts cannot reach") == true)
    }
}
