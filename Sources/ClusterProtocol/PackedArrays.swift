// SPDX-License-Identifier: Apache-2.0
//
// Arrays travel as little-endian bytes: a protobuf `repeated float` would be copied element by element.
package import Foundation

extension Data {
    /// Little-endian bytes of `values`.
    package init(littleEndian values: [Int32]) {
        self = values.withUnsafeBytes { Data($0) }  // every supported machine is little-endian
    }

    /// Little-endian bit patterns of `values`.
    package init(littleEndian values: [Float]) {
        self = values.withUnsafeBytes { Data($0) }
    }

    /// The int32 elements; trailing bytes that are no whole element are ignored.
    package var int32Elements: [Int32] { elements(of: Int32.self, zero: 0) }

    /// The float32 elements; trailing bytes that are no whole element are ignored.
    package var floatElements: [Float] { elements(of: Float.self, zero: 0) }

    private func elements<T>(of type: T.Type, zero: T) -> [T] {
        let count = self.count / MemoryLayout<T>.size
        var result = [T](repeating: zero, count: count)
        result.withUnsafeMutableBytes { target in
            withUnsafeBytes { source in
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source.prefix(target.count)))
            }
        }
        return result
    }
}
