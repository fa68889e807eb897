// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification
internal import Tokenization

/// Turns rows of data into token ids.
struct PromptRenderer {
    private let tokenizer: Tokenizer
    private let template: ChatTemplate?
    private let thinking: ThinkingMode

    init(_ tokenizer: Tokenizer, thinking: ThinkingMode) throws {
        self.tokenizer = tokenizer
        self.thinking = thinking
        template = tokenizer.chatTemplateText == nil ? nil : try tokenizer.chatTemplate()
    }

    func tokens(of record: PromptRecord) throws -> [Int32] {
        switch record.content {
        case .text(let text): return try encode(text, line: record.lineNumber)
        case .messages(let messages): return try render(messages, line: record.lineNumber, opensAnswer: true)
        }
    }

    func tokens(of record: ScoreRecord) throws -> [Int32] {
        switch record.content {
        case .tokens(let ids): return ids
        case .text(let text): return try encode(text, line: record.lineNumber)
        case .messages(let messages): return try render(messages, line: record.lineNumber, opensAnswer: false)
        case .completion(let prompt, let text):
            // Apart, so that the prompt has the ids that a rollout would give it.
            let start =
                switch prompt {
                case .text(let text): try encode(text, line: record.lineNumber)
                case .messages(let messages): try render(messages, line: record.lineNumber, opensAnswer: true)
                }
            return start + (try encode(text, line: record.lineNumber))
        }
    }

    func encoded(_ text: String) -> [Int32] { tokenizer.encode(text) }

    private func encode(_ text: String, line: Int) throws -> [Int32] {
        let ids = tokenizer.encode(text)
        guard !ids.isEmpty else { throw SubmissionError(description: "line \(line): the text has no tokens") }
        return ids
    }

    private func render(_ messages: [ChatMessage], line: Int, opensAnswer: Bool) throws -> [Int32] {
        guard let template else {
            throw SubmissionError(
                description:
                    "line \(line) has messages, but the model has no chat template; use 'prompt' with plain text "
                    + "or put the template into tokenizer_config.json")
        }
        let list = messages.map { message -> JSONValue in
            var fields = [
                JSONObject.Member(key: "role", value: .string(message.role)),
                JSONObject.Member(key: "content", value: .string(message.content)),
            ]
            if let reasoning = message.reasoningContent {
                fields.append(.init(key: "reasoning_content", value: .string(reasoning)))
            }
            return .object(JSONObject(fields))
        }
        return tokenizer.encode(
            try template.render(
                messages: .array(list), addGenerationPrompt: opensAnswer,
                enableThinking: thinking == .off ? false : nil
            ).text)
    }
}
