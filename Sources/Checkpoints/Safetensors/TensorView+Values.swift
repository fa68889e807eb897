// SPDX-License-Identifier: Apache-2.0
//
// A file may hold a weight in another type than the model's, or quantised: read as values, it is what transformers
// makes of it when it loads the checkpoint.
internal import CKernels
package import Tensors

/// Factors of the blocks of a quantised matrix.
package struct BlockScales: Sendable {
    /// Rows and columns of a block; the last ones may be cut off.
    let blockRows: Int
    let blockColumns: Int
    /// Blocks side by side.
    let columns: Int
    /// Rows of the matrix before the first one of the view.
    var firstRow = 0
    /// Row-major, one per block.
    let values: [Float]
}

extension TensorView {
    /// Lends the elements as values of ``elementType()``: the file's own bytes where they are of that type, otherwise a
    /// converted copy, rounded to nearest even. Use unaligned loads.
    /// - Throws: `inconsistentCheckpoint` for types that no weight has.
    package func withValues<R>(_ body: (UnsafeRawBufferPointer, ElementType) throws -> R) throws -> R {
        let type = try elementType()
        if dataType.elementType == type { return try withBytes { try body($0, type) } }
        let count = elementCount
        let converted = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, count * type.byteCount), alignment: 64)
        defer { converted.deallocate() }
        let target = converted.baseAddress!
        withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.pieceCount) { piece in
            withBytes { bytes in
                for first in stride(from: 0, to: count, by: Self.pieceCount) {
                    let number = min(Self.pieceCount, count - first)
                    // The float type itself needs no way through the piece.
                    let wide =
                        type == .float32
                        ? (target + first * 4).assumingMemoryBound(to: Float.self) : piece.baseAddress!
                    widen(bytes, first, number, into: wide)
                    switch type {
                    case .float32: break
                    case .bfloat16:
                        ck_f32_to_bf16(wide, Int64(number), (target + first * 2).assumingMemoryBound(to: UInt16.self))
                    case .float16:
                        ck_f32_to_f16(wide, Int64(number), (target + first * 2).assumingMemoryBound(to: UInt16.self))
                    }
                }
            }
        }
        return try body(UnsafeRawBufferPointer(start: target, count: count * type.byteCount), type)
    }

    /// Elements that are converted at a time.
    private static let pieceCount = 16_384

    /// Writes the values of `count` elements from `first` on.
    private func widen(
        _ bytes: UnsafeRawBufferPointer, _ first: Int, _ count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        func shorts(_ body: (UnsafePointer<UInt16>) -> Void) {
            let source = bytes.baseAddress! + first * 2
            if Int(bitPattern: source) % 2 == 0 { return body(source.assumingMemoryBound(to: UInt16.self)) }
            withUnsafeTemporaryAllocation(of: UInt16.self, capacity: count) { aligned in
                UnsafeMutableRawPointer(aligned.baseAddress!).copyMemory(from: source, byteCount: count * 2)
                body(aligned.baseAddress!)
            }
        }
        switch dataType {
        case .bfloat16: shorts { ck_bf16_to_f32($0, Int64(count), target) }
        case .float16: shorts { ck_f16_to_f32($0, Int64(count), target) }
        case .float8E4M3: dequantize(bytes, first, count, into: target)
        default:
            UnsafeMutableRawPointer(target).copyMemory(from: bytes.baseAddress! + first * 4, byteCount: count * 4)
        }
    }

    private func dequantize(
        _ bytes: UnsafeRawBufferPointer, _ first: Int, _ count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        guard let scales else { preconditionFailure("\(name) has no scales") }
        let width = shape.last ?? 1
        Self.float8Values.withUnsafeBufferPointer { table in
            var index = 0
            while index < count {
                let (row, column) = ((first + index) / width, (first + index) % width)
                let blockColumn = column / scales.blockColumns
                let end = min(count, index + min(width, (blockColumn + 1) * scales.blockColumns) - column)
                let scale = scales.values[(scales.firstRow + row) / scales.blockRows * scales.columns + blockColumn]
                while index < end {
                    target[index] = table[Int(bytes[first + index])] * scale
                    index += 1
                }
            }
        }
    }

    /// Of E4M3 without infinities: sign, four bits of exponent with bias 7, three of fraction; all ones is NaN.
    private static let float8Values: [Float] = (0..<256).map { bits in
        let (exponent, fraction) = (bits >> 3 & 15, Float(bits & 7))
        let sign: Float = bits & 128 == 0 ? 1 : -1
        if bits & 127 == 127 { return .nan }
        if exponent == 0 { return sign * fraction * 0x1p-9 }
        return sign * Float(sign: .plus, exponent: exponent - 7, significand: 1 + fraction / 8)
    }
}
