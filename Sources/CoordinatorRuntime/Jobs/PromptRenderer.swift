// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification
internal import Rewards
internal import RuntimeSupport
internal import Tokenization

/// Turns rows of data into token ids. What is wrong with a row is a ``RowProblem``: its place is known where it was read.
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
        case .text(let text): return try encode(text)
        case .messages(let messages):
            return try render(messages, tools: record.tools, opensAnswer: true)
        }
    }

    func tokens(of record: ScoreRecord) throws -> [Int32] {
        switch record.content {
        case .tokens(let ids): return ids
        case .text(let text): return try encode(text)
        case .messages(let messages):
            return try render(messages, tools: record.tools, opensAnswer: false)
        case .pair:
            throw RowProblem("is a preference pair, which a reward model scores; name one")
        case .completion(let prompt, let text):
            // Apart, so that the prompt has the ids that a rollout would give it.
            let start = try tokens(
                of: PromptRecord(
                    id: record.id, content: prompt, tools: record.tools, answer: nil, lineNumber: record.lineNumber))
            return start + (try encode(text))
        }
    }

    /// The token that ends a demonstrated answer: the tokenizer's own end of sequence where generation stops at it.
    func endOfAnswer(_ ends: Set<Int32>) -> Int32? {
        tokenizer.endOfSequenceID.flatMap { ends.contains($0) ? $0 : nil } ?? ends.min()
    }

    func encoded(_ text: String) -> [Int32] { tokenizer.encode(text) }

    /// A text by itself, with the tokens that the tokenizer puts around one.
    func encode(_ text: String) throws -> [Int32] {
        let ids = tokenizer.encodeSequence(text)
        guard !ids.isEmpty else { throw RowProblem("the text has no tokens") }
        return ids
    }

    private func render(
        _ messages: [ChatMessage], tools: JSONValue?, opensAnswer: Bool
    ) throws -> [Int32] {
        guard let template else {
            throw RowProblem(
                "has messages, but the model has no chat template; use 'prompt' with plain text or put the template into "
                    + "tokenizer_config.json")
        }
        do throws(TokenizerError) {
            let chat = try template.render(
                messages: .array(messages.map { .object($0.object) }), tools: tools ?? self.tools,
                addGenerationPrompt: opensAnswer, enableThinking: thinking == .off ? false : nil)
            return tokenizer.encode(chat.text)
        } catch {
            throw RowProblem("\(error)")
        }
    }
}

// MARK: - For people

extension PromptRenderer {
    func first(_ record: PromptRecord, _ ids: [Int32], _ data: DataSection) -> FirstPrompt {
        var isConversation = false
        if case .messages = record.content { isConversation = true }
        return FirstPrompt(
            ids, id: record.id, tokenizer, usesTemplate: isConversation, hasTemplate: template != nil,
            asked: data.appliesChatTemplate)
    }

    /// - Parameter learned: number of the first token that is learned from; nil: nothing is learned.
    func first(_ record: ScoreRecord, _ ids: [Int32], _ data: DataSection, learned: Int?) -> FirstPrompt {
        let isConversation =
            switch record.content {
            case .messages, .completion(.messages, _): true
            case .pair(let pair): if case .messages = pair.chosen.prompt { true } else { false }
            case .tokens, .text, .completion: false
            }
        let isText =
            switch record.content {
            case .tokens: false
            default: true
            }
        return FirstPrompt(
            ids, id: record.id, tokenizer, learned: learned, usesTemplate: isConversation,
            hasTemplate: template != nil && isText, asked: data.appliesChatTemplate)
    }
}
