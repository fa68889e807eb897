// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Python's `str` and `repr`, and the `tojson` filter of transformers.
extension JinjaValue {
    /// `str(value)`.
    var printed: String {
        switch self {
        case .undefined: return ""
        case .string(let text): return text
        default:
            var output = ""
            appendRepresentation(to: &output)
            return output
        }
    }

    /// `repr(value)`.
    var representation: String {
        var output = ""
        appendRepresentation(to: &output)
        return output
    }

    private func appendRepresentation(to output: inout String) {
        switch self {
        case .undefined: output += "Undefined"
        case .none: output += "None"
        case .bool(let value): output += value ? "True" : "False"
        case .integer(let value): output += value.description
        case .longInteger(let digits): output += digits
        case .double(let value): output += PythonFloat.text(value)
        case .string(let text): Self.appendQuoted(text, to: &output)
        case .list(let elements): Self.append(elements, "[", "]", to: &output)
        case .tuple(let elements):
            Self.append(elements, "(", elements.count == 1 ? ",)" : ")", to: &output)
        case .dictionary(let dictionary):
            output += "{"
            for (index, key) in dictionary.keys.enumerated() {
                if index > 0 { output += ", " }
                key.appendRepresentation(to: &output)
                output += ": "
                dictionary.values[index].appendRepresentation(to: &output)
            }
            output += "}"
        case .range(let range):
            output += "range(\(range.start), \(range.stop)" + (range.step == 1 ? ")" : ", \(range.step))")
        case .view(let view):
            Self.append(view.elements, "dict_\(view.part.rawValue)([", "])", to: &output)
        case .object(let object): output += object.printed
        }
    }

    private static func append(_ elements: [JinjaValue], _ open: String, _ close: String, to output: inout String) {
        output += open
        for (index, element) in elements.enumerated() {
            if index > 0 { output += ", " }
            element.appendRepresentation(to: &output)
        }
        output += close
    }

    private static func appendQuoted(_ text: String, to output: inout String) {
        let scalars = text.unicodeScalars
        let quote: Unicode.Scalar = scalars.contains("'") && !scalars.contains("\"") ? "\"" : "'"
        output.unicodeScalars.append(quote)
        for scalar in scalars {
            switch scalar {
            case quote, "\\":
                output += "\\"
                output.unicodeScalars.append(scalar)
            case "\n": output += "\\n"
            case "\r": output += "\\r"
            case "\t": output += "\\t"
            default:
                if scalar.isPythonPrintable {
                    output.unicodeScalars.append(scalar)
                } else {
                    let (prefix, width) =
                        scalar.value < 0x100 ? ("\\x", 2) : scalar.value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
                    output += prefix + Self.hexadecimal(scalar.value, width: width)
                }
            }
        }
        output.unicodeScalars.append(quote)
    }

    fileprivate static func hexadecimal(_ value: UInt32, width: Int) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
}

extension Unicode.Scalar {
    /// Python's `str.isprintable`.
    fileprivate var isPythonPrintable: Bool {
        if isASCII { return value >= 0x20 && value < 0x7F }
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
            .spaceSeparator:
            return false
        default: return true
        }
    }
}

/// `json.dumps` with the options that templates give.
struct JSONPrinter {
    var asciiOnly = false
    /// The text of one level; nil for one line.
    var indent: String?
    var itemSeparator = ", "
    var keySeparator = ": "
    var sortsKeys = false
    private var output: [UInt8] = []

    init() {}

    mutating func text(_ value: JinjaValue) throws(JinjaError) -> String {
        output = []
        try append(value, level: 0)
        return String(decoding: output, as: UTF8.self)
    }

    private mutating func breakLine(_ level: Int) {
        guard let indent else { return }
        output.append(0x0A)
        for _ in 0..<level { output += indent.utf8 }
    }

    private mutating func append(_ value: JinjaValue, level: Int) throws(JinjaError) {
        switch value {
        case .none: output += "null".utf8
        case .bool(let value): output += (value ? "true" : "false").utf8
        case .integer(let value): output += value.description.utf8
        case .longInteger(let digits): output += digits.utf8
        case .double(let value): output += PythonNumber.text(value).utf8
        case .string(let text): quote(text)
        case .list(let elements), .tuple(let elements):
            guard !elements.isEmpty else { return output += "[]".utf8 }
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output += itemSeparator.utf8 }
                breakLine(level + 1)
                try append(element, level: level + 1)
            }
            breakLine(level)
            output.append(UInt8(ascii: "]"))
        case .dictionary(let dictionary): try append(dictionary, level: level)
        default: throw .runtime("Object of type \(value.typeName) is not JSON serializable")
        }
    }

    private mutating func append(_ dictionary: JinjaDictionary, level: Int) throws(JinjaError) {
        guard dictionary.count > 0 else { return output += "{}".utf8 }
        var places = Array(dictionary.keys.indices)
        if sortsKeys {
            var failure: JinjaError?
            places.sort { left, right in
                do throws(JinjaError) {
                    return try dictionary.keys[left].isLess(than: dictionary.keys[right], sign: "<")
                } catch {
                    failure = error
                    return false
                }
            }
            if let failure { throw failure }
        }
        output.append(UInt8(ascii: "{"))
        for (index, place) in places.enumerated() {
            if index > 0 { output += itemSeparator.utf8 }
            breakLine(level + 1)
            switch dictionary.keys[place] {
            case .string(let text): quote(text)
            case .none: quote("null")
            case .bool(let value): quote(value ? "true" : "false")
            case .integer(let value): quote(value.description)
            case .longInteger(let digits): quote(digits)
            case .double(let value): quote(PythonNumber.text(value))
            default:
                throw .runtime(
                    "keys must be str, int, float, bool or None, not \(dictionary.keys[place].typeName)")
            }
            output += keySeparator.utf8
            try append(dictionary.values[place], level: level + 1)
        }
        breakLine(level)
        output.append(UInt8(ascii: "}"))
    }

    private mutating func quote(_ text: String) {
        output.append(UInt8(ascii: "\""))
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": output += "\\\"".utf8
            case "\\": output += "\\\\".utf8
            case "\n": output += "\\n".utf8
            case "\r": output += "\\r".utf8
            case "\t": output += "\\t".utf8
            case "\u{8}": output += "\\b".utf8
            case "\u{c}": output += "\\f".utf8
            default:
                if scalar.value < 0x20 || asciiOnly && scalar.value >= 0x7F && scalar.value != 0x7F {
                    for unit in scalar.utf16 {
                        output += "\\u".utf8
                        output += JinjaValue.hexadecimal(UInt32(unit), width: 4).utf8
                    }
                } else {
                    output += scalar.utf8
                }
            }
        }
        output.append(UInt8(ascii: "\""))
    }
}

/// `repr` of a floating-point number. ``PythonNumber`` spells it for JSON, which has other words for what is not finite.
enum PythonFloat {
    static func text(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
        return PythonNumber.text(value)
    }
}
