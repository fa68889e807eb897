// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import SwiftProtobuf
import Testing

@testable import ClusterCore

/// Jobs whose responses no worker could judge are told so before they run.
@Suite("Judging") struct JudgingTests {
    private static let blind = WireJudgingAbility.with {
        $0.programProblem = "no bubblewrap"
        $0.parserProblem = "no bubblewrap"
    }
    private static let programs = WireJudgingNeeds.with {
        $0.programs = true
        $0.parsers = true
    }

    private static func refusal(_ stage: Stage) -> String? {
        stage.sent(to: "client").compactMap {
            if case .requestFailed(let failed) = $0.body { "\(failed.exitCode) \(failed.text)" } else { nil }
        }.first
    }

    @Test("a job that no worker can judge is refused when it is submitted, with the workers and the reason")
    func refused() throws {
        var stage = Stage()
        stage.hello("a", incarnation: 11, judging: Self.blind)
        stage.admit(judging: Self.programs)
        #expect(
            Self.refusal(stage)?.hasPrefix("3 no worker can judge the job's responses: worker 1 (a, pid 0): no b")
                == true)
        #expect(stage.coordinator.state.jobs.isEmpty)
        // A job without rewards runs there.
        stage.admit()
        #expect(Self.refusal(stage) == nil && stage.coordinator.state.jobs.count == 1)
    }

    @Test("responses are generated where they can be judged")
    func partly() throws {
        var stage = Stage(expected: 2)
        stage.hello("a", incarnation: 11, judging: Self.blind)
        stage.hello("b", incarnation: 12)
        stage.admit(judging: Self.programs)
        #expect(Self.refusal(stage) == nil)
        for (name, incarnation) in [("a", UInt64(11)), ("b", 12)] {
            stage.ready(name, incarnation: incarnation)
            stage.beat(name, incarnation: incarnation)
        }
        stage.pass(200)
        stage.beat("a", incarnation: 11)
        #expect(stage.grants.isEmpty)
        let job = try #require(stage.coordinator.state.jobs[1])
        #expect(job.ended == nil)
        #expect(Set(stage.coordinator.current?.ledger.leases.values.map(\.worker) ?? []) == [2])
    }

    @Test("a job that came before its workers fails when none of them can judge it")
    func late() throws {
        var stage = Stage()
        stage.admit(judging: Self.programs)
        stage.hello("a", incarnation: 11, judging: Self.blind)
        stage.pass(200)
        let job = try #require(stage.coordinator.state.jobs[1])
        #expect(job.ended?.status == "failed" && job.ended?.problem.contains("no bubblewrap") == true)
    }

    @Test(
        "hosts and variables of judges are what the operator allows",
        arguments: [
            ("judge.example:443", "KEY", true), ("judge.example:8080", "KEY", true),
            ("other.example:443", "KEY", false),
            ("port.example:8000", "KEY", true), ("port.example:443", "KEY", false),
            ("judge.example:443", "AWS_SECRET_ACCESS_KEY", false), ("", "", true),
        ])
    func judges(_ host: String, _ variable: String, _ isAllowed: Bool) {
        let ability = WireJudgingAbility.with {
            $0.judgeHosts = ["judge.example", "port.example:8000"]
            $0.judgeVariables = ["KEY"]
        }
        let needs = WireJudgingNeeds.with {
            $0.judgeHost = host
            $0.judgeVariable = variable
        }
        #expect((ability.problem(needs) == nil) == isAllowed)
        let open = WireJudgingAbility.with {
            $0.judgeHosts = ["*"]
            $0.judgeVariables = ["*"]
        }
        #expect(open.problem(needs) == nil)
        #expect((WireJudgingAbility().problem(needs) == nil) == host.isEmpty)
    }
}
