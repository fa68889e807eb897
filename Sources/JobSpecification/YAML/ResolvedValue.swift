// SPDX-License-Identifier: Apache-2.0

/// A value of a resolved job, and its one spelling in YAML: keys sorted by bytes, floats in the shortest form
/// that reads back to the same bits, strings quoted unless they are plainly words.
package indirect enum ResolvedValue: Equatable, Sendable {
    case integer(Int)
    case number(Double)
    case boolean(Bool)
    case string(String)
    case list([ResolvedValue])
    case mapping([String: ResolvedValue])

    /// A mapping of the present values.
    package static func section(_ members: [String: ResolvedValue?]) -> ResolvedValue {
        .mapping(members.compactMapValues { $0 })
    }

    /// The document, ending in a newline.
    package var yaml: String {
        var text = ""
        switch self {
        case .mapping(let members) where !members.isEmpty: Self.write(members, into: &text, indentation: 0)
        default:
            text += inline
            text += "\n"
        }
        return text
    }

    private static func write(_ members: [String: ResolvedValue], into text: inout String, indentation: Int) {
        let margin = String(repeating: "  ", count: indentation)
        for key in members.keys.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
            text += "\(margin)\(word(key)):"
            switch members[key] {
            case .mapping(let inner) where !inner.isEmpty:
                text += "\n"
                write(inner, into: &text, indentation: indentation + 1)
            case .list(let values) where values.contains(where: \.isComposite):
                text += "\n"
                for value in values { text += "\(margin)  - \(value.inline)\n" }
            case .some(let value): text += " \(value.inline)\n"
            case .none: break
            }
        }
    }

    private var isComposite: Bool {
        switch self {
        case .mapping, .list: true
        default: false
        }
    }

    /// The value on one line, cut where it is long.
    package var brief: String {
        let text = inline
        return text.count <= 120 ? text : text.prefix(117) + "…"
    }

    /// One line, in flow style.
    var inline: String {
        switch self {
        case .integer(let value): return String(value)
        case .number(let value):
            precondition(value.isFinite, "a job has no \(value)")
            return value.description
        case .boolean(let value): return value ? "true" : "false"
        case .string(let value): return Self.word(value)
        case .list(let values): return "[\(values.map(\.inline).joined(separator: ", "))]"
        case .mapping(let members):
            let keys = members.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            let texts = keys.compactMap { key in members[key].map { "\(Self.word(key)): \($0.inline)" } }
            return "{\(texts.joined(separator: ", "))}"
        }
    }

    /// The value as one line of JSON, keys sorted by bytes. JSON is YAML too, so it reads back by the same
    /// reader.
    package var json: String {
        switch self {
        case .integer, .number, .boolean: return inline
        case .string(let value): return Self.quotedJSON(value)
        case .list(let values): return "[\(values.map(\.json).joined(separator: ", "))]"
        case .mapping(let members):
            let keys = members.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            let texts = keys.compactMap { key in members[key].map { "\(Self.quotedJSON(key)): \($0.json)" } }
            return "{\(texts.joined(separator: ", "))}"
        }
    }

    private static func quotedJSON(_ text: String) -> String {
        var result = "\""
        // Numbered escapes are UTF-16 units in JSON and scalars in YAML: they agree below the surrogates, and
        // nothing above needs one.
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case " "..."~", "\u{A0}"..."\u{2027}", "\u{202A}"..."\u{FEFE}", "\u{FF00}"..."\u{FFFD}",
                "\u{10000}"...:
                result.unicodeScalars.append(scalar)
            default:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            }
        }
        return result + "\""
    }

    private static func word(_ text: String) -> String {
        let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        let bytes = Array(text.utf8)
        let isLetter = { (byte: UInt8) in
            (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z")
        }
        let isInner = { (byte: UInt8) in
            isLetter(byte) || (byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"))
                || "_-./".utf8.contains(byte)
        }
        if let first = bytes.first, isLetter(first) || first == UInt8(ascii: "/"), bytes.allSatisfy(isInner),
            !reserved.contains(text.lowercased())
        {
            return text
        }
        return quoted(text)
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case " "..."~": result.unicodeScalars.append(scalar)
            default:
                // Everything else by number: what YAML calls printable differs between readers.
                let digits = String(scalar.value, radix: 16, uppercase: true)
                result += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
            }
        }
        return result + "\""
    }
}
