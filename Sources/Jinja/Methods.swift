// SPDX-License-Identifier: Apache-2.0

/// The attributes of values: methods that read. Those that change a value are refused, as in transformers' sandbox.
struct Methods {
    let meter: Meter

    /// The attribute `name` of `value`; nil where the value has none of that name.
    func attribute(_ name: String, of value: JinjaValue) -> JinjaValue? {
        if name.hasPrefix("__") {
            guard value.text != nil || name == "__class__" else { return nil }
            return forbidden(name, value)
        }
        switch value {
        case .string(let text): return method(name, of: text)
        case .dictionary(let dictionary): return method(name, of: dictionary)
        case .list(let elements):
            if ["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"].contains(name) {
                return forbidden(name, value)
            }
            return method(name, ofList: elements, value)
        case .tuple(let elements): return name == "copy" ? nil : method(name, ofList: elements, value)
        case .double(let number) where name == "is_integer":
            return function(name) { _ throws(JinjaError) in .bool(number == number.rounded()) }
        case .integer where name == "is_integer":
            return function(name) { _ throws(JinjaError) in .bool(true) }
        case .object(let object): return object.attribute(name)
        default: return nil
        }
    }

    private func forbidden(_ name: String, _ value: JinjaValue) -> JinjaValue {
        .undefined(
            Missing(
                message: "access to attribute '\(name)' of '\(value.typeName)' object is unsafe.", isForbidden: true))
    }

    private func function(
        _ name: String, _ body: @escaping (CallArguments) throws(JinjaError) -> JinjaValue
    ) -> JinjaValue { .object(Function(name, body)) }

    private func method(_ name: String, of dictionary: JinjaDictionary) -> JinjaValue? {
        if let part = DictionaryView.Part(rawValue: name) {
            return function(name) { _ throws(JinjaError) in
                .view(DictionaryView(dictionary: dictionary, part: part))
            }
        }
        switch name {
        case "get":
            return function(name) { (arguments) throws(JinjaError) in
                guard let key = arguments.positional.first else {
                    throw .runtime("get expected at least 1 argument, got 0")
                }
                try key.requireHashable()
                return dictionary[key] ?? (arguments.positional.count > 1 ? arguments.positional[1] : .none)
            }
        case "copy": return function(name) { _ throws(JinjaError) in .dictionary(dictionary) }
        case "clear", "pop", "popitem", "setdefault", "update": return forbidden(name, .dictionary(dictionary))
        default: return nil
        }
    }

    private func method(_ name: String, ofList elements: [JinjaValue], _ value: JinjaValue) -> JinjaValue? {
        let meter = meter
        switch name {
        case "index":
            return function(name) { (arguments) throws(JinjaError) in
                try meter.step(bytes: elements.count << 4)
                let sought = arguments.positional.first ?? .none
                guard let place = elements.firstIndex(where: { $0.isEqual(to: sought) }) else {
                    throw .runtime("\(sought.representation) is not in list")
                }
                return .integer(Int128(place))
            }
        case "count":
            return function(name) { (arguments) throws(JinjaError) in
                try meter.step(bytes: elements.count << 4)
                let sought = arguments.positional.first ?? .none
                return .integer(Int128(elements.count { $0.isEqual(to: sought) }))
            }
        case "copy": return function(name) { _ throws(JinjaError) in value }
        default: return nil
        }
    }

    // MARK: Texts

    /// A method of a text by name: it gets the text and the arguments.
    private typealias TextMethod = @Sendable (String, CallArguments, Meter) throws(JinjaError) -> JinjaValue

    private func method(_ name: String, of text: String) -> JinjaValue? {
        guard let body = Self.textMethods[name] else { return nil }
        let meter = meter
        return function(name) { (arguments) throws(JinjaError) in
            try meter.step(bytes: text.utf8.count)
            return try body(text, arguments, meter)
        }
    }

    /// The argument at `place` as a text.
    private static func text(
        _ arguments: CallArguments, _ place: Int, _ name: String = ""
    ) throws(JinjaError) -> String {
        guard let value = arguments.value(place, name) else { throw .runtime("expected an argument more") }
        guard case .string(let text) = value else {
            throw .runtime("must be str, not \(value.typeName)")
        }
        return text
    }

    /// The argument as a text, nil where it is absent or none.
    private static func optionalText(
        _ arguments: CallArguments, _ place: Int, _ name: String = ""
    ) throws(JinjaError) -> String? {
        switch arguments.value(place, name) {
        case nil, .some(.none): return nil
        default: return try text(arguments, place, name)
        }
    }

    private static func limit(_ arguments: CallArguments, _ place: Int, _ name: String) -> Int {
        guard let value = arguments.value(place, name)?.index, value >= 0 else { return .max }
        return value
    }

    private static func split(
        _ text: String, _ arguments: CallArguments, fromEnd: Bool
    ) throws(JinjaError) -> JinjaValue {
        let limit = limit(arguments, 1, "maxsplit")
        guard let separator = try optionalText(arguments, 0, "sep") else {
            guard fromEnd, limit < .max else { return .list(text.words(limit: limit).map { .string($0) }) }
            let reversed = String(String.UnicodeScalarView(text.unicodeScalars.reversed())).words(limit: limit)
            return .list(
                reversed.reversed().map { .string(String(String.UnicodeScalarView($0.unicodeScalars.reversed()))) })
        }
        guard !separator.utf8.isEmpty else { throw .runtime("empty separator") }
        return .list(text.parts(separatedBy: separator, limit: limit, fromEnd: fromEnd).map { .string($0) })
    }

    private static func partition(
        _ text: String, _ arguments: CallArguments, fromEnd: Bool
    ) throws(JinjaError) -> JinjaValue {
        let separator = try Self.text(arguments, 0)
        guard !separator.utf8.isEmpty else { throw .runtime("empty separator") }
        let parts = text.parts(separatedBy: separator, limit: 1, fromEnd: fromEnd)
        if parts.count == 2 { return .tuple([.string(parts[0]), .string(separator), .string(parts[1])]) }
        return .tuple(fromEnd ? [.string(""), .string(""), .string(text)] : [.string(text), .string(""), .string("")])
    }

    /// The part of `text` that the arguments from `place` on name by start and end.
    private static func part(_ text: String, _ arguments: CallArguments, from place: Int) -> String {
        guard arguments.positional.count > place else { return text }
        let scalars = Array(text.unicodeScalars)
        func bound(_ place: Int, _ standard: Int) -> Int {
            guard place < arguments.positional.count, let index = arguments.positional[place].index else {
                return standard
            }
            return min(max(index < 0 ? index + scalars.count : index, 0), scalars.count)
        }
        let start = bound(place, 0)
        let end = bound(place + 1, scalars.count)
        var view = String.UnicodeScalarView()
        if start < end { view.append(contentsOf: scalars[start..<end]) }
        return String(view)
    }

    private static func affix(
        _ text: String, _ arguments: CallArguments, _ matches: (String, String) -> Bool
    ) throws(JinjaError) -> JinjaValue {
        let part = part(text, arguments, from: 1)
        if case .tuple(let choices)? = arguments.positional.first {
            return .bool(choices.contains { $0.text.map { matches(part, $0) } ?? false })
        }
        return .bool(matches(part, try Self.text(arguments, 0)))
    }

    private static func find(
        _ text: String, _ arguments: CallArguments, fromEnd: Bool
    ) throws(JinjaError) -> Int? {
        let sought = try Self.text(arguments, 0)
        let part = part(text, arguments, from: 1)
        let skipped = arguments.positional.count > 1 ? max(arguments.positional[1].index ?? 0, 0) : 0
        var place = part.firstPlace(of: sought)
        if fromEnd {
            while let found = place, let later = part.firstPlace(of: sought, from: found + 1) { place = later }
        }
        return place.map { bytes in
            skipped + part.utf8.prefix(bytes).reduce(into: 0) { $0 += $1 & 0xC0 != 0x80 ? 1 : 0 }
        }
    }

    private static func padded(
        _ text: String, _ arguments: CallArguments, _ meter: Meter, left: Bool, right: Bool
    ) throws(JinjaError) -> JinjaValue {
        let fill = try optionalText(arguments, 1) ?? " "
        let missing = (arguments.positional.first?.index ?? 0) - text.unicodeScalars.count
        guard missing > 0 else { return .string(text) }
        try meter.make(bytes: missing * fill.utf8.count + text.utf8.count)
        // Python puts the odd one to the left where the width is odd.
        let before = left && right ? missing / 2 + (missing & (missing + text.unicodeScalars.count) & 1) : missing
        return .string(
            (left ? String(repeating: fill, count: before) : "") + text
                + (right ? String(repeating: fill, count: left ? missing - before : missing) : ""))
    }

    private static func all(_ text: String, _ test: (Unicode.Scalar) -> Bool) -> JinjaValue {
        .bool(!text.unicodeScalars.isEmpty && text.unicodeScalars.allSatisfy(test))
    }

    private static func cased(_ text: String, _ isWrong: (Unicode.Scalar) -> Bool) -> JinjaValue {
        .bool(
            text.unicodeScalars.contains { $0.properties.isCased } && !text.unicodeScalars.contains(where: isWrong))
    }

    private static let textMethods: [String: TextMethod] = [
        "split": { text, arguments, _ throws(JinjaError) in try split(text, arguments, fromEnd: false) },
        "rsplit": { text, arguments, _ throws(JinjaError) in try split(text, arguments, fromEnd: true) },
        "partition": { text, arguments, _ throws(JinjaError) in try partition(text, arguments, fromEnd: false) },
        "rpartition": { text, arguments, _ throws(JinjaError) in try partition(text, arguments, fromEnd: true) },
        "splitlines": { text, arguments, _ throws(JinjaError) in
            .list(text.lines(keepingEnds: arguments.value(0, "keepends")?.isTrue ?? false).map { .string($0) })
        },
        "strip": { text, arguments, _ throws(JinjaError) in
            .string(text.stripped(try optionalText(arguments, 0)))
        },
        "lstrip": { text, arguments, _ throws(JinjaError) in
            .string(text.stripped(try optionalText(arguments, 0), end: false))
        },
        "rstrip": { text, arguments, _ throws(JinjaError) in
            .string(text.stripped(try optionalText(arguments, 0), start: false))
        },
        "startswith": { text, arguments, _ throws(JinjaError) in
            try affix(text, arguments) { $0.begins(with: $1) }
        },
        "endswith": { text, arguments, _ throws(JinjaError) in
            try affix(text, arguments) { $0.finishes(with: $1) }
        },
        "replace": { text, arguments, meter throws(JinjaError) in
            let old = try Self.text(arguments, 0)
            let new = try Self.text(arguments, 1)
            let most = min(limit(arguments, 2, "count"), text.utf8.count / max(1, old.utf8.count) + 1)
            try meter.make(bytes: text.utf8.count + most * new.utf8.count)
            return .string(text.replaced(old, by: new, limit: limit(arguments, 2, "count")))
        },
        "find": { text, arguments, _ throws(JinjaError) in
            .integer(Int128(try find(text, arguments, fromEnd: false) ?? -1))
        },
        "rfind": { text, arguments, _ throws(JinjaError) in
            .integer(Int128(try find(text, arguments, fromEnd: true) ?? -1))
        },
        "index": { text, arguments, _ throws(JinjaError) in
            guard let place = try find(text, arguments, fromEnd: false) else { throw .runtime("substring not found") }
            return .integer(Int128(place))
        },
        "count": { text, arguments, _ throws(JinjaError) in
            let sought = try Self.text(arguments, 0)
            guard !sought.utf8.isEmpty else { return .integer(Int128(text.unicodeScalars.count + 1)) }
            return .integer(Int128(part(text, arguments, from: 1).parts(separatedBy: sought).count - 1))
        },
        "join": { text, arguments, meter throws(JinjaError) in
            let items: [JinjaValue]
            switch arguments.positional.first {
            case .list(let elements), .tuple(let elements): items = elements
            case .object(let generator as Generator): items = try generator.take()
            case .view(let view): items = view.elements
            case .dictionary(let dictionary): items = dictionary.keys
            case .string(let text): items = text.unicodeScalars.map { .string(String(Character($0))) }
            default: throw .runtime("can only join an iterable")
            }
            var parts: [String] = []
            for (place, item) in items.enumerated() {
                guard case .string(let part) = item else {
                    throw .runtime("sequence item \(place): expected str instance, \(item.typeName) found")
                }
                parts.append(part)
            }
            try meter.make(bytes: parts.reduce(0) { $0 + $1.utf8.count + text.utf8.count })
            return .string(parts.joined(separator: text))
        },
        "format": { text, arguments, meter throws(JinjaError) in .string(try braces(text, arguments, meter)) },
        "upper": { text, _, _ throws(JinjaError) in .string(text.uppercasedPython) },
        "lower": { text, _, _ throws(JinjaError) in .string(text.lowercasedPython) },
        "casefold": { text, _, _ throws(JinjaError) in .string(text.lowercasedPython) },
        "title": { text, _, _ throws(JinjaError) in .string(text.titledPython) },
        "capitalize": { text, _, _ throws(JinjaError) in .string(text.capitalizedPython) },
        "swapcase": { text, _, _ throws(JinjaError) in
            .string(
                text.unicodeScalars.reduce(into: "") { result, scalar in
                    result +=
                        scalar.properties.isUppercase
                        ? scalar.properties.lowercaseMapping : scalar.properties.uppercaseMapping
                })
        },
        "removeprefix": { text, arguments, _ throws(JinjaError) in
            let prefix = try Self.text(arguments, 0)
            guard text.begins(with: prefix) else { return .string(text) }
            return .string(String(decoding: text.utf8.dropFirst(prefix.utf8.count), as: UTF8.self))
        },
        "removesuffix": { text, arguments, _ throws(JinjaError) in
            let suffix = try Self.text(arguments, 0)
            guard text.finishes(with: suffix) else { return .string(text) }
            return .string(String(decoding: text.utf8.dropLast(suffix.utf8.count), as: UTF8.self))
        },
        "ljust": { text, arguments, meter throws(JinjaError) in
            try padded(text, arguments, meter, left: false, right: true)
        },
        "rjust": { text, arguments, meter throws(JinjaError) in
            try padded(text, arguments, meter, left: true, right: false)
        },
        "center": { text, arguments, meter throws(JinjaError) in
            try padded(text, arguments, meter, left: true, right: true)
        },
        "zfill": { text, arguments, meter throws(JinjaError) in
            let missing = (arguments.positional.first?.index ?? 0) - text.unicodeScalars.count
            guard missing > 0 else { return .string(text) }
            try meter.make(bytes: missing)
            let zeros = String(repeating: "0", count: missing)
            guard let sign = text.first, sign == "-" || sign == "+" else { return .string(zeros + text) }
            return .string(String(sign) + zeros + text.dropFirst())
        },
        "isalnum": { text, _, _ throws(JinjaError) in
            all(text) { $0.properties.isAlphabetic || $0.properties.numericType != nil }
        },
        "isalpha": { text, _, _ throws(JinjaError) in all(text) { $0.properties.isAlphabetic } },
        "isdigit": { text, _, _ throws(JinjaError) in
            all(text) { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
        },
        "isdecimal": { text, _, _ throws(JinjaError) in all(text) { $0.properties.numericType == .decimal } },
        "isnumeric": { text, _, _ throws(JinjaError) in all(text) { $0.properties.numericType != nil } },
        "isspace": { text, _, _ throws(JinjaError) in all(text) { $0.isPythonSpace } },
        "isascii": { text, _, _ throws(JinjaError) in .bool(text.utf8.allSatisfy { $0 < 0x80 }) },
        "islower": { text, _, _ throws(JinjaError) in cased(text) { $0.properties.isUppercase } },
        "isupper": { text, _, _ throws(JinjaError) in cased(text) { $0.properties.isLowercase } },
        "encode": { text, _, _ throws(JinjaError) in
            .object(EncodedText(text))
        },
    ]

    /// `str.format`, with names and numbers alone between the braces.
    static func braces(
        _ format: String, _ arguments: CallArguments, _ meter: Meter
    ) throws(JinjaError) -> String {
        var result = ""
        var field: String?
        var next = 0
        let scalars = Array(format.unicodeScalars)
        var place = 0
        while place < scalars.count {
            let scalar = scalars[place]
            let isDoubled = place + 1 < scalars.count && scalars[place + 1] == scalar
            place += 1
            if field == nil, scalar == "{" || scalar == "}", isDoubled {
                result.unicodeScalars.append(scalar)
                place += 1
            } else if field == nil, scalar == "{" {
                field = ""
            } else if let name = field, scalar == "}" {
                let value: JinjaValue?
                if name.isEmpty || Int(name) != nil {
                    let index = Int(name) ?? next
                    next += 1
                    value = arguments.positional.indices.contains(index) ? arguments.positional[index] : nil
                } else {
                    guard name.unicodeScalars.allSatisfy({ $0.isNameStart || $0.isNamePart }) else {
                        throw .runtime("'{\(name)}': only names and numbers are supported between braces")
                    }
                    value = arguments.named.last { $0.name == name }?.value
                }
                guard let value else {
                    throw .runtime("Replacement index \(name.isEmpty ? "\(next - 1)" : name) out of range")
                }
                result += value.printed
                field = nil
            } else if field != nil {
                field?.unicodeScalars.append(scalar)
            } else if scalar == "}" {
                throw .runtime("Single '}' encountered in format string")
            } else {
                result.unicodeScalars.append(scalar)
            }
            try meter.make(bytes: result.utf8.count)
        }
        guard field == nil else { throw .runtime("expected '}' before end of string") }
        return result
    }
}

/// Python's bytes, which can only be printed.
final class EncodedText: JinjaObject {
    private let text: String
    init(_ text: String) { self.text = text }
    override var typeName: String { "bytes" }
    override var printed: String {
        text.utf8.reduce(into: "b'") { result, byte in
            switch byte {
            case 0x5C: result += "\\\\"
            case 0x27: result += "\\'"
            case 0x0A: result += "\\n"
            case 0x0D: result += "\\r"
            case 0x09: result += "\\t"
            case 0x20..<0x7F: result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        } + "'"
    }
}
