// SPDX-License-Identifier: Apache-2.0

/// What to do with a row of data that cannot be used.
package enum BadRowPolicy: String, CaseIterable, Sendable {
    /// Leave it out and say so.
    case skip
    /// Stop the job before it starts.
    case fail
}

/// `data:` JSON lines, one prompt (or one text to score) per row.
package struct DataSection: Equatable, Sendable {
    package let path: String
    package let onBadRow: BadRowPolicy
    /// Use the first `limit` good rows only; nil is all of them.
    package let limit: Int?
    /// Bytes of the longest row that is read.
    package let rowByteCountMax: Int
    /// Column that holds the prompt when it has none of the usual names.
    package let promptColumn: String?
    /// Column that holds the reference answer when it has none of the usual names.
    package let answerColumn: String?

    /// Share of a mixture's rows that come from this file, relative to the others'.
    package let weight: Double
    /// A teacher of its own in a mixture that is distilled; nil is `teacher.path`.
    package let teacher: String?

    package init(_ reader: YAMLReader) throws(JobError) { try self.init(reader, isWeighted: false) }

    private init(_ reader: YAMLReader, isWeighted: Bool) throws(JobError) {
        let fields = try reader.fields(JobSchema.data + (isWeighted ? JobSchema.mixture : []), short: "path")
        teacher = isWeighted ? try fields["teacher"]?.filePath() : nil
        weight = isWeighted ? try fields.number("weight") : 1
        path = try fields.required("path").filePath()
        onBadRow = try fields.choice("on_bad_row")
        limit = try fields["limit"]?.integer()
        rowByteCountMax = try fields.byteCount("max_row_bytes")
        promptColumn = try fields["prompt_column"]?.string()
        answerColumn = try fields["answer_column"]?.string()
    }

    /// One file, or a list of files with weights.
    static func mixture(_ reader: YAMLReader) throws(JobError) -> [DataSection] {
        guard case .sequence = reader.node.content else { return [try DataSection(reader)] }
        var result: [DataSection] = []
        for item in try reader.items() { result.append(try DataSection(item, isWeighted: true)) }
        guard !result.isEmpty else { throw reader.error(.invalidValue, "is an empty list") }
        let total = result.reduce(0) { $0 + $1.weight }
        if let small = result.first(where: { $0.weight / total < 0.002 }) {
            throw reader.error(.invalidValue, "\(small.path) would be less than 0.2 % of the rows; leave it out")
        }
        return result
    }

    static func resolved(_ mixture: [DataSection]) -> ResolvedValue {
        mixture.count == 1
            ? mixture[0].resolved
            : .list(
                mixture.map { source in
                    guard case .mapping(var fields) = source.resolved else { return source.resolved }
                    fields["weight"] = .number(source.weight)
                    fields["teacher"] = source.teacher.map { .string($0) }
                    return .mapping(fields)
                })
    }

    package var resolved: ResolvedValue {
        .section([
            "path": .string(path), "on_bad_row": .string(onBadRow.rawValue),
            "limit": limit.map { .integer($0) },
            "max_row_bytes": .integer(rowByteCountMax), "prompt_column": promptColumn.map { .string($0) },
            "answer_column": answerColumn.map { .string($0) },
        ])
    }
}
