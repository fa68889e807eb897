// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import Testing

@Suite struct JobOverrideTests {
    @Test func commandLineWinsOverFileAndTheLastOneOverThoseBefore() throws {
        let arguments = [
            try JobOverride(argument: "seed=3"), try JobOverride(argument: "sampling.top_p=0.5"),
            try JobOverride(argument: "seed=4"), try JobOverride(argument: "sampling.stop=[a, \"b c\"]"),
        ]
        let read = try Job.parse(
            rolloutText("seed: 1\nsampling: {top_p: 0.9}"), overrides: arguments)
        guard case .rollout(let job) = read else { return }
        #expect(job.seed == 4)
        #expect(job.sampling.topP == 0.5)
        #expect(job.sampling.stop == ["a", "b c"])
    }

    @Test func sectionsAreMadeAndListsEntered() throws {
        let overrides = [
            try JobOverride(argument: "teacher.path=models/big"),
            try JobOverride(argument: "reward.1.weight=2"),
            try JobOverride(argument: "data.limit="),
        ]
        let text = rolloutText("reward: [exact, {name: format, weight: 1}]")
        guard case .rollout(let job) = try Job.parse(text, overrides: overrides) else { return }
        #expect(job.teacher?.path == "models/big")
        #expect(job.rewards[1].weight == 2)
        #expect(job.data.limit == nil)
    }

    @Test func errorsNameTheOverride() throws {
        let bad = try JobOverride(argument: "sampling.top_p=2")
        #expect(
            message(rolloutText(), overrides: [bad])
                == "sampling.top_p: 2 is not in (0, 1] (from --set sampling.top_p=2)")
        let unknown = try JobOverride(argument: "sampling.topp=2")
        #expect(message(rolloutText(), overrides: [unknown]).contains("from --set sampling.topp=2"))
        let below = try JobOverride(argument: "name.x=2")
        #expect(message(rolloutText(), overrides: [below]).contains("below a single value"))
        #expect(throws: JobError.self) { try JobOverride(argument: "seed") }
        #expect(throws: JobError.self) { try JobOverride(argument: "=1") }
        #expect(throws: JobError.self) { try JobOverride(argument: "a..b=1") }
        #expect(throws: JobError.self) { try JobOverride(argument: "a=[") }
    }
}
