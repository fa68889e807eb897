// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// One line of a benchmark: what was reached beside what the machine could do at the same time.
package struct BenchmarkLine: Codable, Equatable, Sendable {
    package var suite: String
    package var name: String
    /// Median over the repeats, in `unit`.
    package var value: Double
    package var unit: String
    /// Median of the limit that binds, in `unit`, measured between the repeats.
    package var limit: Double
    /// What binds: "memory" or "products".
    package var bound: String
    /// Median of value / limit, repeat by repeat: other work on the machine slows both.
    package var share: Double
    /// What the project wants of `share`, or of `value` where `goalIsValue`; nil: nothing.
    package var goal: Double?
    package var goalIsValue = false

    package init(
        suite: String, name: String, value: Double, unit: String, limit: Double, bound: String, share: Double,
        goal: Double? = nil, goalIsValue: Bool = false
    ) {
        self.suite = suite
        self.name = name
        self.value = value
        self.unit = unit
        self.limit = limit
        self.bound = bound
        self.share = share
        self.goal = goal
        self.goalIsValue = goalIsValue
    }

    package var meetsGoal: Bool? { goal.map { (goalIsValue ? value : share) >= $0 } }
}

/// Everything one run of `apus bench` found.
package struct BenchmarkReport: Codable, Equatable, Sendable {
    package var instructionSet: String
    package var threads: Int
    /// Cores that others used when a suite began: above ``IdleCores/tolerated`` the values are too low.
    package var coresUsedByOthers: [String: Double] = [:]
    package var limits = MachineLimits(readBandwidth: 0, fp32Products: 0, bf16Products: 0)
    package var measurements: [BenchmarkLine] = []

    package init(instructionSet: String, threads: Int) {
        self.instructionSet = instructionSet
        self.threads = threads
    }
}

/// Seconds that `body` took.
func seconds(_ body: () throws -> Void) rethrows -> Double {
    let start = MonotonicInstant.now
    try body()
    return Double(max(1, MonotonicInstant.now.nanoseconds - start.nanoseconds)) / 1e9
}

/// The middle value; the mean of the middle two of an even number. 0 of none.
package func median(_ values: [Double]) -> Double {
    if values.isEmpty { return 0 }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
