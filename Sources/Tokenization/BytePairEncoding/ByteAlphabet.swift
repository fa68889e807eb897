// SPDX-License-Identifier: Apache-2.0

/// The printable stand-ins of the 256 bytes in vocabulary files (GPT-2's `bytes_to_unicode`): printable
/// Latin-1 characters stand for themselves, the others for U+0100 upwards in order.
enum ByteAlphabet {
    /// The stand-in of each byte.
    static let scalars: [UInt32] = {
        var next: UInt32 = 256
        return (0..<256).map { (byte: UInt32) in
            if (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte) {
                return byte
            }
            next += 1
            return next - 1
        }
    }()

    /// The byte of each stand-in below U+0144; -1 where there is none.
    private static let bytes: [Int16] = {
        var table = [Int16](repeating: -1, count: 0x144)
        for (byte, scalar) in scalars.enumerated() { table[Int(scalar)] = Int16(byte) }
        return table
    }()

    /// The bytes that a vocabulary entry stands for; `nil` when a character is no stand-in.
    static func bytes(of entry: String) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(entry.utf8.count)
        for scalar in entry.unicodeScalars {
            guard scalar.value < 0x144, bytes[Int(scalar.value)] >= 0 else { return nil }
            result.append(UInt8(bytes[Int(scalar.value)]))
        }
        return result
    }
}
