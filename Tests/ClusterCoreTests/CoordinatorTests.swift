// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import ClusterCore

/// Conversations with the coordinator, step by step.
@Suite("Coordinator transcripts")
struct CoordinatorTests {
    @Test("a worker of another version, with other kernels or unknown is refused with the reason")
    func refusals() {
        var stage = Stage()
        stage.say("old", incarnation: 1) {
            $0.protocolVersion = 99
            $0.hello.numericsFingerprint = "f"
        }
        #expect(stage.refusals(to: "old") == [.version])
        stage.hello("a", incarnation: 2)
        #expect(stage.sent(to: "a").contains { if case .welcome = $0.body { true } else { false } })
        stage.hello("b", incarnation: 3, fingerprint: "other:1")
        #expect(stage.refusals(to: "b") == [.numerics])
        let said = stage.sent(to: "b").compactMap {
            if case .refusal(let refusal) = $0.body { refusal.text } else { nil }
        }
        #expect(said.first?.contains("(f, other)") == true, "\(said)")
        stage.beat("c", incarnation: 4)
        #expect(stage.refusals(to: "c") == [.unknownWorker])
    }

    @Test("three seconds of silence are death, and the dead are not listened to")
    func silence() {
        var stage = Stage()
        stage.hello("a", incarnation: 1)
        stage.pass(2400)
        #expect(stage.coordinator.members.count == 1)
        stage.pass(600)
        #expect(stage.coordinator.members.isEmpty)
        stage.beat("a", incarnation: 1)
        #expect(stage.refusals(to: "a") == [.retired])
        stage.hello("a", incarnation: 2)
        #expect(stage.coordinator.members.count == 1)
        // The refusal of the first process is not meant for the second.
        #expect(stage.sent(to: "a").allSatisfy { $0.recipient == 2 })
    }

    @Test("a queued job says what it waits for, and what that in turn waits for")
    func queueReasons() {
        var stage = Stage()
        for _ in 0..<3 { stage.admit() }
        stage.pass(1500)
        let jobs = stage.coordinator.jobList(WireListJobs(), stage.now).jobs
        #expect(jobs.map(\.status) == ["running", "queued", "queued"])
        #expect(jobs[0].waitingFor == "1 more worker to join")
        #expect(jobs[1].waitingFor == "job 1 to end; job 1 waits for 1 more worker to join")
        #expect(jobs[2].waitingFor == "job 1 and 1 more job before it to end; job 1 waits for 1 more worker to join")
        #expect(jobs.allSatisfy { $0.waitingMilliseconds >= 1000 })
    }

    @Test("a coordinator that was stopped itself buries nobody for it")
    func ownPause() {
        var stage = Stage()
        stage.hello("a", incarnation: 1)
        stage.pass(300)
        stage.milliseconds += 20_000
        stage.apply(.tick)
        #expect(stage.coordinator.members.count == 1)
    }

    @Test("a model whose values are not finite ends the job after three executions; no worker is blamed")
    func notFinite() {
        var stage = twoWorkers()
        for attempt in 1...20 where stage.coordinator.state.jobs[1]!.ended == nil {
            let lease = stage.coordinator.current!.ledger.leases.values.min { $0.id < $1.id }
            guard let lease else {
                stage.pass(500)
                for (name, incarnation): (String, UInt64) in [("a", 1), ("b", 2)] {
                    stage.beat(name, incarnation: incarnation)
                }
                continue
            }
            #expect(attempt < 20)
            let name = lease.worker == 1 ? "a" : "b"
            stage.say(name, incarnation: UInt64(lease.worker)) {
                $0.unitFailed = .with {
                    $0.lease = lease.id
                    $0.reason = "the model /m: the output of layer 3 is not finite"
                    $0.isModelAtFault = true
                }
            }
        }
        let ended = stage.coordinator.state.jobs[1]!.ended
        #expect(ended?.status == "failed" && ended?.problem.contains("layer 3 is not finite") == true)
        #expect(stage.coordinator.state.jobs[1]!.failedGroups.isEmpty)
        #expect(stage.coordinator.quarantined.isEmpty && stage.coordinator.members.count == 2)
    }

    @Test("the work of a dead worker is given to another, what is recorded is not given again")
    func workMoves() {
        var stage = Stage(expected: 2)
        stage.hello("a", incarnation: 1)
        stage.hello("b", incarnation: 2)
        stage.admit()
        for (name, incarnation): (String, UInt64) in [("a", 1), ("b", 2)] {
            stage.ready(name, incarnation: incarnation)
            stage.beat(name, incarnation: incarnation)
        }
        let leases = stage.coordinator.current!.ledger.leases.values.sorted { $0.id < $1.id }
        #expect(leases.count == 2)
        let lost = leases.first { $0.worker == 1 }!
        let kept = leases.first { $0.worker == 2 } ?? leases[1]
        stage.apply(.result(stage.result(kept.id, group: UInt32(kept.unit.group)), from: PeerIdentity("b")))
        // Journal first, then the acknowledgement.
        let journaled = stage.effects.firstIndex { if case .journal = $0 { true } else { false } }!
        let acknowledged = stage.effects.firstIndex {
            if case .send(let envelope, _) = $0, case .resultAcknowledgement = envelope.body { true } else { false }
        }!
        #expect(journaled < acknowledged)
        stage.apply(.connectionLost(PeerIdentity("a")))
        for _ in 0..<15 {
            stage.milliseconds += 100
            stage.beat("b", incarnation: 2)
            stage.apply(.tick)
        }
        let now = stage.coordinator.current!.ledger.leases.values
        #expect(now.map(\.unit) == [lost.unit])
        #expect(now.allSatisfy { $0.worker == 2 })
    }

    @Test("a record that differs from the durable one starts a third execution")
    func dispute() {
        var stage = Stage(expected: 1)
        stage.hello("a", incarnation: 1)
        stage.admit(groups: 2)
        stage.ready("a", incarnation: 1)
        stage.beat("a", incarnation: 1)
        let lease = stage.coordinator.current!.ledger.leases.values.first { $0.unit.group == 0 }!
        stage.apply(.result(stage.result(lease.id, group: 0), from: PeerIdentity("a")))
        stage.hello("b", incarnation: 2)
        stage.apply(.result(stage.result(lease.id, group: 0, tokens: [9, 9]), from: PeerIdentity("b")))
        #expect(stage.coordinator.current?.disputes.count == 1)
        stage.apply(.result(stage.result(lease.id, group: 0), from: PeerIdentity("a")))
        // The durable record was confirmed: who disagreed is out.
        #expect(stage.coordinator.members.values.map(\.identity.rawValue) == ["a"])
        #expect(stage.coordinator.state.jobs[1]?.rollouts.count == 1)
    }

    @Test("a job that fits no worker fails with numbers")
    func memory() {
        var stage = Stage()
        stage.hello("a", incarnation: 1, memory: 1 << 20)
        stage.admit(trunk: 1 << 30)
        let ended = stage.coordinator.state.jobs[1]?.ended
        #expect(ended?.status == "failed")
        #expect(ended?.problem.contains("1.0 GiB") == true && ended?.problem.contains("add workers") == true)
    }

    @Test("jobs run in order of submission; a cancelled one makes room")
    func queue() {
        var stage = Stage()
        stage.hello("a", incarnation: 1)
        stage.admit()
        stage.admit()
        #expect(stage.coordinator.current?.id == 1)
        var envelope = WireEnvelope()
        envelope.cancelJob.job = 1
        stage.apply(.message(envelope, from: PeerIdentity("client"), role: .submit))
        #expect(stage.coordinator.state.jobs[1]?.ended?.status == "cancelled")
        #expect(stage.coordinator.current?.id == 2)
        stage.apply(.message(envelope, from: PeerIdentity("client"), role: .worker))
        #expect(stage.effects.contains { if case .log = $0 { true } else { false } }, "a worker may not cancel")
    }

    private func twoWorkers(_ groups: UInt32 = 2, canaryEvery: UInt64 = 0) -> Stage {
        var stage = Stage(expected: 2, canaryEvery: canaryEvery)
        for (name, incarnation): (String, UInt64) in [("a", 1), ("b", 2)] {
            stage.hello(name, incarnation: incarnation)
        }
        stage.admit(groups: groups)
        for (name, incarnation): (String, UInt64) in [("a", 1), ("b", 2)] {
            stage.ready(name, incarnation: incarnation)
        }
        return stage
    }

    private func ask(_ stage: inout Stage, role: Role = .admin, _ fill: (inout WireEnvelope) -> Void) -> WireEnvelope? {
        var envelope = WireEnvelope()
        fill(&envelope)
        stage.apply(.message(envelope, from: PeerIdentity("operator"), role: role))
        return stage.sent(to: "operator").first
    }

    @Test("a drained worker gets no more work, finishes what it has and is told to end")
    func drain() {
        var stage = twoWorkers(3)
        stage.beat("a", incarnation: 1, slots: 1)
        let lease = stage.coordinator.current!.ledger.leases.values.first { $0.worker == 1 }!
        #expect(ask(&stage) { $0.drainWorker.worker = 1 }?.body == .done(WireDone()))
        stage.beat("a", incarnation: 1, leases: [lease.id])
        #expect(stage.coordinator.current!.ledger.leases(of: 1).count == 1, "no second lease")
        #expect(!stage.sent(to: "a").contains { if case .stop = $0.body { true } else { false } })
        stage.apply(.result(stage.result(lease.id, group: UInt32(lease.unit.group)), from: PeerIdentity("a")))
        stage.beat("a", incarnation: 1)
        stage.beat("b", incarnation: 2)
        stage.apply(.tick)
        #expect(stage.sent(to: "a").contains { $0.stop.reason == "drained" })
        #expect(stage.coordinator.members.values.map(\.identity.rawValue) == ["b"])
        // The last one cannot go while there is work.
        let refusal = ask(&stage) { $0.drainWorker.worker = 2 }
        #expect(refusal?.requestFailed.text.contains("is the last one") == true)
        #expect(ask(&stage) { $0.drainWorker.worker = 9 }?.requestFailed.exitCode == 2)
        #expect(ask(&stage, role: .submit) { $0.drainWorker.worker = 2 } == nil, "only an administrator may")
    }

    @Test("a coordinator that comes back knows who was to leave; a new process of that key stays")
    func drainAfterRestart() {
        var stage = twoWorkers(3)
        stage.beat("a", incarnation: 1, slots: 1)
        #expect(ask(&stage) { $0.drainWorker.worker = 1 }?.body == .done(WireDone()))
        let isDraining = { (stage: Stage, name: String) in
            stage.coordinator.members.values.first { $0.identity.rawValue == name }?.isDraining
        }
        stage.restart()
        for (name, incarnation): (String, UInt64) in [("a", 1), ("b", 2)] {
            stage.hello(name, incarnation: incarnation)
        }
        #expect(isDraining(stage, "a") == true && isDraining(stage, "b") == false)
        stage.hello("a", incarnation: 3)
        #expect(isDraining(stage, "a") == false)
    }

    @Test("a newcomer without memory for the trunk is left out, and nothing waits for it")
    func smallNewcomer() {
        var stage = twoWorkers(3)
        stage.beat("a", incarnation: 1, slots: 1)
        #expect(!stage.grants.isEmpty)
        stage.hello("small", incarnation: 4, memory: 1 << 10)
        stage.pass(200)
        stage.beat("b", incarnation: 2, slots: 1)
        #expect(stage.grants.map(\.to) == ["b"])
        #expect(stage.coordinator.members[3]?.isLeftOut == true)
        #expect(stage.coordinator.deployments[1]?.placement.targets[3] == nil)
        let list = ask(&stage) { $0.listWorkers = WireListWorkers() }?.workerList
        #expect(list?.workers.map(\.status) == ["live", "live", "left out"])
    }

    @Test("the load of experts is the sum of all workers', and each worker's share is what it holds")
    func loads() {
        var stage = Stage(expected: 2)
        stage.hello("a", incarnation: 1)
        stage.hello("b", incarnation: 2)
        stage.admit(experts: 4, expertBytes: 1 << 20)
        for (name, incarnation): (String, UInt64) in [("a", 1), ("b", 2)] {
            let number = stage.coordinator.members.values.first { $0.identity.rawValue == name }!.number
            let experts = stage.coordinator.deployments[1]!.placement.targets[number]!.sorted()
            stage.say(name, incarnation: incarnation) {
                $0.shardReport = .with {
                    $0.model = 1
                    $0.epoch = .max
                    $0.isTrunkReady = true
                    $0.experts = experts.map(UInt32.init)
                }
            }
            stage.say(name, incarnation: incarnation) {
                $0.beat.expertLoads = [
                    .with {
                        $0.model = 1
                        $0.rows = name == "a" ? [3, 0, 0, 1] : [3, 0, 1, 2]
                    },
                    // Of a model with other experts, and of none: not counted.
                    .with {
                        $0.model = 1
                        $0.rows = [9]
                    }, .with { $0.model = 7 },
                ]
            }
        }
        let list = ask(&stage) { $0.listWorkers = WireListWorkers() }!.workerList
        #expect(list.expertLoads.map(\.rows) == [[6, 0, 1, 3]])
        #expect(list.workers.map { $0.shards[0].loadShare }.reduce(0, +) == 1)
        #expect(Set(list.workers.map { $0.shards[0].loadShare }) == [0.6, 0.4])
    }

    @Test("a canary is computed by another worker; equal bits end it, other bits are a dispute")
    func canaries() {
        for tokens: [Int32] in [[1, 2], [9, 9]] {
            var stage = twoWorkers(2, canaryEvery: 1)
            stage.beat("a", incarnation: 1, slots: 1)
            let lease = stage.coordinator.current!.ledger.leases.values.first { $0.worker == 1 }!
            let group = lease.unit.group
            stage.apply(.result(stage.result(lease.id, group: UInt32(group)), from: PeerIdentity("a")))
            #expect(stage.coordinator.current!.canaries.count == 1)
            stage.beat("a", incarnation: 1)
            #expect(
                !stage.coordinator.current!.ledger.leases(of: 1).contains { $0.unit.group == group },
                "not its own witness")
            stage.beat("b", incarnation: 2)
            let second = stage.coordinator.current!.ledger.leases(of: 2).first { $0.unit.group == group }!
            stage.apply(.result(stage.result(second.id, group: UInt32(group), tokens: tokens), from: PeerIdentity("b")))
            #expect(stage.coordinator.current!.canaries.isEmpty)
            #expect(stage.coordinator.current!.disputes.count == (tokens == [1, 2] ? 0 : 1))
        }
    }

    @Test("three malformed results put a key in quarantine, also after a restart of its process")
    func quarantine() {
        var stage = twoWorkers(8)
        stage.beat("a", incarnation: 1, slots: 8)
        for lease in stage.coordinator.current!.ledger.leases.values.filter({ $0.worker == 1 }).prefix(3) {
            var result = stage.result(lease.id, group: UInt32(lease.unit.group))
            result.rollout.logProbs = Data(littleEndian: [Float.nan, -1])
            stage.apply(.result(result, from: PeerIdentity("a")))
        }
        #expect(stage.coordinator.members.values.map(\.identity.rawValue) == ["b"])
        stage.hello("a", incarnation: 7)
        #expect(stage.refusals(to: "a") == [.quarantined])
    }

    @Test("scaling a model copies its experts; what does not fit or is no such model is refused")
    func scale() {
        var stage = Stage(expected: 2)
        stage.hello("a", incarnation: 1, memory: 100 << 20)
        stage.hello("b", incarnation: 2, memory: 100 << 20)
        stage.admit(experts: 8, expertBytes: 10 << 20)
        func targets() -> [Int] { stage.coordinator.deployments[1]!.placement.targets.values.map(\.count) }
        #expect(targets() == [4, 4])
        #expect(
            ask(&stage) {
                $0.scaleModel = .with {
                    $0.model = "model"; $0.replicas = .max
                }
            }?.body == .done(WireDone()))
        #expect(targets() == [8, 8])
        #expect(
            ask(&stage) {
                $0.scaleModel = .with {
                    $0.model = "1"; $0.replicas = 1
                }
            }?.body == .done(WireDone()))
        #expect(targets() == [4, 4])
        #expect(
            ask(&stage) {
                $0.scaleModel = .with {
                    $0.model = "modle"; $0.replicas = 1
                }
            }?.requestFailed.exitCode == 2)
        stage.hello("c", incarnation: 3, memory: 30 << 20)
        stage.apply(.tick)
        #expect(targets().sorted() == [2, 3, 3])
        let refusal = ask(&stage) {
            $0.scaleModel = .with {
                $0.model = "1"; $0.replicas = 3
            }
        }
        #expect(refusal?.requestFailed.text.contains("no room for the copies") == true)
        #expect(targets().sorted() == [2, 3, 3])
    }

    @Test("a worker with little memory holds fewer experts")
    func unequalHosts() {
        var stage = Stage(expected: 2)
        stage.hello("small", incarnation: 1, memory: 25 << 20)
        stage.hello("large", incarnation: 2, memory: 200 << 20)
        stage.admit(trunk: 1 << 20, experts: 8, expertBytes: 10 << 20)
        let targets = stage.coordinator.deployments[1]!.placement.targets
        #expect(targets[1]?.count == 2 && targets[2]?.count == 6, "\(targets)")
    }

    @Test("a record that the journal cannot keep fails its group with the reason, and nobody is shut out")
    func hugeRecord() {
        var stage = twoWorkers(1)
        for _ in 0..<WorkLedger.failureCount {
            stage.beat("a", incarnation: 1, slots: 1)
            guard let lease = stage.coordinator.current?.ledger.leases.values.first else { break }
            var result = stage.result(lease.id, group: 0)
            result.rollout.routedExperts = Data(count: WireUnitResult.byteCountMax)
            stage.apply(.result(result, from: PeerIdentity("a")))
        }
        #expect(
            stage.coordinator.state.jobs[1]?.failedGroups[0]?.contains("the journal keeps 900000000 at most") == true)
        #expect(stage.coordinator.members.count == 2 && stage.coordinator.quarantined.isEmpty)
    }

    @Test("resources.memory_per_worker is all that a job gets of a worker")
    func memoryPerWorker() {
        var stage = Stage()
        stage.hello("a", incarnation: 1, memory: 1 << 40)
        stage.admit(trunk: 1 << 30, memoryPerWorker: 1 << 29)
        let problem = stage.coordinator.state.jobs[1]?.ended?.problem ?? ""
        #expect(problem.contains("may give the job 512 MiB") && problem.contains("memory_per_worker"), "\(problem)")
    }
}
