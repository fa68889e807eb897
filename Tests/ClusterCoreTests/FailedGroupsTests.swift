// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import SwiftProtobuf
import Testing

@testable import ClusterCore

@Suite("Jobs of which too many groups failed") struct FailedGroupsTests {
    /// A started job of ten groups, of which `reasons` fail one by one.
    private func stage(
        share: Double, isTraining: Bool = false, isOld: Bool = false, failing reasons: [String]
    ) -> (status: String?, problem: String) {
        var stage = Stage(expected: 1)
        stage.hello("a", incarnation: 1)
        let admitted = WireJobAdmitted.with {
            $0.job = stage.coordinator.state.nextJob
            $0.name = "job"
            $0.groupCount = 10
            $0.groupSize = 1
            $0.failedGroupsMax = share
            if !isOld { $0.dataHashes = ["0"] }
            if isTraining {
                $0.output = "/out"
                $0.stepCount = 5
                $0.promptsPerBatch = 2
                $0.updatesPerBatch = 1
                $0.snapshotEvery = 1
                $0.snapshotKeep = 1
            }
        }
        let model = WireModelDescription.with {
            $0.path = "model"
            $0.contentHash = "h"
            $0.trunkByteCount = 1 << 20
            $0.isTrained = isTraining
        }
        stage.apply(
            .jobPrepared(
                .init(admitted: admitted, policy: model, scorer: nil, client: PeerIdentity("client"), request: 1)))
        stage.ready("a", incarnation: 1)
        stage.beat("a", incarnation: 1)
        for (group, reason) in reasons.enumerated() { stage.coordinator.failGroup(group, reason) }
        if !isTraining { stage.coordinator.written(1, nil) }
        let job = stage.coordinator.state.jobs[1]!
        return (job.ended?.status, job.ended?.problem ?? "")
    }

    @Test("up to its share a job is done; above it, it has failed, with the reasons and their numbers")
    func rollouts() {
        #expect(stage(share: 0.2, failing: []).status == "done")
        let few = stage(share: 0.2, failing: ["a", "b"])
        #expect(few.status == "done" && few.problem == "2 of 10 groups failed")
        let many = stage(share: 0.2, failing: ["no sandbox", "other", "no sandbox"])
        #expect(many.status == "failed")
        #expect(
            many.problem == "3 of 10 groups failed, more than the share of 0.2 that max_failed_groups allows: "
                + "2 x no sandbox; 1 x other")
        #expect(stage(share: 0, failing: ["a"]).status == "failed")
        #expect(stage(share: 1, failing: Array(repeating: "a", count: 9)).status == "done")
        #expect(stage(share: 1, failing: Array(repeating: "a", count: 10)).problem == "every group failed: 10 x a")
        #expect(stage(share: 0, isOld: true, failing: ["a"]).status == "done", "journals from before named no share")
    }

    @Test("training ends at once: above its share, or with a batch that teaches nothing")
    func training() {
        #expect(stage(share: 0.5, isTraining: true, failing: ["a"]).status == nil)
        let batch = stage(share: 0.5, isTraining: true, failing: ["a", "a"])
        #expect(batch.status == "failed" && batch.problem == "all 2 groups of batch 1 failed: 2 x a")
        #expect(stage(share: 0, isTraining: true, failing: ["a"]).problem.hasPrefix("1 of 10 groups failed"))
    }
}
