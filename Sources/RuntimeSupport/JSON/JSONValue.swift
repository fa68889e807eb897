// SPDX-License-Identifier: Apache-2.0

/// A JSON document that keeps the order of object members and how numbers were written. Chat templates need the order:
/// Python prints a dictionary in the order in which it was written, and the model was trained on that text.
///
/// Strings compare by their scalars (Python's rule), not by canonical equivalence (Swift's).
package enum JSONValue: Sendable {
    case null
    case bool(Bool)
    /// A number written without fraction and exponent: its digits, of any length, as Python prints them.
    case integer(String)
    /// A number written with a fraction or an exponent: its text as it was written.
    case decimal(String)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// The text of a string; `nil` for every other kind.
    package var stringValue: String? {
        if case .string(let value) = self { value } else { nil }
    }

    /// The elements of an array; `nil` for every other kind.
    package var arrayValue: [JSONValue]? {
        if case .array(let value) = self { value } else { nil }
    }

    /// The members of an object; `nil` for every other kind.
    package var objectValue: JSONObject? {
        if case .object(let value) = self { value } else { nil }
    }

    /// The value of a Boolean; `nil` for every other kind.
    package var boolValue: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    /// The value of a number, rounded once where it is no `Double`; `nil` for every other kind.
    package var doubleValue: Double? {
        switch self {
        case .integer(let text), .decimal(let text): Double(text)
        default: nil
        }
    }

    /// The value of an integer that fits; `nil` for every other kind.
    package var intValue: Int? {
        if case .integer(let digits) = self { Int(digits) } else { nil }
    }

    package var isNull: Bool {
        if case .null = self { true } else { false }
    }

    /// The member named `key` of an object; `nil` when this is no object or has no such member.
    package subscript(key: String) -> JSONValue? { objectValue?[key] }

    /// What the value is, in words for a message.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a Boolean"
        case .integer, .decimal: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }

    /// Python's truth: null, false, zero and everything empty are false.
    package var isTrue: Bool {
        switch self {
        case .null: false
        case .bool(let value): value
        case .integer(let digits): digits != "0"
        case .decimal(let text): Double(text) != 0
        case .string(let text): !text.utf8.isEmpty
        case .array(let elements): !elements.isEmpty
        case .object(let object): !object.members.isEmpty
        }
    }
}

extension JSONValue: Equatable {
    package static func == (left: JSONValue, right: JSONValue) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.integer(let a), .integer(let b)): a == b
        case (.decimal(let a), .decimal(let b)): Double(a)?.bitPattern == Double(b)?.bitPattern
        case (.string(let a), .string(let b)): a.utf8.elementsEqual(b.utf8)
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)): a == b
        default: false
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .integer(String(value)) }
    package init(floatLiteral value: Double) { self = .decimal(PythonNumber.text(value)) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(nilLiteral: ()) { self = .null }
    package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(JSONObject(elements.map { JSONObject.Member(key: $0.0, value: $0.1) }))
    }
}
