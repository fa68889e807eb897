// SPDX-License-Identifier: Apache-2.0

/// Collects the worst deviation per label, and the root mean square for logits: some mistakes (an epsilon of 1e-5)
/// move every logit a little and none by much.
package struct Comparison {
    private var worst: [String: (error: Double, tolerance: Double, detail: String)] = [:]
    private var squares: [String: (sum: Double, count: Int)] = [:]
    private var identities: [String: Int] = [:]

    package init() {}

    /// Logits up to this size have the errors that tolerances are made for; those of larger ones grow with them.
    private static let usualSize = 32.0

    /// Absolute error, divided by the largest expected magnitude in units of ``usualSize`` where that exceeds 1; with
    /// `relative`, divided by the largest expected magnitude where that exceeds 1.
    package mutating func add(_ label: String, _ actual: [Float], _ expected: [Float], relative: Bool) {
        let tolerance = relative ? ModelParity.boundaryTolerance : ModelParity.logitTolerance
        guard actual.count == expected.count else {
            worst[label] = (.infinity, tolerance, "\(actual.count) values, expected \(expected.count)")
            return
        }
        let largest = expected.reduce(0) { max($0, abs(Double($1))) }
        let scale = max(1, relative ? largest : largest / Self.usualSize)
        var entry = worst[label] ?? (0, tolerance, "")
        if label == "logits" {
            for (a, b) in zip(actual, expected) {
                let error = (Double(a) - Double(b)) / scale
                squares[label, default: (0, 0)].sum += error * error
            }
            squares[label, default: (0, 0)].count += expected.count
        }
        for index in expected.indices {
            let error = abs(Double(actual[index]) - Double(expected[index])) / scale
            // `!(<=)` also catches NaN.
            if !(error <= entry.error) {
                entry = (
                    error.isNaN ? .infinity : error, tolerance,
                    "at \(index): \(actual[index]), expected \(expected[index])"
                )
            }
        }
        worst[label] = entry
    }

    package mutating func addIdentity<T: Equatable>(_ label: String, _ actual: [T], _ expected: [T]) {
        let differing = zip(actual, expected).filter { $0 != $1 }.count + abs(actual.count - expected.count)
        identities[label, default: 0] += differing
    }

    package func cases(kind: String, prefix: String) -> [ParityCase] {
        worst.keys.sorted().map { label in
            ParityCase(
                kind: kind, name: "\(prefix) \(label)", worstError: worst[label]!.error,
                tolerance: worst[label]!.tolerance, detail: worst[label]!.detail)
        }
            + squares.keys.sorted().map { label in
                ParityCase(
                    kind: kind, name: "\(prefix) \(label) rms",
                    worstError: (squares[label]!.sum / Double(squares[label]!.count)).squareRoot(),
                    tolerance: ModelParity.rootMeanSquareTolerance)
            }
            + identities.keys.sorted().map {
                .identical(kind, "\(prefix) \($0)", mismatches: identities[$0]!)
            }
    }
}
