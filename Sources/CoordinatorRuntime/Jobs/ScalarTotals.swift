// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Scalars of a score job under a reward model; where its rows are preferences, how often the chosen one has the larger.
struct ScalarTotals {
    private var values: [Double] = []
    private var margins: [Double] = []
    /// Of a pair whose other half is to come.
    private var chosen: Double?

    mutating func add(_ value: Double, _ side: String?) {
        values.append(value)
        if side == "rejected", let chosen { margins.append(chosen - value) }
        chosen = side == "chosen" ? value : nil
    }

    /// A row has no scalar, and so its pair has no margin.
    mutating func skip() { chosen = nil }

    /// TRL's names; nothing where there are none.
    var figures: [String: Double] {
        guard let lowest = values.min(), let highest = values.max() else { return [:] }
        var figures = [
            "mean_reward": values.reduce(0, +) / Double(values.count), "min_reward": lowest, "max_reward": highest,
        ]
        if !margins.isEmpty {
            figures["pairs"] = Double(margins.count)
            figures["accuracy"] = Double(margins.count { $0 > 0 }) / Double(margins.count)
            figures["margin"] = margins.reduce(0, +) / Double(margins.count)
        }
        return figures
    }
}
