// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// The keys of a job that say how messages become text: `chat_template`, `chat_template_kwargs` and
/// `chat_template_date`.
package struct ChatTemplateSection: Equatable, Sendable {
    /// The date of templates that print one, where the job does not say: jobs give the same bytes on every day.
    package static let standardDate = "2024-07-26"

    /// A file with the template; nil: the model's own.
    package let path: String?
    /// Variables of the template for all rows, `enable_thinking` of `thinking.mode` included; a row's
    /// `chat_template_kwargs` count before them.
    package let arguments: JSONObject
    /// What `strftime_now` tells, YYYY-MM-DD; nil: ``standardDate``.
    package let date: String?

    private let written: JSONObject

    /// A job without any of the keys.
    package init(thinking: ThinkingMode = .default) {
        path = nil
        date = nil
        written = JSONObject([])
        arguments = Self.arguments(written, thinking)
    }

    init(_ fields: YAMLFields, thinking: ThinkingMode) throws(JobError) {
        path = try fields["chat_template"]?.filePath()
        date = try fields["chat_template_date"]?.date()
        let value = try fields["chat_template_kwargs"]?.json() ?? .object(JSONObject([]))
        guard let object = value.objectValue else {
            throw fields.error("chat_template_kwargs", "is \(value.kind); expected a mapping, or its JSON text")
        }
        if let key = Self.reservedVariable(in: object) {
            throw fields.error("chat_template_kwargs", "\(key) is no variable of a template's own; remove it")
        }
        let said = object["enable_thinking"]?.boolValue
        if let said, thinking != .default, said != (thinking == .on) {
            throw fields.error(
                "chat_template_kwargs",
                "enable_thinking is \(said) and thinking.mode is \(thinking.rawValue); keep one of the two")
        }
        written = object
        arguments = Self.arguments(object, thinking)
    }

    /// A variable that the conversation itself sets.
    static func reservedVariable(in arguments: JSONObject) -> String? {
        ["messages", "tools", "documents", "add_generation_prompt", "continue_final_message"].first {
            arguments[$0] != nil
        }
    }

    private static func arguments(_ written: JSONObject, _ thinking: ThinkingMode) -> JSONObject {
        var result = written
        if thinking != .default, result["enable_thinking"] == nil {
            result["enable_thinking"] = .bool(thinking == .on)
        }
        return result
    }

    /// Seconds from 1970 to noon of ``date``.
    package var clock: Int {
        let parts = (date ?? Self.standardDate).split(separator: "-").compactMap { Int($0) }
        // Days of the civil calendar, with years that begin in March.
        let (year, month) = parts[1] > 2 ? (parts[0], parts[1] - 3) : (parts[0] - 1, parts[1] + 9)
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + parts[2] - 1 - 719_468
        return days * 86_400 + 43_200
    }

    /// The job's `chat_template_kwargs` as JSON text, which keeps the order of keys: templates print it.
    var resolvedArguments: ResolvedValue? {
        written.members.isEmpty ? nil : .string(JSONValue.object(written).pythonText)
    }
}

extension YAMLReader {
    /// A day, YYYY-MM-DD.
    fileprivate func date() throws(JobError) -> String {
        let text = try text()
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.map(\.count) == [4, 2, 2], let year = Int(parts[0]), let month = Int(parts[1]),
            let day = Int(parts[2]), (1970...9999).contains(year), (1...12).contains(month), (1...31).contains(day)
        else { throw error(.invalidValue, "'\(text)' is no date; write one as 2026-11-28") }
        return text
    }

    /// Any value, as JSON has it; a mapping may also be the JSON text of one.
    fileprivate func json() throws(JobError) -> JSONValue {
        if case .scalar(let text, _) = node.content, text.hasPrefix("{") {
            do throws(JSONParseError) { return try JSONValue(parsing: text, repeatedKeys: .refused) } catch {
                throw self.error(.invalidValue, "is a text that is \(error)")
            }
        }
        return Self.json(node)
    }

    private static func json(_ node: YAMLNode) -> JSONValue {
        switch node.content {
        case .sequence(let items): return .array(items.map(json))
        case .mapping(let entries):
            return .object(JSONObject(entries.map { JSONObject.Member(key: $0.key, value: json($0.value)) }))
        case .scalar(let text, let isPlain):
            if node.isNull { return .null }
            guard isPlain else { return .string(text) }
            if text == "true" || text == "false" { return .bool(text == "true") }
            // A plain number is what JSON takes for one.
            if let number = try? JSONValue(parsing: text), number.doubleValue != nil { return number }
            return .string(text)
        }
    }
}
