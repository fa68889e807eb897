// SPDX-License-Identifier: Apache-2.0

/// A reward model's scalar for prompt and response (technical report, 4.4: model-based reward without reference). `center`
/// and `scale` bring it into range: (value - center) / scale. The worker asks the model before the functions run.
package struct ModelReward: RewardFunction {
    package static let name = "reward_model"
    package static let ability = RewardAbility.preference
    package static let needsAnswer = false

    private let center: Double
    private let scale: Double

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["center", "scale"])
        center = try options.number("center", -1e6...1e6, default: 0)
        scale = try options.number("scale", 1e-6...1e6, default: 1)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let text = sample.consulted[Self.name] else {
            return .infrastructureError(reason: "no reward model was asked; give the job a reward_model section")
        }
        guard let value = Double(text), value.isFinite else {
            return .infrastructureError(reason: "the reward model gave no finite scalar: '\(text)'")
        }
        return .ok(value: (value - center) / scale, detail: "scalar \(value)")
    }
}
