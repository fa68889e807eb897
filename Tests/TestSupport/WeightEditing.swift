// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Damages checkpoints in a chosen tensor.
package enum WeightEditing {
    /// Writes `value` over the first `count` elements of a tensor of a safetensors file (BF16 or F32); nil: over all.
    package static func fill(_ file: URL, _ tensor: String, with value: Float, count: Int? = nil) throws {
        var data = try Data(contentsOf: file)
        let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        let header = try JSONSerialization.jsonObject(with: data[8..<8 + length]) as? [String: Any] ?? [:]
        guard let entry = header[tensor] as? [String: Any], let dtype = entry["dtype"] as? String,
            let offsets = entry["data_offsets"] as? [Int]
        else { throw CocoaError(.fileReadCorruptFile) }
        let size = dtype == "BF16" ? 2 : 4
        let bits = dtype == "BF16" ? value.bitPattern >> 16 : value.bitPattern
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: bits >> (8 * UInt32($0))) }
        let elements = (offsets[1] - offsets[0]) / size
        for element in 0..<min(count ?? elements, elements) {
            let at = 8 + length + offsets[0] + element * size
            data.replaceSubrange(at..<at + size, with: bytes)
        }
        try data.write(to: file)
    }
}
