// SPDX-License-Identifier: Apache-2.0

/// Collects the worst deviation per label.
struct Comparison {
    private var worst: [String: (error: Double, detail: String)] = [:]
    private var identities: [String: Int] = [:]

    /// Absolute error; with `relative`, divided by the largest expected magnitude where that exceeds 1.
    mutating func add(_ label: String, _ actual: [Float], _ expected: [Float], relative: Bool) {
        guard actual.count == expected.count else {
            worst[label] = (.infinity, "\(actual.count) values, expected \(expected.count)")
            return
        }
        let scale = relative ? max(1, expected.reduce(0) { max($0, abs(Double($1))) }) : 1
        var entry = worst[label] ?? (0, "")
        for index in expected.indices {
            let error = abs(Double(actual[index]) - Double(expected[index])) / scale
            // `!(<=)` also catches NaN.
            if !(error <= entry.error) {
                entry = (error.isNaN ? .infinity : error, "at \(index): \(actual[index]), expected \(expected[index])")
            }
        }
        worst[label] = entry
    }

    mutating func addIdentity<T: Equatable>(_ label: String, _ actual: [T], _ expected: [T]) {
        let differing = zip(actual, expected).filter { $0 != $1 }.count + abs(actual.count - expected.count)
        identities[label, default: 0] += differing
    }

    func cases(kind: String, prefix: String) -> [ParityCase] {
        worst.keys.sorted().map { label in
            ParityCase(
                kind: kind, name: "\(prefix) \(label)", worstError: worst[label]!.error,
                tolerance: ModelParity.logitTolerance, detail: worst[label]!.detail)
        }
            + identities.keys.sorted().map {
                .identical(kind, "\(prefix) \($0)", mismatches: identities[$0]!)
            }
    }
}
