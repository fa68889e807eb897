// SPDX-License-Identifier: Apache-2.0

/// The element types a weight or activation may have in Apus.
package enum ElementType: String, Sendable, Hashable, CaseIterable {
    case float32 = "F32"
    case bfloat16 = "BF16"
    case float16 = "F16"

    /// Bytes of one element.
    package var byteCount: Int { self == .float32 ? 4 : 2 }
}

/// The arithmetic of a job, independent of how its weights are stored: `compute: fp32 | bf16`.
package enum ComputeType: String, Sendable, Hashable, CaseIterable, Codable {
    case fp32
    case bf16
}
