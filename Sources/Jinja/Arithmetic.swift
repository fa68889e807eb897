// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Python's operators on numbers, texts and lists.
struct Arithmetic {
    private let meter: Meter

    init(_ meter: Meter) { self.meter = meter }

    func apply(
        _ operation: BinaryOperator, _ left: JinjaValue, _ right: JinjaValue
    ) throws(JinjaError) -> JinjaValue {
        if case .undefined(let missing) = left { throw .runtime(missing.message) }
        if case .undefined(let missing) = right { throw .runtime(missing.message) }
        if let first = left.integer, let second = right.integer { return try integers(operation, first, second) }
        if let first = left.number, let second = right.number { return try doubles(operation, first, second) }
        switch (operation, left, right) {
        case (.add, .string(let first), .string(let second)):
            try meter.make(bytes: first.utf8.count + second.utf8.count)
            return .string(first + second)
        case (.add, .list(let first), .list(let second)):
            try meter.make(elements: (first.count + second.count) / 2)
            return .list(first + second)
        case (.add, .tuple(let first), .tuple(let second)):
            try meter.make(elements: (first.count + second.count) / 2)
            return .tuple(first + second)
        case (.add, .string, _), (.add, .list, _), (.add, .tuple, _):
            throw .runtime(
                "can only concatenate \(left.typeName) (not \"\(right.typeName)\") to \(left.typeName)")
        case (.multiply, .string, _), (.multiply, .list, _), (.multiply, .tuple, _):
            if let count = right.integer { return try repeated(left, count) }
        case (.multiply, _, .string), (.multiply, _, .list), (.multiply, _, .tuple):
            if let count = left.integer { return try repeated(right, count) }
        case (.modulo, .string(let format), _):
            var arguments = CallArguments()
            if case .tuple(let values) = right { arguments.positional = values } else { arguments.positional = [right] }
            return .string(try PercentFormat(meter).text(format, arguments, mapping: right))
        default: break
        }
        throw .runtime(
            "unsupported operand type(s) for \(operation.rawValue): '\(left.typeName)' and '\(right.typeName)'")
    }

    private func repeated(_ value: JinjaValue, _ count: Int128) throws(JinjaError) -> JinjaValue {
        let count = Int(max(0, min(count, Int128(Int32.max))))
        switch value {
        case .string(let text):
            try meter.make(bytes: text.utf8.count * count)
            return .string(text.times(count))
        case .list(let elements):
            try meter.make(elements: elements.count * count)
            return .list(Array(repeatElement(elements, count: count).joined()))
        case .tuple(let elements):
            try meter.make(elements: elements.count * count)
            return .tuple(Array(repeatElement(elements, count: count).joined()))
        default: return .none
        }
    }

    private func integers(_ operation: BinaryOperator, _ a: Int128, _ b: Int128) throws(JinjaError) -> JinjaValue {
        let result: (partialValue: Int128, overflow: Bool)
        switch operation {
        case .add: result = a.addingReportingOverflow(b)
        case .subtract: result = a.subtractingReportingOverflow(b)
        case .multiply: result = a.multipliedReportingOverflow(by: b)
        case .divide:
            guard b != 0 else { throw .runtime("division by zero") }
            return .double(Double(a) / Double(b))
        case .floorDivide, .modulo:
            guard b != 0 else { throw .runtime("integer division or modulo by zero") }
            let (quotient, rest) = a.quotientAndRemainder(dividingBy: b == -1 && a == .min ? 1 : b)
            let isBelow = rest != 0 && (rest < 0) != (b < 0)
            return .integer(
                operation == .floorDivide ? (isBelow ? quotient - 1 : quotient) : (isBelow ? rest + b : rest))
        case .power:
            guard b >= 0 else { return .double(pow(Double(a), Double(b))) }
            var power: Int128 = 1
            var overflow = false
            if a == 0 || a == 1 { return .integer(b == 0 ? 1 : a) }
            for _ in 0..<min(b, 200) where !overflow {
                (power, overflow) = power.multipliedReportingOverflow(by: a)
            }
            result = (power, overflow || b > 200)
        }
        guard !result.overflow else {
            throw .runtime("the result of \(operation.rawValue) has more digits than this reader computes with (38)")
        }
        return .integer(result.partialValue)
    }

    private func doubles(_ operation: BinaryOperator, _ a: Double, _ b: Double) throws(JinjaError) -> JinjaValue {
        switch operation {
        case .add: return .double(a + b)
        case .subtract: return .double(a - b)
        case .multiply: return .double(a * b)
        case .power: return .double(pow(a, b))
        case .divide, .floorDivide, .modulo:
            guard b != 0 else {
                throw .runtime(operation == .divide ? "float division by zero" : "float floor division by zero")
            }
            if operation == .divide { return .double(a / b) }
            if operation == .floorDivide { return .double((a / b).rounded(.down)) }
            let rest = fmod(a, b)
            return .double(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest)
        }
    }
}

/// `"%s …" % values`.
struct PercentFormat {
    private let meter: Meter

    init(_ meter: Meter) { self.meter = meter }

    func text(
        _ format: String, _ arguments: CallArguments, mapping: JinjaValue = .none
    ) throws(JinjaError) -> String {
        var result = ""
        var next = 0
        let scalars = Array(format.unicodeScalars)
        var place = 0
        while place < scalars.count {
            guard scalars[place] == "%" else {
                result.unicodeScalars.append(scalars[place])
                place += 1
                continue
            }
            place += 1
            var named: JinjaValue?
            if place < scalars.count, scalars[place] == "(" {
                guard let end = scalars[place...].firstIndex(of: ")") else {
                    throw .runtime("incomplete format key")
                }
                var key = String.UnicodeScalarView()
                key.append(contentsOf: scalars[(place + 1)..<end])
                let name = String(key)
                if case .dictionary(let dictionary) = mapping { named = dictionary[name] }
                named = named ?? arguments.named.last { $0.name == name }?.value
                guard named != nil else { throw .runtime("'\(name)'") }
                place = end + 1
            }
            var flags: Set<Unicode.Scalar> = []
            while place < scalars.count, "-+ #0".unicodeScalars.contains(scalars[place]) {
                flags.insert(scalars[place])
                place += 1
            }
            func number() -> Int? {
                var value: Int?
                while place < scalars.count, scalars[place].isASCIIDigit {
                    value = min((value ?? 0) * 10 + Int(scalars[place].value) - 48, 1 << 40)
                    place += 1
                }
                return value
            }
            let width = number() ?? 0
            var precision: Int?
            if place < scalars.count, scalars[place] == "." {
                place += 1
                precision = number() ?? 0
            }
            guard place < scalars.count else { throw .runtime("incomplete format") }
            let conversion = scalars[place]
            place += 1
            if conversion == "%" {
                result += "%"
                continue
            }
            let value: JinjaValue
            if let named {
                value = named
            } else {
                guard next < arguments.positional.count else {
                    throw .runtime("not enough arguments for format string")
                }
                value = arguments.positional[next]
                next += 1
            }
            var text = try converted(value, conversion, precision)
            let isNumber = !"src".unicodeScalars.contains(conversion)
            if isNumber, !text.hasPrefix("-") {
                if flags.contains("+") { text = "+" + text } else if flags.contains(" ") { text = " " + text }
            }
            let missing = width - text.unicodeScalars.count
            if missing > 0 {
                try meter.make(bytes: missing + result.utf8.count)
                if flags.contains("-") {
                    text += String(repeating: " ", count: missing)
                } else if isNumber, flags.contains("0") {
                    let isSigned = text.hasPrefix("-") || text.hasPrefix("+")
                    text =
                        (isSigned ? String(text.removeFirst()) : "") + String(repeating: "0", count: missing) + text
                } else {
                    text = String(repeating: " ", count: missing) + text
                }
            }
            result += text
            try meter.make(bytes: result.utf8.count)
        }
        if next < arguments.positional.count, arguments.named.isEmpty {
            if case .dictionary = mapping { return result }
            throw .runtime("not all arguments converted during string formatting")
        }
        return result
    }

    private func converted(
        _ value: JinjaValue, _ conversion: Unicode.Scalar, _ precision: Int?
    ) throws(JinjaError) -> String {
        switch conversion {
        case "s", "r":
            let text = conversion == "s" ? value.printed : value.representation
            return precision.map { String(String.UnicodeScalarView(text.unicodeScalars.prefix($0))) } ?? text
        case "d", "i", "u":
            if let integer = value.integer { return integer.description }
            if case .double(let number) = value, let integer = Int128(exactly: number.rounded(.towardZero)) {
                return integer.description
            }
            throw .runtime("%\(conversion) format: a real number is required, not \(value.typeName)")
        case "x", "X", "o":
            guard let integer = value.integer else {
                throw .runtime("%\(conversion) format: an integer is required, not \(value.typeName)")
            }
            return String(integer, radix: conversion == "o" ? 8 : 16, uppercase: conversion == "X")
        case "f", "F", "e", "E", "g", "G":
            guard let number = value.number else {
                throw .runtime("must be real number, not \(value.typeName)")
            }
            return Self.printed(number, conversion, min(precision ?? 6, 1000))
        case "c": return value.printed
        default: throw .runtime("unsupported format character '\(conversion)'")
        }
    }

    /// The C library's text of a floating-point number.
    static func printed(_ number: Double, _ conversion: Unicode.Scalar, _ precision: Int) -> String {
        var buffer = [CChar](repeating: 0, count: 1400)
        let count = withVaList([number]) {
            vsnprintf(&buffer, buffer.count, "%.\(precision)\(conversion)", $0)
        }
        return String(decoding: buffer.prefix(max(0, Int(count))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
