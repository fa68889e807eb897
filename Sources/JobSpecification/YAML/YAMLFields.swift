// SPDX-License-Identifier: Apache-2.0

/// The entries of one mapping, asked for by name. A null value counts as absent.
package struct YAMLFields: Sendable {
    /// The mapping itself.
    package let reader: YAMLReader
    private let keys: [String]
    private let entries: [YAMLNode.Entry]

    init(reader: YAMLReader, keys: [String], entries: [YAMLNode.Entry]) {
        self.reader = reader
        self.keys = keys
        self.entries = entries
    }

    /// A reader at the value of `key`; nil when absent.
    package subscript(key: String) -> YAMLReader? {
        precondition(keys.contains(key), "the section does not declare the key '\(key)'")
        guard let entry = entries.first(where: { $0.key == key }), !entry.value.isNull else { return nil }
        return YAMLReader(entry.value, path: reader.path.isEmpty ? key : "\(reader.path).\(key)")
    }

    /// A reader at the value of `key`.
    /// - Throws: `missingKey`.
    package func required(_ key: String) throws(JobError) -> YAMLReader {
        if let found = self[key] { return found }
        let path = reader.path.isEmpty ? key : "\(reader.path).\(key)"
        throw JobError(.missingKey, "\(path): is required", at: reader.node.origin)
    }

    /// An error about the value of `key`, or about the whole mapping when it is absent.
    package func error(_ key: String, _ message: String) -> JobError {
        if let found = self[key] { return found.error(.invalidValue, message) }
        return JobError(
            .invalidValue, "\(reader.path.isEmpty ? key : "\(reader.path).\(key)"): \(message) (a default)")
    }

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

    /// A truth value, or `fallback`.
    package func boolean(_ key: String, default fallback: Bool) throws(JobError) -> Bool {
        try self[key]?.boolean() ?? fallback
    }

    /// One of the raw values of `Choice`, or `fallback`.
    package func choice<Choice: RawRepresentable & CaseIterable>(
        _ key: String, default fallback: Choice
    ) throws(JobError) -> Choice where Choice.RawValue == String {
        try self[key]?.choice(Choice.self) ?? fallback
    }
}

extension YAMLFields {
    /// One of the raw values of `Choice`, or nil where the fallback depends on other keys.
    package func choice<Choice: RawRepresentable & CaseIterable>(
        _ key: String, default _: Choice?
    ) throws(JobError) -> Choice? where Choice.RawValue == String {
        try self[key]?.choice(Choice.self)
    }
}
