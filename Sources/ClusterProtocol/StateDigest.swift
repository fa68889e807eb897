// SPDX-License-Identifier: Apache-2.0
internal import Crypto
package import Foundation

/// One hash over the checksums of a whole training state, in a fixed order.
package enum StateDigest {
    /// SHA-256 over the words, little-endian.
    package static func of(_ checksums: some Sequence<UInt32>) -> Data {
        var hash = SHA256()
        for word in checksums { withUnsafeBytes(of: word.littleEndian) { hash.update(bufferPointer: $0) } }
        return Data(hash.finalize())
    }
}
