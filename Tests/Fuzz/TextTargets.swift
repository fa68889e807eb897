// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport

@testable import Rewards
@testable import Tokenization

extension FuzzTarget {
    static let texts: [FuzzTarget] = [
        FuzzTarget(
            name: "tokenizer-json", seeds: { [try fixture("tokenizer/small/tokenizer.json")] }, run: buildTokenizer),
        FuzzTarget(
            name: "tokenizer-text", seeds: { texts("Grüße, 世界 <|im_start|>user\n e\u{301} 12345") }, run: encode),
        FuzzTarget(name: "chat-template", seeds: chatSeeds, run: render),
        FuzzTarget(name: "tool-calls", seeds: { toolSeeds }, run: call),
        FuzzTarget(name: "math-answers", seeds: mathSeeds, run: compare),
        FuzzTarget(name: "rewards", seeds: { rewardSeeds }, run: judge),
    ]

    private static func fixture(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: Fixtures.url(path))) }

    private static func texts(_ texts: String...) -> [[UInt8]] { texts.map(\.bytes) }

    // MARK: Tokens

    private static func buildTokenizer(_ input: [UInt8]) {
        guard let tokenizer = try? Tokenizer(tokenizer: input) else { return }
        _ = tokenizer.decode(tokenizer.encode("<|im_start|>user\nabc 12 é e\u{301}<|im_end|>"))
    }

    private static let tokenizer = try? Tokenizer(tokenizer: fixture("tokenizer/small/tokenizer.json"))

    private static func encode(_ input: [UInt8]) {
        guard let tokenizer else { return promise(false, "the fixture is not read") }
        let text = String(decoding: input, as: UTF8.self)
        let encoding = tokenizer.encodeWithOffsets(text)
        promise(encoding.ids == tokenizer.encode(text), "offsets change ids")
        promise(encoding.offsets.count == encoding.ids.count, "offsets are missing")
        let decoded = tokenizer.decode(encoding.ids)
        promise(tokenizer.decode(tokenizer.encode(decoded)) == decoded, "a decoded text does not survive")
    }

    // MARK: Chats

    private static func chatSeeds() throws -> [[UInt8]] {
        let cases = try JSONValue(parsing: fixture("chat_template/cases.json"))["cases"]?.arrayValue ?? []
        return cases.compactMap { $0["input"]?.pythonText.bytes }.filter { $0.count < 4096 }
    }

    /// One object with `messages` and `tools`, under every template.
    private static func render(_ input: [UInt8]) {
        guard let chat = try? JSONValue(parsing: input) else { return }
        promise((try? JSONValue(parsing: chat.pythonText)) == chat, "JSON reads back as another")
        guard let messages = chat["messages"] else { return }
        for template in ChatTemplate.allCases {
            let rendered = try? template.render(
                messages: messages, tools: chat["tools"], addGenerationPrompt: true, enableThinking: false)
            guard let rendered, let tokenizer else { continue }
            let (ids, mask) = rendered.encodeWithAssistantMask(tokenizer)
            promise(ids.count == mask.count, "the mask has another length")
        }
    }

    // MARK: Tools and rewards

    private static let toolSeeds = texts(
        """
        <think>x</think>go <tool_call>
        {"name": "calculator", "arguments": {"expression": "(3+4)*5/2^3"}}
        </tool_call><tool_call>{"name": "key_value", "arguments": {"operation": "set", "key": "k", "value": 1e3}}</tool_call>
        """)

    private static func call(_ input: [UInt8]) {
        let text = String(decoding: input, as: UTF8.self)
        let bodies = ToolCall.bodies(in: text) + [text]
        let settings = EnvironmentSettings(
            tools: ["calculator", "key_value"], corpus: nil, callMilliseconds: 1000, observationByteCount: 256)
        var runner = EnvironmentRunner()
        let reply = runner.run(
            EnvironmentRequest(id: "i", settings: settings, state: EnvironmentState(), calls: bodies))
        promise(reply.failure == nil && reply.observations.count == bodies.count, "a call without an observation")
    }

    private static func mathSeeds() throws -> [[UInt8]] {
        let cases = try JSONValue(parsing: fixture("eval/math_equivalence.json"))["cases"]?.arrayValue ?? []
        return cases.compactMap { item in
            guard let gold = item["gold"]?.stringValue, let answer = item["answer"]?.stringValue else { return nil }
            return gold.bytes + [0] + answer.bytes
        }
    }

    /// Gold and answer with a zero byte between them.
    private static func compare(_ input: [UInt8]) {
        let texts = input.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard texts.count == 2, let answer = try? MathAnswer.final(in: texts[1], requiresSingle: true) else { return }
        _ = MathAnswer.areEquivalent(texts[0], answer)
        let cleaned = MathAnswer.cleaned(answer)
        promise(
            cleaned.isEmpty || cleaned.utf8.count > MathAnswer.byteCountMax
                || answer.utf8.count > MathAnswer.byteCountMax
                || MathAnswer.areEquivalent(answer, answer), "an answer differs from itself")
    }

    private static let rewardSeeds = texts(
        "<think>t</think>{\"a\": 1}\0{\"a\": 1}\0{\"instruction_id_list\": \"[\\\"length_constraints:number_words\\\"]\", "
            + "\"kwargs\": \"[{\\\"num_words\\\": 3, \\\"relation\\\": \\\"at least\\\"}]\"}",
        "The answer is (B).\0B\0{\"choices\": \"[\\\"x\\\", \\\"y\\\"]\"}")

    /// Response, answer and a JSON object of columns with zero bytes between them, under every reward that needs nobody.
    private static func judge(_ input: [UInt8]) {
        let texts = input.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard texts.count == 3 else { return }
        let columns = (try? JSONSerialization.jsonObject(with: Data(texts[2].utf8))) as? [String: Any] ?? [:]
        let sample = RewardSample(
            response: texts[0], answer: texts[1], metadata: columns.compactMapValues { $0 as? String },
            trajectory: .init(text: texts[0], state: EnvironmentState()))
        // Those two run a program or ask a model.
        for name in RewardRegistry.names where !["code_tests", "judge"].contains(name) {
            guard let reward = try? RewardRegistry.named(name) else { continue }
            if case .ok(let value, _) = reward.evaluate(sample) {
                promise(value.isFinite, "'\(name)' gives \(value)")
            }
        }
    }
}
