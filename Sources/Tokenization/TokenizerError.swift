// SPDX-License-Identifier: Apache-2.0

/// Why a tokenizer or a chat template could not be used.
package struct TokenizerError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of failure; new ones may be added.
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The stable name, fit for a metric label.
        package let name: String
        package var description: String { name }

        /// A file is missing or cannot be read.
        package static let unreadableFile = Code(name: "unreadable_file")
        /// A file is no JSON, or a field has the wrong form or contradicts another.
        package static let malformedFile = Code(name: "malformed_file")
        /// A field asks for something that is deliberately not implemented.
        package static let unsupportedFeature = Code(name: "unsupported_feature")
        /// The model has no chat template, or none of that name.
        package static let unknownTemplate = Code(name: "unknown_template")
        /// The chat template is no Jinja that can be read.
        package static let invalidTemplate = Code(name: "invalid_template")
        /// Messages or tools do not have the form which the template needs.
        package static let invalidMessages = Code(name: "invalid_messages")
        /// What the assistant wrote cannot be told from the rest of the text.
        package static let unlearnableTurns = Code(name: "unlearnable_turns")
        /// The tokenizer lacks a token that the caller needs.
        package static let missingToken = Code(name: "missing_token")
    }

    /// The kind of failure.
    package let code: Code
    /// What is wrong and what to do about it, in one line.
    package let message: String
    /// The file and field, or the message index.
    package let location: String

    package init(code: Code, message: String, location: String) {
        self.code = code
        self.message = message
        self.location = location
    }

    package var description: String { "\(location): \(message) [\(code.name)]" }
}
