// SPDX-License-Identifier: Apache-2.0

/// A CURVE key pair on disk, mode 0600: two lines, `public KEY` and `secret KEY`; a line
/// that starts with `# ` is a comment.
package enum KeyFile {
    private static let byteCountMax = 4096

    /// Writes `keys` atomically with mode 0600, replacing what was there.
    ///
    /// - throws: ``TransportError`` with code `fileAccess`.
    package static func write(_ keys: CurveKeyPair, to path: String) throws(TransportError) {
        try PrivateFile.write(
            "# CURVE key pair. Keep the secret line secret.\n"
                + "public \(keys.publicKey.rawValue)\nsecret \(keys.secretKey)\n",
            to: path)
    }

    /// Reads a key pair and checks that its halves belong together.
    ///
    /// - throws: ``TransportError``: `filePermissions` when others may read the file, `fileAccess`, `badKey`.
    package static func read(_ path: String) throws(TransportError) -> CurveKeyPair {
        try parse(try PrivateFile.read(path, byteCountMax: byteCountMax), path)
    }

    /// Reads the content of a key file; `path` names it in errors.
    static func parse(_ text: String, _ path: String) throws(TransportError) -> CurveKeyPair {
        var found: [String: String] = [:]
        for (number, fields) in KeyLines.parse(text) {
            guard fields.count == 2, ["public", "secret"].contains(fields[0]), found[fields[0]] == nil else {
                throw TransportError(
                    .badKey, "\(path):\(number): expected one `public KEY` and one `secret KEY` line")
            }
            found[fields[0]] = fields[1]
        }
        guard let secret = found["secret"] else {
            throw TransportError(.badKey, "\(path) has no `secret KEY` line")
        }
        guard let keys = try? CurveKeyPair(secretKey: secret) else {
            throw TransportError(.badKey, "\(path): the secret key is not 40 characters of Z85")
        }
        guard found["public"].map({ $0 == keys.publicKey.rawValue }) ?? true else {
            throw TransportError(.badKey, "\(path): the public key does not belong to the secret key")
        }
        return keys
    }
}

/// Lines of words. In Z85 `#` is a digit, so only a lone `#` as the first word makes a line a comment.
enum KeyLines {
    /// The non-empty lines as (line number from 1, words).
    static func parse(_ text: String) -> [(number: Int, fields: [String])] {
        text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().compactMap { index, line in
            let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\r" }).map(
                String.init)
            return fields.isEmpty || fields[0] == "#" ? nil : (index + 1, fields)
        }
    }
}
