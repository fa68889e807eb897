// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// A conversation to learn from: its tokens, and which of them the assistant wrote.
package struct LearnedConversation: Sendable, Equatable {
    /// Up to the end of the last learned turn: what the template writes after it is nobody's.
    package let tokens: [Int32]
    /// Places of the learned tokens, in order and apart; the ends of turns belong to them.
    package let spans: [Range<Int>]

    package init(tokens: [Int32], spans: [Range<Int>]) {
        self.tokens = tokens
        self.spans = spans
    }
}

/// Which turns of the assistant are learned.
package enum LearnedTurns: Sendable, Equatable {
    /// The last message, which is the assistant's.
    case last
    /// All but those among the first messages, which are a prompt.
    case all(afterMessage: Int)
}

extension ChatTemplate {
    /// The text after which a turn of the assistant ends, in the template's own words.
    private static let answer = "APUS-ANSWER"
    private static let user: JSONValue = ["role": "user", "content": "?"]

    /// The token by which the template ends the assistant's turn: the first added token that it writes after an answer.
    /// - Returns: nil where it writes none, or does not render a plain question and answer.
    package func turnEnd(_ tokenizer: Tokenizer) -> Int32? {
        let messages: JSONValue = [Self.user, ["role": "assistant", "content": .string(Self.answer)]]
        guard let text = try? render(messages: messages).text else { return nil }
        let bytes = Array(text.utf8)
        guard let range = bytes.lastRange(of: Self.answer) else { return nil }
        let rest = String(decoding: bytes[range.upperBound...], as: UTF8.self)
        for id in tokenizer.encode(rest) {
            if tokenizer.addedContents[id] != nil { return id }
            guard tokenizer.decode([id]).unicodeScalars.allSatisfy(\.properties.isWhitespace) else { return nil }
        }
        return nil
    }

    /// Where the assistant's turns stand in a conversation.
    ///
    /// They are what the template marks by `generation` blocks. Where it marks none, the conversation up to a turn, with
    /// the turn opened, must be what the whole conversation begins with, in text and in tokens; the turn ends at
    /// `turnEnd` or one of `ends`.
    ///
    /// - Parameters:
    ///   - turnEnd: ``turnEnd(_:)``.
    ///   - ends: ids at which generation stops.
    /// - Throws: ``TokenizerError`` with code `unlearnable_turns`: why the turns cannot be told.
    package func learned(
        _ conversation: Conversation, _ turns: LearnedTurns, turnEnd: Int32?, ends: Set<Int32>,
        _ tokenizer: Tokenizer
    ) throws(TokenizerError) -> LearnedConversation {
        var whole = conversation
        whole.addGenerationPrompt = false
        whole.continuedField = nil
        let messages = whole.messages.arrayValue ?? []
        guard messages.last?["role"] == "assistant" || turns != .last else {
            throw Self.unlearnable("messages[\(messages.count - 1)]", "the last message is not the assistant's")
        }
        let first = if case .all(let count) = turns { count } else { messages.count - 1 }
        let places = messages.indices.filter { $0 >= first && messages[$0]["role"] == "assistant" }
        guard !places.isEmpty else { throw Self.unlearnable("messages", "no message is the assistant's") }
        let chat = try render(whole)
        guard !marksGeneration else { return try marked(chat, whole, before: first, tokenizer) }
        let tokens = tokenizer.encode(chat.text)
        var spans: [Range<Int>] = []
        for place in places {
            let start = try start(of: place, in: tokens, chat.text, whole, tokenizer)
            guard start >= spans.last?.upperBound ?? 0 else {
                throw Self.unlearnable("messages[\(place)]", "the template joins it with the assistant's turn before")
            }
            let isLast = place == messages.count - 1
            let end = try Self.end(
                of: messages[place], place, isLast, from: start, in: tokens, turnEnd, ends, tokenizer)
            spans.append(start..<end)
        }
        return LearnedConversation(tokens: Array(tokens.prefix(spans[spans.count - 1].upperBound)), spans: spans)
    }

    private static func unlearnable(_ location: String, _ message: String) -> TokenizerError {
        TokenizerError(code: .unlearnableTurns, message: message, location: location)
    }

    /// What the template marks, but not in the first messages.
    private func marked(
        _ chat: RenderedChat, _ whole: Conversation, before first: Int, _ tokenizer: Tokenizer
    ) throws(TokenizerError) -> LearnedConversation {
        var ranges = chat.generatedRanges[...]
        if first > 0 {
            var prompt = whole
            prompt.messages = .array(Array((whole.messages.arrayValue ?? []).prefix(first)))
            ranges = ranges.dropFirst(try render(prompt).generatedRanges.count)
        }
        let (ids, mask) = RenderedChat(text: chat.text, generatedRanges: Array(ranges))
            .encodeWithAssistantMask(tokenizer)
        var spans: [Range<Int>] = []
        for index in ids.indices where mask[index] {
            if let last = spans.last, last.upperBound == index {
                spans[spans.count - 1] = last.lowerBound..<(index + 1)
            } else {
                spans.append(index..<(index + 1))
            }
        }
        guard let end = spans.last?.upperBound else {
            throw Self.unlearnable(
                "chat_template", "its generation blocks mark nothing of the answer; mend the template")
        }
        return LearnedConversation(tokens: Array(ids.prefix(end)), spans: spans)
    }

    /// Where the tokens of the turn at `place` begin.
    private func start(
        of place: Int, in tokens: [Int32], _ text: String, _ whole: Conversation, _ tokenizer: Tokenizer
    ) throws(TokenizerError) -> Int {
        var prompt = whole
        prompt.messages = .array(Array((whole.messages.arrayValue ?? []).prefix(place)))
        prompt.addGenerationPrompt = true
        let before = try render(prompt).text
        guard text.utf8.starts(with: before.utf8) else {
            throw Self.unlearnable("messages[\(place)]", Self.difference(before, text))
        }
        let ids = tokenizer.encode(before)
        guard tokens.starts(with: ids), ids.count < tokens.count else {
            throw Self.unlearnable(
                "messages[\(place)]",
                "its first characters and what the template writes before them are one token, so that the answer would "
                    + "be learned with other tokens than it is generated with; end the opening of the turn with a token "
                    + "of its own")
        }
        return ids.count
    }

    /// How a rendering goes on otherwise than the prompt says.
    private static func difference(_ prompt: String, _ whole: String) -> String {
        func excerpt(_ text: String, _ place: Int) -> String {
            let bytes = Array(text.utf8)
            var start = max(0, place - 24)
            while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
            return String(decoding: bytes[start...].prefix(64), as: UTF8.self).debugDescription
        }
        let place = zip(prompt.utf8, whole.utf8).prefix { $0 == $1 }.count
        var remedy = "give a template for training with chat_template"
        if prompt.hasSuffix("</think>\n\n"), prompt.utf8.count - place < 64 {
            remedy =
                "thinking is off, so that the prompt closes the think block, and the answer is rendered with another: "
                + "remove its reasoning, or do not turn thinking off"
        } else if prompt.hasSuffix("<think>\n"), prompt.utf8.count - place < 64 {
            remedy = "the prompt opens a think block that the answer lacks: add reasoning_content, or " + remedy
        } else {
            remedy = "learn the last answer alone (assistant_only_loss: false), or " + remedy
        }
        return "where the answer is to begin, the prompt is \(excerpt(prompt, place)) and the whole conversation "
            + "\(excerpt(whole, place)): this template does not render a conversation as what follows its prompt; "
            + remedy
    }

    /// One past the token that ends the turn.
    private static func end(
        of message: JSONValue, _ place: Int, _ isLast: Bool, from start: Int, in tokens: [Int32], _ own: Int32?,
        _ ends: Set<Int32>, _ tokenizer: Tokenizer
    ) throws(TokenizerError) -> Int {
        let candidates = own.map { ends.union([$0]) } ?? ends
        if isLast {
            let end =
                own.flatMap { own in tokens[start...].lastIndex(of: own) }
                ?? tokens[start...].lastIndex(where: candidates.contains)
            if let end { return end + 1 }
        } else {
            // Ends in the message's own text could not be told from the turn's.
            let texts = candidates.compactMap { tokenizer.addedContents[$0] }
            let written = message.pythonText
            if let text = texts.first(where: written.contains) {
                throw unlearnable(
                    "messages[\(place)]", "its text has \(text), which ends a turn; remove it")
            }
            if let end = tokens[start...].firstIndex(where: candidates.contains) { return end + 1 }
        }
        throw unlearnable(
            "messages[\(place)]",
            "the template ends the answer with no token at which generation stops, so that a model does not learn to "
                + "stop; give a template for training with chat_template")
    }

    /// What the template writes to open the assistant's turn.
    package func generationPrompt(_ arguments: JSONObject) -> String? {
        var conversation = Conversation(messages: [Self.user])
        conversation.arguments = arguments
        guard let closed = try? render(conversation).text else { return nil }
        conversation.addGenerationPrompt = true
        guard let open = try? render(conversation).text, open.utf8.starts(with: closed.utf8) else { return nil }
        return String(decoding: Array(open.utf8)[closed.utf8.count...], as: UTF8.self)
    }
}
