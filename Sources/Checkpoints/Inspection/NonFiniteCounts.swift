// SPDX-License-Identifier: Apache-2.0

/// How many elements of a tensor are not numbers.
package struct NonFiniteCounts: Hashable, Sendable {
    package var nanCount = 0
    package var infinityCount = 0

    package var isFinite: Bool { nanCount == 0 && infinityCount == 0 }

    /// Counts NaN and infinity of the types F16, BF16, F32 and F64; other types count as finite.
    package init(_ bytes: UnsafeRawBufferPointer, dataType: SafetensorsDataType) {
        switch dataType {
        case .float16: count(bytes, UInt16.self, exponentMask: 0x7C00)
        case .bfloat16: count(bytes, UInt16.self, exponentMask: 0x7F80)
        case .float32: count(bytes, UInt32.self, exponentMask: 0x7F80_0000)
        case .float64: count(bytes, UInt64.self, exponentMask: 0x7FF0_0000_0000_0000)
        default: break
        }
    }

    @inline(__always)
    private mutating func count<T: FixedWidthInteger & UnsignedInteger>(
        _ bytes: UnsafeRawBufferPointer, _: T.Type, exponentMask: T
    ) {
        let size = MemoryLayout<T>.size
        let magnitudeMask = T.max >> 1
        for offset in stride(from: 0, to: bytes.count - size + 1, by: size) {
            let magnitude = bytes.loadUnaligned(fromByteOffset: offset, as: T.self) & magnitudeMask
            if magnitude > exponentMask {
                nanCount += 1
            } else if magnitude == exponentMask {
                infinityCount += 1
            }
        }
    }
}
