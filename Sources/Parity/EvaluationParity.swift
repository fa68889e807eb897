// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Rewards

/// Fixture kind "eval": pass@k against exact fractions, verdicts of math-verify.
package struct EvaluationParity {
    private let root: URL

    package init(_ root: URL) { self.root = root }

    private struct PassFile: Decodable {
        struct Case: Decodable {
            let n: Int
            let c: Int
            let k: Int
            let exact: Double
        }
        struct Mean: Decodable {
            let rows_n_c: [[Int]]
            let k: Int
            let mean: Double
        }
        let cases: [Lenient<Case>]?
        let benchmark_means: [Lenient<Mean>]?
    }

    private struct MathFile: Decodable {
        struct Case: Decodable {
            let group: String
            let gold: String
            let answer: String
            let wrapped: Bool
        }
        let cases: [Lenient<Case>]
    }

    package func run() throws -> [ParityCase] {
        var cases: [ParityCase] = []
        if let file: PassFile = try read("pass_at_k.json") {
            cases += (file.cases ?? []).cases("eval", name: { "pass@\($0.k) of \($0.c) in \($0.n)" }) { item in
                let name = "pass@\(item.k) of \(item.c) in \(item.n)"
                // With fewer samples than k there is nothing to estimate from.
                guard let value = PassAtK.estimate(count: item.n, correct: item.c, k: item.k) else {
                    return [.identical("eval", name, mismatches: item.k > item.n ? 0 : 1)]
                }
                return [
                    ParityCase(kind: "eval", name: name, worstError: abs(value - item.exact), tolerance: 1e-12)
                ]
            }
            cases += (file.benchmark_means ?? []).cases("eval", name: { "mean pass@\($0.k)" }) { item in
                let values = item.rows_n_c.compactMap { PassAtK.estimate(count: $0[0], correct: $0[1], k: item.k) }
                let mean = values.reduce(0, +) / Double(max(values.count, 1))
                return [
                    ParityCase(
                        kind: "eval", name: "mean pass@\(item.k) of \(item.rows_n_c.count) questions",
                        worstError: abs(mean - item.mean), tolerance: 1e-12)
                ]
            }
        }
        if let file: MathFile = try read("math_equivalence.json") {
            let reward = try RewardRegistry.named("math_answer", options: [:])
            cases += file.cases.cases("eval", name: Self.name) { item in
                let value = reward.evaluate(RewardSample(response: item.answer, answer: item.gold))
                    .value(keepingTruncated: false)
                // No reference is an error and no reward.
                let wanted: Double? = item.gold.isEmpty ? nil : item.wrapped ? 1 : 0
                return [
                    .identical(
                        "eval", Self.name(item), mismatches: value == wanted ? 0 : 1,
                        detail: value == wanted
                            ? "" : "\(value.map(\.description) ?? "none"), math-verify \(item.wrapped)")
                ]
            }
        }
        return cases
    }

    private static func name(_ item: MathFile.Case) -> String {
        "\(item.group): \(item.answer.debugDescription) for \(item.gold.debugDescription)"
    }

    private func read<File: Decodable>(_ name: String) throws -> File? {
        let url = root.appending(path: name)
        guard FileManager.default.fileExists(atPath: url.path) else { return nil }
        return try JSONDecoder().decode(File.self, from: Data(contentsOf: url))
    }
}
