// SPDX-License-Identifier: Apache-2.0
import CPlatform

/// A point on the monotonic clock, in nanoseconds. Wall clocks decide nothing in Apus.
package struct MonotonicInstant: Hashable, Comparable, Sendable {
    package var nanoseconds: UInt64

    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Reads the machine's monotonic clock. Pure code takes instants as arguments instead.
    package static var now: MonotonicInstant { MonotonicInstant(nanoseconds: cp_monotonic_nanoseconds()) }

    /// Later than any wait lasts: for waits that end by an event alone.
    package static let distantFuture = MonotonicInstant(nanoseconds: UInt64(Int64.max))

    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }

    package func advanced(byMilliseconds milliseconds: UInt64) -> Self {
        Self(nanoseconds: nanoseconds + milliseconds * 1_000_000)
    }

    /// Milliseconds from `earlier` to this instant; 0 when `earlier` is later.
    package func milliseconds(since earlier: Self) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? (nanoseconds - earlier.nanoseconds) / 1_000_000 : 0
    }
}
