// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import JobSpecification
internal import Rewards
internal import RuntimeSupport
internal import Tokenization

/// Turns rows of data into token ids. What is wrong with a row is a ``RowProblem``: its place is known where it was read.
struct PromptRenderer {
    let tokenizer: Tokenizer
    /// Ids at which generation stops: those that the model's files name, and the end of the template's turn. A base
    /// model's files name the end of a document alone.
    let stopIDs: [Int32]
    /// The token that ends an answer: the end of the template's turn, or else the tokenizer's end of sequence where
    /// generation stops at it.
    let endOfAnswer: Int32?
    /// The token that ends a text without a conversation: the tokenizer's end of sequence where generation stops at it.
    private let endOfText: Int32?
    /// The text of the job's own template; nil: the model's is used.
    let templateText: String?
    let settings: ChatTemplateSection
    private let turnEnd: Int32?
    private let template: ChatTemplate?
    /// For conversations with tools; models may have another for them.
    private let toolTemplate: ChatTemplate?
    /// Rows of the model's embedding.
    private let idLimit: Int
    /// Schemas of the job's tools; a row may bring its own.
    private let tools: JSONValue?

    /// - Parameters:
    ///   - named: ids at which generation stops by the model's files.
    ///   - idLimit: rows of the model's embedding.
    /// - Throws: ``TokenizerError`` where the template cannot be read.
    init(
        _ tokenizer: Tokenizer, _ settings: ChatTemplateSection = ChatTemplateSection(), stopIDs named: [Int32] = [],
        idLimit: Int = .max, environment: EnvironmentSection? = nil
    ) throws {
        self.tokenizer = tokenizer
        self.settings = settings
        self.idLimit = idLimit
        tools = try environment.flatMap {
            $0.describesTools ? try JSONValue(parsing: ToolRegistry.schemas($0.tools)) : nil
        }
        let text = try settings.path.map { try ChatTemplateTexts.text(ofFile: URL(fileURLWithPath: $0)) }
        templateText = text
        func template(withTools: Bool) throws -> ChatTemplate? {
            guard let text = text ?? tokenizer.chatTemplates.text(withTools: withTools) else { return nil }
            var template = try tokenizer.chatTemplate(text: text)
            template.clock = settings.clock
            return template
        }
        self.template = try template(withTools: false)
        toolTemplate = try template(withTools: true)
        turnEnd = (self.template ?? toolTemplate)?.turnEnd(tokenizer)
        stopIDs = named + (turnEnd.map { named.contains($0) ? [] : [$0] } ?? [])
        endOfText = tokenizer.endOfSequenceID.flatMap { named.contains($0) ? $0 : nil } ?? named.min()
        endOfAnswer = turnEnd ?? endOfText
    }

    /// What a reader of the job should know of its template.
    var warnings: [String] {
        guard let template, settings.date == nil, template.readsClock else { return [] }
        return [
            "the chat template may write the date: it is \(ChatTemplateSection.standardDate) for this job, so that the same "
                + "job gives the same bytes on every day; chat_template_date sets another"
        ]
    }

    func tokens(of record: PromptRecord) throws -> [Int32] {
        switch record.content {
        case .text(let text): return try checked(tokenizer.encodePrompt(text))
        case .messages(let messages):
            var conversation = conversation(messages, record.tools, record.templateArguments)
            if messages.last?.role == "assistant" {
                conversation.continuedField = "content"
            } else {
                conversation.addGenerationPrompt = true
            }
            return try render(conversation)
        }
    }

    func tokens(of record: ScoreRecord) throws -> [Int32] {
        switch record.content {
        case .tokens(let ids): return ids
        case .text(let text): return try checked(tokenizer.encodeSequence(text))
        case .messages(let messages):
            return try render(conversation(messages, record.tools, record.templateArguments))
        case .pair:
            throw RowProblem("is a preference pair, which a reward model scores; name one")
        case .completion(let prompt, let text):
            // Apart, so that the prompt has the ids that a rollout would give it.
            return try tokens(of: record.asking(prompt)) + checked(encoded(text))
        }
    }

    /// A demonstration: its tokens up to the end of the last learned turn, and where the learned ones stand.
    ///
    /// - Parameter allTurns: whether every turn of the assistant is learned, not the last alone.
    func demonstration(of record: ScoreRecord, allTurns: Bool = false) throws -> LearnedConversation {
        switch record.content {
        case .tokens, .pair:
            throw RowProblem(
                "a demonstration has 'messages' that end with the assistant, 'prompt' and 'completion', or 'text'")
        case .text(let text):
            // All of a text is learned (TRL's language modelling): of its first token nothing is predicted.
            let body = try checked(tokenizer.encodeSequence(text))
            guard body.count > 1 else { throw RowProblem("the text has too few tokens to learn from") }
            let tokens = body + (endOfText.flatMap { body.last == $0 ? nil : [$0] } ?? [])
            return LearnedConversation(tokens: tokens, spans: [1..<tokens.count])
        case .completion(let prompt, let text):
            let start = try tokens(of: record.asking(prompt))
            let end = if case .text = prompt { endOfText } else { endOfAnswer }
            let answer = encoded(text) + (end.map { [$0] } ?? [])
            return LearnedConversation(tokens: start + answer, spans: [start.count..<(start.count + answer.count)])
        case .messages(let messages):
            guard messages.last?.role == "assistant" else {
                throw RowProblem("the last message is not the assistant's")
            }
            let conversation = conversation(messages, record.tools, record.templateArguments)
            do throws(TokenizerError) {
                return try requireTemplate(for: conversation).learned(
                    conversation, allTurns ? .all(afterMessage: record.promptMessageCount) : .last, turnEnd: turnEnd,
                    ends: Set(stopIDs), tokenizer)
            } catch { throw RowProblem("\(error)") }
        }
    }

    func encoded(_ text: String) -> [Int32] { tokenizer.encode(text) }

    private func conversation(
        _ messages: [ChatMessage], _ tools: JSONValue?, _ arguments: JSONObject?
    ) -> Conversation {
        var result = Conversation(messages: .array(messages.map { .object($0.object) }), tools: tools ?? self.tools)
        result.arguments = settings.arguments
        // What a row says of itself counts before what the job says of all.
        for member in arguments?.members ?? [] { result.arguments[member.key] = member.value }
        return result
    }

    private func requireTemplate(for conversation: Conversation) throws(TokenizerError) -> ChatTemplate {
        guard let template = conversation.tools == nil ? template : toolTemplate else {
            throw TokenizerError(
                code: .unknownTemplate,
                message:
                    "the row has messages, but the model has no chat template; use 'prompt' with plain text or name a "
                    + "file with chat_template",
                location: "chat_template")
        }
        return template
    }

    private func render(_ conversation: Conversation) throws -> [Int32] {
        let text: String
        do throws(TokenizerError) { text = try requireTemplate(for: conversation).render(conversation).text } catch {
            throw RowProblem("\(error)")
        }
        return try checked(tokenizer.encode(text))
    }

    /// Special tokens that are named and not written (``Tokenizer/writtenIDLimit``) may have no row in the model.
    private func checked(_ ids: [Int32]) throws(RowProblem) -> [Int32] {
        guard !ids.isEmpty else { throw RowProblem("the text has no tokens") }
        if let id = ids.first(where: { Int($0) >= idLimit }) {
            throw RowProblem(
                "the text has \(tokenizer.decode([id]).debugDescription), a special token for which the model has no row in "
                    + "its vocabulary of \(idLimit)")
        }
        return ids
    }
}

extension ScoreRecord {
    /// The row's prompt as a rollout's row.
    func asking(_ prompt: PromptContent) -> PromptRecord {
        PromptRecord(
            id: id, content: prompt, tools: tools, templateArguments: templateArguments, answer: nil,
            lineNumber: lineNumber)
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
