// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import ClusterCore

/// Training as the coordinator decides it, step by step, under a clock that the test turns.
@Suite("Training transcripts")
struct TrainingTests {
    @Test("a job of two steps: prepared before it is applied, committed, checkpoint, then what that replaces goes")
    func order() {
        var stage = TrainingStage(workers: ["a", "b"])
        stage.admit(steps: 2, every: 1, keep: 1)
        let expected = """
            journal: epoch
            journal: model
            journal: admitted
            a begins from 0 as 0 of 2
            b begins from 0 as 1 of 2
            build step 1 for 2
            send step 1 to [1, 2]
            journal: prepared 1
            journal: committed 1
            seal step-000001
            journal: checkpoint 1
            remove all but [1]
            build step 2 for 2
            send step 2 to [1, 2]
            journal: prepared 2
            journal: committed 2
            seal step-000002
            journal: checkpoint 2
            remove all but [2]
            journal: done
            """
        #expect(stage.transcript.filter { !$0.hasPrefix("log") }.joined(separator: "\n") == expected)
        #expect(stage.disk == ["/out/checkpoints/step-000002"])
    }

    @Test("members whose OpenBLAS gives other bits do not train together under fp32; the kernel is named")
    func otherProducts() {
        for compute in ["fp32", "bf16"] {
            var stage = TrainingStage(workers: [])
            stage.join("a", blas: "sgemm:1")
            stage.join("b", blas: "sgemm:2")
            stage.admit(steps: 2, every: 1, compute: compute)
            stage.pass(20_000)
            guard compute == "fp32" else {
                #expect(stage.job.ended?.status == "done", "\(stage.transcript)")
                continue
            }
            let waiting = stage.coordinator.current?.waiting?.text ?? ""
            #expect(stage.job.ended == nil && waiting.contains("sgemm:2") && waiting.contains("(b,"), "\(waiting)")
        }
    }

    @Test("a model whose values are not finite ends the job at once, with the reason")
    func notFinite() {
        var stage = TrainingStage(workers: ["a", "b"])
        for name in ["a", "b"] { stage.actors[name]!.isSilent = true }
        stage.admit(steps: 2, every: 1)
        let epoch = stage.run!.epoch
        stage.say("a") {
            $0.trainFailed = .with {
                $0.epoch = epoch
                $0.reason = "the model /m: the output of layer 3 is not finite"
                $0.isModelAtFault = true
            }
        }
        #expect(stage.job.ended?.status == "failed")
        #expect(
            stage.job.ended?.problem
                == "step 1: the model /m: the output of layer 3 is not finite; no checkpoint was due yet")
        #expect(stage.coordinator.quarantined.isEmpty && stage.coordinator.members.count == 2)
    }

    @Test("the checkpoint that the journal names is on the disk at every moment, whoever joins", arguments: [1, 2])
    func checkpointStays(keep: UInt32) {
        var stage = TrainingStage(workers: ["a"])
        stage.check = { stage in
            guard let snapshot = stage.coordinator.state.jobs[1]?.snapshot else { return }
            // What is decided is not on the disk yet; what the journal names is.
            let isDecided = stage.transcript.contains("journal: checkpoint \(snapshot.version)")
            #expect(!isDecided || stage.disk.contains(snapshot.directory), "\(stage.transcript.suffix(4))")
        }
        stage.admit(steps: 9, every: 4, keep: keep)
        // One at a time: a step waits for its member, and meanwhile another one joins.
        var late = TrainingStage(workers: ["a"])
        late.check = stage.check
        late.actors["a"]!.isSilent = true
        late.admit(steps: 9, every: 4, keep: keep)
        late.actors["a"]!.isSilent = false
        late.join("b")
        late.pass(8000)
        for stage in [stage, late] {
            #expect(stage.job.ended?.status == "done", "\(stage.transcript)")
            let kept = keep == 1 ? ["9"] : ["8", "9"]
            #expect(stage.disk.map { String($0.suffix(1)) }.sorted() == kept)
        }
    }

    @Test("killed at every journal entry, the job goes on from what is there and ends with the same state")
    func everyEntry() {
        var quiet = TrainingStage(workers: ["a", "b"])
        quiet.admit(steps: 5, every: 2, keep: 1)
        let count = quiet.transcript.count { $0.hasPrefix("journal") }
        #expect(quiet.job.committed.count == 5)
        for entry in 1...count {
            // Its disk as it was when that many entries were durable.
            var states: [(DurableState, Set<String>)] = []
            var stage = TrainingStage(workers: ["a", "b"])
            var seen = 0
            stage.check = { stage in
                let now = stage.transcript.count { $0.hasPrefix("journal") }
                if now != seen { states.append((stage.coordinator.state, stage.disk)) }
                seen = now
            }
            stage.admit(steps: 5, every: 2, keep: 1)
            guard entry <= states.count else { continue }
            let (state, disk) = states[entry - 1]
            if let snapshot = state.jobs[1]?.snapshot { #expect(disk.contains(snapshot.directory)) }
            var again = TrainingStage(workers: ["a", "b"], state: state) {
                $0.disk = disk
                $0.cannotRead = { _, directory in directory != "model" && !disk.contains(directory) }
            }
            again.pass(1000)
            guard let job = again.coordinator.state.jobs[1] else { continue }
            #expect(job.ended?.status == "done" && job.committed == quiet.job.committed, "entry \(entry)")
        }
    }

    @Test(
        "a failure that passes costs seconds, one that stays ends the job after minutes, and the next one begins anew")
    func restartBudget() {
        var stage = TrainingStage(workers: ["a"])
        stage.actors["a"]!.isSilent = true
        stage.admit(steps: 2, every: 1)
        func fail(_ stage: inout TrainingStage) {
            guard let run = stage.run else { return }
            stage.say("a") {
                $0.trainFailed.epoch = run.epoch
                $0.trainFailed.reason = "the file system is away"
            }
        }
        // Two seconds of failures.
        let start = stage.milliseconds
        while stage.milliseconds < start + 2000 {
            fail(&stage)
            stage.pass(100)
        }
        #expect(stage.job.ended == nil)
        #expect(stage.coordinator.current?.restarts?.count == 2, "a second, then two")
        let waiting = stage.coordinator.current?.waiting?.text ?? ""
        #expect(waiting.contains("failure 2 of 10") && waiting.contains("the file system is away"), "\(waiting)")
        stage.actors["a"]!.isSilent = false
        stage.pass(10_000)
        #expect(stage.job.ended?.status == "done", "\(stage.transcript)")
        // For ever: minutes, then the reason.
        var long = TrainingStage(workers: ["a"])
        long.actors["a"]!.isSilent = true
        long.admit(steps: 2, every: 1)
        let begin = long.milliseconds
        while long.job.ended == nil, long.milliseconds < begin + 3_600_000 {
            fail(&long)
            long.pass(500)
        }
        #expect(long.job.ended?.problem.contains("the file system is away") == true)
        #expect(long.milliseconds > begin + 180_000)
        // The next job has a budget of its own.
        long.admit(steps: 2, every: 1)
        fail(&long)
        #expect(long.coordinator.state.jobs[2]?.ended == nil && long.coordinator.current?.restarts?.count == 1)
    }

    @Test("who cannot load is left aside with its reason, tries again, and joins once it can")
    func leftAside() {
        var stage = TrainingStage(workers: ["a", "b"])
        stage.actors["b"]!.problem = "model: No such file or directory"
        stage.actors["a"]!.isSilent = true
        stage.admit(steps: 4, every: 1)
        stage.pass(500)
        #expect(stage.run?.members == [stage.number("a")!])
        var list = WireListJobs()
        list.job = 1
        let notes = stage.coordinator.jobList(list, stage.now).jobs[0].notes
        #expect(notes.count == 1 && notes[0].contains("cannot load model: model: No such file"), "\(notes)")
        #expect(stage.coordinator.workerList(stage.now).workers.map(\.problem.isEmpty) == [true, false])
        // The file appears.
        stage.actors["b"]!.problem = nil
        stage.pass(4000)
        #expect(stage.coordinator.jobList(list, stage.now).jobs[0].notes == [])
        stage.actors["a"]!.isSilent = false
        stage.pass(6000) { $0.job.ended != nil }
        #expect(stage.job.ended?.status == "done")
        #expect(stage.transcript.contains("b begins from 0 as 1 of 2"), "\(stage.transcript)")
    }

    @Test("when nobody can load, the job says why it waits, and fails with the reason")
    func nobodyLoads() {
        var stage = TrainingStage(workers: ["a", "b"])
        for name in ["a", "b"] { stage.actors[name]!.problem = "no such file" }
        stage.admit(steps: 2, every: 1)
        stage.pass(500)
        let waiting = stage.coordinator.current?.waiting?.text ?? ""
        #expect(waiting.contains("worker 1") && waiting.contains("no such file"), "\(waiting)")
        stage.pass(30_000)
        #expect(stage.job.ended?.problem == "no worker can load model: no such file")
    }

    @Test("one worker that cannot read the checkpoint is left aside, the others go on")
    func oneCannotRead() {
        var stage = TrainingStage(workers: ["a", "b", "c"])
        stage.cannotRead = { name, _ in name == "b" }
        stage.admit(steps: 2, every: 1)
        stage.pass(5000)
        #expect(stage.job.ended?.status == "done", "\(stage.transcript)")
        #expect(stage.transcript.contains("c begins from 0 as 1 of 2"))
        #expect(!stage.transcript.contains { $0.hasPrefix("discard") })
    }

    @Test(
        "a checkpoint that nobody can read, or that holds another state, is given up for the one before",
        arguments: [true, false])
    func damagedCheckpoint(isUnreadable: Bool) {
        var stage = TrainingStage(workers: ["a", "b"])
        stage.admit(steps: 6, every: 2, keep: 2)
        let quiet = stage.job
        // Of the same job, up to its fourth step.
        var states: [DurableState] = []
        var short = TrainingStage(workers: ["a", "b"])
        short.check = { if $0.transcript.last == "journal: checkpoint 4" { states.append($0.coordinator.state) } }
        short.admit(steps: 6, every: 2, keep: 2)
        let last = "/out/checkpoints/step-000004"
        var again = TrainingStage(workers: ["a", "b"], state: states[0]) {
            $0.disk = ["/out/checkpoints/step-000002", last]
            if isUnreadable { $0.cannotRead = { _, directory in directory == last } } else { $0.spoiled = [last] }
        }
        again.pass(900)
        // The first failure may have been the file system's.
        #expect(!again.transcript.contains("journal: lost 4"))
        again.pass(20_000)
        #expect(again.transcript.contains("journal: lost 4") && again.transcript.contains("discard step-000004"))
        #expect(again.transcript.contains("a begins from 2 as 0 of 2"), "\(again.transcript)")
        #expect(again.job.ended?.status == "done" && again.job.committed == quiet.committed)
    }

    @Test("of jobs that ended some jobs ago a summary stays; without their detail the journal gives the same state")
    func forgetting() {
        var stage = TrainingStage(workers: ["a"])
        for _ in 0..<4 { stage.admit(steps: 2, every: 1) }
        #expect(stage.transcript.filter { $0.hasPrefix("forget") } == ["forget 1", "forget 2"])
        let list = stage.coordinator.jobList(WireListJobs(), stage.now)
        #expect(list.jobs.map(\.status) == ["done", "done", "done", "done"] && list.jobs.allSatisfy { $0.step == 2 })
        #expect(stage.job.committed.isEmpty)
        let kept = stage.entries.filter { ![1, 2].contains($0.detailOfJob ?? 0) }
        #expect(kept.count == stage.entries.count - 2 * 6)
        let again = Coordinator(state: DurableState(replaying: kept), incarnation: 9)
        #expect(again.jobList(WireListJobs(), stage.now) == list)
    }

    // MARK: - Waits

    private func wait(
        _ stage: inout TrainingStage, _ name: String, for peers: [String], milliseconds: UInt64, isAnswer: Bool
    ) {
        stage.actors[name]!.beat.waits = peers.map { peer in
            .with {
                $0.peer = peer
                $0.milliseconds = milliseconds
                $0.reason = isAnswer ? "experts of layer 0: no answer yet" : "to finish their cells"
                $0.isAnswer = isAnswer
            }
        }
    }

    /// Three workers in the middle of a step that nobody finishes.
    private func amidStep() -> TrainingStage {
        var stage = TrainingStage(workers: ["a", "b", "c"])
        for name in ["a", "b", "c"] { stage.actors[name]!.isSilent = true }
        stage.admit(steps: 2, every: 1)
        return stage
    }

    @Test("two workers that cannot reach each other are named within seconds, and the job goes on without one of them")
    func apart() {
        var stage = amidStep()
        func unreachable(_ milliseconds: UInt64) {
            stage.actors["b"]!.beat.unreachable =
                milliseconds == 0
                ? []
                : [
                    .with {
                        $0.peer = "c"; $0.milliseconds = milliseconds
                    }
                ]
        }
        unreachable(3000)
        stage.pass(600)
        var list = WireListJobs()
        list.job = 1
        let notes = stage.coordinator.jobList(list, stage.now).jobs[0].notes
        #expect(notes.count == 1 && notes[0].contains("worker 2 (b") && notes[0].contains("worker 3 (c"), "\(notes)")
        #expect(stage.transcript.contains { $0.contains("worker 3 (c, pid 0) cannot reach each other") })
        #expect(stage.coordinator.workerList(stage.now).workers.map { $0.problem.isEmpty } == [true, false, false])
        #expect(stage.run?.members == [1, 2, 3])
        unreachable(9000)
        for name in ["a", "b", "c"] { stage.actors[name]!.isSilent = false }
        stage.pass(600)
        #expect(stage.job.ended?.status == "done", "\(stage.transcript)")
        #expect(stage.transcript.contains { $0.contains("worker 3 (c, pid 0) is left out: it cannot reach worker 2") })
        #expect(stage.transcript.contains("a begins from 0 as 0 of 2"))
        unreachable(0)
        stage.pass(600)
        #expect(stage.coordinator.members.values.allSatisfy { !$0.isLeftOut })
    }

    @Test("whom most cannot reach is left out, and nobody where nothing is exchanged")
    func cover() {
        var stage = amidStep()
        for name in ["b", "c"] {
            stage.actors[name]!.beat.unreachable = [
                .with {
                    $0.peer = "a"; $0.milliseconds = 10_000
                }
            ]
        }
        stage.pass(600)
        #expect(stage.run?.members == [2, 3])
        stage.coordinator.end(1, "cancelled", "")
        stage.pass(600)
        #expect(stage.coordinator.members.values.allSatisfy { !$0.isLeftOut } && stage.coordinator.apart.count == 2)
    }

    @Test("an answer that does not come for two minutes: who owes it to most is ended, once")
    func answers() {
        var stage = amidStep()
        wait(&stage, "a", for: ["b"], milliseconds: 100_000, isAnswer: true)
        wait(&stage, "c", for: ["b"], milliseconds: 100_000, isAnswer: true)
        stage.pass(600)
        #expect(stage.coordinator.members.count == 3)
        wait(&stage, "a", for: ["b"], milliseconds: 121_000, isAnswer: true)
        wait(&stage, "c", for: ["b"], milliseconds: 121_000, isAnswer: true)
        stage.pass(600)
        #expect(stage.number("b") == nil && stage.coordinator.members.count == 2, "\(stage.transcript)")
        #expect(stage.transcript.contains { $0.contains("worker 1, worker 3 waited more than 120 s for it (experts") })
        // They ask the next holder; their wait goes on from the same start.
        wait(&stage, "a", for: ["c"], milliseconds: 122_000, isAnswer: true)
        stage.pass(600)
        #expect(stage.coordinator.members.count == 2)
    }

    @Test(
        "members that all wait for each other: the epoch ends and says who waited for whom; who waits for one that works, waits"
    )
    func everybodyWaits() {
        var stage = amidStep()
        let epoch = stage.run?.epoch
        wait(&stage, "a", for: ["b", "c"], milliseconds: 130_000, isAnswer: false)
        wait(&stage, "b", for: ["c"], milliseconds: 130_000, isAnswer: false)
        stage.pass(600)
        #expect(stage.run?.epoch == epoch)
        wait(&stage, "c", for: ["a"], milliseconds: 130_000, isAnswer: false)
        stage.pass(600)
        #expect(stage.run?.epoch != epoch)
        let reason = stage.coordinator.current?.restarts?.reason ?? ""
        #expect(reason.contains("worker 3 waits for worker 1 to finish their cells"), "\(reason)")
    }

    @Test("a member that stands still for ten minutes is ended, one that gets on is not")
    func standstill() {
        var stage = amidStep()
        for round in 0..<130 {
            stage.actors["a"]!.beat.progress = UInt64(round)
            stage.actors["c"]!.beat.progress = UInt64(round)
            stage.pass(5000)
        }
        #expect(stage.number("b") == nil && stage.number("a") == 1 && stage.number("c") == 3)
        #expect(stage.transcript.contains { $0.contains("no progress for 6") })
    }
}
