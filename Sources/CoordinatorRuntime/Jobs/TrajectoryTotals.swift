// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import Foundation
internal import Rewards

/// How trajectories used their tools.
struct TrajectoryTotals {
    private var count = 0
    private var turnCount = 0
    private var callCount = 0
    private var invalidCallCount = 0

    mutating func add(_ record: WireRolloutRecord) {
        guard record.turnCount > 0,
            let state = try? JSONDecoder().decode(EnvironmentState.self, from: Data(record.environmentState.utf8))
        else { return }
        count += 1
        turnCount += Int(record.turnCount)
        callCount += state.callCount
        invalidCallCount += state.invalidCallCount
    }

    /// Means per trajectory; nothing where there are none.
    var figures: [String: Double] {
        guard count > 0 else { return [:] }
        return [
            "environment/turns": Double(turnCount) / Double(count),
            "environment/calls": Double(callCount) / Double(count),
            "environment/invalid_calls": Double(invalidCallCount) / Double(count),
        ]
    }
}
