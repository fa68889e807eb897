// SPDX-License-Identifier: Apache-2.0

/// What a wire or a disk may do to bytes: every truncation, and every change of a single byte.
package enum Damage {
    /// All proper prefixes.
    package static func truncations(_ bytes: [UInt8]) -> some Sequence<[UInt8]> {
        bytes.indices.lazy.map { Array(bytes[..<$0]) }
    }

    /// Every byte with each of `masks` flipped.
    package static func flips(_ bytes: [UInt8], masks: [UInt8] = Array(1...255)) -> some Sequence<[UInt8]> {
        (0..<bytes.count * masks.count).lazy.map { place in
            var changed = bytes
            changed[place / masks.count] ^= masks[place % masks.count]
            return changed
        }
    }

    /// One flip of each bit, and all bits at once: for formats whose decoder is too slow for all 255 values.
    package static let bits: [UInt8] = (0..<8).map { 1 << $0 } + [255]
}
