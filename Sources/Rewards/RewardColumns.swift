// SPDX-License-Identifier: Apache-2.0
//
// What rewards read of a row, checked when a job is submitted: a row without it would be an infrastructure error after its
// responses have been generated.
internal import Foundation

/// The part of a row of data that rewards read.
package struct RewardRow: Sendable {
    package let answer: String?
    package let columns: [String: String]

    package init(answer: String?, columns: [String: String]) {
        self.answer = answer
        self.columns = columns
    }

    var hasAnswer: Bool { answer?.trimmed.isEmpty == false }

    /// The column as JSON; nil without it or where it is none.
    func json(_ name: String) -> Any? {
        columns[name].flatMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8), options: .fragmentsAllowed)
        }
    }
}

/// What a job's rewards need of each row.
package struct RewardColumns: Sendable {
    private let rewards: [(name: String, function: any RewardFunction)]
    private let unavailable: [String: String]

    /// - Parameters:
    ///   - rewards: names and options, as a job has them.
    ///   - unavailable: rewards for which the job lacks a section, and what is missing: rows may name these too.
    package init(_ rewards: [(name: String, options: [String: String])], unavailable: [String: String] = [:]) {
        self.rewards = rewards.compactMap { reward in
            (try? RewardRegistry.named(reward.name, options: reward.options)).map { (reward.name, $0) }
        }
        self.unavailable = unavailable
    }

    /// What the row lacks, and which reward needs it; nil when every reward can judge a response to it.
    package func problem(answer: String?, columns: [String: String]) -> String? {
        let row = RewardRow(answer: answer, columns: columns)
        for (name, function) in rewards {
            let own = type(of: function) == TaskReward.self ? columns["reward"] ?? name : name
            if let missing = unavailable[own] { return "the reward '\(own)' needs \(missing), which the job lacks" }
            if let problem = function.problem(in: row) { return problem }
        }
        return nil
    }
}

extension RewardFunction {
    package func problem(in row: RewardRow) -> String? { Self.needsAnswer ? missingAnswer(in: row) : nil }

    fileprivate func missingAnswer(in row: RewardRow) -> String? {
        row.hasAnswer
            ? nil : "no reference answer ('answer', 'solution', …), which the reward '\(Self.name)' needs"
    }

    fileprivate func missing(_ column: String, in row: RewardRow) -> String? {
        row.columns[column] == nil ? "no column '\(column)', which the reward '\(Self.name)' needs" : nil
    }

    fileprivate func bad(_ column: String, _ expected: String) -> String {
        "the column '\(column)' is no \(expected), which the reward '\(Self.name)' needs"
    }
}

extension TaskReward {
    package func problem(in row: RewardRow) -> String? {
        guard let name = row.columns["reward"] ?? fallback else { return missing("reward", in: row) }
        guard name != Self.name else {
            return bad("reward", "name of another reward")
        }
        var options: [String: String] = [:]
        if row.columns["reward_options"] != nil {
            guard let texts = row.json("reward_options") as? [String: String] else {
                return bad("reward_options", "JSON object of texts")
            }
            options = texts
        }
        do throws(RewardOptionError) {
            return try RewardRegistry.named(name, options: options).problem(in: row)
        } catch { return error.description }
    }
}

extension CodeReward {
    package func problem(in row: RewardRow) -> String? {
        if let problem = missing("tests", in: row) { return problem }
        switch row.json("tests") {
        case let list as [Any] where !list.isEmpty: return nil
        case let object as [String: Any] where !object.isEmpty: return nil
        default: return bad("tests", "JSON list of tests")
        }
    }
}

extension ToolUseReward {
    package func problem(in row: RewardRow) -> String? {
        if let problem = missing("expected_calls", in: row) { return problem }
        guard let calls = row.json("expected_calls") as? [[String: Any]],
            calls.allSatisfy({ $0["name"] is String })
        else { return bad("expected_calls", "JSON list of calls with their names") }
        return nil
    }
}

extension EnvironmentStateReward {
    package func problem(in row: RewardRow) -> String? {
        if let problem = missing("expected_state", in: row) { return problem }
        return row.json("expected_state") is [String: String] ? nil : bad("expected_state", "JSON object of texts")
    }
}

extension LengthControlReward {
    package func problem(in row: RewardRow) -> String? {
        if let problem = missing("target_length", in: row) { return problem }
        return row.columns["target_length"].flatMap { Int($0) }.map { $0 > 0 } == true
            ? nil : bad("target_length", "whole number above 0")
    }
}

extension LanguageReward {
    package func problem(in row: RewardRow) -> String? {
        if let problem = missing("language", in: row) { return problem }
        return row.columns["language"].map(Language.isKnown) == true ? nil : bad("language", "language that is known")
    }
}

extension GroundedReward {
    package func problem(in row: RewardRow) -> String? {
        missing("context", in: row) ?? (row.columns["answerable"] == "false" ? nil : missingAnswer(in: row))
    }
}

extension PremiseReward {
    package func problem(in row: RewardRow) -> String? {
        missing("counterfactual", in: row) ?? (row.columns["counterfactual"] == "true" ? nil : missingAnswer(in: row))
    }
}

extension InstructionReward {
    package func problem(in row: RewardRow) -> String? {
        if let problem = missing("instruction_id_list", in: row) { return problem }
        guard let ids = row.json("instruction_id_list") as? [String], !ids.isEmpty else {
            return bad("instruction_id_list", "JSON list of instructions")
        }
        let settings = row.json("kwargs") as? [[String: Any]] ?? []
        for (index, id) in ids.enumerated()
        where Instruction(id, index < settings.count ? settings[index] : [:]) == nil {
            return "the instruction '\(id)' is not known, or its entry of 'kwargs' lacks a setting"
        }
        return nil
    }
}

extension ContainsReward {
    package func problem(in row: RewardRow) -> String? {
        guard row.columns["expected"] != nil else { return missingAnswer(in: row) }
        let list = row.json("expected") as? [String] ?? []
        return list.isEmpty ? bad("expected", "JSON list of texts") : nil
    }
}
