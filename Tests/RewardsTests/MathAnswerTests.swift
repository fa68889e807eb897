// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import TestSupport
import Testing

/// The reward of a response under `math_answer`; nil for an infrastructure error.
private func mathReward(_ response: String, _ answer: String?, _ options: [String: String] = [:]) throws
    -> Double?
{
    try RewardRegistry.named("math_answer", options: options)
        .evaluate(RewardSample(response: response, answer: answer)).value(keepingTruncated: false)
}

@Suite("math_answer") struct MathAnswerTests {
    private struct Cases: Decodable {
        struct Case: Decodable {
            let group: String
            let gold: String
            let answer: String
            let wrapped: Bool
        }
        let cases: [Case]
    }

    @Test("agrees with math-verify on every stored pair")
    func mathVerify() throws {
        let data = try Data(contentsOf: Fixtures.url("eval/math_equivalence.json"))
        let cases = try JSONDecoder().decode(Cases.self, from: data).cases
        #expect(cases.count > 50)
        var comparedCount = 0
        for item in cases {
            let value = try mathReward(item.answer, item.gold)
            if item.gold.isEmpty {
                #expect(value == nil, "no reference answer is an error, not a reward of 0")
                continue
            }
            #expect(
                value == (item.wrapped ? 1 : 0), "\(item.group): gold \(item.gold), answer \(item.answer)")
            comparedCount += 1
        }
        #expect(comparedCount > 50)
    }

    @Test(
        "finds the final answer",
        arguments: [
            ("The answer is 12.", "12", true),
            ("First 3.\nThe answer is **12**.", "12", true),
            ("So we get\n#### 1,200", "1200", true),
            ("Answer: \\frac{3}{4}", "0.75", true),
            ("We have \\boxed{\\text{three}}", "3", false),
            ("\\boxed{\\frac{a}{b}}", "a/b", true),
            ("\\boxed{{7}}", "7", true),
            ("a \\} b \\boxed{\\{1, 2\\}}", "\\{2,1\\}", true),
            ("It is 12\nor maybe 13", "12", false),
            // Without a box and without a word before it: the last number, as math-verify 0.9 says of each of these.
            ("**72**", "72", true), ("The total is **72** clips", "72", true), ("So 3+4 = 7 and 72", "72", true),
            ("There are 5 apples.\nThen 72 apples.", "72", true), ("x is 3\nso it is 1/2.", "1/2", true),
            ("It is 12\nor maybe 72", "72", true), ("We have 3 apples and 4 pears.", "3", false),
            ("We have 3 apples and 4 pears.", "4", true), ("hence x = -5", "-5", true), ("hence x = -5", "5", false),
            ("$72$ and then 7", "72", false), ("The total is **72** clips, not 75", "72", false),
            ("Step 1: 70\nStep 2: 2\n72", "72", true), ("1. first\n2. second = 6", "6", true),
            ("we get 1,234 dollars then", "1234", true), ("so we get $x+1$", "x+1", true),
            ("there is no number", "5", false), ("we have version v1.5", "5", false),
            ("In all 12345678901234567890 of them", "12345678901234567890", true),
            ("In all 12345678901234567891 of them", "12345678901234567890", false),
            ("\\boxed{7 or 8}", "7", false),
            ("\\boxed{7 (not 6)}", "7", false),
            ("\\boxed{7", "7", false),
            ("\\boxed{7}\n\\boxed{7.0}", "7", true),
            ("5 dollars", "5", true),
            ("5 kg", "5 g", false),
            ("0.1 + 0.2", "0.3", true),
            ("<think>\\boxed{7}</think>8", "7", false),
            ("<think>\\boxed{8}</think>7", "7", true),
            ("<think>it is 7", "7", false),
            ("１２", "12", false),
        ])
    func finalAnswer(_ response: String, _ answer: String, _ isRight: Bool) throws {
        #expect(try mathReward(response, answer) == (isRight ? 1 : 0))
    }

    @Test("options")
    func options() throws {
        let several = "\\boxed{6}, no, \\boxed{7}"
        #expect(try mathReward(several, "7") == 0)
        #expect(try mathReward(several, "7", ["use_last": "true"]) == 1)
        #expect(try mathReward(several, "6", ["use_last": "true"]) == 0)
        #expect(try mathReward("7", "7", ["require_boxed": "yes"]) == 0)
        #expect(try mathReward("\\boxed{7}", "7", ["require_boxed": "yes"]) == 1)
    }

    @Test(
        "text that is made to hurt earns nothing and comes back",
        arguments: [
            String(repeating: "(", count: 2000),
            String(repeating: "{", count: 2000),
            "\\boxed{" + String(repeating: "\\frac{", count: 300) + "1"
                + String(repeating: "}{2}", count: 300) + "}",
            "9^{9^{9^{9^{9}}}}",
            "99999999^99999999",
            "1000000000!!!!!!",
            "\\binom{1000}{500}",
            String(repeating: "\\sqrt{", count: 40) + "7" + String(repeating: "}", count: 40),
            String(repeating: "\\boxed{7}", count: 5000) + "\\boxed{8}",
            String(repeating: "\\boxed{", count: 100_000),
            String(repeating: "the answer is ", count: 50_000),
            String(repeating: "7", count: 1_000_000),
            String(repeating: "x+", count: 900) + "x",
            String(repeating: "-", count: 2000) + "7",
            "\\begin{pmatrix}" + String(repeating: "1&", count: 900) + "1\\end{pmatrix}",
            "8\u{34C}=A", "\\boxed{7\u{301}}", "1/0", "0/0", "\\log_1 7", "nan", "inf", "\u{0}", "\\", "$", "^",
            "\\text{", "__import__('os')",
        ])
    func hostileInput(_ response: String) throws {
        #expect(try mathReward(response, "7") == 0)
    }

    @Test("a reference answer that cannot be read is an error")
    func unusableReference() throws {
        #expect(try mathReward("7", nil) == nil)
        #expect(try mathReward("7", "  ") == nil)
        #expect(try mathReward("7", "\\boxed{7") == nil)
    }
}
