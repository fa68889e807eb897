// SPDX-License-Identifier: Apache-2.0
//
// ZAP (https://rfc.zeromq.org/spec/27): libzmq asks this handler about every CURVE handshake of the process.
// Request frames: version, request id, domain, address, identity, mechanism, credentials (32 bytes of public
// key). Reply frames: version, request id, status code, status text, user id, metadata.
internal import CZeroMQ

/// Answers handshakes by the allow-list of the transport whose ZAP domain they name.
final class ZAPHandler {
    private static let address = "inproc://zeromq.zap.01"
    private unowned let loop: SocketLoop

    init(loop: SocketLoop) { self.loop = loop }

    /// Binds the handler. Called before any other socket exists.
    func start() {
        guard let socket = try? ZMQSocket(context: loop.context, type: ZMQ_REP) else { return }
        socket.set(ZMQ_LINGER, 0)
        let result = zmq_bind(socket.handle, Self.address)
        precondition(result == 0, "\(Self.address): \(ZMQSocket.lastError)")
        let polled = PolledSocket(socket)
        polled.onReadable = { [unowned self, unowned polled] in while self.answerOne(polled.socket) {} }
        loop.add(polled)
    }

    private func answerOne(_ socket: ZMQSocket) -> Bool {
        var frames: [[UInt8]] = []
        repeat {
            guard socket.receive(loop.scratch) else { return false }
            if frames.count < 8 {
                let bytes = UnsafeRawBufferPointer(
                    start: zmq_msg_data(loop.scratch), count: zmq_msg_size(loop.scratch))
                frames.append(Array(bytes.prefix(256)))
            }
        } while zmq_msg_more(loop.scratch) != 0
        let identity = decide(frames)
        let status = identity == nil ? ("400", "key is not on the allow-list") : ("200", "OK")
        let requestID = frames.count > 1 ? frames[1] : []
        let reply = [
            Array("1.0".utf8), requestID, Array(status.0.utf8), Array(status.1.utf8),
            Array((identity?.rawValue ?? "").utf8), [],
        ]
        for (index, frame) in reply.enumerated() {
            let isLast = index == reply.count - 1
            _ = frame.withUnsafeBytes { socket.send($0, flags: ZMQ_DONTWAIT | (isLast ? 0 : ZMQ_SNDMORE)) }
        }
        return true
    }

    /// The verified identity, or nil to refuse. Everything unexpected is refused.
    private func decide(_ frames: [[UInt8]]) -> PeerIdentity? {
        guard frames.count == 7, frames[0] == Array("1.0".utf8), frames[5] == Array("CURVE".utf8),
            frames[6].count == 32,
            let node = loop.nodes.first(where: { Array($0.zapDomain.utf8) == frames[2] })
        else { return nil }
        let key = PeerIdentity(frames[6].withUnsafeBufferPointer { CurveKeyPair.encode($0.baseAddress!) })
        return node.admits(key) ? key : nil
    }
}
