// SPDX-License-Identifier: Apache-2.0

/// Typed access to the fields of a configuration object, with errors that name file, field and value.
///
/// Each accessor takes the field's names in all dialects. `null` counts as absent. When several names are present
/// their values must agree: guessing which one a writer meant would be a silent wrong number.
struct ConfigurationFields {
    let file: String
    /// Names of enclosing fields, for messages ("rope_scaling.").
    let prefix: String
    private let members: [String: JSONValue]

    init(_ json: JSONValue, file: String, prefix: String = "") throws {
        self.file = file
        self.prefix = prefix
        guard case .object(let list) = json else {
            let what = prefix.isEmpty ? "the file" : "field '\(prefix.dropLast())'"
            throw CheckpointError(
                .invalidConfiguration, "\(what) should hold an object, not \(json.kind)", file: file)
        }
        members = Dictionary(list.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    /// The error for a field whose value cannot be used.
    func invalid(_ name: String, _ expectation: String, _ value: JSONValue) -> CheckpointError {
        CheckpointError(
            .invalidConfiguration, "field '\(prefix)\(name)' should be \(expectation), not \(value.kind)",
            file: file)
    }

    /// The error for a value that is well-formed but asks for something Apus does not do.
    func unsupported(_ name: String, _ value: JSONValue, _ remedy: String) -> CheckpointError {
        CheckpointError(
            .unsupportedConfiguration, "field '\(prefix)\(name)' is \(value.kind)", file: file, remedy: remedy
        )
    }

    /// The error for an absent field.
    func missing(_ names: [String]) -> CheckpointError {
        let list = names.map { "'\(prefix)\($0)'" }.joined(separator: " or ")
        return CheckpointError(
            .invalidConfiguration, "field \(list) is missing", file: file,
            remedy: "add it; defaults differ between versions of transformers, so none is assumed")
    }

    subscript(name: String) -> JSONValue? {
        guard let value = members[name], value != .null else { return nil }
        return value
    }

    /// Fields of the object.
    var count: Int { members.count }

    /// Whether the key is there, even with the value null.
    func contains(_ name: String) -> Bool { members[name] != nil }

    func object(_ name: String) throws -> ConfigurationFields? {
        guard let value = self[name] else { return nil }
        return try ConfigurationFields(value, file: file, prefix: "\(prefix)\(name).")
    }

    func integer(_ names: [String], _ range: ClosedRange<Int>) throws -> Int? {
        try agreeing(names) { name, value in
            let integer: Int? =
                switch value {
                case .integer(let integer): integer
                case .real(let real): Int(exactly: real)
                default: nil
                }
            guard let integer, range.contains(integer) else {
                throw invalid(name, "a whole number from \(range.lowerBound) to \(range.upperBound)", value)
            }
            return integer
        }
    }

    func requiredInteger(_ names: [String], _ range: ClosedRange<Int>) throws -> Int {
        guard let value = try integer(names, range) else { throw missing(names) }
        return value
    }

    func real(_ names: [String], _ range: ClosedRange<Double>) throws -> Double? {
        try agreeing(names) { name, value in
            let real: Double? =
                switch value {
                case .integer(let integer): Double(integer)
                case .real(let real): real
                default: nil
                }
            guard let real, range.contains(real) else {
                throw invalid(name, "a number from \(range.lowerBound) to \(range.upperBound)", value)
            }
            return real
        }
    }

    func bool(_ names: [String]) throws -> Bool? {
        try agreeing(names) { name, value in
            guard case .bool(let bool) = value else { throw invalid(name, "true or false", value) }
            return bool
        }
    }

    func string(_ names: [String]) throws -> String? {
        try agreeing(names) { name, value in
            guard case .string(let string) = value else { throw invalid(name, "a string", value) }
            return string
        }
    }

    func strings(_ names: [String]) throws -> [String]? {
        try agreeing(names) { name, value in
            guard case .array(let values) = value else { throw invalid(name, "a list of strings", value) }
            return try values.map { element in
                guard case .string(let string) = element else {
                    throw invalid(name, "a list of strings", element)
                }
                return string
            }
        }
    }

    /// A list of whole numbers, or one of them alone.
    func integers(_ names: [String], _ range: ClosedRange<Int>) throws -> [Int]? {
        try agreeing(names) { name, value in
            let elements: [JSONValue]
            if case .array(let values) = value { elements = values } else { elements = [value] }
            return try elements.map { element in
                guard case .integer(let integer) = element, range.contains(integer) else {
                    throw invalid(
                        name, "whole numbers from \(range.lowerBound) to \(range.upperBound)", element)
                }
                return integer
            }
        }
    }

    private func agreeing<T: Equatable>(_ names: [String], _ read: (String, JSONValue) throws -> T) throws
        -> T?
    {
        var found: (name: String, value: T)?
        for name in names {
            guard let json = self[name] else { continue }
            let value = try read(name, json)
            if let found, found.value != value {
                throw CheckpointError(
                    .invalidConfiguration,
                    "fields '\(prefix)\(found.name)' and '\(prefix)\(name)' disagree: \(found.value) and \(value)",
                    file: file, remedy: "remove the wrong one")
            }
            found = found ?? (name, value)
        }
        return found?.value
    }
}
