// SPDX-License-Identifier: Apache-2.0

/// What a reward is for: the five abilities of general RL (Qwen3 technical report, 4.4), and reasoning.
package enum RewardAbility: String, CaseIterable, Sendable {
    case reasoning
    case instructionFollowing = "instruction following"
    case formatFollowing = "format following"
    case preference = "preference alignment"
    case agent
    case specialised = "specialised scenarios"
}

/// A rule that judges one response. Pure: the same sample gives the same outcome everywhere.
package protocol RewardFunction: Sendable {
    /// Name in the registry and in job files.
    static var name: String { get }
    static var ability: RewardAbility { get }
    /// True where every row of the data must have a reference answer.
    static var needsAnswer: Bool { get }

    /// - Throws: ``RewardOptionError`` for an unknown option or a bad value.
    init(options: RewardOptions) throws(RewardOptionError)

    /// Why responses to this row cannot be judged, such as a column that is missing; nil: they can. The default asks for the
    /// answer where ``needsAnswer`` says so.
    func problem(in row: RewardRow) -> String?

    /// Judges `sample` as if it were complete; ``RewardSum`` tells truncated responses apart.
    func evaluate(_ sample: RewardSample) -> RewardOutcome
}

/// An unknown reward, or an option that it does not take: one line with the remedy.
package struct RewardOptionError: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Options of a reward function as a job file writes them.
package struct RewardOptions: Equatable, Sendable {
    private let texts: [String: String]
    let function: String

    package init(_ texts: [String: String] = [:], function: String) {
        self.texts = texts
        self.function = function
    }

    /// Refuses options that are not in `names`.
    func requireOnly(_ names: [String]) throws(RewardOptionError) {
        for name in texts.keys.sorted() where !names.contains(name) {
            throw RewardOptionError(
                "reward '\(function)' has no option '\(name)'"
                    + (names.isEmpty ? "" : "; its options: \(names.joined(separator: ", "))"))
        }
    }

    func text(_ name: String) -> String? { texts[name] }

    /// A truth value, or `fallback`.
    func boolean(_ name: String, default fallback: Bool) throws(RewardOptionError) -> Bool {
        switch texts[name]?.lowercased() {
        case nil: return fallback
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        case .some(let text):
            throw RewardOptionError(
                "reward '\(function)': option '\(name)' is '\(text)', neither true nor false")
        }
    }
}

/// The reward functions by name.
package enum RewardRegistry {
    private static let types: [any RewardFunction.Type] = [
        ChrFReward.self, CodeReward.self, ContainsReward.self, EnvironmentStateReward.self, ExactReward.self,
        FormatReward.self, GroundedReward.self, InstructionReward.self, JSONAnswerReward.self, JudgeReward.self,
        LanguageReward.self, LengthControlReward.self, MathAnswerReward.self, ModelReward.self,
        MultipleChoiceReward.self, PremiseReward.self, RepetitionReward.self, TaskReward.self, ThinkingModeReward.self,
        TokenOverlapReward.self, ToolUseReward.self, ToolValidityReward.self,
    ].sorted { $0.name < $1.name }

    /// Names in sorted order.
    package static var names: [String] { types.map { $0.name } }

    /// Rewards whose value is a verdict on the answer: 1 where it is right. Forms, lengths and preferences are not.
    private static let verdicts: Set = [
        "code_tests", "contains", "environment_state", "exact", "instructions", "json_answer", "math_answer",
        "multiple_choice", "task", "tool_use",
    ]

    /// How right a response is, as the rewards that check answers say: the least of their values; nil where there is none.
    package static func correctness(_ values: [String: Double]) -> Double? {
        values.filter { verdicts.contains($0.key) }.values.min()
    }

    /// Names by what they are for.
    package static func names(for ability: RewardAbility) -> [String] {
        types.filter { $0.ability == ability }.map { $0.name }
    }

    /// The function called `name`, with its options as a job file writes them.
    /// - Throws: ``RewardOptionError`` for an unknown name, option or value.
    package static func named(
        _ name: String, options: [String: String] = [:]
    ) throws(RewardOptionError) -> any RewardFunction {
        try type(name).init(options: RewardOptions(options, function: name))
    }

    /// True where every row of the data must have a reference answer for this reward.
    /// - Throws: ``RewardOptionError`` for an unknown name.
    package static func needsAnswer(_ name: String) throws(RewardOptionError) -> Bool {
        try type(name).needsAnswer
    }

    /// What is wrong with a known reward's options; nil when they are fine.
    @Sendable package static func problem(_ name: String, _ options: [String: String]) -> String? {
        do throws(RewardOptionError) {
            _ = try named(name, options: options)
            return nil
        } catch { return error.description }
    }

    private static func type(_ name: String) throws(RewardOptionError) -> any RewardFunction.Type {
        if let type = types.first(where: { $0.name == name }) { return type }
        throw RewardOptionError("no reward is named '\(name)'; rewards: \(names.joined(separator: ", "))")
    }
}
