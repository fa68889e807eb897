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

    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields([
            "path", "on_bad_row", "limit", "max_row_bytes", "prompt_column", "answer_column",
        ])
        path = try fields.required("path").filePath()
        onBadRow = try fields.choice("on_bad_row", default: .fail)
        limit = try fields["limit"]?.integer(1...100_000_000)
        rowByteCountMax = try fields["max_row_bytes"]?.byteCount(64...(64 << 20)) ?? (1 << 20)
        promptColumn = try fields["prompt_column"]?.string(byteCountMax: 128)
        answerColumn = try fields["answer_column"]?.string(byteCountMax: 128)
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
