// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import Glibc

/// The options of our sockets. libzmq's defaults are unsafe for us (RELIABILITY.md section 3): no size limit,
/// no heartbeats, silent drops, and CURVE that lets every key in when nobody answers ZAP.
enum SocketOptions {
    /// ZMQ_ZAP_ENFORCE_DOMAIN: with it a CURVE server refuses all when there is no ZAP handler. It is in the
    /// draft part of the header, but Debian's 4.3.4 honours it (probed).
    static let zapEnforceDomain: Int32 = 93

    static func applyCommon(
        to socket: ZMQSocket, _ configuration: ZeroMQConfiguration, _ channel: Channel, usesIPv6: Bool
    ) throws(TransportError) {
        let limits = configuration[limits: channel]
        socket.set(ZMQ_LINGER, configuration.lingerMilliseconds)
        socket.set(ZMQ_SNDHWM, limits.highWaterMark)
        // libzmq 4.3.4 aborts the process when a peer hangs up while the receiving side is at its high-water mark and a
        // heartbeat falls due (stream_engine_base.cpp: the ping timer does not look at _io_error). So there is no mark
        // where credits bound what a peer may send, or where a direct handler takes every message at once.
        var receiveMark = limits.highWaterMark
        if channel.usesCredits { receiveMark = 0 }
        if case .direct = configuration.deliveries[channel] { receiveMark = 0 }
        socket.set(ZMQ_RCVHWM, receiveMark)
        socket.set(ZMQ_MAXMSGSIZE, long: limits.frameByteCountMax)
        socket.set(ZMQ_IPV6, usesIPv6 ? 1 : 0)
        socket.set(ZMQ_HEARTBEAT_IVL, configuration.heartbeatIntervalMilliseconds)
        socket.set(ZMQ_HEARTBEAT_TIMEOUT, configuration.heartbeatTimeoutMilliseconds)
        socket.set(ZMQ_HEARTBEAT_TTL, configuration.heartbeatTimeToLiveMilliseconds)
        socket.set(ZMQ_HANDSHAKE_IVL, configuration.handshakeTimeoutMilliseconds)
        socket.set(ZMQ_RECONNECT_IVL, configuration.reconnectMilliseconds)
        socket.set(ZMQ_RECONNECT_IVL_MAX, configuration.reconnectMillisecondsMax)
    }

    static func applyServer(
        to socket: ZMQSocket, _ configuration: ZeroMQConfiguration, zapDomain: String
    ) throws(TransportError) {
        // Without it a ROUTER drops silently what it cannot route or queue.
        socket.set(ZMQ_ROUTER_MANDATORY, 1)
        // Routing ids are random per incarnation; a socket that reconnects before its old connection is found
        // dead takes its own id over, where it would otherwise be ignored.
        socket.set(ZMQ_ROUTER_HANDOVER, 1)
        if case .curve(let keys, _) = configuration.security {
            socket.set(ZMQ_CURVE_SERVER, 1)
            try socket.setKey(ZMQ_CURVE_SECRETKEY, keys.secretKey)
            socket.set(ZMQ_ZAP_DOMAIN, bytes: Array(zapDomain.utf8))
            socket.set(zapEnforceDomain, 1)
        }
    }

    /// - Parameter serverKey: what the server must prove to own.
    static func applyClient(
        to socket: ZMQSocket, keys: CurveKeyPair?, serverKey: PeerIdentity, routingID: [UInt8],
        connectTimeout: Int32
    ) throws(TransportError) {
        socket.set(ZMQ_ROUTING_ID, bytes: routingID)
        // A message handed to libzmq belongs to one connection and dies with it: nothing old reaches a new
        // server.
        socket.set(ZMQ_IMMEDIATE, 1)
        socket.set(ZMQ_CONNECT_TIMEOUT, connectTimeout)
        if let keys {
            try socket.setKey(ZMQ_CURVE_SERVERKEY, serverKey.rawValue)
            try socket.setKey(ZMQ_CURVE_PUBLICKEY, keys.publicKey.rawValue)
            try socket.setKey(ZMQ_CURVE_SECRETKEY, keys.secretKey)
        }
    }

    static func bindError(_ endpoint: String, _ error: Int32) -> TransportError {
        let reason =
            switch error {
            case EADDRINUSE: "the port is in use; choose another one, or `*` for a free one"
            case EAFNOSUPPORT: "this host has no IPv6; see `ip addr`"
            case EADDRNOTAVAIL, ENODEV: "this host has no such address or interface; see `ip addr`"
            case EACCES: "ports below 1024 need privileges; choose a higher one"
            default: String(cString: zmq_strerror(error))
            }
        return TransportError(.bindFailed, "cannot listen on \(endpoint): \(reason)")
    }
}
