// SPDX-License-Identifier: Apache-2.0

/// A value as a template sees it: Python's, as far as templates use them. Everything but namespaces, loops and their
/// like is immutable, as in transformers' sandbox.
package enum JinjaValue {
    /// What is not there: prints nothing, is false and empty, and fails in most other uses.
    case undefined(Missing)
    case none
    case bool(Bool)
    case integer(Int128)
    /// An integer of a document beyond 38 digits: it can be printed and compared, not computed with.
    case longInteger(String)
    case double(Double)
    case string(String)
    case list([JinjaValue])
    case tuple([JinjaValue])
    case dictionary(JinjaDictionary)
    case range(IntegerRange)
    case view(DictionaryView)
    case object(JinjaObject)
}

/// What an undefined value says when it is used.
package struct Missing: Sendable {
    let message: String
    /// The sandbox hid it: every use but printing fails.
    var isForbidden = false
}

/// Python's `range`.
package struct IntegerRange: Sendable, Equatable {
    var start: Int
    var stop: Int
    var step: Int

    var count: Int {
        step > 0 ? max(0, (stop - start + step - 1) / step) : max(0, (start - stop - step - 1) / -step)
    }

    subscript(index: Int) -> JinjaValue { .integer(Int128(start + index * step)) }
}

/// `keys()`, `values()` or `items()` of a dictionary.
package struct DictionaryView {
    enum Part: String {
        case keys
        case values
        case items
    }

    let dictionary: JinjaDictionary
    let part: Part

    var elements: [JinjaValue] {
        switch part {
        case .keys: dictionary.keys
        case .values: dictionary.values
        case .items: dictionary.items
        }
    }
}

/// A dictionary that keeps the order of its keys.
package final class JinjaDictionary {
    let keys: [JinjaValue]
    let values: [JinjaValue]
    /// Above a few keys a table; below it a look at each is faster.
    private let places: [Key: Int]

    /// A repeated key keeps its first place and gets its last value.
    package init(_ pairs: [(key: JinjaValue, value: JinjaValue)]) {
        var keys: [JinjaValue] = []
        var values: [JinjaValue] = []
        var places: [Key: Int] = [:]
        keys.reserveCapacity(pairs.count)
        values.reserveCapacity(pairs.count)
        let isLarge = pairs.count > 8
        for pair in pairs {
            let place = isLarge ? places[Key(pair.key)] : keys.firstIndex { $0.isEqual(to: pair.key) }
            if let place {
                values[place] = pair.value
            } else {
                if isLarge { places[Key(pair.key)] = keys.count }
                keys.append(pair.key)
                values.append(pair.value)
            }
        }
        self.keys = keys
        self.values = values
        self.places = places
    }

    var count: Int { keys.count }

    var items: [JinjaValue] { zip(keys, values).map { .tuple([$0, $1]) } }

    subscript(key: JinjaValue) -> JinjaValue? {
        let place = places.isEmpty ? keys.firstIndex { $0.isEqual(to: key) } : places[Key(key)]
        return place.map { values[$0] }
    }

    subscript(name: String) -> JinjaValue? {
        guard places.isEmpty else { return self[.string(name)] }
        for (index, key) in keys.enumerated() {
            if case .string(let text) = key, text.utf8.elementsEqual(name.utf8) { return values[index] }
        }
        return nil
    }

    /// A key, equal where Python's is: 1, 1.0 and true are one key.
    struct Key: Hashable {
        let value: JinjaValue
        init(_ value: JinjaValue) { self.value = value }

        static func == (left: Key, right: Key) -> Bool { left.value.isEqual(to: right.value) }

        func hash(into hasher: inout Hasher) {
            switch value {
            case .string(let text): for byte in text.utf8 { hasher.combine(byte) }
            case .tuple(let elements): for element in elements { Key(element).hash(into: &hasher) }
            case .none: hasher.combine(-1)
            case .longInteger(let digits): hasher.combine(digits)
            default: if let number = value.number { hasher.combine(number) }
            }
        }
    }
}

/// What has an identity: namespaces, loops, functions, macros.
package class JinjaObject {
    /// Python's name of the type, for messages.
    var typeName: String { "object" }
    func attribute(_ name: String) -> JinjaValue? { nil }
    func setAttribute(_ name: String, _ value: JinjaValue) throws(JinjaError) {
        throw .runtime("cannot assign attribute on non-namespace object")
    }
    var isCallable: Bool { false }
    var printed: String { "<\(typeName)>" }
}

final class Namespace: JinjaObject {
    private var values: [(name: String, value: JinjaValue)]
    init(_ values: [(name: String, value: JinjaValue)]) { self.values = values }
    override var typeName: String { "Namespace" }
    override func attribute(_ name: String) -> JinjaValue? { values.last { $0.name == name }?.value }
    override func setAttribute(_ name: String, _ value: JinjaValue) throws(JinjaError) {
        guard !name.hasPrefix("_") else {
            throw .runtime("Chat templates cannot store underscore-prefixed attributes on a namespace")
        }
        if let place = values.firstIndex(where: { $0.name == name }) {
            values[place].value = value
        } else {
            values.append((name, value))
        }
    }
}

/// A function of the interpreter or a method bound to its value.
final class Function: JinjaObject {
    let name: String
    let body: (CallArguments) throws(JinjaError) -> JinjaValue
    init(_ name: String, _ body: @escaping (CallArguments) throws(JinjaError) -> JinjaValue) {
        self.name = name
        self.body = body
    }
    override var typeName: String { "function" }
    override var isCallable: Bool { true }
    override var printed: String { "<function \(name)>" }
}

/// The evaluated arguments of a call.
struct CallArguments {
    var positional: [JinjaValue] = []
    var named: [(name: String, value: JinjaValue)] = []

    /// The argument at `place` or of that name.
    func value(_ place: Int, _ name: String) -> JinjaValue? {
        place < positional.count ? positional[place] : named.last { $0.name == name }?.value
    }

    /// The arguments after the first `count` positional ones.
    func dropping(_ count: Int) -> CallArguments {
        CallArguments(positional: Array(positional.dropFirst(count)), named: named)
    }
}

extension JinjaValue {
    /// Python's name of the type.
    var typeName: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "NoneType"
        case .bool: "bool"
        case .integer, .longInteger: "int"
        case .double: "float"
        case .string: "str"
        case .list: "list"
        case .tuple: "tuple"
        case .dictionary: "dict"
        case .range: "range"
        case .view(let view): "dict_\(view.part.rawValue)"
        case .object(let object): object.typeName
        }
    }

    /// The name of the type in messages about attributes, where none is itself.
    var ownerName: String {
        if case .none = self { "'None'" } else { "'\(typeName) object'" }
    }

    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let value): value
        case .integer(let value): value != 0
        case .longInteger, .object: true
        case .double(let value): value != 0
        case .string(let text): !text.utf8.isEmpty
        case .list(let elements), .tuple(let elements): !elements.isEmpty
        case .dictionary(let dictionary): dictionary.count > 0
        case .range(let range): range.count > 0
        case .view(let view): view.dictionary.count > 0
        }
    }

    var isUndefined: Bool { if case .undefined = self { true } else { false } }

    /// A number, truth values among them, in floating point.
    var number: Double? {
        switch self {
        case .bool(let value): value ? 1 : 0
        case .integer(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// An integer, truth values among them.
    var integer: Int128? {
        switch self {
        case .bool(let value): value ? 1 : 0
        case .integer(let value): value
        default: nil
        }
    }

    /// The integer, kept within what an index can be.
    var index: Int? { integer.map { Int(max(-Int128(Int32.max), min(Int128(Int32.max), $0))) } }

    var text: String? { if case .string(let text) = self { text } else { nil } }

    /// Python's `==`.
    func isEqual(to other: JinjaValue) -> Bool {
        switch (self, other) {
        case (.undefined, .undefined), (.none, .none): return true
        case (.string(let left), .string(let right)): return left.utf8.elementsEqual(right.utf8)
        case (.longInteger(let left), .longInteger(let right)): return left == right
        case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
            return left.count == right.count && zip(left, right).allSatisfy { $0.isEqual(to: $1) }
        case (.dictionary(let left), .dictionary(let right)):
            return left === right
                || left.count == right.count
                    && zip(left.keys, left.values).allSatisfy { right[$0]?.isEqual(to: $1) == true }
        case (.range(let left), .range(let right)): return left == right
        case (.object(let left), .object(let right)): return left === right
        default:
            if let left = integer, let right = other.integer { return left == right }
            if let left = number, let right = other.number { return left == right }
            return false
        }
    }

    /// Whether it comes before `other`, as Python's `<`.
    func isLess(than other: JinjaValue, sign: String) throws(JinjaError) -> Bool {
        if let left = integer, let right = other.integer { return left < right }
        if let left = number, let right = other.number { return left < right }
        switch (self, other) {
        case (.string(let left), .string(let right)):
            // UTF-8 sorts as the scalars do.
            return left.utf8.lexicographicallyPrecedes(right.utf8)
        case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
            for (first, second) in zip(left, right) where !first.isEqual(to: second) {
                return try first.isLess(than: second, sign: sign)
            }
            return left.count < right.count
        case (.undefined(let missing), _), (_, .undefined(let missing)): throw .runtime(missing.message)
        default:
            throw .runtime(
                "'\(sign)' not supported between instances of '\(typeName)' and '\(other.typeName)'")
        }
    }
}
