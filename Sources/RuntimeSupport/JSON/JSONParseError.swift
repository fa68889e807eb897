// SPDX-License-Identifier: Apache-2.0

/// Why a text is not JSON, and where.
package struct JSONParseError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was wrong.
    package let message: String
    /// Offset in bytes from the start of the text.
    package let byteOffset: Int

    package var description: String { "not valid JSON at byte \(byteOffset): \(message)" }
}
