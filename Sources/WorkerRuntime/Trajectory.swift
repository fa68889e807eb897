// SPDX-License-Identifier: Apache-2.0
//
// A response of several turns: the engine stops after each, the calls of the turn are run on threads of their own, and
// what they came to is fed in as the chat template writes it. Everything that a trajectory knows is in its tokens and its
// state, so that it can be generated again on another worker with the same bytes.
internal import ClusterProtocol
internal import Foundation
internal import Qwen3
internal import Rewards
internal import RuntimeSupport
internal import Tokenization

/// Where a trajectory stands.
struct Trajectory: Sendable {
    let limits: WireEnvironmentSettings
    private(set) var turnCount = 0
    var state = EnvironmentState()
    /// Text of the last turn: what an answer is looked for in.
    private(set) var lastTurn = ""
    /// Why the tools failed; the trajectory then has no reward.
    var failure: String?
    /// What the engine said of the last turn.
    private(set) var last: GenerationResult?

    /// - Parameter row: of the data; its column `environment`, a JSON object of texts, fills the key-value store.
    init(_ limits: WireEnvironmentSettings, row: String) {
        self.limits = limits
        let columns = (try? JSONDecoder().decode([String: String].self, from: Data(row.utf8))) ?? [:]
        guard let text = columns["environment"],
            let values = try? JSONDecoder().decode([String: String].self, from: Data(text.utf8))
        else { return }
        state.values = values
    }

    var settings: EnvironmentSettings {
        EnvironmentSettings(
            tools: limits.tools, corpus: limits.corpus.isEmpty ? nil : limits.corpus,
            callMilliseconds: limits.callMilliseconds, observationByteCount: Int(limits.observationByteCount))
    }

    /// Takes a finished turn.
    /// - Returns: the calls to run before the next one; none when the trajectory is over.
    mutating func take(_ result: GenerationResult, _ tokenizer: Tokenizer, stopIDs: [Int32]) -> [String] {
        turnCount += 1
        last = result
        lastTurn = tokenizer.decode(result.tokens[result.turnStart...])
        if let end = result.tokens.last, stopIDs.contains(end) {
            lastTurn = tokenizer.decode(result.tokens[result.turnStart...].dropLast())
        }
        guard result.finishReason == .stop, turnCount < Int(limits.turnsMax) else { return [] }
        return ToolCall.bodies(in: lastTurn)
    }

    /// Canonical JSON of the state.
    var stateText: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(state)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}

/// How the turns of a trajectory become text: as its prompt did.
struct TurnTemplate: Sendable {
    private let text: String?
    private let clock: Int
    /// Variables of the template: the row's before the job's.
    let arguments: JSONObject

    /// - Parameter row: of the data; its column `chat_template_kwargs` is the JSON text of an object.
    init(_ settings: WireEnvironmentSettings, row: String) {
        text = settings.chatTemplate.isEmpty ? nil : settings.chatTemplate
        clock = Int(settings.chatTemplateClock)
        var arguments = (try? JSONValue(parsing: settings.chatTemplateKwargs))?.objectValue ?? JSONObject([])
        let own = (try? JSONValue(parsing: row))?["chat_template_kwargs"]?.stringValue
        for member in own.flatMap({ try? JSONValue(parsing: $0) })?.objectValue?.members ?? [] {
            arguments[member.key] = member.value
        }
        self.arguments = arguments
    }

    func template(_ tokenizer: Tokenizer) throws -> ChatTemplate {
        var template = try tokenizer.chatTemplate(text: text, withTools: true)
        template.clock = clock
        return template
    }
}

/// The calls of one turn, on their way to the tools.
struct TurnTask: Sendable {
    /// Of the engine.
    let request: UInt64
    let model: UInt32
    let environment: EnvironmentRequest
    let tokenizer: Tokenizer
    let template: TurnTemplate
    /// The turn's last token, which the template's text begins with.
    let lastToken: Int32?
}

/// What came back, ready to be fed in.
struct TurnOutcome: Sendable {
    let request: UInt64
    let model: UInt32
    let reply: EnvironmentReply
    let tokens: [Int32]
}

/// Runs calls on threads of its own, so that a slow tool holds up its own trajectory only.
final class ToolStage: Sendable {
    private let queue = BoundedQueue<TurnTask>(itemCountMax: 1 << 20, byteCountMax: 1 << 40)

    init(_ judge: any ResponseJudge, threadCount: Int, onOutcome: @escaping @Sendable (TurnOutcome) -> Void) {
        for index in 0..<max(1, threadCount) {
            _ = DedicatedThread.start(name: "tools-\(index)") { [queue] in
                while let task = queue.pop() { onOutcome(task.run(judge)) }
            }
        }
    }

    func take(_ task: TurnTask) { _ = queue.tryPush(task) }
}

extension TurnTask {
    fileprivate func run(_ judge: any ResponseJudge) -> TurnOutcome {
        var reply = judge.act(environment)
        FailPoint.pass("worker.tools")
        var tokens: [Int32] = []
        if reply.failure == nil {
            do { tokens = try continuation(reply.observations) } catch {
                reply = EnvironmentReply(
                    id: reply.id, observations: [], state: reply.state, failure: "the chat template: \(error)")
            }
        }
        return TurnOutcome(request: request, model: model, reply: reply, tokens: tokens)
    }

    /// What the chat template writes between a turn with calls and the next turn.
    private func continuation(_ observations: [String]) throws -> [Int32] {
        func message(_ role: String, _ content: String) -> JSONValue {
            .object(
                JSONObject([.init(key: "role", value: .string(role)), .init(key: "content", value: .string(content))]))
        }
        let mark = "the turn before"
        var conversation = Conversation(
            messages: .array(
                [message("user", "?"), message("assistant", mark)] + observations.map { message("tool", harmless($0)) })
        )
        conversation.addGenerationPrompt = true
        conversation.arguments = template.arguments
        let text = try template.template(tokenizer).render(conversation).text
        guard let place = text.range(of: mark) else { return tokenizer.encode(text) }
        var rest = text[place.upperBound...]
        // The end of the turn was drawn by the model.
        if let lastToken, let drawn = tokenizer.addedTokens.first(where: { $0.id == lastToken }),
            rest.hasPrefix(drawn.content)
        {
            rest = rest.dropFirst(drawn.content.count)
        }
        return tokenizer.encode(String(rest))
    }

    /// A tool's output must not speak as the chat template: special tokens and tags in it are broken up.
    private func harmless(_ text: String) -> String {
        tokenizer.addedTokens.filter { token in
            let content = token.content
            return content.count > 1 && (token.isSpecial || content.hasPrefix("<") && content.hasSuffix(">"))
        }.reduce(text) {
            $0.replacingOccurrences(of: $1.content, with: $1.content.prefix(1) + " " + $1.content.dropFirst())
        }
    }
}
