// SPDX-License-Identifier: Apache-2.0
internal import Jinja
package import RuntimeSupport

/// A chat template, which turns messages into the text that the model was trained on, with what it needs of the
/// tokenizer. It is read once and renders any number of conversations, on any threads.
package struct ChatTemplate: Sendable {
    let program: JinjaTemplate
    private let specialTokens: [(name: String, text: String)]
    /// What `strftime_now` tells, in seconds since 1970 of the clock to show.
    package var clock = 0

    /// Reads a template.
    ///
    /// - Parameter specialTokens: its variables such as `bos_token`.
    /// - Throws: ``TokenizerError`` with code `invalid_template`: what is wrong, and the line.
    package init(
        _ text: String, specialTokens: [(name: String, text: String)] = []
    ) throws(TokenizerError) {
        do { program = try JinjaTemplate(text) } catch {
            throw TokenizerError(
                code: .invalidTemplate, message: error.description, location: "chat_template")
        }
        self.specialTokens = specialTokens
    }

    /// Whether the template itself marks what the assistant writes, by a `generation` block.
    package var marksGeneration: Bool { program.marksGeneration }
    /// Whether the text may depend on the date.
    package var readsClock: Bool { program.names.contains("strftime_now") }
    /// Whether the template writes answers of tools.
    package var knowsTools: Bool { program.names.contains("tools") }

    /// Renders a conversation.
    ///
    /// - Throws: ``TokenizerError`` with code `invalid_messages`, in the template's or the interpreter's words; so too
    ///   where a bound of work or output is reached.
    package func render(_ conversation: Conversation) throws(TokenizerError) -> RenderedChat {
        try program.render(conversation, specialTokens: specialTokens, clock: clock)
    }

    /// Renders messages: ``render(_:)`` with the usual arguments.
    ///
    /// - Parameters:
    ///   - addGenerationPrompt: opens the assistant's turn at the end.
    ///   - enableThinking: for templates that know it; nil: whatever they do when they are not told.
    package func render(
        messages: JSONValue, tools: JSONValue? = nil, addGenerationPrompt: Bool = false, enableThinking: Bool? = nil
    ) throws(TokenizerError) -> RenderedChat {
        var conversation = Conversation(messages: messages, tools: tools)
        conversation.addGenerationPrompt = addGenerationPrompt
        if let enableThinking { conversation.arguments["enable_thinking"] = .bool(enableThinking) }
        return try render(conversation)
    }
}

extension Tokenizer {
    /// A chat template of the model directory.
    ///
    /// - Parameters:
    ///   - name: of one of several; nil: `default`, or `tool_use` where there are tools and such a template.
    ///   - text: the template itself, instead of the directory's.
    /// - Throws: ``TokenizerError`` with code `unknown_template` where the directory has none, or none that fits;
    ///   `invalid_template` where it cannot be read.
    package func chatTemplate(
        named name: String? = nil, text: String? = nil, withTools: Bool = false
    ) throws(TokenizerError) -> ChatTemplate {
        guard let text = text ?? chatTemplates.text(named: name, withTools: withTools) else {
            let names = chatTemplates.names.joined(separator: ", ")
            throw TokenizerError(
                code: .unknownTemplate,
                message: chatTemplates.isEmpty
                    ? "the model directory has no chat template; name a file with one"
                    : "no chat template is named \"\(name ?? ChatTemplateTexts.defaultName)\"; the model has \(names)",
                location: "chat_template")
        }
        let key = ExactText(text)
        if let known = templateCache.withLock({ $0[key] }) { return known }
        let template = try ChatTemplate(text, specialTokens: specialTokens)
        templateCache.withLock { if $0.count < 16 { $0[key] = template } }
        return template
    }

    /// Whether the directory has a chat template for plain conversations.
    package var hasChatTemplate: Bool { chatTemplates.text() != nil }
}
