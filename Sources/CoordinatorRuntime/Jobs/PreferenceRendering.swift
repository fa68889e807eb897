// SPDX-License-Identifier: Apache-2.0
//
// What a reward model reads, in training, scoring and rollouts alike: the prompt's tokens as the policy has them, the
// response's text without its thinking, and the token that ends an answer, at which the scalar is taken. The response is
// encoded by itself and not through the chat template, which may put more between the two (an empty thinking block).
internal import Checkpoints
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import Rewards

extension PromptRenderer {
    /// - Parameter end: ``ModelFiles/endOfAnswer()``.
    func judged(
        _ prompt: PromptContent, _ response: String, of record: ScoreRecord, end: Int32?
    ) throws -> (prompt: [Int32], response: [Int32]) {
        let start = try tokens(of: record.asking(prompt))
        return (start, encoded(ThinkingBlock.spoken(of: response)) + (end.map { [$0] } ?? []))
    }

    /// The two sequences of a preference.
    func pair(
        _ pair: PreferencePair, of record: ScoreRecord, end: Int32?
    ) throws -> (chosen: [Int32], rejected: [Int32]) {
        func tokens(_ side: PreferencePair.Side) throws -> [Int32] {
            let (prompt, response) = try judged(
                side.prompt, side.response, of: record, end: end)
            return prompt + response
        }
        return (try tokens(pair.chosen), try tokens(pair.rejected))
    }

    /// The sequences of a row that a reward model scores, each with what its output line says of it.
    func judged(_ record: ScoreRecord, end: Int32?) throws -> [(ids: [Int32], json: String)] {
        switch record.content {
        case .tokens, .text: return [(try tokens(of: record), "{}")]
        case .completion(let prompt, let text):
            let (prompt, response) = try judged(prompt, text, of: record, end: end)
            return [(prompt + response, "{}")]
        case .messages(let messages):
            guard let last = messages.last, last.role == "assistant", messages.count > 1 else {
                throw RowProblem("the messages do not end with an answer")
            }
            guard !last.callsTools else {
                throw RowProblem("the messages end with tool calls, which a reward model does not read")
            }
            let (prompt, response) = try judged(
                .messages(Array(messages.dropLast())), last.content, of: record, end: end)
            return [(prompt + response, "{}")]
        case .pair(let pair):
            let (chosen, rejected) = try self.pair(pair, of: record, end: end)
            return [(chosen, PairSide(side: "chosen").json), (rejected, PairSide(side: "rejected").json)]
        }
    }
}

extension ModelFiles {
    /// The token that ends a response; nil where the model names none.
    func endOfAnswer() throws -> Int32? {
        try renderer(tokenizer()).endOfAnswer
    }
}

/// Which of a pair's two a row of a score job is.
struct PairSide: Codable {
    let side: String

    init(side: String) { self.side = side }

    /// Of a row that this coordinator stored; nil when it is of no pair.
    init?(_ json: String) {
        guard let value = try? JSONDecoder().decode(PairSide.self, from: Data(json.utf8)) else { return nil }
        self = value
    }

    var json: String { "{\"side\": \"\(side)\"}" }
}

/// A row of data that is a preference: its tokens are those of `chosen` and then those of `rejected`.
struct PreferenceRow: Codable {
    let chosenCount: Int

    init(chosenCount: Int) { self.chosenCount = chosenCount }

    /// Of a row that this coordinator stored.
    init(_ json: String) throws {
        do { self = try JSONDecoder().decode(PreferenceRow.self, from: Data(json.utf8)) } catch {
            throw JournalError(description: "a stored row is no preference pair")
        }
    }

    var json: String { "{\"chosenCount\": \(chosenCount)}" }
}
