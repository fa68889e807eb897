// SPDX-License-Identifier: Apache-2.0

/// Which groups carry no signal and go.
package enum DroppedGroupPolicy: String, CaseIterable, Sendable {
    case keep
    /// Groups whose rewards are all equal are left out of training.
    case dropZeroVariance = "drop_zero_variance"
}

/// What becomes of responses that hit `max_new_tokens`.
package enum TruncatedPolicy: String, CaseIterable, Sendable {
    /// They count with their reward.
    case keep
    /// They leave their group.
    case drop
}

/// What a response whose verification failed (time-out or infrastructure error) takes with it.
package enum FailedPolicy: String, CaseIterable, Sendable {
    /// It leaves its group.
    case dropMember = "drop_member"
    /// Its whole group goes.
    case dropGroup = "drop_group"
}

/// `dropped_groups:` which groups and members do not reach training.
package struct DroppedGroupsSection: Equatable, Sendable {
    package let policy: DroppedGroupPolicy
    package let truncated: TruncatedPolicy
    package let failed: FailedPolicy

    /// Share of a job's groups that may fail (`max_failed_groups`), unless the job says otherwise.
    package static let failedGroupsMax = 0.1

    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.droppedGroups)
        policy = try fields.choice("policy")
        truncated = try fields.choice("truncated")
        failed = try fields.choice("failed")
    }

    package var resolved: ResolvedValue {
        .section([
            "policy": .string(policy.rawValue), "truncated": .string(truncated.rawValue),
            "failed": .string(failed.rawValue),
        ])
    }
}
