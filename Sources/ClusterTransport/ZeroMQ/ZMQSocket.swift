// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import Glibc

/// A libzmq socket. It is created, used and closed on the socket thread alone: "ØMQ sockets are not thread
/// safe. Applications MUST NOT use a socket from multiple threads" (http://api.zeromq.org/4-3:zmq-socket).
final class ZMQSocket {
    let handle: UnsafeMutableRawPointer
    private(set) var isClosed = false

    /// - Parameter type: ZMQ_ROUTER, ZMQ_DEALER, ZMQ_REP or ZMQ_PAIR.
    init(context: UnsafeMutableRawPointer, type: Int32) throws(TransportError) {
        guard let handle = zmq_socket(context, type) else {
            throw TransportError(.system, "cannot create a socket: \(DescriptorLimit.explain(zmq_errno()))")
        }
        self.handle = handle
    }

    /// Sets an integer option. Failure is a bug in the option or value.
    func set(_ option: Int32, _ value: Int32) {
        var value = value
        let result = zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size)
        precondition(result == 0, "option \(option) = \(value): \(ZMQSocket.lastError)")
    }

    /// Sets a 64-bit option.
    func set(_ option: Int32, long value: Int64) {
        var value = value
        let result = zmq_setsockopt(handle, option, &value, MemoryLayout<Int64>.size)
        precondition(result == 0, "option \(option) = \(value): \(ZMQSocket.lastError)")
    }

    /// Sets a text or bytes option.
    func set(_ option: Int32, bytes value: [UInt8]) {
        let result = value.withUnsafeBytes { zmq_setsockopt(handle, option, $0.baseAddress, $0.count) }
        precondition(result == 0, "option \(option) (\(value.count) bytes): \(ZMQSocket.lastError)")
    }

    /// Sets a key in Z85.
    func setKey(_ option: Int32, _ key: String) throws(TransportError) {
        let result = Array(key.utf8).withUnsafeBytes {
            zmq_setsockopt(handle, option, $0.baseAddress, $0.count)
        }
        guard result == 0 else {
            throw TransportError(.badKey, "libzmq refuses a key: it is not 40 characters of Z85")
        }
    }

    /// ZMQ_POLLIN and ZMQ_POLLOUT as they are now.
    var events: Int32 {
        var value: Int32 = 0
        var size = MemoryLayout<Int32>.size
        return zmq_getsockopt(handle, ZMQ_EVENTS, &value, &size) == 0 ? value : 0
    }

    /// The endpoint last bound, with the port the system chose.
    var lastEndpoint: String {
        var buffer = [UInt8](repeating: 0, count: 512)
        var size = buffer.count
        guard zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &buffer, &size) == 0 else { return "" }
        return String(decoding: buffer.prefix(max(0, size - 1)), as: UTF8.self)
    }

    /// Sends bytes by copy; 0 or the error number.
    func send(_ bytes: UnsafeRawBufferPointer, flags: Int32) -> Int32 {
        zmq_send(handle, bytes.baseAddress, bytes.count, flags) < 0 ? zmq_errno() : 0
    }

    /// Sends a payload. Small ones are copied, since a reference and a callback cost more; others are lent to
    /// libzmq, which calls back from any of its threads when it needs them no longer. 0 or the error number.
    func send(_ payload: Payload, flags: Int32, scratch: UnsafeMutablePointer<zmq_msg_t>) -> Int32 {
        guard payload.byteCount > 512, let base = payload.base else {
            return payload.withUnsafeBytes { send($0, flags: flags) }
        }
        let owner = Unmanaged.passRetained(payload.storage)
        let result = zmq_msg_init_data(
            scratch, UnsafeMutableRawPointer(mutating: base), payload.byteCount,
            { _, owner in if let owner { Unmanaged<PayloadStorage>.fromOpaque(owner).release() } },
            owner.toOpaque())
        guard result == 0 else {
            owner.release()
            return ENOMEM
        }
        guard zmq_msg_send(scratch, handle, flags) < 0 else { return 0 }
        let error = zmq_errno()
        zmq_msg_close(scratch)  // calls back
        return error
    }

    /// Receives one frame into `scratch` without waiting; false when there is none.
    func receive(_ scratch: UnsafeMutablePointer<zmq_msg_t>) -> Bool {
        while true {
            if zmq_msg_recv(scratch, handle, ZMQ_DONTWAIT) >= 0 { return true }
            if zmq_errno() != EINTR { return false }
        }
    }

    /// Closes the socket; what it has queued leaves within its linger time.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        zmq_close(handle)
    }

    /// Text of the calling thread's last libzmq error.
    static var lastError: String { String(cString: zmq_strerror(zmq_errno())) }
}

/// A socket in the poll set with what to do when it is ready.
final class PolledSocket {
    let socket: ZMQSocket
    /// Polled before others, so that a broken connection is known before later messages are read.
    let isMonitor: Bool
    /// Looked at while the thread spins.
    let isLatencyCritical: Bool
    var wantsInput = true
    var wantsOutput = false
    var onReadable: () -> Void = {}
    var onWritable: () -> Void = {}

    init(_ socket: ZMQSocket, isMonitor: Bool = false, isLatencyCritical: Bool = false) {
        self.socket = socket
        self.isMonitor = isMonitor
        self.isLatencyCritical = isLatencyCritical
    }
}
