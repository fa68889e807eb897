// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A lock with one condition variable, for the few places where a thread must sleep until another one acts.
///
/// Everything that never waits uses `Synchronization.Mutex`. Never wait on a cooperative-pool thread.
package final class ConditionLock: @unchecked Sendable {
    // @unchecked: both pointers are set once and point to objects that POSIX lets any thread use.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// Creates an unlocked lock whose timed waits follow the monotonic clock.
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

    /// Runs `body` while holding the lock. Not recursive.
    package func withLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Sleeps until woken. The caller holds the lock and tests its predicate in a loop (wake-ups may be
    /// spurious).
    package func wait() { pthread_cond_wait(condition, mutex) }

    /// Sleeps until woken or until `deadline`; false when the deadline passed. The caller holds the lock.
    package func wait(until deadline: MonotonicInstant) -> Bool {
        var time = timespec(
            tv_sec: Int(deadline.nanoseconds / 1_000_000_000),
            tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
        return pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
    }

    /// Wakes one waiter.
    package func signal() { pthread_cond_signal(condition) }

    /// Wakes all waiters.
    package func broadcast() { pthread_cond_broadcast(condition) }
}
