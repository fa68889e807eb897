// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// The receiving side's account for one connection: how many bytes the sender has in our memory, and how many
/// were released and not yet granted back. Grants are batched to a quarter of the window, so at rest a sender
/// always holds more than three quarters of it.
final class CreditAccount: Sendable {
    private struct State {
        var held = 0
        var releasable = 0
        var isScheduled = false
    }

    let windowByteCount: Int
    private let state = Locked(State())
    private let onGrant: @Sendable () -> Void

    /// - Parameter onGrant: called on the releasing thread when a grant is due; must only enqueue.
    init(windowByteCount: Int, onGrant: @escaping @Sendable () -> Void) {
        self.windowByteCount = windowByteCount
        self.onGrant = onGrant
    }

    /// Starts a session: what was released is forgotten, and the result is what the sender may use from now
    /// on.
    func openSession() -> Int {
        state.withLock {
            $0 = State(held: $0.held)
            return max(0, windowByteCount - $0.held)
        }
    }

    /// Charges an arriving message; false when the sender exceeds what it was granted.
    func charge(_ byteCount: Int) -> Bool {
        state.withLock {
            $0.held += byteCount
            return $0.held + $0.releasable <= windowByteCount
        }
    }

    /// Returns `byteCount` bytes, from any thread.
    func release(_ byteCount: Int) {
        let isDue = state.withLock {
            $0.held -= byteCount
            $0.releasable += byteCount
            if $0.isScheduled || $0.releasable < windowByteCount / 4 { return false }
            $0.isScheduled = true
            return true
        }
        if isDue { onGrant() }
    }

    /// Takes what can be granted now.
    func takeGrant() -> Int {
        state.withLock {
            let grant = $0.releasable
            $0 = State(held: $0.held)
            return grant
        }
    }
}

/// Held by every payload of one received message; dropping the last one returns the message's credit.
final class CreditToken: Sendable {
    private let account: CreditAccount
    private let byteCount: Int

    init(account: CreditAccount, byteCount: Int) {
        self.account = account
        self.byteCount = byteCount
    }

    deinit { account.release(byteCount) }
}
