// SPDX-License-Identifier: Apache-2.0
import Foundation

@testable import Rewards

let rewardTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "math-answers",
        seeds: {
            [
                "\\frac{1}{2}\0 0.5", "\\boxed{x^2 + 1}\0 1+x^2", "(1, 2]\0 [1,2)", "{1,2,3}\0 1,2,3",
                "12 \\text{ cm}\0 0.12 m", "2^{10}\0 1024", "x=3\0 3", "\\sqrt{8}\0 2\\sqrt2", "10!\0 3628800",
                "the answer is 1e9\0 10^9", "50\\%\0 1/2", "$1{,}000$\0 1000",
                "9".appending(String(repeating: "9", count: 300)),
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            let (gold, text) = halves(bytes)
            for isStrict in [false, true] {
                guard let answer = try? MathAnswer.final(in: text, requiresBox: isStrict, requiresSingle: isStrict)
                else {
                    continue
                }
                require(answer.utf8.count <= MathAnswer.byteCountMax, "an answer keeps its limit")
                _ = MathAnswer.areEquivalent(gold, answer)
            }
        }),
    FuzzTarget(
        name: "rewards",
        seeds: {
            [
                "4\0<think>\n2+2\n</think>\n\nThe answer is \\boxed{4}.", "{\"a\": 1}\0```json\n{\"a\": 1}\n```",
                "B\0(B) because", "[]\0words words words", "\0<think>", "x\0\u{301}\u{200d}é <tool_call>{}</tool_call>",
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            let (answer, response) = halves(bytes)
            let columns = [
                "instructions": answer, "length": answer, "language": answer, "documents": answer, "target": answer,
            ]
            // Code runs in a sandbox, and what other models say comes from them.
            for name in RewardRegistry.names where name != "code" {
                guard let reward = try? RewardRegistry.named(name) else { continue }
                for thinking in ThinkingExpectation.allCases {
                    let outcome = reward.evaluate(
                        RewardSample(
                            response: response, answer: answer, thinking: thinking, metadata: columns,
                            consulted: [name: answer]))
                    if let value = outcome.value(keepingTruncated: true) {
                        require(value.isFinite, "a reward is a number")
                    }
                }
            }
        }),
    FuzzTarget(
        name: "tool-calls",
        seeds: {
            [
                #"<tool_call>{"name": "calculator", "arguments": {"expression": "(3+4)*5/2"}}</tool_call>"#,
                #"<think>a</think><tool_call>{"name": "key_value", "arguments": {"operation": "set", "key": "k", "value": "v"}}"#,
                #"<tool_call>{"name": "calculator", "arguments": {"expression": "9^9^9^9"}}</tool_call><tool_call>"#,
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            var state = EnvironmentState()
            for body in ToolCall.bodies(in: String(decoding: bytes, as: UTF8.self)).prefix(8) {
                guard let call = try? ToolCall(body) else { continue }
                _ = try? CalculatorTool().call(call.arguments, &state)
                _ = try? KeyValueTool().call(call.arguments, &state)
            }
        }),
    FuzzTarget(
        name: "verifier-messages",
        seeds: {
            let request = VerifierRequest(
                id: "1/2/3", terms: [RewardTerm("exact")], sample: RewardSample(response: "r", answer: "a"))
            return try [
                VerifierFrame.encode(ChildRequest.judge(request)), VerifierFrame.encode(VerifierGreeting()),
                VerifierFrame.encode(ChildReply.judged(VerifierReply(id: "1/2/3", outcomes: []))),
            ]
        },
        run: { bytes in
            _ = VerifierFrame.byteCount(bytes.prefix(4))
            _ = VerifierFrame.decode(ChildRequest.self, bytes)
            _ = VerifierFrame.decode(ChildReply.self, bytes)
            _ = VerifierFrame.decode(VerifierGreeting.self, bytes)
        }),
]

/// What comes before the first zero byte, and after it.
private func halves(_ bytes: [UInt8]) -> (String, String) {
    let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    return (String(decoding: parts[0], as: UTF8.self), parts.count > 1 ? String(decoding: parts[1], as: UTF8.self) : "")
}
