// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification
internal import Rewards
internal import RuntimeSupport
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
        template = tokenizer.hasChatTemplate ? try tokenizer.chatTemplate() : nil
    }

    func tokens(of record: PromptRecord) throws -> [Int32] {
        switch record.content {
        case .text(let text): return try encode(text, line: record.lineNumber)
        case .messages(let messages):
            return try render(messages, line: record.lineNumber, tools: record.tools, opensAnswer: true)
        }
    }

    func tokens(of record: ScoreRecord) throws -> [Int32] {
        switch record.content {
        case .tokens(let ids): return ids
        case .text(let text): return try encode(text, line: record.lineNumber)
        case .messages(let messages):
            return try render(messages, line: record.lineNumber, tools: record.tools, opensAnswer: false)
        case .pair:
            throw SubmissionError(
                description: "line \(record.lineNumber) is a preference pair, which a reward model scores; name one")
        case .completion(let prompt, let text):
            // Apart, so that the prompt has the ids that a rollout would give it.
            let start = try tokens(
                of: PromptRecord(
                    id: record.id, content: prompt, tools: record.tools, answer: nil, lineNumber: record.lineNumber))
            return start + (try encode(text, line: record.lineNumber))
        }
    }

    /// The token that ends a demonstrated answer: the tokenizer's own end of sequence where generation stops at it.
    func endOfAnswer(_ ends: Set<Int32>) -> Int32? {
        tokenizer.endOfSequenceID.flatMap { ends.contains($0) ? $0 : nil } ?? ends.min()
    }

    func encoded(_ text: String) -> [Int32] { tokenizer.encode(text) }

    private func encode(_ text: String, line: Int) throws -> [Int32] {
        let ids = tokenizer.encodeSequence(text)
        guard !ids.isEmpty else { throw SubmissionError(description: "line \(line): the text has no tokens") }
        return ids
    }

    private func render(
        _ messages: [ChatMessage], line: Int, tools: JSONValue?, opensAnswer: Bool
    ) throws -> [Int32] {
        guard let template else {
            throw SubmissionError(
                description:
                    "line \(line) has messages, but the model has no chat template; use 'prompt' with plain text "
                    + "or put the template into tokenizer_config.json")
        }
        do throws(TokenizerError) {
            let chat = try template.render(
                messages: .array(messages.map { .object($0.object) }), tools: tools ?? self.tools,
                addGenerationPrompt: opensAnswer, enableThinking: thinking == .off ? false : nil)
            return tokenizer.encode(chat.text)
        } catch {
            throw SubmissionError(description: "line \(line): \(error)")
        }
    }
}
