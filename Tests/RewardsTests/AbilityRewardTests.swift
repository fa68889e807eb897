// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import Testing

/// Rewards beyond a single right answer, one example of each thing they must tell apart.
@Suite("Rewards of the abilities")
struct AbilityRewardTests {
    static func value(
        _ name: String, _ response: String, answer: String? = nil, _ metadata: [String: String] = [:],
        options: [String: String] = [:], trajectory: RewardSample.Trajectory? = nil, consulted: [String: String] = [:]
    ) throws -> Double? {
        let sample = RewardSample(
            response: response, answer: answer, metadata: metadata, trajectory: trajectory, consulted: consulted)
        return try RewardRegistry.named(name, options: options).evaluate(sample).value(keepingTruncated: true)
    }

    @Test("the registry has over twenty rewards and one at least for every ability")
    func registry() {
        #expect(RewardRegistry.names.count > 20)
        #expect(RewardRegistry.names == RewardRegistry.names.sorted())
        for ability in RewardAbility.allCases { #expect(!RewardRegistry.names(for: ability).isEmpty, "\(ability)") }
        #expect(RewardAbility.allCases.flatMap(RewardRegistry.names(for:)).count == RewardRegistry.names.count)
    }

    @Test(
        "multiple choice",
        arguments: [
            ("The answer is (B).", 1.0), ("\\boxed{B}", 1), ("**B**", 1), ("B) because", 1), ("{\"answer\": \"B\"}", 1),
            ("The answer is A or the answer is B", 0), ("A, B, C or D", 0), ("I think a lot", 0),
            ("<think>The answer is B</think>\n\nA", 0),
        ])
    func multipleChoice(response: String, expected: Double) throws {
        #expect(try Self.value("multiple_choice", response, answer: "B") == expected)
    }

    @Test("JSON answers, whole and in part")
    func jsonAnswer() throws {
        let answer = #"{"House 1": {"Name": "Eric", "Pet": "cat"}, "House 2": {"Name": "Arnold", "Pet": "dog"}}"#
        let half = #"{"House 1": {"Name": "eric", "Pet": "dog"}, "House 2": {"Name": "Arnold", "Pet": "cat"}}"#
        #expect(try Self.value("json_answer", "So: ```json\n\(answer)\n```", answer: answer) == 1)
        #expect(try Self.value("json_answer", half, answer: answer) == 0)
        #expect(try Self.value("json_answer", half, answer: answer, options: ["partial": "true"]) == 0.5)
        #expect(try Self.value("json_answer", "Eric has the cat", answer: answer) == 0)
        #expect(try Self.value("json_answer", "{}", answer: "no JSON") == nil, "the data is at fault")
        #expect(try Self.value("json_answer", String(repeating: "[", count: 200_000), answer: answer) == 0)
    }

    @Test("needles, overlaps, lengths")
    func counts() throws {
        #expect(try Self.value("contains", "it is 7421 and 99", ["expected": #"["7421", "99"]"#]) == 1)
        #expect(try Self.value("contains", "7421", ["expected": #"["7421", "99"]"#]) == 0)
        #expect(
            try Self.value("contains", "7421", ["expected": #"["7421", "99"]"#], options: ["partial": "yes"]) == 0.5)
        #expect(try Self.value("token_f1", "the Eiffel tower", answer: "Eiffel tower") == 1)
        let chrF = try #require(try Self.value("chrf", "the cat sat", answer: "the cat sits"))
        #expect(chrF > 0.5 && chrF < 1)
        #expect(try Self.value("chrf", "das Haus", answer: "das Haus") == 1)
        let target = ["target_length": "10"]
        #expect(try Self.value("length_control", String(repeating: "word ", count: 11), target) == 1)
        #expect(try Self.value("length_control", String(repeating: "word ", count: 30), target) == 0)
        let near = try #require(try Self.value("length_control", String(repeating: "word ", count: 15), target))
        #expect(near > 0.4 && near < 0.7)
        #expect(try Self.value("language", "Das ist nicht der Hund und die Katze", ["language": "de"]) == 1)
        #expect(try Self.value("language", "That is not the dog and the cat", ["language": "de"]) == 0)
        #expect(
            try Self.value("no_repetition", String(repeating: "around and around it goes again my dear ", count: 9))
                == 0)
        #expect(
            try Self.value("no_repetition", "a short text that says each thing exactly once, no more and no less") == 1)
    }

    @Test("faithfulness to a passage")
    func grounded() throws {
        let row = ["context": "Ada Lovelace was born in London in 1815.", "question": "When was she born?"]
        #expect(try Self.value("grounded", "She was born in 1815.", answer: "1815", row) == 1)
        #expect(try Self.value("grounded", "She was born in 1816.", answer: "1815", row) == -1)
        #expect(try Self.value("grounded", "It was in Paris.", answer: "1815", row) == -1)
        #expect(try Self.value("grounded", "That is not in the passage.", answer: "1815", row) == 0)
        let unanswerable = row.merging(["answerable": "false"]) { $1 }
        #expect(try Self.value("grounded", "That is not in the passage.", unanswerable) == 1)
        #expect(try Self.value("grounded", "In London.", unanswerable) == 0)
    }

    @Test("false premises")
    func premise() throws {
        let row = ["counterfactual": "true"]
        #expect(try Self.value("premise", "Edison did not write Hamlet.", row) == 1)
        #expect(try Self.value("premise", "He wrote it in 1880.", row) == 0)
        #expect(try Self.value("premise", "In 1601.", answer: "1601", ["counterfactual": "false"]) == 1)
        #expect(try Self.value("premise", "He never wrote it; 1601.", answer: "1601", ["counterfactual": "false"]) == 0)
    }

    @Test("tool calls: intent, format, parameters")
    func toolUse() throws {
        let row = ["expected_calls": #"[{"name": "calculator", "arguments": {"expression": "2*3"}}]"#]
        func call(_ body: String) -> String { "<think>\nso\n</think>\n\n<tool_call>\n\(body)\n</tool_call>" }
        let right = call(#"{"arguments": {"expression": "2*3"}, "name": "calculator"}"#)
        #expect(try Self.value("tool_use", right, row) == 1)
        #expect(
            try Self.value("tool_use", call(#"{"name": "calculator", "arguments": {"expression": "2*4"}}"#), row) == 2.0
                / 3)
        #expect(try Self.value("tool_use", call(#"{"name": "python", "arguments": {"code": "6"}}"#), row) == 1.0 / 3)
        #expect(try Self.value("tool_use", call("calculator(2*3)"), row) == 0)
        #expect(try Self.value("tool_use", "6", row) == 0)
        #expect(try Self.value("tool_use", "I see no need for a tool.", ["expected_calls": "[]"]) == 1)
        #expect(try Self.value("tool_use", call("calculator(2*3)"), row, options: ["strict": "true"]) == 0)
        // A call that is only thought of is none.
        #expect(try Self.value("tool_use", "<think>\(right)</think>\n\n6", row) == 0)
        var state = EnvironmentState()
        state.callCount = 4
        state.invalidCallCount = 1
        state.values = ["a": "1"]
        let trajectory = RewardSample.Trajectory(text: right, state: state)
        #expect(try Self.value("tool_validity", "done", trajectory: trajectory) == 0.75)
        #expect(
            try Self.value("environment_state", "", ["expected_state": #"{"a": "1"}"#], trajectory: trajectory) == 1)
        #expect(
            try Self.value("environment_state", "", ["expected_state": #"{"a": "2"}"#], trajectory: trajectory) == 0)
        #expect(try Self.value("tool_validity", "done") == nil, "no environment")
    }

    @Test("a judge's score; a judge without one gives no reward")
    func judge() throws {
        func judged(_ text: String) throws -> Double? {
            try Self.value("judge", "forty-two", consulted: ["judge": text])
        }
        #expect(try judged("Right.\nScore: 8") == 0.8)
        #expect(try judged("Score: 3. No, better: **Score: 7.5**") == 0.75)
        for malformed in [
            "", "It is good.", "Score: eight", "Score: 11", "Score: -1", String(repeating: "Score:", count: 9999),
        ] {
            #expect(try judged(malformed) == nil, "'\(malformed.prefix(20))'")
        }
        #expect(try Self.value("judge", "forty-two") == nil, "nobody was asked")
        #expect(try Self.value("judge", "<think>for ever", consulted: ["judge": "Score: 10"]) == 0)
    }

    @Test("a row may name its own reward")
    func task() throws {
        #expect(try Self.value("task", "B", answer: "B", ["reward": "multiple_choice"]) == 1)
        #expect(try Self.value("task", "a b", ["reward": "length_control", "target_length": "2"]) == 1)
        #expect(try Self.value("task", "b", answer: "B", ["reward": "exact", "reward_options": #"{"ignore_case": "true"}"#]) == 1)
        #expect(try Self.value("task", "B", answer: "B") == nil)
        #expect(try Self.value("task", "B", answer: "B", ["reward": "nonsense"]) == nil)
        #expect(try Self.value("task", "B", answer: "B", ["reward": "task"]) == nil)
    }

    @Test(
        "programs and their tests",
        .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
    func code() throws {
        let tests = [
            "tests": #"[{"input": "2 3\n", "output": "5\n"}, {"input": "10 -4\n", "output": "6"}]"#
        ]
        func fenced(_ code: String) -> String { "<think>\nhm\n</think>\n\nHere:\n```python\n\(code)\n```\nDone." }
        let right = "a, b = map(int, input().split())\nprint(a + b)"
        #expect(try Self.value("code_tests", fenced(right), tests) == 1)
        #expect(try Self.value("code_tests", fenced("print(5)"), tests) == 0)
        #expect(try Self.value("code_tests", fenced("print(5)"), tests, options: ["partial": "true"]) == 0.5)
        #expect(try Self.value("code_tests", fenced("while True: pass"), tests, options: ["milliseconds": "300"]) == 0)
        #expect(try Self.value("code_tests", fenced("x = 'a' * (1 << 40)"), tests) == 0)
        #expect(
            try Self.value(
                "code_tests", fenced("while True: print('x' * 100000)"), tests, options: ["milliseconds": "500"]) == 0)
        let asserted = ["tests": #"[{"code": "assert double(4) == 8"}]"#]
        #expect(try Self.value("code_tests", fenced("def double(x): return 2 * x"), asserted) == 1)
        #expect(try Self.value("code_tests", fenced("def double(x): return x"), asserted) == 0)
        // What it must not do: leave early with success, read files of the host, reach the network.
        #expect(try Self.value("code_tests", fenced("import sys; sys.exit(0)"), tests) == 0)
        let peek = "import os\nprint(5 if os.path.exists('/etc/passwd') or os.path.exists('/root') else 'none')"
        #expect(try Self.value("code_tests", fenced(peek), ["tests": #"[{"input": "", "output": "none"}]"#]) == 1)
        let dial =
            "import socket\ntry:\n  socket.create_connection(('127.0.0.1', 22), 1)\n  print('up')\nexcept OSError:\n  print('down')"
        #expect(try Self.value("code_tests", fenced(dial), ["tests": #"[{"input": "", "output": "down"}]"#]) == 1)
    }
}
