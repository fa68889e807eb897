// SPDX-License-Identifier: Apache-2.0
package import Checkpoints
internal import Foundation
package import Tensors

extension TensorView {
    /// - Throws: ``CheckpointError`` when the shape is not `expected`.
    func requireShape(_ expected: [Int]) throws(CheckpointError) {
        guard shape == expected else {
            throw CheckpointError(
                .inconsistentCheckpoint, "has shape \(shape), expected \(expected) by config.json",
                file: file.url.path, tensor: name)
        }
    }

    /// Lends the elements of a weight, aligned for their type, and drops the mapped pages afterwards.
    ///
    /// - Throws: ``CheckpointError`` when the shape is not `shape` or the type is none that a weight may have.
    package func withFloatBytes<R>(
        shape expected: [Int], _ body: (UnsafeRawPointer, ElementType) throws -> R
    ) throws -> R {
        try requireShape(expected)
        defer { dropPages() }
        return try withValues { bytes, type in
            guard let base = bytes.baseAddress else { return try body(UnsafeRawPointer(bitPattern: 64)!, type) }
            if Int(bitPattern: base) % type.byteCount == 0 { return try body(base, type) }
            // Other writers do not pad their headers, so the data may start at an odd address.
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
            defer { copy.deallocate() }
            copy.copyMemory(from: bytes)
            return try body(UnsafeRawPointer(copy.baseAddress!), type)
        }
    }
}
