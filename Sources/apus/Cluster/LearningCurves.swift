// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The curves of a training run on the terminal, one line each.
struct LearningCurves {
    private let steps: [[String: Double]]
    private let directory: URL

    private static let names = [
        "loss", "accuracy", "margin", "reward", "distillation/divergence", "completions/mean_length", "entropy",
        "grad_norm",
        "frac_reward_zero_std", "clip_ratio/high_mean", "logprob_drift_max", "learning_rate",
    ]
    private static let width = 48

    /// Nil when the run is no training run.
    init?(_ directory: URL) throws {
        let file = directory.appendingPathComponent("metrics.jsonl")
        guard let text = try? String(contentsOf: file, encoding: .utf8) else { return nil }
        let rows = text.split(separator: "\n").compactMap {
            try? JSONDecoder().decode([String: Double].self, from: Data($0.utf8))
        }
        guard !rows.isEmpty, rows.allSatisfy({ $0["step"] != nil }) else { return nil }
        steps = rows
        self.directory = directory
    }

    func show() {
        print("\(directory.path): \(steps.count) steps")
        for name in Self.names {
            let values = steps.compactMap { $0[name] }
            guard values.count == steps.count, let first = values.first, let last = values.last else { continue }
            print(
                "  \(Format.pad(name, 24)) \(Format.pad(Self.number(first), 9, right: true)) \(Self.curve(values)) "
                    + Self.number(last))
        }
    }

    private static func number(_ value: Double) -> String {
        value == 0 || (abs(value) >= 0.001 && abs(value) < 1e5)
            ? String(format: "%.4g", value) : String(format: "%.2e", value)
    }

    /// Means over equal parts of the run, as heights between the smallest and the largest.
    private static func curve(_ values: [Double]) -> String {
        let columns = min(width, values.count)
        let means = (0..<columns).map { column -> Double in
            let part = values[column * values.count / columns..<(column + 1) * values.count / columns]
            return part.reduce(0, +) / Double(part.count)
        }
        guard let low = means.min(), let high = means.max() else { return "" }
        let blocks = Array("▁▂▃▄▅▆▇█")
        return String(means.map { high > low ? blocks[Int(($0 - low) / (high - low) * 7.99)] : blocks[0] })
    }
}
