// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import Rewards
internal import SwiftProtobuf

extension WireJudgingNeeds {
    /// What workers must be able to do before they generate anything for a job.
    init(_ settings: WireGenerationSettings, rows: [JobRow]) {
        self = .with {
            let rewards = Set(settings.rewards.map(\.name))
            let tools = Set(settings.environment.tools)
            $0.parsers = !rewards.isEmpty || !tools.isEmpty
            // Of the reward 'task', each row names its own.
            $0.programs =
                rewards.contains(CodeReward.name) || tools.contains(ToolRegistry.programName)
                || (rewards.contains(TaskReward.name) && rows.contains { Self.names(CodeReward.name, $0) })
            if settings.hasJudge, let address = JudgeAddress(settings.judge.endpoint) {
                $0.judgeHost = address.hostAndPort
                $0.judgeVariable = settings.judge.keyVariable
            }
        }
    }

    private static func names(_ reward: String, _ row: JobRow) -> Bool {
        guard row.json.contains(reward) else { return false }
        let fields = (try? JSONDecoder().decode([String: String].self, from: Data(row.json.utf8))) ?? [:]
        return fields["reward"] == reward
    }
}
