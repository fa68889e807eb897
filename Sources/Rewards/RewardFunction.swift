// SPDX-License-Identifier: Apache-2.0

/// A rule that judges one response. Pure: the same sample gives the same outcome everywhere.
package protocol RewardFunction: Sendable {
    /// Name in the registry and in job files.
    static var name: String { get }

    /// - Throws: ``RewardOptionError`` for an unknown option or a bad value.
    init(options: RewardOptions) throws(RewardOptionError)

    func evaluate(_ sample: RewardSample) -> RewardOutcome
}

/// A reward option that a function does not take.
package struct RewardOptionError: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Options of a reward function as a job file writes them.
package struct RewardOptions: Equatable, Sendable {
    private let texts: [String: String]
    private let function: String

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

    /// A truth value, or `fallback`.
    func boolean(_ name: String, default fallback: Bool) throws(RewardOptionError) -> Bool {
        switch texts[name]?.lowercased() {
        case nil: return fallback
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        case .some(let text):
            throw RewardOptionError("reward '\(function)': option '\(name)' is '\(text)', neither true nor false")
        }
    }
}

/// The reward functions by name.
package enum RewardRegistry {
    private static let types: [any RewardFunction.Type] = [ExactReward.self, FormatReward.self, MathAnswerReward.self]

    /// Names in sorted order.
    package static var names: [String] { types.map { $0.name } }

    /// Makes a function.
    /// - Throws: ``RewardOptionError`` for an unknown name, option or value.
    package static func make(
        _ name: String, options: [String: String] = [:]
    ) throws(RewardOptionError) -> any RewardFunction {
        guard let type = types.first(where: { $0.name == name }) else {
            throw RewardOptionError("no reward is named '\(name)'; rewards: \(names.joined(separator: ", "))")
        }
        return try type.init(options: RewardOptions(options, function: name))
    }
}
