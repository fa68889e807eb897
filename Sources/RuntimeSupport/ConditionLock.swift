// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A POSIX mutex with one condition variable: the meeting point of threads that must wait for one another.
/// (`Synchronization.Mutex` has no way to wait.)
package final class ConditionLock: @unchecked Sendable {
    // @unchecked: the pointers are set once; the objects behind them are made for use from any thread.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func lock() { pthread_mutex_lock(mutex) }
    package func unlock() { pthread_mutex_unlock(mutex) }
    package func broadcast() { pthread_cond_broadcast(condition) }
    package func signal() { pthread_cond_signal(condition) }

    /// Runs `body` with the lock held.
    package func withLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }

    /// Releases the lock, waits for a wake-up, takes the lock again. May return without a reason: test in a loop.
    package func wait() { pthread_cond_wait(condition, mutex) }

    /// As ``wait()``, at most until `deadline`; false when the deadline passed.
    package func wait(until deadline: MonotonicInstant) -> Bool {
        var time = timespec(
            tv_sec: Int(deadline.nanoseconds / 1_000_000_000), tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
        return pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
    }
}
