// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import RuntimeSupport
internal import Synchronization

/// The process's one socket thread with its one libzmq context, shared by all transports of the process.
///
/// One context, because in libzmq 4.3.4 terminating a context can crash another one that uses libsodium
/// (libzmq #4242). The thread starts with the first transport and ends with the last; the next one starts
/// afresh.
final class SocketThread: Sendable {
    private struct Shared {
        var thread: SocketThread?
        var userCount = 0
    }

    /// I/O threads inside libzmq; CURVE encrypts on them.
    static let ioThreadCount: Int32 = 2

    private static let shared = Locked(Shared())
    /// Tests only: starts the thread without a ZAP handler.
    static let omitsZAPHandler = Atomic(false)

    let outbox = Outbox()
    private let thread: DedicatedThread

    private init(context: SendableContext) {
        let outbox = outbox
        thread = DedicatedThread.start(name: "zmq-io") {
            let loop = SocketLoop(context: context.pointer, outbox: outbox)
            // The ZAP handler exists before any server socket can: without one, libzmq lets every key in.
            let zap = ZAPHandler(loop: loop)
            if !SocketThread.omitsZAPHandler.load(ordering: .relaxed) { zap.start() }
            loop.run()
            withExtendedLifetime(zap) {}
            // Sleeps until what is queued has left or its linger time is over.
            zmq_ctx_term(context.pointer)
        }
    }

    private struct SendableContext: @unchecked Sendable {
        // @unchecked: "A ØMQ context is thread safe" (http://api.zeromq.org/4-3:zmq-ctx-new).
        let pointer: UnsafeMutableRawPointer
    }

    /// The shared thread, started if need be. Balance with `release`.
    static func acquire() throws(TransportError) -> SocketThread {
        try shared.withLock { (state) throws(TransportError) -> SocketThread in
            let thread: SocketThread
            if let running = state.thread { thread = running } else { thread = try start() }
            state.thread = thread
            state.userCount += 1
            return thread
        }
    }

    private static func start() throws(TransportError) -> SocketThread {
        DescriptorLimit.raise()
        guard let context = zmq_ctx_new() else {
            throw TransportError(.system, "cannot create a libzmq context: \(ZMQSocket.lastError)")
        }
        zmq_ctx_set(context, ZMQ_IO_THREADS, ioThreadCount)
        // A dialled peer takes nine sockets: three channels, each with its monitor's two ends.
        zmq_ctx_set(context, ZMQ_MAX_SOCKETS, zmq_ctx_get(context, ZMQ_SOCKET_LIMIT))
        return SocketThread(context: SendableContext(pointer: context))
    }

    /// Gives the thread up; the last user waits until it has ended, at most the linger time.
    static func release() {
        shared.withLock { state in
            state.userCount -= 1
            guard state.userCount == 0, let thread = state.thread else { return }
            thread.perform { $0.stop() }
            thread.thread.join()
            state.thread = nil
        }
    }

    /// Whether the caller is the socket thread.
    var isCurrent: Bool { thread.isCurrent }

    /// Runs `body` on the socket thread some time later.
    func perform(_ body: @escaping @Sendable (SocketLoop) -> Void) { outbox.push(.perform(body)) }

    /// Runs `body` on the socket thread and waits until it has called its completion with a result.
    func call<R: Sendable>(_ body: @escaping @Sendable (SocketLoop, @escaping @Sendable (R) -> Void) -> Void)
        -> R
    {
        precondition(!isCurrent, "a handler on the socket thread may not wait for it")
        let answer = BoundedQueue<R>(itemCountMax: 1, byteCountMax: 1)
        perform { loop in body(loop) { _ = answer.tryPush($0) } }
        while true { if let result = answer.pop() { return result } }
    }
}
