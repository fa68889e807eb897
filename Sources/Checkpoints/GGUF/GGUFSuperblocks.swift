// SPDX-License-Identifier: Apache-2.0

// MARK: - Blocks of 256, with scales of their parts

extension GGUFBlocks {
    /// 16 scales and minima of 4 bits, 64 bytes of 2 bits, scale, minimum.
    static func q2K(_ block: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>) {
        let (scale, minimum) = (half(block, 80), half(block, 82))
        for group in 0..<16 {
            let packed = byte(block, group)
            let (d, m) = (scale * Float(packed & 15), minimum * Float(packed >> 4))
            // Half h of the block has 32 bytes, of which each holds one element of four rows of 32.
            let bytes = 16 + group / 8 * 32 + group % 2 * 16
            let shift = UInt8(group % 8 / 2 * 2)
            for index in 0..<16 {
                target[group * 16 + index] = d * Float(byte(block, bytes + index) >> shift & 3) - m
            }
        }
    }

    /// 32 bytes of third bits, 64 bytes of 2 bits, 16 scales of 6 bits in 12 bytes, scale.
    static func q3K(_ block: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>) {
        let scale = half(block, 108)
        for group in 0..<16 {
            let low = byte(block, 96 + group % 8) >> UInt8(group / 8 * 4) & 15
            let high = byte(block, 104 + group % 4) >> UInt8(group / 4 * 2) & 3
            let d = scale * Float(Int32(low | high << 4) - 32)
            let bytes = 32 + group / 8 * 32 + group % 2 * 16
            let shift = UInt8(group % 8 / 2 * 2)
            let mask = UInt8(1) << UInt8(group / 2)
            for index in 0..<16 {
                let bits = Int32(byte(block, bytes + index) >> shift & 3)
                // The offset is 4 where the third bit is not set.
                let offset: Int32 = byte(block, group % 2 * 16 + index) & mask == 0 ? 4 : 0
                target[group * 16 + index] = d * Float(bits - offset)
            }
        }
    }

    /// Scale and minimum, 6 bits each, of part `index` of 8; `bytes` are the 12 that hold them.
    @inline(__always)
    private static func scaleAndMinimum(_ bytes: UnsafeRawPointer, _ index: Int) -> (UInt8, UInt8) {
        if index < 4 { return (byte(bytes, index) & 63, byte(bytes, index + 4) & 63) }
        let mixed = byte(bytes, index + 4)
        return (
            mixed & 15 | byte(bytes, index - 4) >> 2 & 48,
            mixed >> 4 | byte(bytes, index) >> 2 & 48
        )
    }

    /// Scale, minimum, 12 bytes of scales and minima, 128 bytes of halves.
    static func q4K(_ block: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>) {
        let (scale, minimum) = (half(block, 0), half(block, 2))
        for part in 0..<8 {
            let (s, m) = scaleAndMinimum(block + 4, part)
            let (d, least) = (scale * Float(s), minimum * Float(m))
            let bytes = 16 + part / 2 * 32
            let shift = UInt8(part % 2 * 4)
            for index in 0..<32 {
                target[part * 32 + index] = d * Float(byte(block, bytes + index) >> shift & 15) - least
            }
        }
    }

    /// As Q4_K, with 32 bytes of fifth bits before the halves.
    static func q5K(_ block: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>) {
        let (scale, minimum) = (half(block, 0), half(block, 2))
        for part in 0..<8 {
            let (s, m) = scaleAndMinimum(block + 4, part)
            let (d, least) = (scale * Float(s), minimum * Float(m))
            let bytes = 48 + part / 2 * 32
            let shift = UInt8(part % 2 * 4)
            for index in 0..<32 {
                let high = byte(block, 16 + index) >> UInt8(part) & 1
                target[part * 32 + index] = d * Float(byte(block, bytes + index) >> shift & 15 | high << 4) - least
            }
        }
    }

    /// 128 bytes of halves, 64 bytes of 2 upper bits, 16 signed scales, scale.
    static func q6K(_ block: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>) {
        let scale = half(block, 208)
        for part in 0..<8 {
            // Half h of the block: 64 bytes with rows 0, 1 below and 2, 3 above; 32 bytes with two bits of each row.
            let (side, row) = (part / 4, part % 4)
            let low = side * 64 + row % 2 * 32
            let high = 128 + side * 32
            for index in 0..<32 {
                let d = scale * Float(block.load(fromByteOffset: 192 + part * 2 + index / 16, as: Int8.self))
                let q =
                    byte(block, low + index) >> UInt8(row / 2 * 4) & 15
                    | (byte(block, high + index) >> UInt8(row * 2) & 3) << 4
                target[part * 32 + index] = d * Float(Int32(q) - 32)
            }
        }
    }
}
