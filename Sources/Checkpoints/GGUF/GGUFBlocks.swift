// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of quantised blocks, product by product as ggml's reference has it, so that every value has the same
// bits: a scale is the fp32 product of its parts, a value is scale · q or scale · q - minimum without a fused step.

/// Turns stored blocks into fp32 numbers.
package enum GGUFBlocks {
    /// Decodes whole blocks.
    /// - Parameters:
    ///   - source: a whole number of blocks of `type`, which must be readable.
    ///   - target: takes exactly their elements.
    package static func decode(
        _ type: GGUFTensorType, _ source: UnsafeRawBufferPointer, into target: UnsafeMutableBufferPointer<Float>
    ) {
        precondition(
            source.count % type.blockByteCount == 0, "\(source.count) bytes are no whole blocks of \(type.name)")
        let count = source.count / type.blockByteCount
        precondition(target.count == count * type.blockElementCount, "\(target.count) elements for \(count) blocks")
        guard let input = source.baseAddress, let output = target.baseAddress else { return }
        func blocks(_ body: (UnsafeRawPointer, UnsafeMutablePointer<Float>) -> Void) {
            for index in 0..<count {
                body(input + index * type.blockByteCount, output + index * type.blockElementCount)
            }
        }
        switch type {
        case .f32: UnsafeMutableRawBufferPointer(target).copyMemory(from: source)
        case .f16: blocks { $1.pointee = half($0, 0) }
        case .bf16: blocks { $1.pointee = Float(bitPattern: UInt32($0.loadUnaligned(as: UInt16.self)) << 16) }
        case .q80: blocks(q80)
        case .q40: blocks { nibbles($0 + 2, scale: half($0, 0), bias: 8, $1) }
        case .q41: blocks { nibbles($0 + 4, scale: half($0, 0), minimum: half($0, 2), $1) }
        case .q50: blocks { fiveBits($0 + 2, scale: half($0, 0), bias: 16, $1) }
        case .q51: blocks { fiveBits($0 + 4, scale: half($0, 0), minimum: half($0, 2), $1) }
        case .q2K: blocks(q2K)
        case .q3K: blocks(q3K)
        case .q4K: blocks(q4K)
        case .q5K: blocks(q5K)
        case .q6K: blocks(q6K)
        default: preconditionFailure("\(type.name) is not decoded")
        }
    }

    /// The fp16 number at `offset`.
    @inline(__always)
    static func half(_ block: UnsafeRawPointer, _ offset: Int) -> Float {
        Float(Float16(bitPattern: block.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
    }

    @inline(__always)
    static func byte(_ block: UnsafeRawPointer, _ offset: Int) -> UInt8 {
        block.load(fromByteOffset: offset, as: UInt8.self)
    }
}

// MARK: - Blocks of 32

extension GGUFBlocks {
    private static func q80(_ block: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>) {
        let scale = half(block, 0)
        for index in 0..<32 {
            target[index] = Float(block.load(fromByteOffset: 2 + index, as: Int8.self)) * scale
        }
    }

    /// 16 bytes of low and high halves: elements 0 to 15 and 16 to 31.
    private static func nibbles(
        _ bytes: UnsafeRawPointer, scale: Float, bias: Int32, _ target: UnsafeMutablePointer<Float>
    ) {
        for index in 0..<16 {
            let pair = Int32(byte(bytes, index))
            target[index] = scale * Float((pair & 15) - bias)
            target[index + 16] = scale * Float((pair >> 4) - bias)
        }
    }

    private static func nibbles(
        _ bytes: UnsafeRawPointer, scale: Float, minimum: Float, _ target: UnsafeMutablePointer<Float>
    ) {
        for index in 0..<16 {
            let pair = Int32(byte(bytes, index))
            target[index] = scale * Float(pair & 15) + minimum
            target[index + 16] = scale * Float(pair >> 4) + minimum
        }
    }

    /// 32 fifth bits before 16 bytes of halves.
    @inline(__always)
    private static func fiveBit(_ bytes: UnsafeRawPointer, _ high: UInt32, _ index: Int) -> (Int32, Int32) {
        let pair = Int32(byte(bytes, 4 + index))
        return (
            pair & 15 | Int32(high >> UInt32(index) & 1) << 4,
            pair >> 4 | Int32(high >> UInt32(index + 16) & 1) << 4
        )
    }

    private static func fiveBits(
        _ bytes: UnsafeRawPointer, scale: Float, bias: Int32, _ target: UnsafeMutablePointer<Float>
    ) {
        let high = UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self))
        for index in 0..<16 {
            let (low, upper) = fiveBit(bytes, high, index)
            target[index] = scale * Float(low - bias)
            target[index + 16] = scale * Float(upper - bias)
        }
    }

    private static func fiveBits(
        _ bytes: UnsafeRawPointer, scale: Float, minimum: Float, _ target: UnsafeMutablePointer<Float>
    ) {
        let high = UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self))
        for index in 0..<16 {
            let (low, upper) = fiveBit(bytes, high, index)
            target[index] = scale * Float(low) + minimum
            target[index + 16] = scale * Float(upper) + minimum
        }
    }
}
