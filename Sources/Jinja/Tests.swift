// SPDX-License-Identifier: Apache-2.0

/// Jinja's tests, what follows `is`.
enum Test: Sendable {
    enum Name: String, CaseIterable, Sendable {
        case boolean, callable, defined, divisibleby, eq, escaped, even, `false`, filter, float, ge, gt, `in`, integer,
            iterable, le, lower, lt, mapping, ne, none, number, odd, sameas, sequence, string, test, `true`, undefined,
            upper
    }

    case known(Name)
    case unknown(String)

    init(_ name: String) {
        let names = [
            "equalto": "eq", "==": "eq", "!=": "ne", "greaterthan": "gt", ">": "gt", "lessthan": "lt", "<": "lt",
            ">=": "ge", "<=": "le",
        ]
        self = Name(rawValue: names[name] ?? name).map { .known($0) } ?? .unknown(name)
    }
}

extension Interpreter {
    func check(_ test: Test, _ value: JinjaValue, _ arguments: CallArguments) throws(JinjaError) -> Bool {
        guard case .known(let name) = test else {
            guard case .unknown(let name) = test else { return false }
            throw .runtime("No test named '\(name)'.")
        }
        func argument() throws(JinjaError) -> JinjaValue {
            guard let first = arguments.positional.first ?? arguments.named.first?.value else {
                throw .runtime("the test '\(name.rawValue)' needs an argument")
            }
            return first
        }
        switch name {
        case .defined: return !value.isUndefined
        case .undefined: return value.isUndefined
        case .none: if case .none = value { return true } else { return false }
        case .boolean: if case .bool = value { return true } else { return false }
        case .true: return value.isIdentical(to: .bool(true))
        case .false: return value.isIdentical(to: .bool(false))
        case .integer:
            switch value {
            case .integer, .longInteger: return true
            default: return false
            }
        case .float: if case .double = value { return true } else { return false }
        case .number:
            if case .longInteger = value { return true }
            return value.number != nil
        case .string: return value.text != nil
        case .mapping: if case .dictionary = value { return true } else { return false }
        case .sequence:
            switch value {
            case .undefined, .string, .list, .tuple, .dictionary, .range: return true
            default: return false
            }
        case .iterable:
            switch value {
            case .undefined, .string, .list, .tuple, .dictionary, .range, .view: return true
            case .object(let object): return object is Generator || object is LoopState
            default: return false
            }
        case .callable:
            if case .object(let object) = value { return object.isCallable }
            return value.isUndefined
        case .escaped: return false
        case .even, .odd, .divisibleby:
            let divisor = name == .divisibleby ? try argument() : .integer(2)
            let rest = try Arithmetic(meter).apply(.modulo, value, divisor)
            return rest.isEqual(to: .integer(0)) != (name == .odd)
        case .lower, .upper:
            let scalars = value.printed.unicodeScalars
            let isWrong = { (scalar: Unicode.Scalar) in
                name == .lower ? scalar.properties.isUppercase : scalar.properties.isLowercase
            }
            return scalars.contains { $0.properties.isCased } && !scalars.contains(where: isWrong)
        case .eq: return try compare(value, .equal, try argument())
        case .ne: return try compare(value, .notEqual, try argument())
        case .gt: return try compare(value, .greater, try argument())
        case .ge: return try compare(value, .greaterOrEqual, try argument())
        case .lt: return try compare(value, .less, try argument())
        case .le: return try compare(value, .lessOrEqual, try argument())
        case .in: return try contains(try argument(), value)
        case .sameas: return value.isIdentical(to: try argument())
        case .filter: if case .known = Filter(value.printed) { return true } else { return false }
        case .test: if case .known = Test(value.printed) { return true } else { return false }
        }
    }
}

extension JinjaValue {
    /// Python's `is`, for values that have no identity of their own: equal and of one type.
    func isIdentical(to other: JinjaValue) -> Bool { typeName == other.typeName && isEqual(to: other) }
}
