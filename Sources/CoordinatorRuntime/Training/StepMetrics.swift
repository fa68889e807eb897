// SPDX-License-Identifier: Apache-2.0
//
// What a step says of itself, under TRL's and verl's names. The report is made with the step, from its rollouts; the rest
// comes back from the members.
package import ClusterProtocol
internal import Foundation
internal import PostTraining

/// Figures of the rollouts and data that a step was built from.
struct StepReport {
    private var values: [String: Double] = [:]
    private var responses = ResponseTotals()
    private var rewards: [Double] = []
    private var groupCount = 0
    private var flatGroupCount = 0
    private var trajectories = TrajectoryTotals()

    mutating func put(_ name: String, _ value: Double) { values[name] = value }

    mutating func add(_ members: [WireRolloutRecord], _ judged: GroupJudgement) {
        groupCount += 1
        if judged.hasZeroVariance { flatGroupCount += 1 }
        for (member, reward) in zip(members, judged.rewards) {
            responses.add(member)
            trajectories.add(member)
            if let reward { rewards.append(reward) }
        }
    }

    /// One line, keys sorted.
    var json: String {
        var line = JSONLine()
        var all = values.merging(trajectories.figures) { own, _ in own }
            .merging(responses.figures) { own, _ in own }
        if !rewards.isEmpty {
            let mean = rewards.reduce(0, +) / Double(rewards.count)
            all["reward"] = mean
            all["reward_std"] = ResponseTotals.deviation(rewards, mean)
            all["frac_reward_zero_std"] = Double(flatGroupCount) / Double(groupCount)
        }
        for name in all.keys.sorted() { line.put(name, all[name]!) }
        return line.text
    }
}

/// A prepared step as figures.
package struct StepMetrics {
    private let step: WireStepPrepared

    package init(_ step: WireStepPrepared) { self.step = step }

    private func sum(_ index: StepStatistics.Sum) -> Double {
        index.rawValue < step.sums.count ? step.sums[index.rawValue] : 0
    }

    private func maximum(_ index: StepStatistics.Maximum) -> Double {
        index.rawValue < step.maxima.count ? step.maxima[index.rawValue] : 0
    }

    package var entropy: Double { sum(.entropy) / max(1, sum(.scoredTokens)) }

    /// All figures by name.
    package var values: [String: Double] {
        var values = (try? JSONDecoder().decode([String: Double].self, from: Data(step.report.utf8))) ?? [:]
        let statistics = StepStatistics.Sum.allCases.count
        // After the objective's own: the divergence from the teacher, and the auxiliary loss.
        let divergence = step.sums.count > statistics ? step.sums[statistics] : 0
        let auxiliary = step.sums.count > statistics + 1 ? step.sums[statistics + 1] : 0
        values["step"] = Double(step.version + 1)
        values["learning_rate"] = step.learningRate
        values["grad_norm"] = step.sumOfSquares.squareRoot()
        if !step.skipped {
            values["loss"] = sum(.policyLoss) + sum(.crossEntropyLoss) + sum(.preferenceLoss) + divergence
        }
        let pairs = sum(.preferencePairs)
        if pairs > 0 {
            values["accuracy"] = sum(.correctPairs) / pairs
            values["margin"] = sum(.margin) / pairs
            values["mean_reward"] = sum(.scalars) / (2 * pairs)
            values["max_reward"] = maximum(.scalarHighest)
            values["min_reward"] = -maximum(.scalarLowest)
        } else if !step.skipped {
            values["entropy"] = entropy
        }
        if auxiliary != 0 { values["aux_loss"] = auxiliary }
        if divergence != 0 { values["distillation/divergence"] = divergence }
        if sum(.kl) != 0 { values["kl"] = sum(.kl) }
        let policyTokens = sum(.policyTokens)
        if policyTokens > 0 {
            values["clip_ratio/low_mean"] = sum(.clippedLow) / policyTokens
            values["clip_ratio/high_mean"] = sum(.clippedHigh) / policyTokens
            values["ratio_max"] = maximum(.ratio)
            // Off policy the weights have changed, and so have log-probabilities.
            if values["staleness"] == 0 { values["logprob_drift_max"] = maximum(.drift) }
        }
        return values
    }

    /// One line of metrics.jsonl: keys sorted, floats shortest round-trip.
    package var line: String {
        var line = JSONLine()
        let values = values
        for name in values.keys.sorted() {
            if name == "step" { line.put(name, Int(values[name]!)) } else { line.put(name, values[name]!) }
        }
        return line.text
    }

    /// One line for people.
    package var summary: String {
        let values = values
        if step.skipped { return "no response to learn from, the update was skipped" }
        func text(_ name: String, _ label: String, _ format: String = "%.3f") -> String? {
            values[name].map { "\(label) " + String(format: format, $0) }
        }
        return [
            text("loss", "loss", "%.4f"), text("reward", "reward"), text("accuracy", "accuracy"),
            text("margin", "margin"),
            text("distillation/divergence", "divergence", "%.4f"),
            text("completions/mean_length", "length", "%.1f"), text("entropy", "entropy"),
            text("grad_norm", "|g|", "%.2f"), text("clip_ratio/high_mean", "clipped high", "%.4f"),
            text("logprob_drift_max", "drift", "%g"),
        ].compactMap { $0 }.joined(separator: ", ")
    }
}
