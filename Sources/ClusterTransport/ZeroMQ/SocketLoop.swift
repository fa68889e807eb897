// SPDX-License-Identifier: Apache-2.0
//
// The body of the one socket thread of the process (`zmq-io`): commands from the outbox, timers, and every
// socket in one zmq_poll set. Nothing here sleeps except zmq_poll, and nothing here is touched by another
// thread.
internal import CZeroMQ
internal import DequeModule
internal import Glibc
internal import RuntimeSupport

/// Owns the context and all sockets. Lives on the socket thread.
final class SocketLoop {
    let context: UnsafeMutableRawPointer
    let outbox: Outbox
    /// Frame under way; one at a time.
    let scratch = UnsafeMutablePointer<zmq_msg_t>.allocate(capacity: 1)
    /// The transports of this process, oldest first.
    private(set) var nodes: [Node] = []
    /// When an exchange message was last sent or received.
    var lastExchangeNanoseconds: UInt64 = 0
    /// Set when `polled` or what a socket waits for has changed.
    var isPollSetStale = true

    private var polled: [PolledSocket] = []
    private var items: [zmq_pollitem_t] = []
    private var itemSockets: [PolledSocket] = []
    private var commands = Deque<Outbox.Command>()
    private var timers: [(due: UInt64, action: () -> Void)] = []
    private var isStopping = false
    private var monitorCount = 0

    init(context: UnsafeMutableRawPointer, outbox: Outbox) {
        self.context = context
        self.outbox = outbox
        zmq_msg_init(scratch)
    }

    deinit {
        zmq_msg_close(scratch)
        scratch.deallocate()
    }

    /// Runs until `stop`.
    func run() {
        while !isStopping {
            runCommands()
            fireTimers()
            if isStopping || spin() { continue }
            guard outbox.prepareToSleep() else { continue }
            pollOnce()
        }
        for socket in polled { socket.socket.close() }
        polled = []
    }

    /// Ends `run` after the current round.
    func stop() { isStopping = true }

    // MARK: Sockets, nodes, timers

    /// Puts a socket into the poll set.
    func add(_ socket: PolledSocket) {
        polled.append(socket)
        isPollSetStale = true
    }

    /// Closes a socket and takes it out of the poll set.
    func remove(_ socket: PolledSocket) {
        socket.socket.close()
        socket.onReadable = {}
        socket.onWritable = {}
        polled.removeAll { $0 === socket }
        isPollSetStale = true
    }

    func add(_ node: Node) { nodes.append(node) }

    func remove(_ node: Node) { nodes.removeAll { $0 === node } }

    /// Runs `action` on this thread after a delay.
    func schedule(afterMilliseconds delay: UInt64, _ action: @escaping () -> Void) {
        timers.append((MonotonicInstant.now.nanoseconds + delay * 1_000_000, action))
    }

    /// Watches `socket` through an inproc PAIR in the same poll set.
    func monitor(
        _ socket: ZMQSocket, onEvent: @escaping (_ event: Int32, _ value: UInt32) -> Void
    ) throws(TransportError) -> PolledSocket {
        monitorCount += 1
        let address = "inproc://monitor-\(monitorCount)"
        let events =
            ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED
            | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
            | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_ACCEPT_FAILED
        guard zmq_socket_monitor(socket.handle, address, events) == 0 else {
            throw TransportError(.system, "cannot monitor a socket: \(ZMQSocket.lastError)")
        }
        let watcher = try ZMQSocket(context: context, type: ZMQ_PAIR)
        watcher.set(ZMQ_LINGER, 0)
        // No limit: a full monitor makes libzmq's I/O thread wait for us, while we may wait for its monitor
        // lock.
        watcher.set(ZMQ_RCVHWM, 0)
        guard zmq_connect(watcher.handle, address) == 0 else {
            watcher.close()
            throw TransportError(.system, "cannot attach a socket monitor: \(ZMQSocket.lastError)")
        }
        let polled = PolledSocket(watcher, isMonitor: true)
        polled.onReadable = { [unowned self, unowned polled] in
            while !polled.socket.isClosed, let (event, value) = self.receiveEvent(polled.socket) {
                onEvent(event, value)
            }
        }
        add(polled)
        return polled
    }

    /// Closes a monitored socket and its monitor, in the order that cannot make an I/O thread wait for a
    /// reader.
    func remove(_ socket: PolledSocket, monitor: PolledSocket?) {
        if !socket.socket.isClosed { zmq_socket_monitor(socket.socket.handle, nil, 0) }
        remove(socket)
        if let monitor { remove(monitor) }
    }

    /// One monitor event: frame 1 is event u16 and value u32, frame 2 the endpoint.
    private func receiveEvent(_ socket: ZMQSocket) -> (Int32, UInt32)? {
        guard socket.receive(scratch) else { return nil }
        var event: Int32 = 0
        var value: UInt32 = 0
        if zmq_msg_size(scratch) >= 6, let data = zmq_msg_data(scratch) {
            event = Int32(data.loadUnaligned(as: UInt16.self))
            value = data.loadUnaligned(fromByteOffset: 2, as: UInt32.self)
        }
        drain(socket)
        return (event, value)
    }

    /// Drops the remaining frames of the message whose frame is in `scratch`.
    func drain(_ socket: ZMQSocket) {
        while zmq_msg_more(scratch) != 0 { if !socket.receive(scratch) { return } }
    }

    // MARK: One round

    private func runCommands() {
        outbox.take(&commands)
        while let command = commands.popFirst() {
            switch command {
            case .send(let link, let message): link.node?.enqueue(message, on: link)
            case .grant(let link, let isDialed): link.node?.grantCredit(link, isDialed: isDialed)
            case .perform(let body): body(self)
            }
        }
    }

    private func fireTimers() {
        guard !timers.isEmpty else { return }
        let now = MonotonicInstant.now.nanoseconds
        let due = timers.filter { $0.due <= now }
        guard !due.isEmpty else { return }
        timers.removeAll { $0.due <= now }
        for timer in due { timer.action() }
    }

    /// Looks for work without sleeping while exchange traffic is recent; true when some was found.
    private func spin() -> Bool {
        let spinNanoseconds = UInt64(nodes.reduce(0) { max($0, $1.configuration.spinMicroseconds) }) * 1000
        guard spinNanoseconds > 0 else { return false }
        let start = MonotonicInstant.now.nanoseconds
        guard start < lastExchangeNanoseconds + 1_000_000 else { return false }
        let critical = polled.filter { $0.isLatencyCritical && $0.wantsInput }
        while MonotonicInstant.now.nanoseconds < start + spinNanoseconds {
            if outbox.mayHaveCommands { return true }
            for socket in critical where socket.socket.events & ZMQ_POLLIN != 0 {
                socket.onReadable()
                return true
            }
        }
        return false
    }

    private func pollOnce() {
        if isPollSetStale { rebuildPollSet() }
        let result = zmq_poll(&items, Int32(items.count), timeoutMilliseconds())
        outbox.wake()
        guard result > 0 else { return }
        for index in 1..<items.count {
            let ready = items[index].revents
            let socket = itemSockets[index - 1]
            if ready & Int16(ZMQ_POLLIN) != 0 && !socket.socket.isClosed { socket.onReadable() }
            if ready & Int16(ZMQ_POLLOUT) != 0 && !socket.socket.isClosed { socket.onWritable() }
        }
    }

    private func timeoutMilliseconds() -> Int {
        // ROUTER has no per-peer writability, so blocked accepted peers are tried again each millisecond.
        if nodes.contains(where: { $0.hasBlockedLinks }) {
            for node in nodes { node.retryBlockedLinks() }
            return 1
        }
        guard let due = timers.map(\.due).min() else { return -1 }
        let now = MonotonicInstant.now.nanoseconds
        return due > now ? Int((due - now) / 1_000_000) + 1 : 0
    }

    private func rebuildPollSet() {
        isPollSetStale = false
        itemSockets =
            polled.filter { $0.isMonitor }
            + polled.filter { !$0.isMonitor && ($0.wantsInput || $0.wantsOutput) }
        items = [
            zmq_pollitem_t(socket: nil, fd: outbox.eventDescriptor, events: Int16(ZMQ_POLLIN), revents: 0)
        ]
        for socket in itemSockets {
            let events = (socket.wantsInput ? ZMQ_POLLIN : 0) | (socket.wantsOutput ? ZMQ_POLLOUT : 0)
            items.append(
                zmq_pollitem_t(socket: socket.socket.handle, fd: 0, events: Int16(events), revents: 0))
        }
    }
}
