// SPDX-License-Identifier: Apache-2.0

/// What is wrong with a job file, an override or a row of data: one line that names what, where and the remedy.
package struct JobError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kind of problem. Stable: fit for a metric label.
    package enum Code: String, Sendable {
        case malformedYAML, unknownKey, missingKey, wrongType, invalidValue, malformedOverride, malformedRow
        case limitExceeded, fileSystem
    }

    package let code: Code
    /// The file, or nil when the text came from memory or an override.
    package let file: String?
    /// One line, with the key path and the line.
    package let message: String

    package init(_ code: Code, _ message: String, file: String? = nil) {
        self.code = code
        self.file = file
        self.message = message
    }

    package var description: String { file.map { "\($0): \(message)" } ?? message }
}
