// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Bytes that may wait here for one peer and channel: taken by senders, returned by the socket thread.
final class SendBudget: @unchecked Sendable {
    // @unchecked: every `var` is protected by `lock`.
    private let lock = ConditionLock()
    private let byteCountMax: Int
    private var used = 0
    private var isClosed = false
    private var hasRefused = false
    private var waiterCount = 0

    enum Outcome { case granted, full, closed }

    init(byteCountMax: Int) { self.byteCountMax = byteCountMax }

    /// Bytes waiting now.
    var usedByteCount: Int { lock.withLock { used } }

    /// Takes `byteCount`, sleeping until `deadline` when one is given.
    func take(_ byteCount: Int, until deadline: MonotonicInstant? = nil) -> Outcome {
        lock.withLock {
            while !isClosed && used > 0 && used + byteCount > byteCountMax {
                guard let deadline else {
                    hasRefused = true
                    return .full
                }
                waiterCount += 1
                let isInTime = lock.wait(until: deadline)
                waiterCount -= 1
                if !isInTime {
                    hasRefused = true
                    return .full
                }
            }
            if isClosed { return .closed }
            used += byteCount
            return .granted
        }
    }

    /// Returns `byteCount`; true when a refused sender should hear that half of the room is free again.
    func release(_ byteCount: Int) -> Bool {
        lock.withLock {
            used -= byteCount
            if waiterCount > 0 { lock.broadcast() }
            guard hasRefused && used <= byteCountMax / 2 else { return false }
            hasRefused = false
            return true
        }
    }

    /// Refuses everything from now on and wakes all waiters.
    func close() {
        lock.withLock {
            isClosed = true
            lock.broadcast()
        }
    }
}
