// SPDX-License-Identifier: Apache-2.0
internal import CPlatform

/// CRC-32C, the checksum of frames and journal records.
package struct CRC32C: Sendable {
    package private(set) var value: UInt32 = 0

    package init() {}

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        value = cp_crc32c(value, base, bytes.count)
    }

    package static func of(_ bytes: [UInt8]) -> UInt32 {
        var checksum = CRC32C()
        bytes.withUnsafeBytes { checksum.update($0) }
        return checksum.value
    }
}
