// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification
internal import Rewards
internal import Tokenization

/// Turns rows of data into token ids.
struct PromptRenderer {
    private let tokenizer: Tokenizer
    private let template: ChatTemplate?
    private let thinking: ThinkingMode
    /// Schemas of the job's tools; a row may bring its own.
    private let tools: JSONValue?

    init(_ tokenizer: Tokenizer, thinking: ThinkingMode, environment: EnvironmentSection? = nil) throws {
        self.tokenizer = tokenizer
        self.thinking = thinking
        tools = try environment.flatMap {
            $0.describesTools ? try JSONValue(parsing: ToolRegistry.schemas($0.tools)) : nil
        }
        template = tokenizer.chatTemplateText == nil ? nil : try tokenizer.chatTemplate()
    }

    func tokens(of record: PromptRecord) throws -> [Int32] {
        switch record.content {
        case .text(let text): return try encode(text, line: record.lineNumber)
        case .messages(let messages):
            return try render(messages, line: record.lineNumber, tools: tools(of: record), opensAnswer: true)
        }
    }

    private func tools(of record: PromptRecord) throws -> JSONValue? {
        guard let text = record.columns["tools"] else { return tools }
        do { return try JSONValue(parsing: text) } catch {
            throw SubmissionError(description: "line \(record.lineNumber): 'tools' is no JSON list of functions")
        }
    }

    func tokens(of record: ScoreRecord) throws -> [Int32] {
        switch record.content {
        case .tokens(let ids): return ids
        case .text(let text): return try encode(text, line: record.lineNumber)
        case .messages(let messages): return try render(messages, line: record.lineNumber, opensAnswer: false)
        case .pair:
            throw SubmissionError(
                description: "line \(record.lineNumber) is a preference pair, which a reward model scores; name one")
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

    /// The token that ends a demonstrated answer: the tokenizer's own end of sequence where generation stops at it.
    func endOfAnswer(_ ends: Set<Int32>) -> Int32? {
        tokenizer.endOfSequenceID.flatMap { ends.contains($0) ? $0 : nil } ?? ends.min()
    }

    func encoded(_ text: String) -> [Int32] { tokenizer.encode(text) }

    private func encode(_ text: String, line: Int) throws -> [Int32] {
        let ids = tokenizer.encode(text)
        guard !ids.isEmpty else { throw SubmissionError(description: "line \(line): the text has no tokens") }
        return ids
    }

    private func render(
        _ messages: [ChatMessage], line: Int, tools: JSONValue? = nil, opensAnswer: Bool
    ) throws -> [Int32] {
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
                messages: .array(list), tools: tools, addGenerationPrompt: opensAnswer,
                enableThinking: thinking == .off ? false : nil
            ).text)
    }
}
