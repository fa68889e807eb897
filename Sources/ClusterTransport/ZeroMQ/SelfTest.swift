// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ

/// The start-up test of access control: on each server socket a random key must be refused by the ZAP handler
/// (400), and a key that it was told of must be let in. libzmq with a dead handler fails one or the other.
final class SelfTest {
    private struct Probe {
        let channel: Channel
        let expectsAdmission: Bool
        let socket: PolledSocket
        var monitor: PolledSocket?
    }

    private let node: Node
    private let serverKey: PeerIdentity
    private let completion: (TransportError?) -> Void
    private var probes: [Probe] = []
    private var remaining = 0
    private var isDone = false

    /// - Parameter completion: called once, on the socket thread, with nil when access control works.
    init(node: Node, serverKey: PeerIdentity, completion: @escaping (TransportError?) -> Void) {
        self.node = node
        self.serverKey = serverKey
        self.completion = completion
    }

    /// Dials all server sockets with both keys.
    func start(_ endpoints: ChannelEndpoints) {
        do throws(TransportError) {
            let known = try CurveKeyPair.generate()
            node.selfTestKey = known.publicKey
            for channel in Channel.allCases {
                try dial(channel, endpoints[channel], try CurveKeyPair.generate(), expectsAdmission: false)
                try dial(channel, endpoints[channel], known, expectsAdmission: true)
            }
        } catch {
            return finish(error)
        }
        node.loop.schedule(afterMilliseconds: UInt64(node.configuration.handshakeTimeoutMilliseconds)) {
            self.finish(self.failure("no answer to a handshake in time; is the ZAP handler running?"))
        }
    }

    private func dial(
        _ channel: Channel, _ endpoint: String, _ keys: CurveKeyPair, expectsAdmission: Bool
    ) throws(TransportError) {
        let socket = try ZMQSocket(context: node.loop.context, type: ZMQ_DEALER)
        let polled = PolledSocket(socket)
        polled.wantsInput = false
        let index = probes.count
        probes.append(Probe(channel: channel, expectsAdmission: expectsAdmission, socket: polled))
        remaining += 1
        node.loop.add(polled)
        // A server on all addresses is dialled through loopback.
        var address = try Endpoint(endpoint, isForBinding: false)
        if HostAddress.isWildcard(address.host) { address.host = address.usesIPv6 ? "::1" : "127.0.0.1" }
        try SocketOptions.applyCommon(to: socket, node.configuration, channel, usesIPv6: address.usesIPv6)
        socket.set(ZMQ_LINGER, 0)
        try SocketOptions.applyClient(
            to: socket, keys: keys, serverKey: serverKey, routingID: RoutingKey.random(), connectTimeout: 2000
        )
        probes[index].monitor = try node.loop.monitor(socket) { [unowned self] event, value in
            self.observe(event, value, index)
        }
        guard zmq_connect(socket.handle, address.text) == 0 else { throw failure("cannot dial \(address.text)") }
    }

    private func observe(_ event: Int32, _ value: UInt32, _ index: Int) {
        guard !isDone else { return }
        let probe = probes[index]
        switch event {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED where probe.expectsAdmission: break
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            return finish(failure("the \(probe.channel) socket let a random key in"))
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH where !probe.expectsAdmission && value == 400: break
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL,
            ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            return finish(
                failure("the \(probe.channel) socket did not answer as it must (event \(event), \(value))"))
        default: return
        }
        // The first outcome counts; the closed socket reports no second one.
        node.loop.remove(probe.socket, monitor: probe.monitor)
        remaining -= 1
        if remaining == 0 { finish(nil) }
    }

    private func failure(_ reason: String) -> TransportError {
        TransportError(
            .selfTestFailed,
            "access control does not work, refusing to run: \(reason); check the libzmq installation")
    }

    private func finish(_ error: TransportError?) {
        guard !isDone else { return }
        isDone = true
        node.selfTestKey = nil
        for probe in probes where !probe.socket.socket.isClosed {
            node.loop.remove(probe.socket, monitor: probe.monitor)
        }
        probes = []
        completion(error)
    }
}
