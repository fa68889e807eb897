// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import DequeModule
internal import Glibc
internal import RuntimeSupport
internal import Synchronization

/// The way into the socket thread: a queue and an eventfd that sits in the thread's poll set.
///
/// Sends are bounded by each link's ``SendBudget`` before they get here, credit grants by one per link and
/// direction, and the rest are calls that wait for their answer; so the queue needs no limit of its own.
final class Outbox: Sendable {
    /// Something for the socket thread to do.
    enum Command: Sendable {
        case send(PeerLink, Message)
        case grant(PeerLink, isDialed: Bool)
        case perform(@Sendable (SocketLoop) -> Void)
    }

    private struct State {
        var commands = Deque<Command>()
        var isSleeping = false
    }

    private let state = Locked(State())
    private let hasCommands = Atomic(false)
    /// Readable when commands were pushed while the thread slept.
    let eventDescriptor: Int32

    init() {
        eventDescriptor = cp_eventfd()
        precondition(eventDescriptor >= 0, "eventfd failed with error \(errno)")
    }

    deinit { close(eventDescriptor) }

    /// Adds a command and wakes the thread if it sleeps.
    func push(_ command: Command) {
        let wasSleeping = state.withLock {
            $0.commands.append(command)
            let wasSleeping = $0.isSleeping
            $0.isSleeping = false
            return wasSleeping
        }
        // Released after the append; a spinning thread that sees it takes the lock anyway.
        hasCommands.store(true, ordering: .releasing)
        if wasSleeping { cp_eventfd_signal(eventDescriptor) }
    }

    /// Cheap hint for the spinning thread.
    var mayHaveCommands: Bool { hasCommands.load(ordering: .acquiring) }

    /// Exchanges the queued commands for the (empty) `buffer`.
    func take(_ buffer: inout Deque<Command>) {
        hasCommands.store(false, ordering: .relaxed)
        state.withLock { swap(&$0.commands, &buffer) }
    }

    /// Announces that the thread is about to sleep; false when there is work after all.
    func prepareToSleep() -> Bool {
        state.withLock {
            $0.isSleeping = $0.commands.isEmpty
            return $0.isSleeping
        }
    }

    /// The thread is awake: pushes need no signal.
    func wake() {
        state.withLock { $0.isSleeping = false }
        cp_eventfd_drain(eventDescriptor)
    }
}
