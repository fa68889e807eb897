// SPDX-License-Identifier: Apache-2.0

/// When an unanswered dispatch is repeated. An owner that has much to do answers late; asking it again early would only
/// give it more to do. So the time follows how long answers took of late, upwards at once and downwards slowly.
struct ResendTimer {
    /// Longest time of all.
    static let millisecondsMax: UInt64 = 60_000

    private let base: UInt64
    private var recent: Double = 0

    /// - Parameter base: milliseconds before anything is known, and at least.
    init(base: UInt64) { self.base = base }

    /// An answer came so long after its request was first sent. Of a repeated request nobody knows which copy was answered:
    /// the first sending gives the longer time, which is the safe side.
    mutating func note(milliseconds: UInt64) {
        recent = max(Double(milliseconds), recent * 0.875 + Double(milliseconds) * 0.125)
    }

    /// Milliseconds until a request that was sent `count` times before is repeated.
    func delay(sent count: Int) -> UInt64 {
        let shift = UInt64(min(count, 3))
        let first = max(base, UInt64(min(2 * recent, Double(Self.millisecondsMax))))
        return max(base << shift, min(first << shift, Self.millisecondsMax))
    }
}
