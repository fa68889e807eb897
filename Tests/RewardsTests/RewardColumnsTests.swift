// SPDX-License-Identifier: Apache-2.0
import Rewards
import Testing

@Suite("What rewards need of a row") struct RewardColumnsTests {
    private func problem(_ reward: String, _ columns: [String: String], answer: String? = nil) -> String? {
        RewardColumns([(reward, [:])]).problem(answer: answer, columns: columns)
    }

    @Test(
        "each reward names the column that it lacks; with it, the row is good",
        arguments: [
            ("code_tests", "tests", #"[{"input":"1","output":"2"}]"#),
            ("tool_use", "expected_calls", #"[{"name":"f"}]"#),
            ("environment_state", "expected_state", #"{"k":"v"}"#), ("length_control", "target_length", "30"),
            ("language", "language", "de"), ("instructions", "instruction_id_list", #"["punctuation:no_comma"]"#),
            ("task", "reward", "no_repetition"), ("contains", "expected", #"["Bern"]"#),
        ])
    func columns(reward: String, column: String, good: String) {
        #expect(problem(reward, [column: good]) == nil)
        #expect(problem(reward, [:])?.contains(reward == "contains" ? "answer" : "'\(column)'") == true)
        #expect(problem(reward, [column: "[]"]) != nil || reward == "tool_use")
        #expect(problem(reward, [column: "{"]) != nil)
    }

    @Test("answers, and rows that name their reward")
    func answers() {
        for name in ["math_answer", "exact", "multiple_choice", "json_answer"] {
            #expect(problem(name, [:])?.contains("'\(name)'") == true && problem(name, [:], answer: "1") == nil)
        }
        #expect(problem("grounded", ["context": "c"])?.contains("answer") == true)
        #expect(problem("grounded", ["context": "c", "answerable": "false"]) == nil)
        #expect(
            problem("premise", ["counterfactual": "true"]) == nil
                && problem("premise", ["counterfactual": "false"]) != nil)
        #expect(problem("task", ["reward": "code_tests"])?.contains("'tests'") == true)
        #expect(problem("task", ["reward": "nothing"])?.contains("no reward is named") == true)
        #expect(problem("task", ["reward": "task"]) != nil)
        #expect(
            problem("task", ["reward": "no_repetition", "reward_options": "share=1"])?.contains("reward_options")
                == true)
        let some = RewardColumns([("task", ["default": "math_answer"])])
        #expect(some.problem(answer: "1", columns: [:]) == nil && some.problem(answer: nil, columns: [:]) != nil)
        #expect(some.problem(answer: nil, columns: ["reward": "no_repetition"]) == nil)
        #expect(RewardRegistry.problem("task", ["default": "judge"]) != nil)
        let lacking = RewardColumns([("task", [:])], unavailable: ["judge": "a section 'judge'"])
        #expect(lacking.problem(answer: nil, columns: ["reward": "judge"])?.contains("a section 'judge'") == true)
        #expect(lacking.problem(answer: nil, columns: ["reward": "no_repetition"]) == nil)
    }

    @Test("a verdict is what checks the answer, whatever else is rewarded")
    func correctness() {
        #expect(RewardRegistry.correctness(["math_answer": 0, "format": 1]) == 0)
        #expect(RewardRegistry.correctness(["math_answer": 1, "format": 0]) == 1)
        #expect(RewardRegistry.correctness(["format": 1]) == nil)
    }
}
