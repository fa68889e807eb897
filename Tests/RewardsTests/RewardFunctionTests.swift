// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import Testing

@Suite("Reward registry, functions and sums") struct RewardFunctionTests {
    private func value(
        _ name: String, _ response: String, _ answer: String? = nil,
        _ thinking: ThinkingExpectation = .unspecified,
        _ options: [String: String] = [:]
    ) throws -> Double? {
        try RewardRegistry.named(name, options: options)
            .evaluate(RewardSample(response: response, answer: answer, thinking: thinking))
            .value(keepingTruncated: false)
    }

    @Test("the registry knows its names and refuses others")
    func registry() throws {
        #expect(
            try RewardRegistry.names.filter { try RewardRegistry.needsAnswer($0) } == [
                "chrf", "exact", "json_answer", "math_answer", "multiple_choice", "token_f1",
            ])
        for name in RewardRegistry.names { #expect(type(of: try RewardRegistry.named(name)).name == name) }
        #expect(
            throws: RewardOptionError(
                "no reward is named 'maths'; rewards: " + RewardRegistry.names.joined(separator: ", "))
        ) {
            _ = try RewardRegistry.named("maths")
        }
        #expect(
            throws: RewardOptionError(
                "reward 'exact' has no option 'case'; its options: ignore_case, ignore_whitespace")
        ) { _ = try RewardRegistry.named("exact", options: ["case": "no"]) }
        #expect(
            throws: RewardOptionError("reward 'exact': option 'ignore_case' is '2', neither true nor false")
        ) {
            _ = try RewardRegistry.named("exact", options: ["ignore_case": "2"])
        }
    }

    @Test("exact")
    func exact() throws {
        #expect(try value("exact", " olleh\n", "olleh") == 1)
        #expect(try value("exact", "olle", "olleh") == 0)
        #expect(try value("exact", "OLLEH", "olleh") == 0)
        #expect(try value("exact", "OLLEH", "olleh", .unspecified, ["ignore_case": "on"]) == 1)
        #expect(try value("exact", "o l l eh", "olleh", .unspecified, ["ignore_whitespace": "true"]) == 1)
        #expect(try value("exact", "e\u{301}", "\u{E9}") == 0, "scalars are compared, not characters")
        #expect(try value("exact", "<think>olleh</think>\nx", "x", .on) == 1)
        #expect(try value("exact", "x", nil) == nil)
    }

    @Test(
        "format",
        arguments: [
            ("<think>because</think>\n7", ThinkingExpectation.on, 1.0),
            ("<think>because</think>\n7", .unspecified, 1),
            ("<think>because</think>\n7", .off, 0),
            ("<think>\n\n</think>\n\n7", .off, 1),
            ("<think>\n\n</think>\n\n7", .on, 0),
            ("7", .off, 1), ("7", .unspecified, 1), ("7", .on, 0),
            ("because</think>7", .on, 0),
            ("<think>because", .on, 0),
            ("<think>a</think>b<think>c</think>7", .on, 0),
            ("so <think>a</think>7", .on, 0),
            ("</think><think>7", .on, 0),
            ("<think>a</think>  ", .on, 0),
            ("<think>a</think>7<|im_end|>", .on, 0),
            ("", .off, 0),
        ])
    func format(_ response: String, _ thinking: ThinkingExpectation, _ expected: Double) throws {
        #expect(try value("format", response, nil, thinking) == expected)
    }

    @Test("format where the prompt opens the block")
    func formatOpenedInPrompt() throws {
        let options = ["opens_in_prompt": "true"]
        #expect(try value("format", "because</think>7", nil, .on, options) == 1)
        #expect(try value("format", "<think>because</think>7", nil, .on, options) == 0)
    }

    @Test("the weighted sum runs in the order of the terms and knows truncation")
    func sum() throws {
        let sum = try RewardSum([RewardTerm("math_answer"), RewardTerm("format", weight: 0.1)])
        let sample = RewardSample(response: "<think>a</think>\\boxed{7}", answer: "7", thinking: .on)
        #expect(sum.evaluate(sample).total.value(keepingTruncated: false) == 1.1)
        let cut = RewardSample(response: sample.response, answer: "7", thinking: .on, isTruncated: true)
        let total = sum.evaluate(cut).total
        #expect(total.name == "truncated")
        #expect(total.value(keepingTruncated: false) == nil)
        #expect(total.value(keepingTruncated: true) == 1.1)
    }

    @Test("a failure of one term is the failure of the sum, never a number")
    func failuresAreNoRewards() throws {
        let sum = try RewardSum([RewardTerm("format"), RewardTerm("exact")])
        let report = sum.evaluate(RewardSample(response: "7", answer: nil, isTruncated: true))
        #expect(report.outcomes[0].value(keepingTruncated: true) == 1)
        #expect(report.total.name == "infra_error")
        #expect(report.total.value(keepingTruncated: true) == nil)
        let huge = RewardReport(
            [.ok(value: 1e308, detail: ""), .ok(value: 1e308, detail: "")],
            terms: [RewardTerm("a", weight: 1), RewardTerm("b", weight: 1)])
        #expect(huge.total.isFailure)
    }

    @Test(
        "outcomes survive JSON",
        arguments: [
            RewardOutcome.ok(value: 0.1 + 0.2, detail: "a \"quoted\" detail\n"),
            .truncated(value: -1.5e-300, detail: ""),
            .verifierTimeout, .infrastructureError(reason: "é \\ /"),
        ])
    func outcomeJSON(_ outcome: RewardOutcome) throws {
        #expect(try JSONDecoder().decode(RewardOutcome.self, from: JSONEncoder().encode(outcome)) == outcome)
    }

    @Test("an outcome without its number is not accepted")
    func brokenOutcome() {
        for text in [#"{"outcome":"ok","detail":""}"#, #"{"outcome":"fine","value":1}"#, #"{"value":1}"#] {
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(RewardOutcome.self, from: Data(text.utf8))
            }
        }
    }
}
