// SPDX-License-Identifier: Apache-2.0
internal import Foundation
package import Tensors

/// A tensor, or a contiguous part of one, inside a mapped file. Keeps the mapping alive.
package struct TensorView: Sendable {
    /// The name under which it was asked for.
    package let name: String
    package let dataType: SafetensorsDataType
    /// Row-major.
    package let shape: [Int]
    package let file: MappedFile
    /// Where its bytes lie in the file. The start may be unaligned for the element type: other writers do not
    /// pad their headers.
    package let byteRange: Range<Int>
    /// What its elements are read as where the file has another type; nil: as stored.
    var valueType: ElementType?
    /// Of a quantised matrix.
    var scales: BlockScales?

    package var byteCount: Int { byteRange.count }
    package var elementCount: Int { shape.reduce(1, *) }

    /// The type of its values.
    /// - Throws: `inconsistentCheckpoint` for integers and other types that no weight has.
    package func elementType() throws -> ElementType {
        guard let elementType = valueType ?? dataType.elementType else {
            throw CheckpointError(
                .inconsistentCheckpoint, "has dtype \(dataType.rawValue), expected F32, BF16 or F16",
                file: file.url.path, tensor: name,
                remedy: "convert the checkpoint")
        }
        return elementType
    }

    /// Lends the bytes as they are stored; the pointer is valid only inside `body`. Use unaligned loads.
    package func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try file.withBytes(byteRange, body)
    }

    /// Asks the kernel to read the bytes ahead.
    package func willNeed() { file.advise(.willNeed, byteRange) }

    /// Gives the memory back that reading the tensor took; the view stays usable.
    package func dropPages() { file.dropPages(byteRange) }

    /// The part with leading index in `rows`; for `[R, …]` of whole-byte elements a view `[rows.count, …]`.
    package func rows(_ rows: Range<Int>, name: String? = nil) -> TensorView {
        precondition(!shape.isEmpty && dataType.bitCount % 8 == 0, "\(self.name) \(shape) has no rows")
        precondition(rows.lowerBound >= 0 && rows.upperBound <= shape[0], "rows \(rows) of \(shape)")
        let rowByteCount = shape.dropFirst().reduce(dataType.bitCount / 8, *)
        let start = byteRange.lowerBound + rows.lowerBound * rowByteCount
        var scales = scales
        scales?.firstRow += rows.lowerBound
        return TensorView(
            name: name ?? self.name, dataType: dataType, shape: [rows.count] + shape.dropFirst(), file: file,
            byteRange: start..<start + rows.count * rowByteCount, valueType: valueType, scales: scales)
    }

    /// The same bytes as another shape of equally many elements.
    package func reshaped(_ shape: [Int], name: String? = nil) -> TensorView {
        precondition(shape.reduce(1, *) == elementCount, "\(self.shape) cannot become \(shape)")
        return TensorView(
            name: name ?? self.name, dataType: dataType, shape: shape, file: file, byteRange: byteRange,
            valueType: valueType, scales: scales)
    }
}
