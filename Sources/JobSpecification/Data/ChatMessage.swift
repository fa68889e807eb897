// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// One message of a conversation: the row's object as it stands, so that a chat template reads what the file holds.
package struct ChatMessage: Equatable, Sendable {
    /// All of its members, in the order of the file.
    package let object: JSONObject
    /// `system`, `user`, `assistant` or `tool`.
    package let role: String
    /// Empty where the message is nothing but tool calls.
    package let content: String

    package init(role: String, content: String, reasoningContent: String? = nil) {
        var object = JSONObject([])
        object["role"] = .string(role)
        object["content"] = .string(content)
        object["reasoning_content"] = reasoningContent.map { .string($0) }
        self.object = object
        self.role = role
        self.content = content
    }

    /// Templates read a message by its keys, so their order makes no other message.
    package static func == (a: Self, b: Self) -> Bool {
        a.object.members.count == b.object.members.count && a.object.members.allSatisfy { b.object[$0.key] == $0.value }
    }

    /// An assistant's thinking, where the data keeps it apart.
    package var reasoningContent: String? { object["reasoning_content"]?.stringValue }

    /// Whether the message calls tools.
    package var callsTools: Bool { object["tool_calls"]?.isTrue ?? false }
}

extension ChatMessage {
    private static let countMax = 1024
    private static let roles = ["system", "user", "assistant", "tool"]

    /// Reads a conversation.
    static func list(_ items: [JSONValue], column: String) throws(RowProblem) -> [ChatMessage] {
        guard (1...countMax).contains(items.count) else {
            throw RowProblem("'\(column)' has \(items.count) messages; expected 1 to \(countMax)")
        }
        var messages: [ChatMessage] = []
        for (index, item) in items.enumerated() { messages.append(try ChatMessage(item, "\(column)[\(index)]")) }
        return messages
    }

    private init(_ item: JSONValue, _ place: String) throws(RowProblem) {
        guard
            var object = try item.objectValue.map({ object throws(RowProblem) in try ShareGPT.message(object, place) }),
            let role = object["role"]?.stringValue
        else {
            throw RowProblem("'\(place)' has no strings 'role' and 'content' (nor 'from' and 'value')")
        }
        guard Self.roles.contains(role) else {
            throw RowProblem("'\(place).role' is '\(role)', not \(Self.roles.joined(separator: ", "))")
        }
        if let text = object["tool_calls"]?.stringValue {
            object["tool_calls"] = text.isEmpty ? nil : try Self.parsed(text, "\(place).tool_calls")
        }
        let calls = object["tool_calls"] ?? .null
        if calls.isTrue {
            guard role == "assistant" else {
                throw RowProblem("'\(place).tool_calls': only a message of the assistant calls tools")
            }
            try Self.check(calls, "\(place).tool_calls")
        }
        // Templates print none of these: the row would be trained on without them.
        for key in ["function_call", "refusal"] where object[key]?.isTrue == true {
            throw RowProblem("'\(place).\(key)' is not rendered; write 'tool_calls' or 'content'")
        }
        if let reasoning = object["reasoning_content"], !reasoning.isNull, reasoning.stringValue == nil {
            throw RowProblem("'\(place).reasoning_content' is \(reasoning.kind); expected a string")
        }
        if let parts = object["content"]?.arrayValue {
            object["content"] = .string(try Self.text(of: parts, "\(place).content"))
        }
        switch object["content"] ?? .null {
        case .string(let text): content = text
        case .null where calls.isTrue: content = ""
        default: throw RowProblem("'\(place)' has no strings 'role' and 'content' (nor 'from' and 'value')")
        }
        self.object = object
        self.role = role
    }

    /// The text of content that is written in parts: `[{"type": "text", "text": …}]`.
    private static func text(of parts: [JSONValue], _ place: String) throws(RowProblem) -> String {
        var result = ""
        for (index, part) in parts.enumerated() {
            guard part["type"]?.stringValue ?? "text" == "text", let text = part["text"]?.stringValue else {
                throw RowProblem(
                    "'\(place)[\(index)]' is no text (\(part["type"]?.stringValue ?? part.kind)); only texts are read")
            }
            result += text
        }
        return result
    }

    private static func check(_ calls: JSONValue, _ place: String) throws(RowProblem) {
        guard let list = calls.arrayValue else { throw RowProblem("'\(place)' is \(calls.kind); expected a list") }
        for (index, item) in list.enumerated() {
            let call = item["function"].flatMap { $0.isTrue ? $0 : nil } ?? item
            guard call["name"]?.stringValue?.isEmpty == false else {
                throw RowProblem("'\(place)[\(index)]' has no 'name'")
            }
            switch call["arguments"] {
            case .object?, .string?: break
            case let other:
                throw RowProblem(
                    "'\(place)[\(index)].arguments' is \(other?.kind ?? "missing"); expected an object or its JSON text"
                )
            }
        }
    }

    /// JSON that a column holds as text.
    static func parsed(_ text: String, _ place: String) throws(RowProblem) -> JSONValue {
        do throws(JSONParseError) { return try JSONValue(parsing: text, repeatedKeys: .refused) } catch {
            throw RowProblem("'\(place)' is a text that is \(error)")
        }
    }
}

extension JSONObject {
    /// The row's tools: a list of function schemas, or the JSON text of one; nil without any.
    func tools() throws(RowProblem) -> JSONValue? {
        let value: JSONValue
        switch self["tools"] {
        case nil, .null?: return nil
        case .string(let text)?:
            guard !text.allSatisfy(\.isWhitespace) else { return nil }
            value = try ChatMessage.parsed(text, "tools")
        case let other?: value = other
        }
        guard let list = value.arrayValue else {
            throw RowProblem("'tools' is \(value.kind); expected a list of functions, or its JSON text")
        }
        for (index, tool) in list.enumerated() where tool.objectValue == nil {
            throw RowProblem("'tools[\(index)]' is \(tool.kind); expected an object")
        }
        return list.isEmpty ? nil : value
    }

    /// The row's variables of the chat template: an object, or the JSON text of one; nil without any.
    func templateArguments() throws(RowProblem) -> JSONObject? {
        let name = "chat_template_kwargs"
        let value: JSONValue
        switch self[name] {
        case nil, .null?: return nil
        case .string(let text)?:
            guard !text.allSatisfy(\.isWhitespace) else { return nil }
            value = try ChatMessage.parsed(text, name)
        case let other?: value = other
        }
        guard let object = value.objectValue else {
            throw RowProblem("'\(name)' is \(value.kind); expected an object, or its JSON text")
        }
        if let key = ChatTemplateSection.reservedVariable(in: object) {
            throw RowProblem("'\(name).\(key)' is no variable of a template's own; remove it")
        }
        return object
    }
}
