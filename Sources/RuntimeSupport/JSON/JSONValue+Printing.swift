// SPDX-License-Identifier: Apache-2.0

// Prints a value as Python's `json.dumps(value, ensure_ascii=False)` does: the form of the `tojson` filter in
// transformers' chat templates, so the form that the models were trained on.
extension JSONValue {
    /// The value with separators ", " and ": ", non-ASCII text as it stands and numbers as Python prints
    /// them.
    package var pythonText: String {
        var output: [UInt8] = []
        appendPythonText(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    package func appendPythonText(to output: inout [UInt8]) {
        switch self {
        case .null: output += "null".utf8
        case .bool(let value): output += (value ? "true" : "false").utf8
        case .integer(let digits): output += digits.utf8
        case .decimal(let text): output += PythonNumber.text(Double(text) ?? .nan).utf8
        case .string(let text): Self.appendQuoted(text, to: &output)
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output += ", ".utf8 }
                element.appendPythonText(to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let object):
            output.append(UInt8(ascii: "{"))
            for (index, member) in object.members.enumerated() {
                if index > 0 { output += ", ".utf8 }
                Self.appendQuoted(member.key, to: &output)
                output += ": ".utf8
                member.value.appendPythonText(to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }

    /// The value on one line without spaces, keys in order, numbers as they were written.
    package var compactText: String {
        var output: [UInt8] = []
        appendCompactText(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    private func appendCompactText(to output: inout [UInt8]) {
        switch self {
        case .decimal(let text): output += text.utf8
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                element.appendCompactText(to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let object):
            output.append(UInt8(ascii: "{"))
            for (index, member) in object.members.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                Self.appendQuoted(member.key, to: &output)
                output.append(UInt8(ascii: ":"))
                member.value.appendCompactText(to: &output)
            }
            output.append(UInt8(ascii: "}"))
        case .null, .bool, .integer, .string: appendPythonText(to: &output)
        }
    }

    private static func appendQuoted(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case 0x22: output += "\\\"".utf8
            case 0x5C: output += "\\\\".utf8
            case 0x08: output += "\\b".utf8
            case 0x09: output += "\\t".utf8
            case 0x0A: output += "\\n".utf8
            case 0x0C: output += "\\f".utf8
            case 0x0D: output += "\\r".utf8
            case 0..<0x20:
                output += "\\u00".utf8
                output += (byte < 16 ? "0" : "").utf8
                output += String(byte, radix: 16).utf8
            default: output.append(byte)
            }
        }
        output.append(UInt8(ascii: "\""))
    }
}

/// Python's spelling of floating-point numbers.
package enum PythonNumber {
    /// `repr(value)`: the shortest digits that read back as `value`, with an exponent from 1e16 up and below
    /// 1e-4.
    package static func text(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity" }
        let sign = value.sign == .minus ? "-" : ""
        guard value != 0 else { return sign + "0.0" }
        // Swift prints the same shortest digits and differs only in where the exponent form begins.
        let parts = value.magnitude.description.split(separator: "e")
        let mantissa = parts[0].split(separator: ".")
        var digits = Array(mantissa[0].utf8)
        var exponent = digits.count - 1 + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
        if mantissa.count > 1 { digits += mantissa[1].utf8 }
        let leadingZeros = digits.prefix { $0 == 0x30 }.count
        digits.removeFirst(leadingZeros)
        exponent -= leadingZeros
        while digits.count > 1, digits.last == 0x30 { digits.removeLast() }
        return sign + layout(digits: digits, exponent: exponent)
    }

    /// `digits` with the point after the first one, times ten to the power of `exponent`, in Python's layout.
    private static func layout(digits: [UInt8], exponent: Int) -> String {
        func text(_ slice: ArraySlice<UInt8>) -> String { String(decoding: slice, as: UTF8.self) }
        if exponent < -4 || exponent >= 16 {
            let fraction = digits.count > 1 ? "." + text(digits[1...]) : ""
            let size = exponent.magnitude < 10 ? "0\(exponent.magnitude)" : "\(exponent.magnitude)"
            return text(digits[..<1]) + fraction + "e" + (exponent < 0 ? "-" : "+") + size
        }
        if exponent < 0 { return "0." + String(repeating: "0", count: -exponent - 1) + text(digits[...]) }
        if digits.count <= exponent + 1 {
            return text(digits[...]) + String(repeating: "0", count: exponent + 1 - digits.count) + ".0"
        }
        return text(digits[...exponent]) + "." + text(digits[(exponent + 1)...])
    }
}
