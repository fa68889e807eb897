// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
package import Foundation

/// A fixture's safetensors file, read as Swift arrays.
package struct FixtureTensors {
    private let file: SafetensorsFile

    package init(_ url: URL) throws { file = try SafetensorsFile(url) }

    package var names: [String] { file.tensorNames }

    package func contains(_ name: String) -> Bool { file.header[name] != nil }

    package func shape(_ name: String) throws -> [Int] { try file.tensor(name).shape }

    package func floats(_ name: String) throws -> [Float] { try elements(name, .float32, Float.self) }

    package func doubles(_ name: String) throws -> [Double] { try elements(name, .float64, Double.self) }

    package func integers(_ name: String) throws -> [Int32] { try elements(name, .int32, Int32.self) }

    package func halfWords(_ name: String) throws -> [UInt16] { try elements(name, .bfloat16, UInt16.self) }

    private func elements<T: BitwiseCopyable>(
        _ name: String, _ type: SafetensorsDataType, _: T.Type
    ) throws -> [T] {
        let view = try file.tensor(name)
        guard view.dataType == type else {
            throw CheckpointError(
                .inconsistentCheckpoint, "has dtype \(view.dataType.rawValue), expected \(type.rawValue)",
                file: file.url.path, tensor: name)
        }
        return view.withBytes { bytes in
            (0..<view.elementCount).map {
                bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.stride, as: T.self)
            }
        }
    }
}
