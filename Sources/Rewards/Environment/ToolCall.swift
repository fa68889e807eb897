// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// A call that a model wrote: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, the form of Qwen3's chat template.
package struct ToolCall: Equatable, Sendable {
    package let name: String
    package let arguments: ToolArguments

    package init(name: String, arguments: ToolArguments) {
        self.name = name
        self.arguments = arguments
    }

    static let open = "<tool_call>"
    static let close = "</tool_call>"
    /// Bytes of one call that are read; a longer one is refused, not parsed.
    static let byteCountMax = 64 << 10

    /// The calls of one turn in their order, outside of its thinking; an unclosed call ends with the text.
    package static func bodies(in turn: String) -> [String] {
        var rest = Substring(ThinkingBlock.answer(of: turn))
        var bodies: [String] = []
        while let start = rest.range(of: open) {
            rest = rest[start.upperBound...]
            let end = rest.range(of: close)
            bodies.append(String(rest[..<(end?.lowerBound ?? rest.endIndex)]).trimmed)
            rest = end.map { rest[$0.upperBound...] } ?? ""
        }
        return bodies
    }

    /// Reads the text between the tags.
    /// - Throws: one line that the model can act on.
    package init(_ body: String) throws(ToolError) {
        guard body.utf8.count <= Self.byteCountMax else {
            throw ToolError("the call has \(body.utf8.count) bytes; at most \(Self.byteCountMax)")
        }
        guard let object = try? JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any] else {
            throw ToolError("the call is not a JSON object with 'name' and 'arguments'")
        }
        guard let name = object["name"] as? String else { throw ToolError("the call has no 'name'") }
        guard let arguments = object["arguments"] as? [String: Any] else {
            throw ToolError("the call of '\(name)' has no object 'arguments'")
        }
        self.init(name: name, arguments: ToolArguments(arguments))
    }
}

/// What a tool could not do, in one line for the model.
package struct ToolError: Error, Equatable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Arguments of a call by name. Each value as canonical JSON, so that equal values compare equal.
package struct ToolArguments: Equatable, Sendable {
    private let values: [String: String]

    package init(_ object: [String: Any]) { values = object.mapValues(Self.canonical) }

    package var names: [String] { values.keys.sorted() }

    /// Canonical JSON of one value.
    package func json(_ name: String) -> String? { values[name] }

    /// A text, or a number or truth value as it reads.
    func text(_ name: String) throws(ToolError) -> String {
        guard let value = values[name] else { throw ToolError("the argument '\(name)' is missing") }
        guard value.hasPrefix("\"") else { return value }
        return (try? JSONDecoder().decode(String.self, from: Data(value.utf8))) ?? value
    }

    func integer(_ name: String, _ range: ClosedRange<Int>, default fallback: Int) throws(ToolError) -> Int {
        guard let value = values[name] else { return fallback }
        guard let number = Int(value), range.contains(number) else {
            throw ToolError(
                "the argument '\(name)' is \(value), not an integer of \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func requireOnly(_ known: [String]) throws(ToolError) {
        if let other = names.first(where: { !known.contains($0) }) {
            throw ToolError("unknown argument '\(other)'; expected \(known.joined(separator: ", "))")
        }
    }

    private static func canonical(_ value: Any) -> String {
        let data = try? JSONSerialization.data(
            withJSONObject: value, options: [.fragmentsAllowed, .sortedKeys, .withoutEscapingSlashes])
        return data.map { String(decoding: $0, as: UTF8.self) } ?? "null"
    }
}
