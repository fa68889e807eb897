// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// The random stream of one rollout: every draw is a pure function of what it is for, never of the worker, the
/// attempt or the job that draws.
package struct RolloutRandom: Hashable, Sendable {
    /// What a draw is for, so that two uses at one position never share bits.
    package enum Purpose: UInt32, Sendable { case token = 0, environment = 1, data = 2 }

    package let runSeed: UInt64
    package let step: UInt32
    package let prompt: UInt32
    package let sibling: UInt16
    package let resampleRound: UInt16

    package init(runSeed: UInt64, step: UInt32 = 0, prompt: UInt32, sibling: UInt16, resampleRound: UInt16 = 0) {
        self.runSeed = runSeed
        self.step = step
        self.prompt = prompt
        self.sibling = sibling
        self.resampleRound = resampleRound
    }

    /// A number in [0, 1) with 53 random bits.
    package func uniform(position: Int, _ purpose: Purpose = .token) -> Double {
        let words = Philox.block(
            counter: (
                prompt, UInt32(truncatingIfNeeded: position), UInt32(sibling) << 16 | UInt32(resampleRound),
                step << 4 | purpose.rawValue
            ),
            key: (UInt32(truncatingIfNeeded: runSeed), UInt32(truncatingIfNeeded: runSeed >> 32)))
        return Double((UInt64(words.0) << 32 | UInt64(words.1)) >> 11) * 0x1p-53
    }
}
