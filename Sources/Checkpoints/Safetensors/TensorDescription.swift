// SPDX-License-Identifier: Apache-2.0
package import Tensors

/// Name, type and shape of a tensor that is to be written or is expected.
package struct TensorDescription: Hashable, Sendable {
    package let name: String
    package let dataType: SafetensorsDataType
    /// Row-major.
    package let shape: [Int]

    package init(name: String, dataType: SafetensorsDataType, shape: [Int]) {
        self.name = name
        self.dataType = dataType
        self.shape = shape
    }

    package init(name: String, elementType: ElementType, shape: [Int]) {
        self.init(name: name, dataType: SafetensorsDataType(elementType), shape: shape)
    }

    package var elementCount: Int { shape.reduce(1, *) }
    /// Bytes it takes; 0 for a shape that no memory can hold, which every reader and writer refuses before.
    package var byteCount: Int { dataType.byteCount(shape: shape) ?? 0 }
}
