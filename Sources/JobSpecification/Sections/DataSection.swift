// SPDX-License-Identifier: Apache-2.0

/// What to do with a row of data that cannot be used.
package enum BadRowPolicy: String, CaseIterable, Sendable {
    /// Leave it out and say so.
    case skip
    /// Stop the job before it starts.
    case fail
}

/// `data:` a file of rows or a folder with a data set: one prompt (or one text to learn from or to score) per row.
package struct DataSection: Equatable, Sendable {
    package let path: String
    /// Of a data set's folder; nil: `train`, or the only one.
    package let split: String?
    /// The data set's configuration; nil: its default.
    package let name: String?
    package let onBadRow: BadRowPolicy
    /// Use the first `limit` good rows only; nil is all of them.
    package let limit: Int?
    /// Bytes of the longest row that is read.
    package let rowByteCountMax: Int
    /// The file's column (or a path with dots) for each name that the job reads it by.
    package let columns: ColumnNames
    /// Comes before conversations that have no system message of their own.
    package let systemPrompt: String?
    /// Makes the prompt of the row's columns.
    package let promptTemplate: PromptTemplate?
    /// Whether a text prompt is a user's turn, for the chat template, or goes to the model as it is; nil: as it is (TRL),
    /// unless there is a system prompt.
    package let appliesChatTemplate: Bool?
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
        split = try fields["split"]?.string()
        name = try fields["name"]?.string()
        columns = try Self.columns(fields)
        systemPrompt = try fields["system_prompt"]?.string()
        promptTemplate = if let reader = fields["prompt_template"] { try PromptTemplate(reader) } else { nil }
        appliesChatTemplate = try fields["apply_chat_template"]?.boolean()
        promptColumn = try fields["prompt_column"]?.string() ?? columns.prompt
        answerColumn = try fields["answer_column"]?.string() ?? (columns.has("answer") ? "answer" : nil)
        if systemPrompt != nil, appliesChatTemplate == false {
            throw fields.error(
                "system_prompt",
                "needs a conversation; remove apply_chat_template: false, or put it into prompt_template")
        }
        if promptTemplate != nil, fields["prompt_column"] != nil {
            throw fields.error("prompt_column", "prompt_template names its columns itself; remove it")
        }
    }

    private static func columns(_ fields: YAMLFields) throws(JobError) -> ColumnNames {
        guard let reader = fields["columns"] else { return ColumnNames() }
        let texts = try reader.scalarTexts(64)
        if let empty = texts.first(where: { $0.name.isEmpty || $0.text.isEmpty }) {
            throw reader.error(.invalidValue, "'\(empty.name): \(empty.text)' names no column")
        }
        for (key, name) in [("prompt_column", "prompt"), ("answer_column", "answer")]
        where fields[key] != nil && texts.contains(where: { $0.name == name }) {
            throw fields.error(key, "columns names one for '\(name)' too; keep one of them")
        }
        let prompts = texts.filter { RowColumns.prompts.joined().contains($0.name) }
        guard prompts.count < 2 else {
            throw reader.error(
                .invalidValue, "'\(prompts[0].name)' and '\(prompts[1].name)' are both the prompt; keep one")
        }
        return ColumnNames(texts.map { (name: $0.name, source: $0.text) })
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
            "limit": limit.map { .integer($0) }, "split": split.map { .string($0) }, "name": name.map { .string($0) },
            "columns": columns.resolved,
            "system_prompt": systemPrompt.map { .string($0) },
            "prompt_template": promptTemplate.map { .string($0.text) },
            "apply_chat_template": appliesChatTemplate.map { .boolean($0) },
            "max_row_bytes": .integer(rowByteCountMax),
            // What columns say is said there.
            "prompt_column": columns.prompt != nil ? nil : promptColumn.map { .string($0) },
            "answer_column": columns.has("answer") ? nil : answerColumn.map { .string($0) },
        ])
    }
}

extension ColumnNames {
    fileprivate var resolved: ResolvedValue? {
        entries.isEmpty
            ? nil : .mapping(Dictionary(entries.map { ($0.name, .string($0.source)) }, uniquingKeysWith: { $1 }))
    }
}
