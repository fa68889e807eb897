// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import Foundation
internal import Qwen3
internal import RuntimeSupport
internal import Tokenization

/// A question to a model of this worker, and the place where its asker waits.
final class Consultation: Sendable {
    /// Who is asked, for messages.
    let asked: String
    /// What a worker knows of the model.
    let model: (contentHash: String, compute: String)
    let request: @Sendable (ModelHost) throws -> (tokens: [Int32], SequenceTask)
    let answer: @Sendable (GenerationResult, ModelHost) -> String
    private let result = Locked<Result<String, JudgeFailure>?>(nil)
    private let done = DispatchSemaphore(value: 0)
    /// A model that is loading or trained in between makes the asker wait; this long at most.
    private static let seconds = 900.0

    private init(
        _ asked: String, _ model: (contentHash: String, compute: String),
        request: @escaping @Sendable (ModelHost) throws -> (tokens: [Int32], SequenceTask),
        answer: @escaping @Sendable (GenerationResult, ModelHost) -> String
    ) {
        self.asked = asked
        self.model = model
        self.request = request
        self.answer = answer
    }

    func finish(_ result: Result<String, JudgeFailure>) {
        self.result.withLock { if $0 == nil { $0 = result } }
        done.signal()
    }

    func wait() -> Result<String, JudgeFailure> {
        _ = done.wait(timeout: .now() + Self.seconds)
        return result.withLock { $0 }
            ?? .failure(JudgeFailure(description: "the \(asked) did not answer in \(Int(Self.seconds)) s"))
    }
}

extension Consultation {
    /// The prompt as the judge's chat template has it, without thinking; the answer is the judge's text.
    static func judge(_ settings: WireJudgeSettings, _ prompt: String) -> Consultation {
        Consultation("judge's model", (settings.contentHash, settings.compute)) { host in
            guard let tokenizer = host.tokenizer else { throw JudgeFailure(description: "it has no tokenizer") }
            var tokens = tokenizer.encodePrompt(prompt)
            if tokenizer.hasChatTemplate {
                let message = JSONValue.object(
                    JSONObject([.init(key: "role", value: "user"), .init(key: "content", value: .string(prompt))]))
                let chat = try tokenizer.chatTemplate().render(
                    messages: .array([message]), addGenerationPrompt: true, enableThinking: false)
                tokens = tokenizer.encode(chat.text)
            }
            return (
                tokens,
                .generate(
                    GenerationOptions(
                        sampling: SamplingParameters(temperature: 0), maxNewTokens: Int(settings.maxNewTokens),
                        stopIDs: settings.stopIds, random: RolloutRandom(runSeed: 0, prompt: 0, sibling: 0),
                        usableVocabulary: tokenizer.idLimit))
            )
        } answer: { result, host in
            host.tokenizer?.decode(result.tokens, skipSpecial: true) ?? ""
        }
    }

    /// The policy's prompt, the response and the end of an answer, as the model was trained on; the answer is its scalar.
    static func rewardModel(
        _ settings: WireRewardModelSettings, prompt: [Int32], response: String
    ) -> Consultation {
        Consultation("reward model", (settings.contentHash, settings.compute)) { host in
            guard let tokenizer = host.tokenizer else { throw JudgeFailure(description: "it has no tokenizer") }
            let end = settings.hasEndID ? [settings.endID] : []
            return (prompt + tokenizer.encode(response) + end, .score(ScoreOptions(detail: .scalar)))
        } answer: { result, _ in
            // Shortest text of the fp64 value: the reward is the scalar itself.
            String(Double(result.logProbs[0]))
        }
    }
}
