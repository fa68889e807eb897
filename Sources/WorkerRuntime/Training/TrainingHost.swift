// SPDX-License-Identifier: Apache-2.0
//
// A worker's side of a training job: orders come in, answers go out, all on the engine's thread. The coordinator repeats
// what it has no answer to; the worker's loop answers that from memory and lets every order through once.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import ExpertParallel
internal import Foundation
internal import PostTraining
internal import Qwen3
internal import RuntimeSupport
internal import SwiftProtobuf
internal import Tensors

/// Trains the models that this worker hosts. One training epoch at a time.
final class TrainingHost: @unchecked Sendable {
    // @unchecked: used by the engine's thread alone, but for `control` and `orders`, which are locked.

    /// What other threads may touch.
    struct Control {
        var epoch: UInt32 = 0
        var abortedEpoch: UInt32 = 0
        var exchange: TrainingExchange?
        var member: TrainingMember?
        var frozen: [FrozenModel] = []
        var activity: String?
    }

    private let environment: WorkerEnvironment
    private let send: @Sendable (WireEnvelope) -> Void
    let control = Locked(Control())
    private let orders = Locked(TrainingOrders())
    private var member: TrainingMember?
    private var host: ModelHost?
    private var epoch: UInt32 = 0
    private var frozen: [UInt32: FrozenModel] = [:]

    init(_ environment: WorkerEnvironment, send: @escaping @Sendable (WireEnvelope) -> Void) {
        self.environment = environment
        self.send = send
    }

    // MARK: - From any thread

    /// Whether an order is to be carried out, by ``perform(_:host:)``; one that was is answered again here.
    func isNew(_ kind: TrainingOrders.Kind, epoch: UInt32, version: UInt64) -> Bool {
        switch orders.withLock({ $0.take(kind, epoch: epoch, version: version) }) {
        case .carryOut: return true
        case .answer(let answer): send(answer)
        case .ignore: break
        }
        return false
    }

    /// The gradients of a step, if they are complete.
    func sealed(epoch: UInt32, version: UInt64) -> WireEnvelope? {
        orders.withLock { $0.answer(.step, epoch: epoch, version: version) }
    }

    /// Ends epochs up to this one: waits in them end, so that the engine's thread gets on to the next order, and what peers
    /// still send for them is dropped.
    func abort(epoch: UInt32) {
        orders.withLock { $0.end(epoch: epoch) }
        environment.port.endTraining(epoch: epoch)
        let (member, frozen) = control.withLock { control in
            control.abortedEpoch = max(control.abortedEpoch, epoch)
            return control.epoch <= epoch ? (control.member, control.frozen) : (nil, [])
        }
        member?.cancel()
        for model in frozen { model.cancel() }
    }

    /// For the beat.
    var activity: String? { control.withLock { $0.activity } }
    /// What is to come from other members of the epoch.
    var waiting: TrainingWait? { control.withLock { $0.exchange }?.waiting }
    /// Experts that its cells, or those of frozen models, wait for.
    var expertWaits: [ExchangeWait] {
        let (member, frozen) = control.withLock { ($0.member, $0.frozen) }
        return (member?.waits ?? []) + frozen.flatMap(\.waits)
    }

    // MARK: - Orders, on the engine's thread

    /// An epoch is over: lets go of what was kept for it, and of the credit of peers that this holds.
    func end(epoch ended: UInt32) {
        member?.exchange.end(epoch: ended)
        guard epoch <= ended else { return }
        frozen = [:]
        control.withLock { $0.frozen = [] }
        if let host { environment.training.set(model: host.description.id, nil) }
    }

    /// The model goes away.
    func drop(_ model: UInt32) {
        frozen[model] = nil
        guard host?.description.id == model else { return }
        member?.exchange.end(epoch: .max)
        member = nil
        host = nil
        environment.training.set(model: model, nil)
        control.withLock {
            $0.exchange = nil
            $0.member = nil
            $0.frozen = []
        }
    }

    func begin(_ begin: WireTrainBegin, _ host: ModelHost?) {
        perform(.begin, begin.epoch, begin.version, "loading the training state") {
            guard let host else { throw WorkerError("model \(begin.model) is not loaded here") }
            frozen = [:]
            let member =
                self.host === host && self.member != nil
                ? self.member!
                : TrainingMember(
                    model: host.model, modelID: begin.model, experts: host.exchange, store: environment.shards,
                    training: environment.training, port: environment.port)
            if begin.lanes > 0 { member.limitLanes(to: Int(begin.lanes)) }
            self.member = member
            self.host = host
            epoch = begin.epoch
            control.withLock {
                $0.epoch = begin.epoch
                $0.exchange = member.exchange
                $0.member = member
                $0.frozen = []
            }
            // The start of a reward model may be a language model; later snapshots have the head.
            let checkpoint = try Checkpoint(
                directory: URL(fileURLWithPath: begin.snapshot, isDirectory: true),
                freshHeadSeed: host.checkpoint.freshHeadSeed)
            let disk = begin.diskDirectory.isEmpty ? nil : begin.diskDirectory
            if let disk { try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true) }
            let checksums = try member.begin(
                TrainingEpoch(
                    number: begin.epoch, members: begin.members.map { PeerIdentity($0) }, rank: Int(begin.rank),
                    experts: begin.experts.map(Int.init)),
                version: begin.version,
                from: TrainingSnapshot(
                    checkpoint, compute: host.model.compute, pool: environment.pool, diskDirectory: disk,
                    resumes: begin.resumes))
            checkpoint.dropPages()
            host.weightsChanged()
            return .with {
                $0.trainReady = .with {
                    $0.epoch = begin.epoch
                    $0.version = begin.version
                    $0.state = state(member, checksums)
                }
            }
        }
    }

    /// This member of the epoch, at the version that an order is about.
    private func member(_ epoch: UInt32, _ version: UInt64) throws -> TrainingMember {
        guard epoch == self.epoch, let member, member.version == version else {
            throw WorkerError("an order for version \(version) of epoch \(epoch), which this worker is not in")
        }
        return member
    }

    /// - Parameter cells: this member's, in order.
    func step(_ step: WireTrainStep, _ cells: [WireTrainCell], host find: (UInt32) -> ModelHost?) {
        perform(.step, step.epoch, step.version, "training step \(step.version + 1)") {
            let member = try member(step.epoch, step.version)
            FailPoint.pass("training.step")
            var first = 0
            let ranges = step.rangeEnds.map { end in
                defer { first = Int(end) }
                return first..<Int(end)
            }
            let objective = StepObjective(step.objective)
            var guides = StepGuides()
            for cell in cells where cell.guide != 0 {
                guides.models[Int(cell.index)] = try frozenModel(cell.guide, find(cell.guide))
            }
            let own = cells.map { $0.sequences.map(TrainingSequence.init) }
            if step.hasTeacher { guides.divergence = TeacherDivergence(step.teacher) }
            guides.givesReference = step.hasReference_p
            let firstCell = ranges[member.exchange.rank].lowerBound
            let sealed = try member.gradients(
                TrainingStepOrder(
                    version: step.version,
                    cells: zip(cells, own).map {
                        TrainingCell(index: Int($0.index), $1, sharesPrompts: step.sharesPrompts)
                    }, ranges: ranges,
                    waveCells: max(1, Int(step.waveCells)), temperature: step.temperature,
                    auxiliaryCoefficient: step.auxiliaryCoefficient, recomputes: step.recomputes),
                guides: guides
            ) { cell, scores, reference in
                Self.evaluate(objective, own[cell.index - firstCell], scores, reference)
            }
            return .with { $0.stepSealed = sealed.wire(epoch: step.epoch, version: step.version) }
        }
    }

    private static func evaluate(
        _ objective: StepObjective, _ sequences: [TrainingSequence], _ scores: [TokenScore], _ reference: [Float]?
    ) -> CellObjective {
        var statistics = StepStatistics()
        var gradients: [RowGradient] = []
        if let preference = objective.preference {
            gradients = preference.evaluate(scores.map(\.logProb), &statistics)
            return CellObjective(gradients: gradients, statistics: statistics.sums, maxima: statistics.maxima)
        }
        var first = 0
        for var sequence in sequences {
            let range = first..<first + sequence.scored.count
            if let reference { sequence.reference = Array(reference[range]) }
            gradients += objective.evaluate(sequence, scores[range], &statistics)
            first = range.upperBound
        }
        return CellObjective(gradients: gradients, statistics: statistics.sums, maxima: statistics.maxima)
    }

    private func frozenModel(_ id: UInt32, _ host: ModelHost?) throws -> FrozenModel {
        if let model = frozen[id] { return model }
        guard let host, let member else { throw WorkerError("model \(id) is not loaded here") }
        let model = FrozenModel(host.model, experts: host.exchange, laneCount: member.laneCount)
        frozen[id] = model
        control.withLock { $0.frozen.append(model) }
        return model
    }

    func apply(_ order: WireStepApply) {
        perform(.apply, order.epoch, order.version, "applying step \(order.version + 1)") {
            let member = try member(order.epoch, order.version)
            FailPoint.pass("training.apply")
            let hashes =
                order.number == 0
                ? member.skip()
                : try member.apply(
                    AdamWStep(
                        number: Int(order.number), learningRate: order.learningRate, gradientScale: order.gradientScale,
                        settings: AdamWSettings(
                            beta1: order.beta1, beta2: order.beta2, epsilon: order.adamEpsilon,
                            weightDecay: order.weightDecay)))
            host?.weightsChanged()
            return .with { $0.stepApplied = state(member, hashes) }
        }
    }

    /// What a member has, by the checksums of its segments and then of its experts.
    private func state(_ member: TrainingMember, _ checksums: [UInt32]) -> WireStepApplied {
        .with {
            $0.epoch = epoch
            $0.version = member.version
            $0.segmentNumbers = member.ownSegments.map { UInt32($0.index) }
            $0.segments = Array(checksums.prefix($0.segmentNumbers.count))
            $0.experts = Array(checksums.dropFirst($0.segmentNumbers.count))
        }
    }

    func snapshot(_ order: WireTakeSnapshot) {
        perform(.snapshot, order.epoch, order.version, "writing the checkpoint of step \(order.version)") {
            let member = try member(order.epoch, order.version)
            var problem = ""
            do {
                try SnapshotWriter(member, environment.shards, model: host!.description.id).write(
                    to: URL(fileURLWithPath: order.directory, isDirectory: true))
            } catch { problem = String(describing: error) }
            return .with {
                $0.snapshotWritten = .with {
                    $0.epoch = order.epoch
                    $0.version = order.version
                    $0.problem = problem
                }
            }
        }
    }

    // MARK: - Answers

    /// An order that found no room among the engine's commands.
    func refuse(_ kind: TrainingOrders.Kind, epoch: UInt32, version: UInt64, _ reason: String) {
        answer(kind, epoch, version, failure(epoch, reason))
    }

    /// Carries an order out and gives the answer, also when it fails; nothing is said of an epoch that is over.
    private func perform(
        _ kind: TrainingOrders.Kind, _ epoch: UInt32, _ version: UInt64, _ activity: String,
        _ body: () throws -> WireEnvelope
    ) {
        if isOver(epoch) { return }
        control.withLock { $0.activity = activity }
        defer { control.withLock { $0.activity = nil } }
        do {
            answer(kind, epoch, version, try body())
        } catch {
            // Frames of other members are kept no longer: they hold the members' credit.
            member?.exchange.end(epoch: epoch)
            if isOver(epoch) { return }
            answer(
                kind, epoch, version,
                failure(
                    epoch, String(describing: error), isSnapshotUnreadable: error is CheckpointError,
                    isModelAtFault: error is NotFiniteError))
        }
    }

    private func isOver(_ epoch: UInt32) -> Bool { control.withLock { $0.abortedEpoch >= epoch } }

    private func failure(
        _ epoch: UInt32, _ reason: String, isSnapshotUnreadable: Bool = false, isModelAtFault: Bool = false
    ) -> WireEnvelope {
        .with {
            $0.trainFailed = .with {
                $0.epoch = epoch
                $0.reason = reason
                $0.isSnapshotUnreadable = isSnapshotUnreadable
                $0.isModelAtFault = isModelAtFault
            }
        }
    }

    private func answer(_ kind: TrainingOrders.Kind, _ epoch: UInt32, _ version: UInt64, _ answer: WireEnvelope) {
        var isFinal = true
        // A checkpoint that could not be written is asked for again.
        if case .snapshotWritten(let written) = answer.body { isFinal = written.problem.isEmpty }
        orders.withLock { $0.finish(kind, epoch: epoch, version: version, isFinal ? answer : nil) }
        send(answer)
    }
}
