// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

extension Rows {
    /// One row: its columns in the order of the file, numbers as they were written.
    package struct Row: Sendable, ExpressibleByDictionaryLiteral {
        package var object: JSONObject
        /// Line in its file, from 1; nil for a row that comes from none.
        package let lineNumber: Int?

        package init(_ object: JSONObject, lineNumber: Int? = nil) {
            self.object = object
            self.lineNumber = lineNumber
        }

        package init(dictionaryLiteral elements: (String, Any)...) {
            self.init(JSONObject(elements.map { .init(key: $0.0, value: Rows.json($0.1)) }))
        }

        /// A row of figures, by name.
        package init(_ figures: [String: Double]) { self.init(JSONObject(Rows.members(figures))) }

        /// A column as Swift has it: `String`, `Int`, `Double`, `Bool`, `[Any]` or ``Row``; nil for null and for none.
        package subscript(column: String) -> Any? {
            get { object[column].flatMap(Rows.value) }
            set { object[column] = newValue.map(Rows.json) }
        }

        /// A column that holds a number.
        package func number(_ column: String) -> Double? { object[column]?.doubleValue }

        /// The row as one line of JSON.
        package var text: String { JSONValue.object(object).compactText }

        /// This row with the columns of another; `other` wins.
        package func merging(_ other: Row) -> Row {
            var row = self
            for member in other.object.members { row.object[member.key] = member.value }
            return row
        }
    }

    /// A value as JSON. Dictionaries have no order: their keys are sorted.
    static func json(_ value: Any) -> JSONValue {
        switch value {
        case let value as JSONValue: value
        case let value as Row: .object(value.object)
        case let value as String: .string(value)
        case let value as Bool: .bool(value)
        case let value as Int: .integer(String(value))
        case let value as Double: value.isFinite ? .decimal(PythonNumber.text(value)) : .null
        case let value as [Any]: .array(value.map(json))
        case let value as [String: Any]: .object(JSONObject(members(value)))
        case let value as any BinaryInteger: .integer("\(value)")
        default: preconditionFailure("\(type(of: value)) is no JSON")
        }
    }

    private static func members(_ dictionary: [String: Any]) -> [JSONObject.Member] {
        dictionary.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: json($0.value)) }
    }

    private static func value(_ json: JSONValue) -> Any? {
        switch json {
        case .null: nil
        case .bool(let value): value
        case .integer(let digits): Int(digits).map { $0 as Any } ?? Double(digits)
        case .decimal(let text): Double(text)
        case .string(let text): text
        case .array(let elements): elements.map { value($0) ?? JSONValue.null }
        case .object(let object): Row(object)
        }
    }
}
