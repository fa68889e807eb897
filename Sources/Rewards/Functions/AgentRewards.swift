// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Calls compared with those expected (the report's ToolUse): a third each for intent (the right tools in the right
/// order), format (every call well formed) and parameters (all arguments equal). Column `expected_calls`, a JSON list of
/// `{"name", "arguments"}`. With `strict: true` 1 only when everything agrees, as BFCL counts.
package struct ToolUseReward: RewardFunction {
    package static let name = "tool_use"
    package static let ability = RewardAbility.agent
    package static let needsAnswer = false

    private let isStrict: Bool

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["strict"])
        isStrict = try options.boolean("strict", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let column = sample.metadata["expected_calls"],
            let objects = try? JSONSerialization.jsonObject(with: Data(column.utf8)) as? [[String: Any]]
        else {
            return .infrastructureError(reason: "reward 'tool_use' needs a JSON list in the column 'expected_calls'")
        }
        let wanted = objects.compactMap { object in
            (object["name"] as? String).map {
                ToolCall(name: $0, arguments: ToolArguments(object["arguments"] as? [String: Any] ?? [:]))
            }
        }
        guard wanted.count == objects.count else {
            return .infrastructureError(reason: "an entry of 'expected_calls' has no 'name'")
        }
        let bodies = sample.callBodies
        let calls = bodies.map { body in try? ToolCall(body) }
        let intent = calls.map { $0?.name } == wanted.map(\.name)
        let format = calls.allSatisfy { $0 != nil } && (!bodies.isEmpty || wanted.isEmpty)
        let parameters = calls.count == wanted.count && zip(calls, wanted).allSatisfy { $0 == $1 }
        let share = Double([intent, format, parameters].count { $0 }) / 3
        return .ok(
            value: isStrict ? (share == 1 ? 1 : 0) : share,
            detail: "intent \(intent), format \(format), parameters \(parameters)")
    }
}

/// Share of a trajectory's calls that were well formed and accepted by their tools; 1 without calls.
package struct ToolValidityReward: RewardFunction {
    package static let name = "tool_validity"
    package static let ability = RewardAbility.agent
    package static let needsAnswer = false

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let state = sample.trajectory?.state else {
            return .infrastructureError(
                reason: "reward 'tool_validity' needs trajectories; give the job an environment")
        }
        guard state.callCount > 0 else { return .ok(value: 1, detail: "no calls") }
        let valid = state.callCount - state.invalidCallCount
        return .ok(value: Double(valid) / Double(state.callCount), detail: "\(valid) of \(state.callCount) calls")
    }
}

/// Whether the trajectory left the key-value store as the column `expected_state` (a JSON object) says.
package struct EnvironmentStateReward: RewardFunction {
    package static let name = "environment_state"
    package static let ability = RewardAbility.agent
    package static let needsAnswer = false

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let state = sample.trajectory?.state else {
            return .infrastructureError(
                reason: "reward 'environment_state' needs trajectories; give the job an environment")
        }
        guard let column = sample.metadata["expected_state"],
            let wanted = try? JSONDecoder().decode([String: String].self, from: Data(column.utf8))
        else {
            return .infrastructureError(
                reason: "reward 'environment_state' needs a JSON object of strings in the column 'expected_state'")
        }
        return .ok(value: state.values == wanted ? 1 : 0, detail: "\(state.values.count) entries")
    }
}

extension RewardSample {
    /// What the model wrote between call tags, in all of its turns.
    fileprivate var callBodies: [String] {
        guard let trajectory else { return ToolCall.bodies(in: response) }
        // What tools returned has no tags: they are broken up before it is fed in.
        return trajectory.text.split(separator: "</tool_response>").flatMap { ToolCall.bodies(in: String($0)) }
    }
}
