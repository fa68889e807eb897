// SPDX-License-Identifier: Apache-2.0

/// The entries of one mapping, asked for by name. A null value counts as absent.
package struct YAMLFields: Sendable {
    /// The mapping itself.
    package let reader: YAMLReader
    private let keys: [String]
    /// Empty for files that have no table.
    private let table: [JobKey]
    private let entries: [YAMLNode.Entry]

    init(reader: YAMLReader, keys: [String], entries: [YAMLNode.Entry]) {
        self.reader = reader
        self.keys = keys
        self.entries = entries
        table = []
    }

    init(reader: YAMLReader, table: [JobKey], entries: [YAMLNode.Entry]) {
        self.reader = reader
        self.table = table
        self.entries = entries
        keys = table.map(\.name)
    }

    private func place(_ key: String) -> String { reader.path.isEmpty ? key : "\(reader.path).\(key)" }
    private func entry(_ key: String) -> JobKey? { table.first { $0.name == key } }

    /// What the table says of a key that is not written.
    private func standard(_ key: String) -> ResolvedValue {
        switch entry(key)?.standard {
        case .value(let value), .checkpoint(_, otherwise: let value): value
        default: preconditionFailure("\(place(key)) has no default in the table of keys")
        }
    }

    /// A reader at the value of `key`; nil when absent.
    package subscript(key: String) -> YAMLReader? {
        precondition(keys.contains(key), "the section does not declare the key '\(key)'")
        guard let entry = entries.first(where: { $0.key == key }), !entry.value.isNull else { return nil }
        return YAMLReader(entry.value, path: place(key), type: self.entry(key)?.type, kind: reader.kind)
    }

    /// A reader at the section `key`, an empty one where it is not written.
    package func section(_ key: String) -> YAMLReader {
        self[key]
            ?? YAMLReader(
                YAMLNode(.mapping([]), .line(1)), path: place(key), type: entry(key)?.type, kind: reader.kind)
    }

    /// A reader at the value of `key`.
    /// - Throws: `missingKey`.
    package func required(_ key: String) throws(JobError) -> YAMLReader {
        if let found = self[key] { return found }
        throw JobError(.missingKey, "\(place(key)): is required", at: reader.node.origin)
    }

    /// An error about the value of `key`, or about the whole mapping when it is absent.
    package func error(_ key: String, _ message: String) -> JobError {
        if let found = self[key] { return found.error(.invalidValue, message) }
        return JobError(.invalidValue, "\(place(key)): \(message) (a default)")
    }

    // MARK: - With the table's bounds and defaults

    /// - Parameter fallback: where the default depends on other settings.
    package func integer(_ key: String, default fallback: Int? = nil) throws(JobError) -> Int {
        if let found = self[key] { return try found.integer() }
        if let fallback { return fallback }
        guard case .integer(let value) = standard(key) else { preconditionFailure("\(place(key)): no integer") }
        return value
    }

    /// - Parameter fallback: where the default depends on other settings.
    package func number(_ key: String, default fallback: Double? = nil) throws(JobError) -> Double {
        if let found = self[key] { return try found.number() }
        if let fallback { return fallback }
        guard case .number(let value) = standard(key) else { preconditionFailure("\(place(key)): no number") }
        return value
    }

    package func boolean(_ key: String) throws(JobError) -> Bool {
        if let found = self[key] { return try found.boolean() }
        guard case .boolean(let value) = standard(key) else { preconditionFailure("\(place(key)): no truth value") }
        return value
    }

    package func byteCount(_ key: String) throws(JobError) -> Int {
        if let found = self[key] { return try found.byteCount() }
        guard case .integer(let value) = standard(key) else { preconditionFailure("\(place(key)): no number of bytes") }
        return value
    }

    /// One of the raw values of `Choice`.
    /// - Parameter fallback: where the default depends on other settings.
    package func choice<Choice: RawRepresentable & CaseIterable>(
        _ key: String, default fallback: Choice? = nil
    ) throws(JobError) -> Choice where Choice.RawValue == String {
        if let found = self[key] { return try found.choice(Choice.self) }
        if let fallback { return fallback }
        guard case .string(let name) = standard(key), let value = Choice(rawValue: name) else {
            preconditionFailure("\(place(key)): no choice")
        }
        return value
    }

    // MARK: - Of files without a table

    /// An integer within `range`, or `fallback`.
    package func integer(_ key: String, _ range: ClosedRange<Int>, default fallback: Int) throws(JobError)
        -> Int
    {
        try self[key]?.integer(range) ?? fallback
    }

    /// A number within `interval`, or `fallback`.
    package func number(
        _ key: String, _ interval: NumberInterval, default fallback: Double
    ) throws(JobError) -> Double {
        try self[key]?.number(interval) ?? fallback
    }
}

extension YAMLNode {
    /// Paths of keys to the values below this one; a few levels, for messages.
    var leafPaths: [String] { leaves("", depth: 4) }

    private func leaves(_ prefix: String, depth: Int) -> [String] {
        guard depth > 0, case .mapping(let entries) = content else { return prefix.isEmpty ? [] : [prefix] }
        return Array(
            entries.prefix(64).flatMap {
                $0.value.leaves(prefix.isEmpty ? $0.key : "\(prefix).\($0.key)", depth: depth - 1)
            }
            .prefix(256))
    }
}
