// SPDX-License-Identifier: Apache-2.0
//
// Scalars in TensorBoard's own format: a TFRecord file (length, masked CRC-32C of the length, bytes, masked CRC-32C of the
// bytes) of `Event` messages (tensorflow/core/util/event.proto). The few fields that scalars need are written by hand.
internal import Foundation
internal import RuntimeSupport

/// Records of an event file.
enum TensorBoardFile {
    /// TensorBoard finds files by "tfevents" in their name.
    static let name = "events.out.tfevents.0.apus"

    /// What a file begins with.
    static var beginning: [UInt8] {
        var event = Data()
        event.append(tag: 1, fixed64: 0)
        event.append(tag: 3, bytes: Data("brain.Event:2".utf8))
        return record(event)
    }

    /// One step's scalars. The time is the step's number: files of a run carry no clock.
    static func event(step: Int, _ values: [String: Double]) -> [UInt8] {
        var summary = Data()
        for name in values.keys.sorted() {
            var value = Data()
            value.append(tag: 1, bytes: Data(name.utf8))
            value.append(tag: 2, fixed32: Float(values[name]!).bitPattern)
            summary.append(tag: 1, bytes: value)
        }
        var event = Data()
        event.append(tag: 1, fixed64: Double(step).bitPattern)
        event.append(tag: 2, varint: UInt64(step))
        event.append(tag: 5, bytes: summary)
        return record(event)
    }

    private static func record(_ event: Data) -> [UInt8] {
        var data = Data()
        var length = Data()
        withUnsafeBytes(of: UInt64(event.count).littleEndian) { length.append(contentsOf: $0) }
        for part in [length, event] {
            data.append(part)
            let sum = CRC32C.of(Array(part))
            // Masked, since checksums of data that holds checksums are weak (leveldb's crc32c.h).
            let masked = ((sum >> 15) | (sum << 17)) &+ 0xa282_ead8
            withUnsafeBytes(of: masked.littleEndian) { data.append(contentsOf: $0) }
        }
        return [UInt8](data)
    }
}

/// Fields of the protobuf wire format.
extension Data {
    fileprivate mutating func append(varint value: UInt64) {
        var value = value
        while value >= 0x80 {
            append(UInt8(value & 0x7f) | 0x80)
            value >>= 7
        }
        append(UInt8(value))
    }

    fileprivate mutating func append(tag: UInt64, varint value: UInt64) {
        append(varint: tag << 3)
        append(varint: value)
    }

    fileprivate mutating func append(tag: UInt64, fixed64 value: UInt64) {
        append(varint: tag << 3 | 1)
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }

    fileprivate mutating func append(tag: UInt64, fixed32 value: UInt32) {
        append(varint: tag << 3 | 5)
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }

    fileprivate mutating func append(tag: UInt64, bytes: Data) {
        append(varint: tag << 3 | 2)
        append(varint: UInt64(bytes.count))
        append(bytes)
    }
}
