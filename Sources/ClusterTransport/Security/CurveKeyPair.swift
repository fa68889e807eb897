// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ

/// A CURVE key pair in Z85 form. Its description never shows the secret half.
package struct CurveKeyPair: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible {
    /// Characters of a key in Z85.
    package static let keyCharacterCount = 40

    /// The public key, which is also the endpoint's identity.
    package let publicKey: PeerIdentity
    /// The secret key, 40 characters. Never on a command line, in a log or on the wire.
    package let secretKey: String

    /// A new random pair.
    ///
    /// - throws: ``TransportError`` with code `system` when libzmq was built without CURVE.
    package static func generate() throws(TransportError) -> CurveKeyPair {
        var publicKey = [CChar](repeating: 0, count: keyCharacterCount + 1)
        var secretKey = publicKey
        guard zmq_curve_keypair(&publicKey, &secretKey) == 0 else {
            throw TransportError(.system, "this libzmq has no CURVE; install a build with libsodium")
        }
        return CurveKeyPair(
            publicKey: PeerIdentity(string(publicKey)), uncheckedSecretKey: string(secretKey))
    }

    /// Derives the public half.
    ///
    /// - throws: ``TransportError`` with code `badKey` when `secretKey` is not 40 characters of Z85.
    package init(secretKey: String) throws(TransportError) {
        var publicKey = [CChar](repeating: 0, count: Self.keyCharacterCount + 1)
        guard Self.isKey(secretKey), zmq_curve_public(&publicKey, secretKey) == 0 else {
            throw TransportError(.badKey, "the secret key is not 40 characters of Z85")
        }
        self.init(publicKey: PeerIdentity(Self.string(publicKey)), uncheckedSecretKey: secretKey)
    }

    private init(publicKey: PeerIdentity, uncheckedSecretKey: String) {
        self.publicKey = publicKey
        secretKey = uncheckedSecretKey
    }

    /// Whether `text` is a key in Z85.
    package static func isKey(_ text: String) -> Bool {
        guard text.utf8.count == keyCharacterCount else { return false }
        var bytes = [UInt8](repeating: 0, count: 32)
        return text.utf8.allSatisfy { alphabet.contains($0) } && zmq_z85_decode(&bytes, text) != nil
    }

    /// Z85 text of 32 bytes.
    static func encode(_ bytes: UnsafePointer<UInt8>) -> String {
        var text = [CChar](repeating: 0, count: keyCharacterCount + 1)
        zmq_z85_encode(&text, bytes, 32)
        return string(text)
    }

    package var description: String { "CurveKeyPair(\(publicKey.rawValue))" }
    package var debugDescription: String { description }

    private static let alphabet = Set(
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#".utf8)

    private static func string(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
