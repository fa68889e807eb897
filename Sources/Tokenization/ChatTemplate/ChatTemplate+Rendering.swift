// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

extension ChatTemplate {
    /// Renders a conversation.
    ///
    /// - Parameters:
    ///   - messages: a list of objects with `role`, `content` and, for the assistant, `reasoning_content` and
    ///     `tool_calls`, as in transformers' `apply_chat_template`.
    ///   - tools: a list of tool descriptions; `nil`, null and the empty list mean none.
    ///   - addGenerationPrompt: opens the assistant's turn at the end.
    ///   - enableThinking: false pre-fills an empty think block (hard switch); `nil` and true do nothing. Has
    ///     no effect without a generation prompt and in templates that do not know thinking.
    /// - Throws: ``TokenizerError`` with code `invalid_messages` where the Jinja template would fail
    ///   or print a placeholder (such as a call without a name).
    package func render(
        messages: JSONValue, tools: JSONValue? = nil, addGenerationPrompt: Bool = false,
        enableThinking: Bool? = nil
    ) throws(TokenizerError) -> RenderedChat {
        guard let list = messages.arrayValue, !list.isEmpty else {
            throw ChatRenderer.invalid("messages", "expected a list with at least one message")
        }
        for (index, message) in list.enumerated() where message.objectValue == nil {
            throw ChatRenderer.invalid("messages[\(index)]", "expected an object, found \(message.kind)")
        }
        var renderer = ChatRenderer(template: self, messages: list)
        try renderer.head(tools: tools ?? .null)
        for index in list.indices { try renderer.message(at: index) }
        if addGenerationPrompt {
            renderer.emit("<|im_start|>assistant\n")
            if knowsThinking, enableThinking == false { renderer.emit("<think>\n\n</think>\n\n") }
        }
        return RenderedChat(
            text: String(decoding: renderer.output, as: UTF8.self), generatedRanges: renderer.generatedRanges)
    }
}

/// One rendering. Text is handled as UTF-8 bytes: Swift's characters would join a line break or a tag with a
/// combining mark after it, which the templates do not.
struct ChatRenderer {
    let template: ChatTemplate
    let messages: [JSONValue]
    var output: [UInt8] = []
    var generatedRanges: [Range<Int>] = []
    /// The last real question; thinking before it is removed.
    private let lastQueryIndex: Int
    // The scalars of `output` up to `countedBytes`, so that marks need no second pass.
    private var countedBytes = 0
    private var countedScalars = 0

    init(template: ChatTemplate, messages: [JSONValue]) {
        self.template = template
        self.messages = messages
        lastQueryIndex =
            messages.lastIndex { message in
                guard Self.role(message) == "user", let content = message["content"]?.stringValue else {
                    return false
                }
                let bytes = Array(content.utf8)
                return !(bytes.starts(with: "<tool_response>".utf8) && bytes.ends(with: "</tool_response>"))
            } ?? messages.count - 1
    }

    static func invalid(_ location: String, _ message: String) -> TokenizerError {
        TokenizerError(code: .invalidMessages, message: message, location: location)
    }

    private static func role(_ message: JSONValue) -> String { message["role"]?.stringValue ?? "" }

    mutating func emit(_ text: String) { output += text.utf8 }

    /// Scalars of the text so far.
    private mutating func scalarCount() -> Int {
        for byte in output[countedBytes...] where byte & 0xC0 != 0x80 { countedScalars += 1 }
        countedBytes = output.count
        return countedScalars
    }

    /// The system turn with the tools, or the system message alone.
    mutating func head(tools: JSONValue) throws(TokenizerError) {
        let isSystem = Self.role(messages[0]) == "system"
        let content = messages[0]["content"]?.stringValue
        guard !isSystem || content != nil else {
            throw Self.invalid(
                "messages[0].content",
                "the system message needs a text, found \(messages[0]["content"]?.kind ?? "none")")
        }
        guard tools.isTrue else {
            if isSystem { emit("<|im_start|>system\n" + (content ?? "") + "<|im_end|>\n") }
            return
        }
        guard let list = tools.arrayValue else {
            throw Self.invalid("tools", "expected a list, found \(tools.kind)")
        }
        emit("<|im_start|>system\n")
        if isSystem { emit((content ?? "") + "\n\n") }
        emit("# Tools\n\nYou may call one or more functions to assist with the user query.\n\n")
        emit("You are provided with function signatures within <tools></tools> XML tags:\n<tools>")
        for tool in list {
            emit("\n")
            tool.appendPythonText(to: &output)
        }
        emit(
            "\n</tools>\n\nFor each function call, return a json object with function name and "
        )
        emit("arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n")
        emit("{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n")
    }

    mutating func message(at index: Int) throws(TokenizerError) {
        let message = messages[index]
        let content = Array((message["content"]?.stringValue ?? "").utf8)
        switch Self.role(message) {
        case "user": turn("user", content)
        case "system": if index > 0 { turn("system", content) }
        case "assistant": try assistant(index, content)
        case "tool": tool(index, content)
        default: break
        }
    }

    private mutating func turn(_ role: String, _ content: [UInt8]) {
        emit("<|im_start|>\(role)\n")
        output += content
        emit("<|im_end|>\n")
    }

    private mutating func tool(_ index: Int, _ content: [UInt8]) {
        if index == 0 || Self.role(messages[index - 1]) != "tool" { emit("<|im_start|>user") }
        emit("\n<tool_response>\n")
        output += content
        emit("\n</tool_response>")
        if index == messages.count - 1 || Self.role(messages[index + 1]) != "tool" { emit("<|im_end|>\n") }
    }

    private mutating func assistant(_ index: Int, _ given: [UInt8]) throws(TokenizerError) {
        var content = given
        var reasoning: [UInt8] = []
        if template.knowsThinking {
            if let text = messages[index]["reasoning_content"]?.stringValue {
                reasoning = Array(text.utf8)
            } else if let first = given.firstRange(of: "</think>"), let last = given.lastRange(of: "</think>") {
                var before = Array(given[..<first.lowerBound]).trimming(end: true)
                if let open = before.lastRange(of: "<think>") { before = Array(before[open.upperBound...]) }
                reasoning = before.trimming(start: true)
                content = Array(given[last.upperBound...]).trimming(start: true)
            }
        }
        emit("<|im_start|>assistant\n")
        let start = template.marksGeneration ? scalarCount() : 0
        let isLast = index == messages.count - 1
        let thinks = template == .qwen3 && index > lastQueryIndex && (isLast || !reasoning.isEmpty)
        if thinks || template.alwaysThinks {
            emit("<think>\n")
            output += reasoning.trimming(start: true, end: true)
            emit("\n</think>\n\n")
            output += content.trimming(start: true)
        } else {
            output += content
        }
        try toolCalls(index, hasContent: !content.isEmpty)
        emit("<|im_end|>\n")
        if template.marksGeneration { generatedRanges.append(start..<scalarCount()) }
    }

    private mutating func toolCalls(_ index: Int, hasContent: Bool) throws(TokenizerError) {
        let field = "messages[\(index)].tool_calls"
        guard let value = messages[index]["tool_calls"], value.isTrue else { return }
        guard let calls = value.arrayValue else {
            throw Self.invalid(field, "expected a list, found \(value.kind)")
        }
        for (place, outer) in calls.enumerated() {
            if place > 0 || hasContent { emit("\n") }
            var call = outer
            if let function = outer["function"], function.isTrue { call = function }
            guard call.objectValue != nil else {
                throw Self.invalid("\(field)[\(place)]", "expected an object, found \(call.kind)")
            }
            guard let name = call["name"]?.stringValue else {
                throw Self.invalid(
                    "\(field)[\(place)].name", "expected a text, found \(call["name"]?.kind ?? "none")")
            }
            guard let arguments = call["arguments"] else {
                throw Self.invalid(
                    "\(field)[\(place)].arguments", "missing; give an object, empty if need be")
            }
            emit("<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": ")
            // A text is taken for JSON and pasted as it stands.
            if let text = arguments.stringValue {
                emit(text)
            } else {
                arguments.appendPythonText(to: &output)
            }
            emit("}\n</tool_call>")
        }
    }
}
