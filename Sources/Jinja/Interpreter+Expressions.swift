// SPDX-License-Identifier: Apache-2.0

extension Interpreter {
    /// The value of an expression. `piped` stands where a filter has no operand of its own.
    mutating func evaluate(
        _ expression: Expression, _ scope: Scope, piped: JinjaValue? = nil
    ) throws(JinjaError) -> JinjaValue {
        try meter.step()
        switch expression {
        // Leaves first, without a level of their own.
        case .constant(let constant):
            switch constant {
            case .none: return .none
            case .bool(let value): return .bool(value)
            case .integer(let value): return .integer(value)
            case .double(let value): return .double(value)
            case .string(let text): return .string(text)
            }
        case .name(let identifier):
            return scope.value(identifier)
                ?? .undefined(Missing(message: "'\(template.names[identifier])' is undefined"))
        default:
            try meter.enter()
            defer { meter.leave() }
            return try evaluateNested(expression, scope, piped)
        }
    }

    private mutating func evaluateNested(
        _ expression: Expression, _ scope: Scope, _ piped: JinjaValue?
    ) throws(JinjaError) -> JinjaValue {
        switch expression {
        case .constant, .name: return try evaluate(expression, scope)
        case .list(let items):
            let list = JinjaValue.list(try values(items, scope))
            try meter.weigh(list)
            return list
        case .tuple(let items):
            let tuple = JinjaValue.tuple(try values(items, scope))
            try meter.weigh(tuple)
            return tuple
        case .dictionary(let items): return try dictionary(items, scope)
        case .attribute(let owner, let name):
            return try attribute(name, of: try evaluate(owner, scope))
        case .item(let owner, let key):
            let value = try evaluate(owner, scope)
            return try item(try evaluate(key, scope), of: value)
        case .slice(let owner, let start, let stop, let step):
            return try slice(owner, start, stop, step, scope)
        case .call(let callee, let arguments):
            let function = try evaluate(callee, scope)
            return try call(function, try self.arguments(arguments, scope))
        case .filter(let filter, let operand, let arguments):
            let value: JinjaValue
            if let operand { value = try evaluate(operand, scope, piped: piped) } else { value = piped ?? .none }
            return try apply(filter, to: value, try self.arguments(arguments, scope))
        case .test(let test, let operand, let arguments):
            let value = try evaluate(operand, scope)
            return .bool(try check(test, value, try self.arguments(arguments, scope)))
        case .not(let operand): return .bool(!(try isTrue(try evaluate(operand, scope))))
        case .negative(let operand): return try negated(try evaluate(operand, scope), "-")
        case .positive(let operand): return try negated(try evaluate(operand, scope), "+")
        case .and(let left, let right):
            let value = try evaluate(left, scope)
            return try isTrue(value) ? try evaluate(right, scope) : value
        case .or(let left, let right):
            let value = try evaluate(left, scope)
            return try isTrue(value) ? value : try evaluate(right, scope)
        case .binary(let operation, let left, let right):
            let first = try evaluate(left, scope)
            return try Arithmetic(meter).apply(operation, first, try evaluate(right, scope))
        case .concatenation(let parts): return try concatenation(parts, scope)
        case .comparison(let first, let operations): return try comparison(first, operations, scope)
        case .conditional(let test, let then, let otherwise):
            if try isTrue(try evaluate(test, scope)) { return try evaluate(then, scope) }
            if let otherwise { return try evaluate(otherwise, scope) }
            return .undefined(
                Missing(message: "the inline if-expression evaluated to false and no else section was defined."))
        }
    }

    private mutating func values(_ expressions: [Expression], _ scope: Scope) throws(JinjaError) -> [JinjaValue] {
        var result: [JinjaValue] = []
        result.reserveCapacity(expressions.count)
        for expression in expressions { result.append(try evaluate(expression, scope)) }
        return result
    }

    private mutating func dictionary(
        _ items: [(key: Expression, value: Expression)], _ scope: Scope
    ) throws(JinjaError) -> JinjaValue {
        var pairs: [(key: JinjaValue, value: JinjaValue)] = []
        for item in items {
            let key = try evaluate(item.key, scope)
            try key.requireHashable()
            pairs.append((key, try evaluate(item.value, scope)))
        }
        let dictionary = JinjaValue.dictionary(JinjaDictionary(pairs))
        try meter.weigh(dictionary)
        return dictionary
    }

    private mutating func concatenation(_ parts: [Expression], _ scope: Scope) throws(JinjaError) -> JinjaValue {
        var text = ""
        for part in parts {
            text += try evaluate(part, scope).printed
            try meter.make(bytes: text.utf8.count)
        }
        return .string(text)
    }

    private func negated(_ value: JinjaValue, _ sign: String) throws(JinjaError) -> JinjaValue {
        if let number = value.integer { return .integer(sign == "-" ? -number : number) }
        if case .double(let number) = value { return .double(sign == "-" ? -number : number) }
        if case .undefined(let missing) = value { throw .runtime(missing.message) }
        throw .runtime("bad operand type for unary \(sign): '\(value.typeName)'")
    }

    private mutating func comparison(
        _ first: Expression, _ operations: [Comparison], _ scope: Scope
    ) throws(JinjaError) -> JinjaValue {
        var left = try evaluate(first, scope)
        for operation in operations {
            let right = try evaluate(operation.right, scope)
            guard try compare(left, operation.sign, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    func compare(
        _ left: JinjaValue, _ sign: ComparisonOperator, _ right: JinjaValue
    ) throws(JinjaError) -> Bool {
        if case .string(let text) = left { try meter.step(bytes: text.utf8.count) } else { try meter.weigh(left) }
        switch sign {
        case .equal: return left.isEqual(to: right)
        case .notEqual: return !left.isEqual(to: right)
        case .less: return try left.isLess(than: right, sign: "<")
        case .greater: return try right.isLess(than: left, sign: ">")
        case .lessOrEqual:
            if left.isEqual(to: right), !left.isUndefined { return true }
            return try left.isLess(than: right, sign: "<=")
        case .greaterOrEqual:
            if left.isEqual(to: right), !left.isUndefined { return true }
            return try right.isLess(than: left, sign: ">=")
        case .isIn: return try contains(right, left)
        case .isNotIn: return !(try contains(right, left))
        }
    }

    /// Python's `in`.
    func contains(_ whole: JinjaValue, _ part: JinjaValue) throws(JinjaError) -> Bool {
        switch whole {
        case .string(let text):
            guard case .string(let sought) = part else {
                throw .runtime("'in <string>' requires string as left operand, not \(part.typeName)")
            }
            try meter.step(bytes: text.utf8.count)
            return text.firstPlace(of: sought) != nil
        case .dictionary(let dictionary):
            try part.requireHashable()
            return dictionary[part] != nil
        case .list, .tuple, .range, .view, .undefined:
            let items = try elements(of: whole)
            try meter.step(bytes: items.count << 4)
            return items.contains { $0.isEqual(to: part) }
        default: throw .runtime("argument of type '\(whole.typeName)' is not iterable")
        }
    }

    // MARK: Members

    /// `value.name`: an attribute of the value, or else its item of that name.
    func attribute(_ name: String, of value: JinjaValue) throws(JinjaError) -> JinjaValue {
        if case .undefined(let missing) = value { throw .runtime(missing.message) }
        if let method = Methods(meter: meter).attribute(name, of: value) { return method }
        if case .dictionary(let dictionary) = value, let member = dictionary[name] { return member }
        return missing(name, of: value)
    }

    private func missing(_ name: String, of value: JinjaValue) -> JinjaValue {
        .undefined(Missing(message: "\(value.ownerName) has no attribute '\(name)'"))
    }

    /// `value[key]`: an item, or else the attribute of that name.
    func item(_ key: JinjaValue, of value: JinjaValue) throws(JinjaError) -> JinjaValue {
        switch value {
        case .undefined(let missing): throw .runtime(missing.message)
        case .dictionary(let dictionary):
            if let member = dictionary[key] { return member }
        case .list(let elements), .tuple(let elements):
            if let index = key.index, let place = Self.place(index, elements.count) { return elements[place] }
        case .range(let range):
            if let index = key.index, let place = Self.place(index, range.count) { return range[place] }
        case .string(let text):
            if let index = key.index {
                try meter.step(bytes: text.utf8.count)
                let scalars = text.unicodeScalars
                if index < 0 {
                    if let place = scalars.index(scalars.endIndex, offsetBy: index, limitedBy: scalars.startIndex) {
                        return .string(String(Character(scalars[place])))
                    }
                } else if let place = scalars.index(
                    scalars.startIndex, offsetBy: index, limitedBy: scalars.endIndex), place < scalars.endIndex
                {
                    return .string(String(Character(scalars[place])))
                }
            }
        default: break
        }
        if case .string(let name) = key {
            return Methods(meter: meter).attribute(name, of: value) ?? missing(name, of: value)
        }
        return .undefined(Missing(message: "\(value.ownerName) has no element \(key.representation)"))
    }

    private static func place(_ index: Int, _ count: Int) -> Int? {
        let place = index < 0 ? index + count : index
        return (0..<count).contains(place) ? place : nil
    }

    private mutating func slice(
        _ owner: Expression, _ start: Expression?, _ stop: Expression?, _ step: Expression?, _ scope: Scope
    ) throws(JinjaError) -> JinjaValue {
        let value = try evaluate(owner, scope)
        func bound(_ expression: Expression?, _ interpreter: inout Interpreter) throws(JinjaError) -> Int? {
            guard let expression else { return nil }
            let value = try interpreter.evaluate(expression, scope)
            if case .none = value { return nil }
            guard let index = value.index else {
                throw .runtime("slice indices must be integers or None or have an __index__ method")
            }
            return index
        }
        let first = try bound(start, &self)
        let last = try bound(stop, &self)
        let stride = try bound(step, &self) ?? 1
        guard stride != 0 else { throw .runtime("slice step cannot be zero") }
        func places(_ count: Int) -> [Int] {
            func clamped(_ index: Int) -> Int {
                let place = index < 0 ? index + count : index
                return stride > 0 ? min(max(place, 0), count) : min(max(place, -1), count - 1)
            }
            let begin = first.map(clamped) ?? (stride > 0 ? 0 : count - 1)
            let end = last.map(clamped) ?? (stride > 0 ? count : -1)
            return Array(Swift.stride(from: begin, to: end, by: stride))
        }
        switch value {
        case .list(let elements):
            try meter.make(elements: elements.count / 2)
            return .list(places(elements.count).map { elements[$0] })
        case .tuple(let elements): return .tuple(places(elements.count).map { elements[$0] })
        case .range(let range): return .list(places(range.count).map { range[$0] })
        case .string(let text):
            try meter.step(bytes: text.utf8.count * 32)
            let scalars = Array(text.unicodeScalars)
            var result = String.UnicodeScalarView()
            for place in places(scalars.count) { result.append(scalars[place]) }
            return .string(String(result))
        case .dictionary: throw .runtime("unhashable type: 'slice'")
        case .undefined(let missing): throw .runtime(missing.message)
        default:
            return .undefined(Missing(message: "\(value.ownerName) has no element slice"))
        }
    }

    // MARK: Calls

    mutating func arguments(_ arguments: Arguments, _ scope: Scope) throws(JinjaError) -> CallArguments {
        var result = CallArguments()
        if arguments.positional.isEmpty, arguments.named.isEmpty, arguments.unpackedList == nil,
            arguments.unpackedDictionary == nil
        {
            return result
        }
        result.positional = try values(arguments.positional, scope)
        if let unpacked = arguments.unpackedList {
            result.positional += try elements(of: try evaluate(unpacked, scope))
        }
        for (name, value) in arguments.named { result.named.append((name, try evaluate(value, scope))) }
        if let unpacked = arguments.unpackedDictionary {
            guard case .dictionary(let dictionary) = try evaluate(unpacked, scope) else {
                throw .runtime("argument after ** must be a mapping")
            }
            for (key, value) in zip(dictionary.keys, dictionary.values) {
                guard case .string(let name) = key else { throw .runtime("keywords must be strings") }
                result.named.append((name, value))
            }
        }
        return result
    }

    mutating func call(_ callee: JinjaValue, _ arguments: CallArguments) throws(JinjaError) -> JinjaValue {
        try meter.step()
        switch callee {
        case .undefined(let missing): throw .runtime(missing.message)
        case .object(let function as Function): return try function.body(arguments)
        case .object(let macro as MacroValue): return .string(try call(macro, arguments))
        case .object(let state as LoopState):
            guard state.loop.isRecursive else {
                throw .runtime("The loop must have the 'recursive' marker to be called recursively.")
            }
            let items = arguments.positional.first ?? .none
            try meter.enter()
            defer { meter.leave() }
            return .string(
                try capture { (interpreter) throws(JinjaError) in
                    try interpreter.run(state.loop, over: items, state.scope, depth: state.depth + 1)
                })
        default: throw .runtime("'\(callee.typeName)' object is not callable")
        }
    }

    private mutating func call(_ value: MacroValue, _ arguments: CallArguments) throws(JinjaError) -> String {
        let macro = value.macro
        let scope = Scope(value.scope)
        var named = arguments.named
        let caller = named.firstIndex { $0.name == "caller" }.map { named.remove(at: $0).value }
        if let caller, let identifier = template.names.firstIndex(of: "caller") { scope.set(identifier, caller) }
        for (place, parameter) in macro.parameters.enumerated() {
            if place < arguments.positional.count {
                scope.set(parameter.identifier, arguments.positional[place])
            } else if let index = named.firstIndex(where: { $0.name == parameter.name }) {
                scope.set(parameter.identifier, named.remove(at: index).value)
            } else if let standard = parameter.standard {
                scope.set(parameter.identifier, try evaluate(standard, scope))
            } else {
                scope.set(
                    parameter.identifier,
                    .undefined(Missing(message: "parameter '\(parameter.name)' was not provided")))
            }
        }
        // The rest is for macros that name varargs and kwargs; others refuse it.
        let rest = Array(arguments.positional.dropFirst(macro.parameters.count))
        if let identifier = template.names.firstIndex(of: "varargs") {
            try meter.weigh(.tuple(rest))
            scope.set(identifier, .tuple(rest))
        } else if !rest.isEmpty {
            throw .runtime("macro '\(macro.name)' takes not more than \(macro.parameters.count) argument(s)")
        }
        if let identifier = template.names.firstIndex(of: "kwargs") {
            let rest = JinjaValue.dictionary(JinjaDictionary(named.map { (key: .string($0.name), value: $0.value) }))
            try meter.weigh(rest)
            scope.set(identifier, rest)
        } else if let first = named.first {
            throw .runtime("macro '\(macro.name)' takes no keyword argument '\(first.name)'")
        }
        try meter.enter()
        defer { meter.leave() }
        return try capture { (interpreter) throws(JinjaError) in _ = try interpreter.execute(macro.body, scope) }
    }
}

extension JinjaValue {
    /// - Throws: ``JinjaError`` when the value can be no key.
    func requireHashable() throws(JinjaError) {
        switch self {
        case .list, .dictionary: throw .runtime("unhashable type: '\(typeName)'")
        default: break
        }
    }
}
