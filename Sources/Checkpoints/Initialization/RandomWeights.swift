// SPDX-License-Identifier: Apache-2.0
//
// Random weights that are a pure function of (seed, tensor name, element index), so that any part of any tensor
// can be made by anyone, in any order, with the same bits.
//
// The normal distribution is approximated by the sum of four uniform 16-bit integers (Irwin-Hall): integer
// arithmetic and one product, no libm. Mean and variance are exact; the excess kurtosis is -0.3 and no value lies
// beyond 3.46 standard deviations, which does for a start of training and keeps outliers away.
internal import RuntimeSupport
package import Tensors

/// The random values of one tensor.
package struct RandomWeights: Sendable {
    private let key: (UInt32, UInt32)
    private let nameHash: UInt64
    /// Turns a centred sum into a value.
    private let scale: Float

    /// `standardDeviation`: `initializer_range` of the configuration.
    package init(seed: UInt64, name: String, standardDeviation: Double) {
        key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        // FNV-1a, 64 bits: 37,000 names of the largest model collide with probability 4e-11.
        nameHash = name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        // Twice the sum of four uniform integers 0..<2^16 has the variance 4 * 4 * (2^32 - 1) / 12.
        scale = Float(standardDeviation / (4 * 4 * 4_294_967_295.0 / 12).squareRoot())
    }

    /// Elements 2·block and 2·block + 1.
    @inline(__always)
    private func pair(_ block: UInt64) -> (Float, Float) {
        let counter = (
            UInt32(truncatingIfNeeded: block), UInt32(truncatingIfNeeded: block >> 32),
            UInt32(truncatingIfNeeded: nameHash), UInt32(truncatingIfNeeded: nameHash >> 32)
        )
        let words = Philox.block(counter: counter, key: key)
        return (value(words.0, words.1), value(words.2, words.3))
    }

    @inline(__always)
    private func value(_ a: UInt32, _ b: UInt32) -> Float {
        let sum = (a & 0xFFFF) &+ (a >> 16) &+ (b & 0xFFFF) &+ (b >> 16)
        return Float(Int32(bitPattern: sum &* 2) &- 4 * 0xFFFF) * scale
    }

    /// Writes elements from `first` on, as many as fit into `bytes`, rounded to nearest even.
    /// `first` must be even.
    package func fill(_ bytes: UnsafeMutableRawBufferPointer, from first: Int, as elementType: ElementType) {
        precondition(first % 2 == 0, "first element \(first) is odd")
        switch elementType {
        case .float32: fill(bytes.bindMemory(to: UInt32.self), first) { $0.bitPattern }
        case .bfloat16: fill(bytes.bindMemory(to: UInt16.self), first, RandomWeights.bfloat16Bits)
        case .float16: fill(bytes.bindMemory(to: UInt16.self), first) { Float16($0).bitPattern }
        }
    }

    @inline(__always)
    private func fill<T>(_ target: UnsafeMutableBufferPointer<T>, _ first: Int, _ convert: (Float) -> T) {
        var block = UInt64(first / 2)
        var index = 0
        while index + 1 < target.count {
            let values = pair(block)
            target[index] = convert(values.0)
            target[index + 1] = convert(values.1)
            index += 2
            block += 1
        }
        if index < target.count { target[index] = convert(pair(block).0) }
    }

    /// Round to nearest even; the values are finite.
    @inline(__always)
    static func bfloat16Bits(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    }
}
