// SPDX-License-Identifier: Apache-2.0
package import Jinja
package import RuntimeSupport

/// What a chat template gets: the arguments of transformers' `apply_chat_template`.
package struct Conversation: Sendable {
    /// A list of objects with `role` and `content`, in the order and with the fields of the data.
    package var messages: JSONValue
    /// Descriptions of tools; `nil` and null for none.
    package var tools: JSONValue?
    package var documents: JSONValue?
    /// Opens the assistant's turn at the end.
    package var addGenerationPrompt = false
    /// The field of the last message that the model goes on with, `content` as a rule; nil to close the message.
    package var continuedField: String?
    /// Further variables: `enable_thinking` and whatever else the template knows.
    package var arguments = JSONObject([])
    /// Message fields that are null reach the template instead of being left out.
    package var keepsNullFields = false

    package init(messages: JSONValue, tools: JSONValue? = nil) {
        self.messages = messages
        self.tools = tools
    }
}

extension JinjaTemplate {
    /// The names of the field with a message's reasoning; templates read the first, data has any.
    private static let reasoningFields = ["reasoning_content", "thinking", "reasoning"]
    /// Stands after the text that is continued, so that its end is found again.
    private static let mark = "APUS-CONTINUES-HERE "

    /// Renders a conversation as transformers does.
    ///
    /// - Parameters:
    ///   - specialTokens: variables such as `bos_token`.
    ///   - clock: what `strftime_now` tells, in seconds since 1970.
    /// - Throws: ``TokenizerError`` with code `invalid_messages`, in the template's or the interpreter's words.
    package func render(
        _ conversation: Conversation, specialTokens: [(name: String, text: String)] = [], clock: Int = 0
    ) throws(TokenizerError) -> RenderedChat {
        guard let list = conversation.messages.arrayValue else {
            throw Self.invalid("messages", "expected a list, found \(conversation.messages.kind)")
        }
        var messages: [JSONValue] = []
        for (index, message) in list.enumerated() {
            guard let object = message.objectValue else {
                throw Self.invalid("messages[\(index)]", "expected an object, found \(message.kind)")
            }
            messages.append(.object(Self.normalized(object, keepsNull: conversation.keepsNullFields)))
        }
        var continued: String?
        if let field = conversation.continuedField { continued = try Self.markEnd(of: field, in: &messages) }
        var context: [String: JinjaValue] = [
            "messages": JinjaValue(.array(messages)), "tools": JinjaValue(conversation.tools ?? .null),
            "documents": JinjaValue(conversation.documents ?? .null),
            "add_generation_prompt": .bool(conversation.addGenerationPrompt),
        ]
        for token in specialTokens { context[token.name] = .string(token.text) }
        for member in conversation.arguments.members { context[member.key] = JinjaValue(member.value) }
        let rendering: JinjaRendering
        do throws(JinjaError) {
            rendering = try render(context, clock: clock)
        } catch {
            throw Self.invalid("chat_template", error.description)
        }
        guard let continued else {
            return RenderedChat(text: rendering.text, generatedRanges: rendering.generatedRanges)
        }
        return try Self.cut(rendering, after: continued)
    }

    private static func invalid(_ location: String, _ message: String) -> TokenizerError {
        TokenizerError(code: .invalidMessages, message: message, location: location)
    }

    /// Without null fields, and with the reasoning under the names that templates read.
    private static func normalized(_ message: JSONObject, keepsNull: Bool) -> JSONObject {
        var members = keepsNull ? message.members : message.members.filter { !$0.value.isNull }
        let reasoning = reasoningFields.lazy.compactMap { name in
            members.first { $0.key == name && !$0.value.isNull }?.value
        }.first
        if let reasoning {
            if !members.contains(where: { $0.key == "thinking" }) {
                members.insert(JSONObject.Member(key: "thinking", value: reasoning), at: 0)
            }
            members.append(JSONObject.Member(key: "reasoning_content", value: reasoning))
        }
        return JSONObject(members)
    }

    /// Appends the mark to the field of the last message and returns its text.
    private static func markEnd(of field: String, in messages: inout [JSONValue]) throws(TokenizerError) -> String {
        let place = "messages[\(messages.count - 1)].\(field)"
        guard case .object(let object)? = messages.last, let value = object[field] else {
            throw invalid(place, "the last message is to be continued and has no such field")
        }
        var text: String?
        func marked(_ value: JSONValue) -> JSONValue {
            switch value {
            case .string(let content):
                text = content
                return .string(content + mark)
            case .array(var blocks):
                guard let last = blocks.lastIndex(where: { $0["text"]?.stringValue != nil }),
                    case .object(let block) = blocks[last]
                else { return value }
                blocks[last] = .object(
                    JSONObject(
                        block.members.map { member in
                            guard member.key == "text" else { return member }
                            return JSONObject.Member(key: "text", value: marked(member.value))
                        }))
                return .array(blocks)
            default: return value
            }
        }
        // Reasoning stands under several names; the template reads one of them.
        let fields =
            reasoningFields.contains(field) ? reasoningFields.filter { object[$0] == value } : [field]
        messages[messages.count - 1] = .object(
            JSONObject(
                object.members.map { member in
                    guard fields.contains(member.key) else { return member }
                    return JSONObject.Member(key: member.key, value: marked(member.value))
                }))
        guard let text else { throw invalid(place, "expected a text to continue, found \(value.kind)") }
        return text
    }

    /// The rendering up to the end of the continued text.
    private static func cut(_ rendering: JinjaRendering, after text: String) throws(TokenizerError) -> RenderedChat {
        let bytes = Array(rendering.text.utf8)
        let name = Array(mark.utf8.dropLast())
        guard let range = bytes.lastRange(of: String(decoding: name, as: UTF8.self)),
            rendering.text.utf8.count >= text.utf8.count
        else {
            throw invalid(
                "messages", "the last message is to be continued, and the template leaves it out or changes its end")
        }
        var kept = bytes[..<range.lowerBound]
        // Where the template keeps the blank after the mark it keeps blanks at the end of the text too.
        let keepsBlanks = range.upperBound < bytes.count && bytes[range.upperBound] == UInt8(ascii: " ")
        if !keepsBlanks {
            var scalars = String(decoding: kept, as: UTF8.self).unicodeScalars
            while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
            kept = Array(String(scalars).utf8)[...]
        }
        let result = String(decoding: kept, as: UTF8.self)
        let length = result.unicodeScalars.count
        return RenderedChat(
            text: result,
            generatedRanges: rendering.generatedRanges.map { min($0.lowerBound, length)..<min($0.upperBound, length) })
    }
}

extension JinjaValue {
    /// The value of a JSON document.
    package init(_ value: JSONValue) {
        switch value {
        case .null: self = .none
        case .bool(let value): self = .bool(value)
        case .integer(let digits): self = Int128(digits).map { .integer($0) } ?? .longInteger(digits)
        case .decimal(let text): self = .double(Double(text) ?? .nan)
        case .string(let text): self = .string(text)
        case .array(let elements): self = .list(elements.map { JinjaValue($0) })
        case .object(let object):
            self = .dictionary(
                JinjaDictionary(object.members.map { (key: .string($0.key), value: JinjaValue($0.value)) }))
        }
    }
}
