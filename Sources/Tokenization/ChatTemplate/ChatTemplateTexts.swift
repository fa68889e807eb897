// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// The chat templates of a model directory by name; most have one, `default`.
package struct ChatTemplateTexts: Sendable, Equatable {
    package static let defaultName = "default"
    private static let toolName = "tool_use"

    private var texts: [(name: String, text: String)] = []

    package init() {}

    /// One template without a name.
    package init(_ text: String) { texts = [(Self.defaultName, text)] }

    /// Reads `chat_template`: a text, or a list of objects with `name` and `template`.
    init(configuration value: JSONValue?) throws(TokenizerError) {
        if let text = value?.stringValue {
            texts = [(Self.defaultName, text)]
            return
        }
        for item in value?.arrayValue ?? [] {
            guard let name = item["name"]?.stringValue, let text = item["template"]?.stringValue else {
                throw TokenizerError(
                    code: .malformedFile, message: "expected a text, or a list of objects with name and template",
                    location: "\(TokenizerConfiguration.name): chat_template")
            }
            texts.append((name, text))
        }
    }

    package static func == (a: Self, b: Self) -> Bool {
        a.texts.elementsEqual(b.texts) {
            ExactText($0.name) == ExactText($1.name) && ExactText($0.text) == ExactText($1.text)
        }
    }

    package var isEmpty: Bool { texts.isEmpty }
    package var names: [String] { texts.map(\.name) }

    /// Adds the contents of a file. A byte order mark stays, as in transformers: it is written before the conversation.
    mutating func add(_ bytes: [UInt8], named name: String, location: String) throws(TokenizerError) {
        texts.append((name, try Self.text(bytes, location: location)))
    }

    /// Largest file that is read, in bytes.
    package static let fileByteCountMax = 4 << 20

    /// The text of a template's file: Jinja, or a JSON object with `chat_template` (`chat_template.json`).
    ///
    /// - Throws: ``TokenizerError`` where it cannot be read.
    package static func text(ofFile url: URL) throws -> String {
        let bytes = try TokenizerDirectory.contents(of: url, byteCountMax: fileByteCountMax)
        if url.pathExtension == "json", let text = (try? JSONValue(parsing: bytes))?["chat_template"]?.stringValue {
            return text
        }
        return try text(bytes, location: url.path)
    }

    private static func text(_ bytes: [UInt8], location: String) throws(TokenizerError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw TokenizerError(code: .malformedFile, message: "is not UTF-8", location: location)
        }
        return text
    }

    /// The template for a conversation: the one named, or else `tool_use` where there are tools, or else `default`.
    /// - Returns: nil where the directory has none that fits.
    package func text(named name: String? = nil, withTools: Bool = false) -> String? {
        func find(_ name: String) -> String? { texts.last { ExactText($0.name) == ExactText(name) }?.text }
        if let name { return find(name) }
        return (withTools ? find(Self.toolName) : nil) ?? find(Self.defaultName)
    }
}
