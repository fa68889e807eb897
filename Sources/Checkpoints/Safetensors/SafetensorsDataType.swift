// SPDX-License-Identifier: Apache-2.0
package import Tensors

/// The element types that the safetensors format (library 0.8) knows, in the library's order, which decides the
/// order of tensors inside a file.
package enum SafetensorsDataType: String, Sendable, Hashable, CaseIterable {
    case bool = "BOOL"
    case float4 = "F4"
    case float6E2M3 = "F6_E2M3"
    case float6E3M2 = "F6_E3M2"
    case uint8 = "U8"
    case int8 = "I8"
    case float8E5M2 = "F8_E5M2"
    case float8E4M3 = "F8_E4M3"
    case float8E8M0 = "F8_E8M0"
    case float8E4M3FNUZ = "F8_E4M3FNUZ"
    case float8E5M2FNUZ = "F8_E5M2FNUZ"
    case int16 = "I16"
    case uint16 = "U16"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case int32 = "I32"
    case uint32 = "U32"
    case float32 = "F32"
    case complex64 = "C64"
    case float64 = "F64"
    case int64 = "I64"
    case uint64 = "U64"

    /// The type of a weight of Apus.
    package init(_ elementType: ElementType) {
        switch elementType {
        case .float32: self = .float32
        case .bfloat16: self = .bfloat16
        case .float16: self = .float16
        }
    }

    /// The same type as one that a weight of Apus may have, or nil.
    package var elementType: ElementType? {
        switch self {
        case .float32: .float32
        case .bfloat16: .bfloat16
        case .float16: .float16
        default: nil
        }
    }

    /// Bits of one element; several F4 or F6 elements share a byte.
    package var bitCount: Int {
        switch self {
        case .float4: 4
        case .float6E2M3, .float6E3M2: 6
        case .bool, .uint8, .int8, .float8E5M2, .float8E4M3, .float8E8M0, .float8E4M3FNUZ, .float8E5M2FNUZ: 8
        case .int16, .uint16, .float16, .bfloat16: 16
        case .int32, .uint32, .float32: 32
        case .complex64, .float64, .int64, .uint64: 64
        }
    }

    /// Position in the library's order.
    var rank: Int { Self.allCases.firstIndex(of: self)! }

    /// Bytes of a tensor of this type and shape.
    /// - Returns: nil when a product overflows or the bits do not fill whole bytes.
    package func byteCount(shape: [Int]) -> Int? {
        var count = 1
        for extent in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            if overflow || extent < 0 { return nil }
            count = product
        }
        let (bits, overflow) = count.multipliedReportingOverflow(by: bitCount)
        return overflow || bits % 8 != 0 ? nil : bits / 8
    }
}
