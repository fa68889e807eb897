// SPDX-License-Identifier: Apache-2.0
import Foundation

/// Writes GGUF files of a test's own making, well formed or not.
struct GGUFBytes {
    var version: UInt32 = 3
    var magic = "GGUF"
    /// Instead of the true ones.
    var tensorCount: UInt64?
    var keyCount: UInt64?
    private(set) var metadata: [[UInt8]] = []
    private(set) var tensors: [[UInt8]] = []
    var alignment = 32
    var data: [UInt8] = []

    static func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian, Array.init)
    }
    static func text(_ value: String) -> [UInt8] { little(UInt64(value.utf8.count)) + Array(value.utf8) }

    mutating func key(_ name: String, kind: UInt32, _ bytes: [UInt8]) {
        metadata.append(Self.text(name) + Self.little(kind) + bytes)
    }
    mutating func key(_ name: String, _ value: String) { key(name, kind: 8, Self.text(value)) }
    mutating func key(_ name: String, _ value: UInt32) { key(name, kind: 4, Self.little(value)) }
    mutating func key(_ name: String, _ value: Float) { key(name, kind: 6, Self.little(value.bitPattern)) }
    mutating func key(_ name: String, _ values: [String]) {
        key(name, kind: 9, Self.little(UInt32(8)) + Self.little(UInt64(values.count)) + values.flatMap(Self.text))
    }
    /// Puts other bytes in the place of the last key and its value.
    mutating func replaceLastKey(_ bytes: [UInt8]) { metadata[metadata.count - 1] = bytes }
    /// `extents` as in the file: innermost first.
    mutating func tensor(_ name: String, _ extents: [UInt64], type: UInt32 = 0, offset: UInt64) {
        tensors.append(
            Self.text(name) + Self.little(UInt32(extents.count)) + extents.flatMap(Self.little) + Self.little(type)
                + Self.little(offset))
    }

    var bytes: [UInt8] {
        var bytes = Array(magic.utf8) + Self.little(version) + Self.little(tensorCount ?? UInt64(tensors.count))
        bytes += Self.little(keyCount ?? UInt64(metadata.count))
        bytes += metadata.flatMap(\.self) + tensors.flatMap(\.self)
        bytes += Array(repeating: 0, count: (alignment - bytes.count % alignment) % alignment)
        return bytes + data
    }
}
