// SPDX-License-Identifier: Apache-2.0

/// A value of a job file that remembers where it was written.
package struct YAMLNode: Equatable, Sendable {
    /// Where a value comes from.
    package enum Origin: Equatable, Sendable {
        /// Line of the file, from 1.
        case line(Int)
        /// An override, as the user wrote it.
        case override(String)
        /// A default that derives from the checkpoint, and from what of it.
        case checkpoint(String)
    }

    /// A key and its value.
    package struct Entry: Equatable, Sendable {
        package var key: String
        package var keyOrigin: Origin
        package var value: YAMLNode

        package init(key: String, keyOrigin: Origin, value: YAMLNode) {
            self.key = key
            self.keyOrigin = keyOrigin
            self.value = value
        }
    }

    /// The three shapes. Scalars keep the text as written, so that `on`, `007` and `1e-4` mean what their key
    /// wants.
    package enum Content: Equatable, Sendable {
        /// `isPlain`: written without quotes.
        case scalar(String, isPlain: Bool)
        case sequence([YAMLNode])
        case mapping([Entry])
    }

    package var content: Content
    package var origin: Origin

    package init(_ content: Content, _ origin: Origin) {
        self.content = content
        self.origin = origin
    }

    /// True for an empty value, `~` or `null`: read as if the key were absent.
    package var isNull: Bool {
        guard case .scalar(let text, isPlain: true) = content else { return false }
        return text.isEmpty || text == "~" || text == "null"
    }

    /// What this is, for messages.
    package var kind: String {
        switch content {
        case .scalar(let text, _): "'\(text)'"
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }
}
