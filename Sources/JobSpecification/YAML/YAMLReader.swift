// SPDX-License-Identifier: Apache-2.0

/// Reads typed values from a ``YAMLNode`` and says where a bad one is: `sampling.top_p: 1.5 is not in (0, 1]
/// (line 12)`.
///
/// A reader stands at one value and knows its path and what the table of keys says of it. Sections of a job are value types
/// with `init(_ reader:)` that ask for their ``fields(_:short:)`` by name.
package struct YAMLReader: Sendable {
    package let node: YAMLNode
    /// `sampling.top_p`, `reward[1].weight`; empty at the top.
    package let path: String
    /// What the table of keys says of the value; nil for what is in no table.
    let type: KeyType?
    /// Of the file; nil where the value is read for itself.
    let kind: JobFileKind?

    package init(_ node: YAMLNode, path: String = "") { self.init(node, path: path, type: nil, kind: nil) }

    init(_ node: YAMLNode, path: String, type: KeyType?, kind: JobFileKind?) {
        self.node = node
        self.path = path
        self.type = type
        self.kind = kind
    }

    /// The same place, read as a part of a file of `kind`.
    package func of(_ kind: JobFileKind) -> YAMLReader { YAMLReader(node, path: path, type: type, kind: kind) }

    /// An error about this value.
    package func error(_ code: JobError.Code, _ message: String) -> JobError {
        JobError(code, (path.isEmpty ? "" : "\(path): ") + message, at: node.origin)
    }

    /// The entries of a mapping whose keys are all in a section's table.
    /// - Parameter short: the key that a single value in the mapping's place stands for.
    /// - Throws: `wrongType`; `unknownKey` with what the key is called here, or the nearest one.
    package func fields(_ table: [JobKey], short: String? = nil) throws(JobError) -> YAMLFields {
        let table = table.filter { key in kind.map(key.kinds.contains) ?? true }
        let names = table.map(\.name)
        let entries: [YAMLNode.Entry]
        switch (node.content, short) {
        case (.mapping(let written), _): entries = written
        case (.scalar, let short?): entries = [YAMLNode.Entry(key: short, keyOrigin: node.origin, value: node)]
        default:
            throw error(
                .wrongType,
                "expected a mapping with the keys \(names.joined(separator: ", ")), got \(node.kind)")
        }
        for entry in entries where !names.contains(entry.key) {
            let hint = JobSchema.hint(
                entry.key, inner: entry.value.leafPaths, at: JobSchema.bare(path),
                kinds: kind.map { [$0] } ?? JobFileKind.allCases)
            throw unknown(entry, hint ?? suggestion(entry.key, among: names))
        }
        return YAMLFields(reader: self, table: table, entries: entries)
    }

    /// The entries of a mapping of another file than a job's.
    /// - Throws: `wrongType`; `unknownKey` with the nearest valid key.
    package func fields(_ keys: [String]) throws(JobError) -> YAMLFields {
        guard case .mapping(let entries) = node.content else {
            throw error(
                .wrongType,
                "expected a mapping with the keys \(keys.joined(separator: ", ")), got \(node.kind)")
        }
        for entry in entries where !keys.contains(entry.key) {
            throw unknown(entry, suggestion(entry.key, among: keys))
        }
        return YAMLFields(reader: self, keys: keys, entries: entries)
    }

    private func unknown(_ entry: YAMLNode.Entry, _ remedy: String) -> JobError {
        JobError(
            .unknownKey, "\(path.isEmpty ? "" : "\(path): ")unknown key '\(entry.key)'; \(remedy)", at: entry.keyOrigin)
    }

    /// The items of a list, each with its own reader.
    package func items(_ countMax: Int) throws(JobError) -> [YAMLReader] {
        guard case .sequence(let values) = node.content else {
            throw error(.wrongType, "expected a list, got \(node.kind)")
        }
        guard values.count <= countMax else {
            throw error(.limitExceeded, "has \(values.count) items; the limit is \(countMax)")
        }
        return values.enumerated().map { YAMLReader($1, path: "\(path)[\($0)]", type: type?.item, kind: kind) }
    }

    /// The items of a list of the table.
    package func items() throws(JobError) -> [YAMLReader] {
        switch type {
        case .list(_, let countMax), .oneOrMany(_, _, let countMax): try items(countMax)
        default: preconditionFailure("\(path) is no list in the table of keys")
        }
    }

    /// Name and text of each entry of a mapping of scalars, sorted by name.
    package func scalarTexts(_ countMax: Int) throws(JobError) -> [(name: String, text: String)] {
        guard case .mapping(let entries) = node.content else {
            throw error(.wrongType, "expected a mapping of names to values, got \(node.kind)")
        }
        guard entries.count <= countMax else {
            throw error(.limitExceeded, "has \(entries.count) entries; the limit is \(countMax)")
        }
        var result: [(name: String, text: String)] = []
        for entry in entries {
            result.append((entry.key, try YAMLReader(entry.value, path: "\(path).\(entry.key)").text()))
        }
        return result.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    /// The text of a scalar as written.
    package func text() throws(JobError) -> String {
        guard case .scalar(let text, _) = node.content else {
            throw error(.wrongType, "expected a single value, got \(node.kind)")
        }
        return text
    }

    /// A string within the bound of the table.
    package func string() throws(JobError) -> String {
        guard case .text(let byteCountMax) = type else { return try string(byteCountMax: 4096) }
        return try string(byteCountMax: byteCountMax)
    }

    /// An integer within the bounds of the table.
    package func integer() throws(JobError) -> Int {
        guard case .integer(let range) = type else { preconditionFailure("\(path) is no integer in the table of keys") }
        return try integer(range)
    }

    /// A number within the bounds of the table.
    package func number() throws(JobError) -> Double {
        guard case .number(let interval) = type else {
            preconditionFailure("\(path) is no number in the table of keys")
        }
        return try number(interval)
    }

    /// A number of bytes within the bounds of the table.
    package func byteCount() throws(JobError) -> Int {
        guard case .byteCount(let range) = type else {
            preconditionFailure("\(path) is no number of bytes in the table of keys")
        }
        return try byteCount(range)
    }

    /// A non-empty string of at most `byteCountMax` bytes without control characters other than tab and
    /// newline.
    package func string(byteCountMax: Int) throws(JobError) -> String {
        let text = try text()
        guard !text.isEmpty, text.utf8.count <= byteCountMax else {
            throw error(.invalidValue, text.isEmpty ? "is empty" : "is longer than \(byteCountMax) bytes")
        }
        let hasControl = text.unicodeScalars.contains {
            ($0.value < 32 && $0 != "\n" && $0 != "\t") || $0.value == 127
        }
        guard !hasControl else { throw error(.invalidValue, "contains a control character") }
        return text
    }

    /// A file system path: a string of one line.
    package func filePath() throws(JobError) -> String {
        let text = try string()
        guard !text.contains("\n") else { throw error(.invalidValue, "a path has one line") }
        FilePathLog.current?.add(text)
        return text
    }

    /// An integer within `range`. `_` may group digits.
    package func integer(_ range: ClosedRange<Int>) throws(JobError) -> Int {
        let text = try text()
        guard let value = Int(text.filter { $0 != "_" }) else {
            throw error(.wrongType, "'\(text)' is not an integer")
        }
        guard range.contains(value) else {
            throw error(.invalidValue, "\(value) is not in \(range.lowerBound)...\(range.upperBound)")
        }
        return value
    }

    /// A finite number within `interval`.
    package func number(_ interval: NumberInterval) throws(JobError) -> Double {
        let text = try text()
        // Double's parser also takes hexadecimal, nan and infinity: none of them is a job value.
        let isDecimal = text.utf8.allSatisfy { "0123456789.eE+-".utf8.contains($0) }
        guard isDecimal, let value = Double(text), value.isFinite else {
            throw error(.wrongType, "'\(text)' is not a number")
        }
        guard interval.contains(value) else { throw error(.invalidValue, "\(text) is not in \(interval)") }
        return value == 0 ? 0 : value  // -0 and 0 are one setting and must hash alike
    }

    /// `true`/`false`, `yes`/`no` or `on`/`off`.
    package func boolean() throws(JobError) -> Bool {
        let text = try text()
        switch text.lowercased() {
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        default: throw error(.wrongType, "'\(text)' is neither true nor false")
        }
    }

    /// One of the raw values of `Choice`.
    package func choice<Choice: RawRepresentable & CaseIterable>(
        _: Choice.Type = Choice.self
    ) throws(JobError) -> Choice where Choice.RawValue == String {
        let text = try text()
        guard let value = Choice(rawValue: text) else {
            let names = Choice.allCases.map(\.rawValue)
            throw error(.invalidValue, "'\(text)' is not one of \(names.joined(separator: ", "))")
        }
        return value
    }

    /// A number of bytes: an integer with an optional unit `KiB`, `MiB`, `GiB` or `TiB`.
    package func byteCount(_ range: ClosedRange<Int>) throws(JobError) -> Int {
        let text = try text()
        var digits = Substring(text)
        var scale = 1
        for (suffix, factor) in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]
        where text.hasSuffix(suffix) {
            digits = digits.dropLast(3)
            scale = factor
        }
        while digits.last == " " { digits = digits.dropLast() }
        guard let count = Int(digits) else {
            throw error(.wrongType, "'\(text)' is not a number of bytes; write 4294967296 or 4GiB")
        }
        let (value, overflow) = count.multipliedReportingOverflow(by: scale)
        guard !overflow, range.contains(value) else {
            throw error(.invalidValue, "\(text) is not in \(range.lowerBound)...\(range.upperBound) bytes")
        }
        return value
    }

    private func suggestion(_ word: String, among keys: [String]) -> String {
        if let near = EditDistance.nearest(to: word, among: keys) { return "did you mean '\(near)'?" }
        return "valid keys: \(keys.joined(separator: ", "))"
    }
}
