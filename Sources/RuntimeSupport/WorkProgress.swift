// SPDX-License-Identifier: Apache-2.0
internal import Synchronization

/// How far this process has got with whatever it does, in steps that last from microseconds to seconds: every parallel
/// loop, every layer that is loaded, every tensor that is written. Whoever watches it tells work from a standstill.
package enum WorkProgress {
    private static let steps = Atomic<UInt64>(0)

    /// Steps so far.
    package static var count: UInt64 { steps.load(ordering: .relaxed) }

    /// Counts one step; a few nanoseconds.
    @inline(__always)
    package static func note() { steps.wrappingAdd(1, ordering: .relaxed) }
}
