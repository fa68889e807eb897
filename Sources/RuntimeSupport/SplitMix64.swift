// SPDX-License-Identifier: Apache-2.0

/// Random choices that a seed repeats, for simulations and plans: Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators" (2014). What a model samples comes from ``Philox`` instead, which has a place for every draw.
package struct SplitMix64: Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 0x1234_5678 }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    package mutating func pick(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(next() % UInt64(range.upperBound - range.lowerBound + 1))
    }

    package mutating func happens(oneIn count: Int) -> Bool { next() % UInt64(count) == 0 }

    /// Above 0, at most 1.
    package mutating func unit() -> Double { (Double(next() >> 11) + 1) / 9_007_199_254_740_992 }
}
