// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf

@testable import ClusterCore

/// A coordinator with a training job, and all that surrounds it: workers that answer at once, a shell that builds steps, a
/// disk with checkpoints. What comes is played until nobody has anything to say.
struct TrainingStage {
    struct Actor {
        let name: String
        var incarnation: UInt64
        var rank: UInt32 = 0
        var epoch: UInt32 = 0
        var version: UInt64 = 0
        /// What the beat says.
        var beat = WireBeat()
        /// Answers no order of training.
        var isSilent = false
        /// Why it cannot load the model.
        var problem: String?
        /// Answers to whether a step is there: the cells that are, or nil for all of it.
        var held: [UInt32]? = []
        /// Loses what it is sent of a step.
        var losesSteps = false
    }

    var coordinator: Coordinator
    var milliseconds: UInt64 = 1000
    var actors: [String: Actor] = [:]
    /// Directories of whole checkpoints.
    var disk: Set<String> = []
    /// Directories that hold another state than was written.
    var spoiled: Set<String> = []
    /// Whether a worker cannot read a directory.
    var cannotRead: (_ worker: String, _ directory: String) -> Bool = { _, _ in false }
    var entries: [WireJournalEntry] = []
    /// One line per thing of note, in order.
    var transcript: [String] = []
    /// Called after everything that was done.
    var check: ((TrainingStage) -> Void)?
    private var waiting: [Coordinator.Effect] = []

    /// - Parameter setup: what is so before the workers join, and a job that is under way goes on.
    init(
        workers: [String], state: DurableState = DurableState(), _ setup: (inout TrainingStage) -> Void = { _ in }
    ) {
        var quiet = ClusterTimes()
        quiet.canaryEvery = 0
        coordinator = Coordinator(
            state: state, incarnation: 7, expectedWorkerCount: workers.count, times: quiet)
        setup(&self)
        tick()
        for name in workers { join(name) }
    }

    var now: MonotonicInstant { MonotonicInstant(nanoseconds: milliseconds * 1_000_000) }
    var job: JobRecord { coordinator.state.jobs[1]! }
    var run: TrainingRun? { coordinator.current?.training }

    mutating func admit(steps: UInt32, every: UInt32, keep: UInt32 = 2, experts: UInt32 = 0, compute: String = "") {
        let admitted = WireJobAdmitted.with {
            $0.job = coordinator.state.nextJob
            $0.name = "job"
            $0.output = "/out"
            $0.groupSize = 1
            $0.stepCount = steps
            $0.snapshotEvery = every
            $0.snapshotKeep = keep
        }
        let model = WireModelDescription.with {
            $0.path = "model"
            $0.contentHash = "h"
            $0.trunkByteCount = 1 << 20
            $0.isTrained = true
            $0.compute = compute
            $0.expertCount = experts
        }
        apply(
            .jobPrepared(
                .init(admitted: admitted, policy: model, scorer: nil, client: PeerIdentity("client"), request: 1)))
    }

    mutating func join(_ name: String, blas: String = "") {
        let number = UInt64(actors.count + 1) + milliseconds
        actors[name] = Actor(name: name, incarnation: number)
        say(name) {
            $0.hello.numericsFingerprint = "f"
            $0.hello.blasFingerprint = blas
            $0.hello.host = name
            $0.hello.memoryByteCount = 1 << 40
        }
    }

    mutating func say(_ name: String, _ fill: (inout WireEnvelope) -> Void) {
        apply(.message(envelope(name, fill), from: PeerIdentity(name), role: .worker))
    }

    private func envelope(_ name: String, _ fill: (inout WireEnvelope) -> Void) -> WireEnvelope {
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.incarnation = actors[name]?.incarnation ?? 0
        envelope.epoch = coordinator.state.epoch
        fill(&envelope)
        return envelope
    }

    mutating func tick() { apply(.tick) }

    /// Lets time pass, with beats of everybody who is there.
    mutating func pass(_ duration: UInt64, until isEnough: (TrainingStage) -> Bool = { _ in false }) {
        for _ in 0..<duration / 100 where !isEnough(self) {
            milliseconds += 100
            for name in actors.keys.sorted() where milliseconds % 500 == 0 {
                let beat = actors[name]!.beat
                say(name) { $0.beat = beat }
            }
            tick()
        }
    }

    mutating func apply(_ event: Coordinator.Event) {
        waiting += coordinator.apply(event, at: now)
        while !waiting.isEmpty {
            let effect = waiting.removeFirst()
            perform(effect)
            check?(self)
        }
    }

    func number(_ name: String) -> WorkerNumber? {
        coordinator.members.values.first { $0.identity.rawValue == name }?.number
    }

    // MARK: - What others do

    private mutating func answer(_ name: String, _ fill: (inout WireEnvelope) -> Void) {
        waiting += coordinator.apply(
            .message(envelope(name, fill), from: PeerIdentity(name), role: .worker), at: now)
    }

    private mutating func answer(_ event: Coordinator.Event) { waiting += coordinator.apply(event, at: now) }

    private mutating func perform(_ effect: Coordinator.Effect) {
        switch effect {
        case .journal(let entry, _):
            entries.append(entry)
            transcript.append("journal: \(Self.kind(entry))")
        case .send(let envelope, let peer): obey(envelope, peer.rawValue)
        case .buildStep(let job, let epoch, let version, let members):
            transcript.append("build step \(version + 1) for \(members.count)")
            answer(.stepBuilt(job: job, epoch: epoch, version: version, Self.plan(version), problem: nil))
        case .sendStep(_, let epoch, let version, let workers, let held):
            transcript.append(
                "send step \(version + 1) to \(workers)" + (held.isEmpty ? "" : " without cells \(held.sorted())"))
            for worker in workers {
                guard let name = coordinator.identity(of: worker)?.rawValue, actors[name]?.isSilent == false,
                    actors[name]?.losesSteps == false
                else {
                    continue
                }
                answer(name) {
                    $0.stepSealed.epoch = epoch
                    $0.stepSealed.version = version
                }
            }
        case .sealSnapshot(let job, let version, let directory):
            let name = String(directory.dropLast(".partial".count))
            transcript.append("seal \(Self.last(name))")
            disk.insert(name)
            answer(.snapshotSealed(job: job, version: version, directory: name, problem: nil))
        case .removeSnapshots(_, let kept):
            transcript.append("remove all but \(kept)")
            disk = disk.filter { name in
                let version = UInt64(name.suffix(6))!
                return version > kept.max()! || kept.contains(version)
            }
        case .discardSnapshot(let directory):
            transcript.append("discard \(Self.last(directory))")
            disk.remove(directory)
            spoiled.remove(directory)
        case .finish(let job): answer(.jobWritten(job: job, problem: nil))
        case .grant: break
        case .forget(let job): transcript.append("forget \(job)")
        case .log(let text): transcript.append("log: \(text)")
        }
    }

    private mutating func obey(_ order: WireEnvelope, _ name: String) {
        guard var actor = actors[name], order.recipient == actor.incarnation else { return }
        defer { actors[name] = actor }
        let isTraining: Bool
        switch order.body {
        case .deploy(let deploy):
            let problem = actor.problem
            return answer(name) {
                $0.shardReport = .with {
                    $0.model = deploy.model.id
                    $0.epoch = deploy.epoch
                    $0.isTrunkReady = problem == nil
                    $0.experts = problem == nil ? deploy.experts : []
                    $0.problem = problem ?? ""
                }
            }
        case .trainBegin, .stepApply, .takeSnapshot, .stepQuestion: isTraining = true
        default: isTraining = false
        }
        guard isTraining, !actor.isSilent else { return }
        switch order.body {
        case .trainBegin(let begin):
            transcript.append("\(name) begins from \(begin.version) as \(begin.rank) of \(begin.members.count)")
            if cannotRead(name, begin.snapshot) {
                return answer(name) {
                    $0.trainFailed.epoch = begin.epoch
                    $0.trainFailed.reason = "\(begin.snapshot): cannot open"
                    $0.trainFailed.isSnapshotUnreadable = true
                }
            }
            actor.rank = begin.rank
            actor.epoch = begin.epoch
            actor.version = begin.version
            let state = Self.state(actor, isSpoiled: spoiled.contains(begin.snapshot))
            answer(name) {
                $0.trainReady.epoch = begin.epoch
                $0.trainReady.version = begin.version
                $0.trainReady.state = state
            }
        case .stepApply(let apply):
            actor.version = apply.version + 1
            let state = Self.state(actor, isSpoiled: false)
            answer(name) { $0.stepApplied = state }
        case .stepQuestion(let question):
            transcript.append("\(name) is asked for step \(question.version + 1)")
            let held = actor.held
            answer(name) {
                $0.stepHeld.epoch = question.epoch
                $0.stepHeld.version = question.version
                $0.stepHeld.isWhole = held == nil
                $0.stepHeld.cells = held ?? []
            }
        case .takeSnapshot(let snapshot):
            answer(name) {
                $0.snapshotWritten.epoch = snapshot.epoch
                $0.snapshotWritten.version = snapshot.version
            }
        default: break
        }
    }

    /// One segment, which the first member owns: the state is the version's, whoever is there.
    private static func state(_ actor: Actor, isSpoiled: Bool) -> WireStepApplied {
        .with {
            $0.epoch = actor.epoch
            $0.version = actor.version
            guard actor.rank == 0 else { return }
            $0.segmentNumbers = [0]
            $0.segments = [UInt32(actor.version) * 7 + (isSpoiled ? 1 : 0)]
        }
    }

    private static func plan(_ version: UInt64) -> StepPlan {
        StepPlan(
            number: version + 1, learningRate: 1, clipNorm: nil, beta1: 0, beta2: 0, epsilon: 0, weightDecay: 0,
            report: "{}")
    }

    private static func last(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }

    private static func kind(_ entry: WireJournalEntry) -> String {
        switch entry.change {
        case .epochStarted: "epoch"
        case .modelRegistered: "model"
        case .jobAdmitted: "admitted"
        case .stepPrepared(let step): "prepared \(step.version + 1)"
        case .stepCommitted(let step): "committed \(step.version)"
        case .snapshotTaken(let taken): "checkpoint \(taken.version)"
        case .snapshotLost(let lost): "lost \(lost.version)"
        case .jobEnded(let ended): ended.status
        case .jobForgotten(let forgotten): "forgotten \(forgotten.job)"
        default: "other"
        }
    }
}
