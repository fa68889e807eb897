// SPDX-License-Identifier: Apache-2.0

/// A piece of a template, as Jinja 3.1 cuts it with `trim_blocks` and `lstrip_blocks`, which is how transformers reads
/// chat templates.
struct Token {
    enum Kind: Equatable {
        /// Text between the tags.
        case data(String)
        case blockBegin, blockEnd, variableBegin, variableEnd
        case name(String)
        case string(String)
        /// The digits of an integer in base ten.
        case integer(Int128)
        case float(Double)
        case op(String)
        case end
    }

    let kind: Kind
    let line: Int

    /// The token in the words of Jinja's messages.
    var words: String {
        switch kind {
        case .data: "template data"
        case .blockBegin: "begin of statement block"
        case .blockEnd: "end of statement block"
        case .variableBegin: "begin of print statement"
        case .variableEnd: "end of print statement"
        case .name(let name): name
        case .string(let text): text
        case .integer(let value): value.description
        case .float(let value): PythonFloat.text(value)
        case .op(let text): text
        case .end: "end of template"
        }
    }
}

/// Cuts a template into tokens.
struct Lexer {
    private let source: [Unicode.Scalar]
    private var position = 0
    private var line = 1
    private(set) var tokens: [Token] = []

    private init(_ text: String) {
        // Line ends become LF, and one at the very end goes.
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(text.unicodeScalars.count)
        var wasReturn = false
        for scalar in text.unicodeScalars {
            if scalar == "\r" {
                scalars.append("\n")
            } else if scalar != "\n" || !wasReturn {
                scalars.append(scalar)
            }
            wasReturn = scalar == "\r"
        }
        if scalars.last == "\n" { scalars.removeLast() }
        source = scalars
    }

    /// The tokens of `text`, the last of which is `end`.
    static func tokens(of text: String) throws(JinjaError) -> [Token] {
        var lexer = Lexer(text)
        try lexer.root()
        return lexer.tokens
    }

    private func failure(_ message: String) -> JinjaError {
        JinjaError(kind: .syntax, message: message, line: line)
    }

    private mutating func append(_ kind: Token.Kind) { tokens.append(Token(kind: kind, line: line)) }

    private func starts(_ text: StaticString, at place: Int) -> Bool {
        text.withUTF8Buffer { bytes in
            guard place + bytes.count <= source.count else { return false }
            for (index, byte) in bytes.enumerated() where source[place + index].value != UInt32(byte) { return false }
            return true
        }
    }

    private mutating func advance(to end: Int) {
        for scalar in source[position..<end] where scalar == "\n" { line += 1 }
        position = end
    }

    private func skippingSpace(from place: Int) -> Int {
        var place = place
        while place < source.count, source[place].isPythonSpace { place += 1 }
        return place
    }

    // MARK: Text

    private mutating func root() throws(JinjaError) {
        var lineStarts = true
        while position < source.count {
            var tag = position
            while tag < source.count, !(starts("{%", at: tag) || starts("{{", at: tag) || starts("{#", at: tag)) {
                tag += 1
            }
            guard tag < source.count else {
                appendData(position..<tag)
                advance(to: tag)
                break
            }
            let sign = tag + 2 < source.count ? source[tag + 2] : " "
            let isVariable = source[tag + 1] == "{"
            appendData(
                textRange(position..<tag, sign: sign, strips: !isVariable, lineStarts: lineStarts))
            advance(to: tag)
            let isSigned = sign == "-" || sign == "+"
            switch source[tag + 1] {
            case "#": try comment()
            case "{":
                advance(to: tag + (sign == "-" ? 3 : 2))
                append(.variableBegin)
                try expression(isBlock: false)
            default:
                if let end = rawBegin(at: tag + (isSigned ? 3 : 2)) {
                    advance(to: end)
                    try raw()
                } else {
                    advance(to: tag + (isSigned ? 3 : 2))
                    append(.blockBegin)
                    try expression(isBlock: true)
                }
            }
            lineStarts = position > 0 && source[position - 1] == "\n"
        }
        append(.end)
    }

    private mutating func appendData(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: source[range])
        append(.data(String(text)))
    }

    /// The text before a tag: without trailing blanks after `-`, without the blanks of its own line before a block.
    private func textRange(_ range: Range<Int>, sign: Unicode.Scalar, strips: Bool, lineStarts: Bool) -> Range<Int> {
        if sign == "-" {
            var end = range.upperBound
            while end > range.lowerBound, source[end - 1].isPythonSpace { end -= 1 }
            return range.lowerBound..<end
        }
        guard sign != "+", strips else { return range }
        var lineBegin = range.upperBound
        while lineBegin > range.lowerBound, source[lineBegin - 1] != "\n" { lineBegin -= 1 }
        guard lineBegin > range.lowerBound || lineStarts else { return range }
        let isBlank = source[lineBegin..<range.upperBound].allSatisfy(\.isPythonSpace)
        return isBlank ? range.lowerBound..<lineBegin : range
    }

    /// The place after a tag that ends at `end` (after its closing characters), by its sign.
    private func afterTag(_ end: Int, sign: Unicode.Scalar) -> Int {
        if sign == "-" { return skippingSpace(from: end) }
        if sign != "+", end < source.count, source[end] == "\n" { return end + 1 }
        return end
    }

    private mutating func comment() throws(JinjaError) {
        var end = position + 2
        while end < source.count, !starts("#}", at: end) { end += 1 }
        guard end < source.count else { throw failure("Missing end of comment tag") }
        let sign = end > position + 2 ? source[end - 1] : " "
        advance(to: afterTag(end + 2, sign: sign))
    }

    private func rawBegin(at place: Int) -> Int? {
        let word = skippingSpace(from: place)
        guard starts("raw", at: word) else { return nil }
        let end = skippingSpace(from: word + 3)
        if starts("-%}", at: end) { return skippingSpace(from: end + 3) }
        return starts("%}", at: end) ? end + 2 : nil
    }

    private mutating func raw() throws(JinjaError) {
        var tag = position
        while tag < source.count {
            defer { tag += 1 }
            guard starts("{%", at: tag) else { continue }
            let sign = tag + 2 < source.count ? source[tag + 2] : " "
            let word = skippingSpace(from: tag + (sign == "-" || sign == "+" ? 3 : 2))
            guard starts("endraw", at: word) else { continue }
            let end = skippingSpace(from: word + 6)
            let endSign = end < source.count ? source[end] : " "
            let close = endSign == "-" || endSign == "+" ? end + 1 : end
            guard starts("%}", at: close) else { continue }
            appendData(textRange(position..<tag, sign: sign, strips: true, lineStarts: false))
            advance(to: afterTag(close + 2, sign: endSign))
            return
        }
        throw failure("Missing end of raw directive")
    }

    // MARK: Expressions

    private mutating func expression(isBlock: Bool) throws(JinjaError) {
        var open: [Unicode.Scalar] = []
        while true {
            let next = skippingSpace(from: position)
            advance(to: next)
            guard position < source.count else { throw failure("unexpected end of template") }
            if open.isEmpty, let end = tagEnd(isBlock: isBlock) {
                append(isBlock ? .blockEnd : .variableEnd)
                advance(to: end)
                return
            }
            let scalar = source[position]
            if scalar.isASCIIDigit {
                try number()
            } else if scalar.isNameStart {
                var end = position + 1
                while end < source.count, source[end].isNameStart || source[end].isNamePart { end += 1 }
                append(.name(text(position..<end)))
                advance(to: end)
            } else if scalar == "'" || scalar == "\"" {
                try string(quote: scalar)
            } else {
                try symbol(&open)
            }
        }
    }

    private func tagEnd(isBlock: Bool) -> Int? {
        if isBlock {
            if starts("-%}", at: position) { return afterTag(position + 3, sign: "-") }
            if starts("+%}", at: position) { return position + 3 }
            return starts("%}", at: position) ? afterTag(position + 2, sign: " ") : nil
        }
        if starts("-}}", at: position) { return skippingSpace(from: position + 3) }
        return starts("}}", at: position) ? position + 2 : nil
    }

    private func text(_ range: Range<Int>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: source[range])
        return String(view)
    }

    private mutating func symbol(_ open: inout [Unicode.Scalar]) throws(JinjaError) {
        let pairs: [StaticString] = ["//", "**", "==", "!=", ">=", "<="]
        if pairs.contains(where: { starts($0, at: position) }) {
            append(.op(text(position..<position + 2)))
            advance(to: position + 2)
            return
        }
        let scalar = source[position]
        switch scalar {
        case "(", "[", "{": open.append(scalar == "(" ? ")" : scalar == "[" ? "]" : "}")
        case ")", "]", "}":
            guard let expected = open.popLast() else { throw failure("unexpected '\(scalar)'") }
            guard expected == scalar else { throw failure("unexpected '\(scalar)', expected '\(expected)'") }
        case "+", "-", "/", "*", "%", "~", ">", "<", "=", ".", ":", "|", ",", ";": break
        default: throw failure("unexpected char '\(scalar)' at \(position)")
        }
        append(.op(String(Character(scalar))))
        advance(to: position + 1)
    }

    private mutating func number() throws(JinjaError) {
        var end = position
        var radix = 10
        if source[position] == "0", position + 1 < source.count {
            switch source[position + 1] {
            case "x", "X": radix = 16
            case "b", "B": radix = 2
            case "o", "O": radix = 8
            default: break
            }
        }
        func digits(_ accept: (Unicode.Scalar) -> Bool, from start: Int) -> Int {
            var place = start
            while place < source.count {
                if accept(source[place]) {
                    place += 1
                } else if source[place] == "_", place + 1 < source.count, accept(source[place + 1]), place > start {
                    place += 2
                } else {
                    break
                }
            }
            return place
        }
        func value(_ range: Range<Int>) -> String { text(range).filter { $0 != "_" } }
        if radix != 10 {
            end = digits({ $0.isASCII && Int(String($0), radix: radix) != nil }, from: position + 2)
            guard let number = Int128(value(position + 2..<end), radix: radix) else {
                throw failure("the number '\(text(position..<end))' is too large")
            }
            append(.integer(number))
            advance(to: end)
            return
        }
        end = digits(\.isASCIIDigit, from: position)
        var isFloat = false
        // After a dot a number is an index: a.0.1
        let follows = position > 0 && source[position - 1] == "."
        if !follows {
            if end + 1 < source.count, source[end] == ".", source[end + 1].isASCIIDigit {
                end = digits(\.isASCIIDigit, from: end + 1)
                isFloat = true
            }
            if end < source.count, source[end] == "e" || source[end] == "E" {
                var exponent = end + 1
                if exponent < source.count, source[exponent] == "+" || source[exponent] == "-" { exponent += 1 }
                let exponentEnd = digits(\.isASCIIDigit, from: exponent)
                if exponentEnd > exponent {
                    end = exponentEnd
                    isFloat = true
                }
            }
        }
        if isFloat {
            append(.float(Double(value(position..<end)) ?? 0))
        } else if let number = Int128(value(position..<end)) {
            append(.integer(number))
        } else {
            throw failure("the number '\(text(position..<end))' is too large")
        }
        advance(to: end)
    }

    private mutating func string(quote: Unicode.Scalar) throws(JinjaError) {
        var result = String.UnicodeScalarView()
        var place = position + 1
        while place < source.count, source[place] != quote {
            guard source[place] == "\\" else {
                result.append(source[place])
                place += 1
                continue
            }
            guard place + 1 < source.count else { break }
            let escape = source[place + 1]
            place += 2
            func hex(_ count: Int) throws(JinjaError) {
                guard place + count <= source.count, let value = UInt32(text(place..<place + count), radix: 16),
                    let scalar = Unicode.Scalar(value)
                else { throw failure("the escape \\\(escape) is cut short or names no character") }
                result.append(scalar)
                place += count
            }
            switch escape {
            case "n": result.append("\n")
            case "t": result.append("\t")
            case "r": result.append("\r")
            case "b": result.append("\u{8}")
            case "f": result.append("\u{c}")
            case "v": result.append("\u{b}")
            case "a": result.append("\u{7}")
            case "\\", "'", "\"": result.append(escape)
            case "\n": break
            case "x": try hex(2)
            case "u": try hex(4)
            case "U": try hex(8)
            case "0"..."7":
                var value = escape.value - 48
                var count = 1
                while count < 3, place < source.count, ("0"..."7").contains(source[place]) {
                    value = value * 8 + source[place].value - 48
                    place += 1
                    count += 1
                }
                result.append(Unicode.Scalar(value) ?? "\u{FFFD}")
            case "N": throw failure("the escape \\N{…} is not supported; write the character itself")
            default:
                result.append("\\")
                result.append(escape)
            }
        }
        guard place < source.count else { throw failure("unexpected char '\(quote)' at \(position)") }
        append(.string(String(result)))
        advance(to: place + 1)
    }
}

extension Unicode.Scalar {
    var isASCIIDigit: Bool { value >= 48 && value <= 57 }

    var isNameStart: Bool { self == "_" || (isASCII ? properties.isAlphabetic : properties.isXIDStart) }

    var isNamePart: Bool { isASCII ? isASCIIDigit || self == "_" || properties.isAlphabetic : properties.isXIDContinue }

    /// Python's `str.isspace`.
    var isPythonSpace: Bool {
        switch value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }
}
