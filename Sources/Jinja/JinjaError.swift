// SPDX-License-Identifier: Apache-2.0

/// Why a template could not be read or rendered.
package struct JinjaError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of failure.
    package enum Kind: String, Sendable {
        /// The text is no template.
        case syntax
        /// The template met values that it cannot work with; Python's Jinja fails at the same place.
        case runtime
        /// The template itself refused, by `raise_exception`.
        case raised
        /// A bound of ``JinjaLimits`` was reached.
        case limit
    }

    package let kind: Kind
    package let message: String
    /// The line of the template, counted from 1; 0 where none is known.
    package let line: Int

    package init(kind: Kind, message: String, line: Int = 0) {
        self.kind = kind
        self.message = message
        self.line = line
    }

    package var description: String { line > 0 ? "line \(line): \(message)" : message }

    static func runtime(_ message: String) -> JinjaError { JinjaError(kind: .runtime, message: message) }
}

/// Bounds of one rendering, so that a template from anywhere can be rendered.
package struct JinjaLimits: Sendable {
    /// Units of work: one for each expression and statement, one more for each 64 bytes that it makes or reads.
    package var steps: Int
    /// Bytes of output, and of any one string.
    package var outputBytes: Int
    /// Levels of expressions, blocks and macro calls within each other.
    package var depth: Int

    /// Less than a tenth of a second of work; conversations of some thousand messages need less.
    package init(steps: Int = 1_000_000, outputBytes: Int = 4 << 20, depth: Int = 600) {
        self.steps = steps
        self.outputBytes = outputBytes
        self.depth = depth
    }
}
