// SPDX-License-Identifier: Apache-2.0

/// Jinja's filters.
enum Filter: Sendable {
    enum Name: String, CaseIterable, Sendable {
        case abs, attr, batch, capitalize, center, `default`, dictsort, escape, first, float, forceescape, format,
            groupby, indent, int, items, join, last, length, list, lower, map, max, min, reject, rejectattr, replace,
            reverse, round, safe, select, selectattr, slice, sort, string, striptags, sum, title, tojson, trim,
            truncate, unique, upper, urlencode, wordcount
    }

    case known(Name)
    case unknown(String)

    init(_ name: String) {
        let names = ["d": "default", "e": "escape", "count": "length"]
        self = Name(rawValue: names[name] ?? name).map { .known($0) } ?? .unknown(name)
    }

    /// Text with HTML's special characters written out.
    static func escaped(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&#34;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
    }
}

/// What `map`, `select` and their like give: it can be gone through once, is always true, and has no length.
final class Generator: JinjaObject {
    private var items: [JinjaValue]
    /// What went wrong: Python's generators work, and so fail, when they are gone through.
    private let failure: JinjaError?

    init(_ items: [JinjaValue], failure: JinjaError? = nil) {
        self.items = items
        self.failure = failure
    }

    override var typeName: String { "generator" }
    override var printed: String { "<generator object>" }

    /// The items that are left.
    func take() throws(JinjaError) -> [JinjaValue] {
        if let failure { throw failure }
        defer { items = [] }
        return items
    }
}

extension Interpreter {
    mutating func apply(
        _ filter: Filter, to value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> JinjaValue {
        guard case .known(let name) = filter else {
            guard case .unknown(let name) = filter else { return value }
            throw .runtime("No filter named '\(name)'.")
        }
        if case .undefined(let missing) = value, missing.isForbidden { throw .runtime(missing.message) }
        if case .string(let text) = value { try meter.step(bytes: text.utf8.count) }
        switch name {
        case .capitalize, .center, .escape, .forceescape, .format, .indent, .lower, .replace, .safe, .string,
            .striptags, .title, .trim, .truncate, .upper, .urlencode, .wordcount:
            return try textFilter(name, value, arguments)
        case .abs, .float, .int, .round: return try numberFilter(name, value, arguments)
        case .map, .select, .reject, .selectattr, .rejectattr:
            do throws(JinjaError) {
                return .object(Generator(try choosing(name, value, arguments)))
            } catch {
                if error.kind == .limit { throw error }
                return .object(Generator([], failure: error))
            }
        case .sort, .dictsort, .groupby, .unique, .max, .min: return try sorting(name, value, arguments)
        default: return try collectionFilter(name, value, arguments)
        }
    }

    // MARK: Collections

    private mutating func collectionFilter(
        _ name: Filter.Name, _ value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> JinjaValue {
        switch name {
        case .default:
            let standard = arguments.value(0, "default_value") ?? .string("")
            let replacesFalse = arguments.value(1, "boolean")?.isTrue ?? false
            return value.isUndefined || replacesFalse && !value.isTrue ? standard : value
        case .attr:
            guard case .string(let attribute)? = arguments.value(0, "name") else { return value }
            return Methods(meter: meter).attribute(attribute, of: value)
                ?? .undefined(Missing(message: "\(value.ownerName) has no attribute '\(attribute)'"))
        case .length: return .integer(Int128(try count(of: value)))
        case .list: return .list(try elements(of: value))
        case .first:
            return try elements(of: value).first
                ?? .undefined(Missing(message: "No first item, sequence was empty."))
        case .last:
            return try elements(of: value).last
                ?? .undefined(Missing(message: "No last item, sequence was empty."))
        case .items:
            switch value {
            case .undefined: return .object(Generator([]))
            case .dictionary(let dictionary): return .object(Generator(dictionary.items))
            default: throw .runtime("Can only get item pairs from a mapping.")
            }
        case .join: return try join(value, arguments)
        case .reverse:
            if case .string(let text) = value {
                return .string(String(String.UnicodeScalarView(text.unicodeScalars.reversed())))
            }
            return .object(Generator(try elements(of: value).reversed()))
        case .sum:
            var total = arguments.value(1, "start") ?? .integer(0)
            let path = arguments.value(0, "attribute")
            for item in try elements(of: value) {
                try meter.step(bytes: 64)
                total = try Arithmetic(meter).apply(.add, total, try member(path, of: item))
            }
            return total
        case .batch, .slice: return try cut(name, value, arguments)
        case .tojson:
            var printer = JSONPrinter()
            printer.asciiOnly = arguments.value(0, "ensure_ascii")?.isTrue ?? false
            switch arguments.value(1, "indent") {
            case .some(.string(let text)): printer.indent = text
            case let indent?:
                if let width = indent.index {
                    printer.indent = String(repeating: " ", count: min(Swift.max(width, 0), 100))
                }
            case nil: break
            }
            if printer.indent != nil { printer.itemSeparator = "," }
            if let separators = arguments.value(2, "separators"), !separators.isEqual(to: .none) {
                let pair = try elements(of: separators)
                guard pair.count == 2, let item = pair[0].text, let key = pair[1].text else {
                    throw .runtime("separators need two texts")
                }
                (printer.itemSeparator, printer.keySeparator) = (item, key)
            }
            printer.sortsKeys = arguments.value(3, "sort_keys")?.isTrue ?? false
            let text = try printer.text(value)
            try meter.make(bytes: text.utf8.count)
            return .string(text)
        default: return value
        }
    }

    private func count(of value: JinjaValue) throws(JinjaError) -> Int {
        switch value {
        case .undefined: 0
        case .string(let text): text.unicodeScalars.count
        case .list(let elements), .tuple(let elements): elements.count
        case .dictionary(let dictionary): dictionary.count
        case .view(let view): view.dictionary.count
        case .range(let range): range.count
        default: throw .runtime("object of type '\(value.typeName)' has no len()")
        }
    }

    private func join(_ value: JinjaValue, _ arguments: CallArguments) throws(JinjaError) -> JinjaValue {
        let separator = arguments.value(0, "d")?.printed ?? ""
        let path = arguments.value(1, "attribute")
        var text = ""
        for (place, item) in try elements(of: value).enumerated() {
            if place > 0 { text += separator }
            text += try member(path, of: item).printed
            try meter.make(bytes: text.utf8.count > meter.limits.outputBytes ? text.utf8.count : 0)
            try meter.step(bytes: separator.utf8.count)
        }
        try meter.make(bytes: text.utf8.count)
        return .string(text)
    }

    private func cut(
        _ name: Filter.Name, _ value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> JinjaValue {
        let items = try elements(of: value)
        let count = arguments.value(0, name == .batch ? "linecount" : "slices")?.index ?? 0
        let fill = arguments.value(1, "fill_with")
        guard count > 0 else { throw .runtime("\(name.rawValue) needs a number above 0") }
        try meter.make(elements: name == .slice ? count : items.count)
        var rows: [JinjaValue] = []
        if name == .batch {
            for start in stride(from: 0, to: items.count, by: count) {
                var row = Array(items[start..<Swift.min(start + count, items.count)])
                if let fill, row.count < count {
                    try meter.make(elements: count)
                    row += Array(repeating: fill, count: count - row.count)
                }
                rows.append(.list(row))
            }
        } else {
            let (size, longer) = items.count.quotientAndRemainder(dividingBy: count)
            var start = 0
            for place in 0..<count {
                let end = start + size + (place < longer ? 1 : 0)
                var row = Array(items[start..<end])
                if let fill, place >= longer, longer > 0 { row.append(fill) }
                rows.append(.list(row))
                start = end
            }
        }
        try meter.weigh(.list(rows))
        return .object(Generator(rows))
    }

    /// The member at a path such as `a.b.0`; the value itself for no path.
    func member(
        _ path: JinjaValue?, of value: JinjaValue, standard: JinjaValue? = nil
    ) throws(JinjaError) -> JinjaValue {
        guard let path, !path.isEqual(to: .none) else { return value }
        var value = value
        for part in path.printed.parts(separatedBy: ".") {
            value = try item(Int(part).map { .integer(Int128($0)) } ?? .string(part), of: value)
            if let standard, value.isUndefined { return standard }
        }
        return value
    }

    /// `map`, and the filters that keep some items.
    private mutating func choosing(
        _ name: Filter.Name, _ value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> [JinjaValue] {
        // Jinja looks at what is empty or none no further.
        guard value.isTrue else { return [] }
        var result: [JinjaValue] = []
        let items = try elements(of: value)
        if name == .map {
            if arguments.positional.isEmpty, let path = arguments.value(0, "attribute") {
                let standard = arguments.named.last { $0.name == "default" }?.value
                for item in items { result.append(try member(path, of: item, standard: standard)) }
                return result
            }
            guard let filter = arguments.positional.first?.text else {
                throw .runtime("map requires a filter argument")
            }
            for item in items { result.append(try apply(Filter(filter), to: item, arguments.dropping(1))) }
            return result
        }
        let looksUp = name == .selectattr || name == .rejectattr
        let keeps = name == .select || name == .selectattr
        var rest = arguments
        let path = looksUp ? arguments.positional.first : nil
        if looksUp {
            guard path != nil else { throw .runtime("Missing parameter for attribute name") }
            rest = rest.dropping(1)
        }
        let test = rest.positional.first.map { Test($0.printed) }
        rest = rest.dropping(1)
        for item in items {
            try meter.step()
            let subject = try member(path, of: item)
            let holds: Bool
            if let test { holds = try check(test, subject, rest) } else { holds = try isTrue(subject) }
            if holds == keeps { result.append(item) }
        }
        return result
    }

    // MARK: Order

    private func sorting(
        _ name: Filter.Name, _ value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> JinjaValue {
        func folded(_ value: JinjaValue, _ isCaseSensitive: Bool) -> JinjaValue {
            guard !isCaseSensitive, case .string(let text) = value else { return value }
            return .string(text.lowercasedPython)
        }
        switch name {
        case .sort:
            let isCaseSensitive = arguments.value(1, "case_sensitive")?.isTrue ?? false
            let path = arguments.value(2, "attribute")
            var keyed: [(key: JinjaValue, value: JinjaValue)] = []
            for item in try elements(of: value) {
                keyed.append((folded(try member(path, of: item), isCaseSensitive), item))
            }
            let sorted = try sorted(keyed, reversed: arguments.value(0, "reverse")?.isTrue ?? false)
            return .list(sorted.map(\.value))
        case .dictsort:
            guard case .dictionary(let dictionary) = value else {
                throw .runtime("'\(value.typeName)' object has no attribute 'items'")
            }
            let isCaseSensitive = arguments.value(0, "case_sensitive")?.isTrue ?? false
            let byValue = arguments.value(1, "by")?.text == "value"
            let keyed = zip(dictionary.keys, dictionary.values).map { key, value in
                (key: folded(byValue ? value : key, isCaseSensitive), value: JinjaValue.tuple([key, value]))
            }
            let sorted = try sorted(keyed, reversed: arguments.value(2, "reverse")?.isTrue ?? false)
            return .list(sorted.map(\.value))
        case .groupby:
            let path = arguments.value(0, "attribute")
            let standard = arguments.value(1, "default")
            let isCaseSensitive = arguments.value(2, "case_sensitive")?.isTrue ?? false
            var keyed: [(key: JinjaValue, value: JinjaValue)] = []
            for item in try elements(of: value) {
                keyed.append((folded(try member(path, of: item, standard: standard), isCaseSensitive), item))
            }
            var groups: [(key: JinjaValue, name: JinjaValue, items: [JinjaValue])] = []
            for (key, item) in try sorted(keyed, reversed: false) {
                if let last = groups.last, last.key.isEqual(to: key) {
                    groups[groups.count - 1].items.append(item)
                } else {
                    groups.append((key, try member(path, of: item, standard: standard), [item]))
                }
            }
            let list = JinjaValue.list(groups.map { .tuple([$0.name, .list($0.items)]) })
            try meter.weigh(list)
            return list
        case .unique:
            let isCaseSensitive = arguments.value(0, "case_sensitive")?.isTrue ?? false
            let path = arguments.value(1, "attribute")
            var seen: Set<JinjaDictionary.Key> = []
            var result: [JinjaValue] = []
            for item in try elements(of: value) {
                let key = folded(try member(path, of: item), isCaseSensitive)
                try key.requireHashable()
                if seen.insert(JinjaDictionary.Key(key)).inserted { result.append(item) }
            }
            return .object(Generator(result))
        default:
            let isCaseSensitive = arguments.value(0, "case_sensitive")?.isTrue ?? false
            let path = arguments.value(1, "attribute")
            var best: (key: JinjaValue, value: JinjaValue)?
            for item in try elements(of: value) {
                let key = folded(try member(path, of: item), isCaseSensitive)
                if let current = best {
                    let wins =
                        name == .max
                        ? try current.key.isLess(than: key, sign: ">") : try key.isLess(than: current.key, sign: "<")
                    if wins { best = (key, item) }
                } else {
                    best = (key, item)
                }
            }
            return best?.value ?? .undefined(Missing(message: "No aggregated item, sequence was empty."))
        }
    }

    /// A stable sort, also when reversed.
    private func sorted(
        _ items: [(key: JinjaValue, value: JinjaValue)], reversed: Bool
    ) throws(JinjaError) -> [(key: JinjaValue, value: JinjaValue)] {
        try meter.make(elements: items.count)
        var failure: JinjaError?
        let order = items.indices.sorted { left, right in
            if failure != nil { return left < right }
            do throws(JinjaError) {
                try meter.step()
                let (a, b) = (items[left].key, items[right].key)
                if try reversed ? b.isLess(than: a, sign: "<") : a.isLess(than: b, sign: "<") { return true }
                if try reversed ? a.isLess(than: b, sign: "<") : b.isLess(than: a, sign: "<") { return false }
            } catch {
                failure = error
            }
            return left < right
        }
        if let failure { throw failure }
        return order.map { items[$0] }
    }

    // MARK: Numbers

    private func numberFilter(
        _ name: Filter.Name, _ value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> JinjaValue {
        switch name {
        case .abs:
            if let integer = value.integer { return .integer(integer.magnitude > Int128.max ? 0 : Swift.abs(integer)) }
            if case .double(let number) = value { return .double(Swift.abs(number)) }
            throw .runtime("bad operand type for abs(): '\(value.typeName)'")
        case .float:
            if let number = value.number { return .double(number) }
            if let number = value.text.flatMap({ Double($0.stripped()) }) { return .double(number) }
            return arguments.value(0, "default") ?? .double(0)
        case .int:
            if let integer = value.integer { return .integer(integer) }
            var number = value.number
            if let text = value.text?.stripped() {
                let base = arguments.value(1, "base")?.index ?? 10
                let digits = text.replaced("_", by: "")
                if (2...36).contains(base), let integer = Int128(digits, radix: base) { return .integer(integer) }
                for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] where base == radix {
                    if digits.lowercasedPython.begins(with: prefix),
                        let integer = Int128(digits.dropFirst(2), radix: radix)
                    {
                        return .integer(integer)
                    }
                }
                number = Double(digits)
            }
            if let number, let integer = Int128(exactly: number.rounded(.towardZero)) { return .integer(integer) }
            return arguments.value(0, "default") ?? .integer(0)
        default:
            let precision = arguments.value(0, "precision")?.index ?? 0
            let method = arguments.value(1, "method")?.text ?? "common"
            guard let number = value.number else {
                throw .runtime("type \(value.typeName) doesn't define __round__ method")
            }
            if method == "common" {
                if value.integer != nil, precision >= 0 { return value }
                return .double(
                    Double(PercentFormat.printed(number, "f", Swift.max(0, Swift.min(precision, 300)))) ?? number)
            }
            guard method == "ceil" || method == "floor" else {
                throw .runtime("method must be common, ceil or floor")
            }
            let scale = (0..<Swift.min(Swift.max(precision, 0), 300)).reduce(1.0) { scale, _ in scale * 10 }
            return .double((number * scale).rounded(method == "ceil" ? .up : .down) / scale)
        }
    }

    // MARK: Texts

    private func textFilter(
        _ name: Filter.Name, _ value: JinjaValue, _ arguments: CallArguments
    ) throws(JinjaError) -> JinjaValue {
        let text = value.printed
        try meter.make(bytes: text.utf8.count)
        switch name {
        case .string, .safe: return .string(text)
        case .capitalize: return .string(text.capitalizedPython)
        case .lower: return .string(text.lowercasedPython)
        case .upper: return .string(text.uppercasedPython)
        case .escape, .forceescape: return .string(Filter.escaped(text))
        case .trim: return .string(text.stripped(arguments.value(0, "chars")?.text))
        case .title:
            var startsWord = true
            return .string(
                text.unicodeScalars.reduce(into: "") { result, scalar in
                    result += startsWord ? scalar.properties.uppercaseMapping : scalar.properties.lowercaseMapping
                    startsWord = "-({[<".unicodeScalars.contains(scalar) || scalar.isPythonSpace
                })
        case .replace:
            let old = arguments.value(0, "old")?.printed ?? ""
            let new = arguments.value(1, "new")?.printed ?? ""
            let limit = arguments.value(2, "count")?.index ?? .max
            let most = Swift.min(limit, text.utf8.count / Swift.max(1, old.utf8.count) + 1)
            try meter.make(bytes: text.utf8.count + most * new.utf8.count)
            return .string(text.replaced(old, by: new, limit: limit))
        case .format:
            return .string(
                try PercentFormat(meter).text(
                    text, arguments,
                    mapping: .dictionary(JinjaDictionary(arguments.named.map { (.string($0.name), $0.value) }))))
        case .center:
            let width = JinjaValue.integer(Int128(arguments.value(0, "width")?.index ?? 80))
            guard case .object(let method as Function)? = Methods(meter: meter).attribute("center", of: .string(text))
            else { return value }
            return try method.body(CallArguments(positional: [width]))
        case .indent: return .string(try indented(text, arguments))
        case .truncate: return .string(truncated(text, arguments))
        case .wordcount:
            var count = 0
            var isWord = false
            for scalar in text.unicodeScalars {
                let continues = scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil
                if continues, !isWord { count += 1 }
                isWord = continues
            }
            return .integer(Int128(count))
        case .striptags:
            var result = ""
            var isTag = false
            for scalar in text.unicodeScalars {
                if scalar == "<" { isTag = true }
                if !isTag { result.unicodeScalars.append(scalar) }
                if scalar == ">" { isTag = false }
            }
            return .string(result.words().joined(separator: " "))
        case .urlencode:
            return .string(
                text.utf8.reduce(into: "") { result, byte in
                    switch byte {
                    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F, 0x2E, 0x2D, 0x7E, 0x2F:
                        result.unicodeScalars.append(Unicode.Scalar(byte))
                    default: result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
                    }
                })
        default: return value
        }
    }

    private func indented(_ text: String, _ arguments: CallArguments) throws(JinjaError) -> String {
        let width = arguments.value(0, "width") ?? .integer(4)
        let indent = width.text ?? String(repeating: " ", count: Swift.min(Swift.max(width.index ?? 0, 0), 1000))
        let indentsBlank = arguments.value(2, "blank")?.isTrue ?? false
        let lines = (text + "\n").lines()
        try meter.make(bytes: text.utf8.count + lines.count * indent.utf8.count)
        var result = arguments.value(1, "first")?.isTrue ?? false ? indent : ""
        for (place, line) in lines.enumerated() {
            if place > 0 { result += "\n" + (line.utf8.isEmpty && !indentsBlank ? "" : indent) }
            result += line
        }
        return result
    }

    private func truncated(_ text: String, _ arguments: CallArguments) -> String {
        let length = arguments.value(0, "length")?.index ?? 255
        let end = arguments.value(2, "end")?.text ?? "..."
        let leeway = arguments.value(3, "leeway")?.index ?? 5
        guard text.unicodeScalars.count > length + leeway else { return text }
        let kept = String(
            String.UnicodeScalarView(
                text.unicodeScalars.prefix(Swift.max(0, length - end.unicodeScalars.count))))
        if arguments.value(1, "killwords")?.isTrue ?? false { return kept + end }
        return kept.parts(separatedBy: " ", limit: 1, fromEnd: true)[0] + end
    }
}
