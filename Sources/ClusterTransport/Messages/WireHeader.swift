// SPDX-License-Identifier: Apache-2.0
//
// Every transport message starts with a frame of exactly 24 bytes, little endian:
//   0 magic "APT1" (4)   4 kind (1)   5 zero (1)   6 part count (2)   8 session (8)   16 value (8)
// `session` is drawn by the dialling side for each connection; frames of an earlier connection are dropped by
// it.

/// The first frame of every transport message.
struct WireHeader: Equatable {
    /// What the message is for.
    enum Kind: UInt8 {
        /// Application parts follow; `value` is their total in bytes.
        case data = 1
        /// Opens a session in both directions; `value` is the credit in bytes that the receiver of it may
        /// use.
        case hello = 2
        /// Returns credit; `value` is the number of bytes.
        case credit = 3
    }

    static let byteCount = 24
    private static let magic: UInt32 = 0x3154_5041

    var kind: Kind
    var partCount: UInt16 = 0
    var session: UInt64
    var value: UInt64

    init(kind: Kind, partCount: UInt16 = 0, session: UInt64, value: UInt64) {
        self.kind = kind
        self.partCount = partCount
        self.session = session
        self.value = value
    }

    /// Decodes a header; nil when the frame is not one.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.byteCount,
            UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)) == Self.magic,
            let kind = Kind(rawValue: bytes[4]), bytes[5] == 0
        else { return nil }
        self.kind = kind
        partCount = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
        session = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        value = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        if kind != .data && partCount != 0 { return nil }
    }

    /// Writes the 24 bytes.
    func encode(into bytes: UnsafeMutableRawBufferPointer) {
        precondition(bytes.count >= Self.byteCount, "\(bytes.count) bytes cannot hold a header")
        bytes.storeBytes(of: Self.magic.littleEndian, as: UInt32.self)
        bytes[4] = kind.rawValue
        bytes[5] = 0
        bytes.storeBytes(of: partCount.littleEndian, toByteOffset: 6, as: UInt16.self)
        bytes.storeBytes(of: session.littleEndian, toByteOffset: 8, as: UInt64.self)
        bytes.storeBytes(of: value.littleEndian, toByteOffset: 16, as: UInt64.self)
    }
}
