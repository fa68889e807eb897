// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification

/// What a job's models beside policy and scorer are for, in the order in which they were prepared: teachers of single
/// files, which data sources number, then those that rewards ask.
enum FurtherModels {
    static func names(count: Int, _ judge: JudgeSection?, _ rewardModel: RewardModelSection?) -> [String] {
        var asked: [String] = []
        if case .model = judge?.source { asked.append("judge") }
        if rewardModel != nil { asked.append("reward_model") }
        return (0..<count - asked.count).map { "teacher_\($0 + 2)" } + asked
    }
}
