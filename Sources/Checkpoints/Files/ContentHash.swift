// SPDX-License-Identifier: Apache-2.0
internal import Crypto

/// The SHA-256 of some bytes.
package struct ContentHash: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// 64 lower-case hexadecimal digits.
    package let hexadecimal: String

    /// Nil unless `hexadecimal` is 64 lower-case hexadecimal digits.
    package init?(_ hexadecimal: String) {
        let digits = hexadecimal.utf8
        guard digits.count == 64,
            digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { return nil }
        self.hexadecimal = hexadecimal
    }

    fileprivate init(digest: SHA256Digest) {
        let digits = Array("0123456789abcdef".utf8)
        hexadecimal = String(
            decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    package init(of bytes: UnsafeRawBufferPointer) {
        var hasher = ContentHasher()
        hasher.update(bytes)
        self = hasher.finish()
    }

    package init(of bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { ContentHash(of: $0) }
    }

    /// Reads a whole file of any size in pieces, giving its memory back as it goes.
    package init(of file: MappedFile) {
        let step = 64 << 20
        var hasher = ContentHasher()
        file.advise(.sequential)
        var start = 0
        while start < file.byteCount {
            let range = start..<min(start + step, file.byteCount)
            file.withBytes(range) { hasher.update($0) }
            file.dropPages(range)
            start = range.upperBound
        }
        file.advise(.normal)
        self = hasher.finish()
    }

    package static func < (a: Self, b: Self) -> Bool { a.hexadecimal < b.hexadecimal }

    package var description: String { hexadecimal }
}

/// Computes a ``ContentHash`` piece by piece.
package struct ContentHasher {
    private var state = SHA256()

    package init() {}

    package mutating func update(_ bytes: UnsafeRawBufferPointer) { state.update(bufferPointer: bytes) }

    package func finish() -> ContentHash { ContentHash(digest: state.finalize()) }
}
