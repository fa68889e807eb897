// SPDX-License-Identifier: Apache-2.0

/// A value behind a POSIX lock, for locks that threads contend for.
///
/// Like `Synchronization.Mutex`, whose waiting path lies in an uninstrumented library: ThreadSanitizer does
/// not see that path and reports races inside `withLock` under contention. It does see POSIX locks.
package final class Locked<Value>: @unchecked Sendable {
    // @unchecked: `value` is protected by `lock`.
    private let lock = ConditionLock()
    private var value: Value

    /// Protects `value`.
    package init(_ value: sending Value) { self.value = value }

    /// Runs `body` with exclusive access. Not recursive.
    package func withLock<R, E: Error>(_ body: (inout Value) throws(E) -> R) throws(E) -> R {
        try lock.withLock { () throws(E) -> R in try body(&value) }
    }
}
