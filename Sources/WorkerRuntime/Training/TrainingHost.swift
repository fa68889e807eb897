// SPDX-License-Identifier: Apache-2.0
//
// A worker's side of a training job: orders come in, answers go out, all on the engine's thread. An order that was carried
// out already is answered again from memory, since the coordinator repeats what it has no answer to.
internal import Checkpoints
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
    // @unchecked: used by the engine's thread alone, but for `control`, which is locked.

    /// What other threads may touch.
    struct Control {
        var epoch: UInt32 = 0
        var abortedEpoch: UInt32 = 0
        var exchange: TrainingExchange?
        var member: TrainingMember?
        var frozen: [FrozenModel] = []
        var activity: String?
    }

    /// A cell of the coming step.
    private struct ReceivedCell {
        let index: Int
        /// Model that it is compared with; 0: none.
        let guide: UInt32
        let sequences: [TrainingSequence]
    }

    private let environment: WorkerEnvironment
    private let send: @Sendable (WireEnvelope) -> Void
    let control = Locked(Control())
    private var member: TrainingMember?
    private var host: ModelHost?
    private var epoch: UInt32 = 0
    private var cells: [UInt32: ReceivedCell] = [:]
    private var answers: [String: WireEnvelope] = [:]
    private var frozen: [UInt32: FrozenModel] = [:]

    init(_ environment: WorkerEnvironment, send: @escaping @Sendable (WireEnvelope) -> Void) {
        self.environment = environment
        self.send = send
    }

    // MARK: - From any thread

    /// Ends waits of an epoch, so that the engine's thread gets on to the next order.
    func abort(epoch: UInt32) {
        let (member, frozen) = control.withLock { control in
            control.abortedEpoch = max(control.abortedEpoch, epoch)
            return control.epoch <= epoch ? (control.member, control.frozen) : (nil, [])
        }
        member?.cancel()
        for model in frozen { model.cancel() }
    }

    /// For the beat.
    var activity: String? { control.withLock { $0.activity } }
    var waiting: String? { control.withLock { $0.exchange }?.waiting }

    // MARK: - Orders, on the engine's thread

    /// The model goes away.
    func drop(_ model: UInt32) {
        frozen[model] = nil
        guard host?.description.id == model else { return }
        member = nil
        host = nil
        answers = [:]
        environment.training.set(model: model, nil)
        control.withLock {
            $0.exchange = nil
            $0.member = nil
            $0.frozen = []
        }
    }

    func begin(_ begin: WireTrainBegin, _ host: ModelHost?) {
        if repeated("begin", begin.epoch, begin.version) { return }
        perform(begin.epoch, "loading the training state") {
            guard let host else { throw WorkerError("model \(begin.model) is not loaded here") }
            frozen = [:]
            cells = [:]
            answers = [:]
            let member =
                self.host === host && self.member != nil
                ? self.member!
                : TrainingMember(
                    model: host.model, modelID: begin.model, experts: host.exchange, store: environment.shards,
                    training: environment.training, port: environment.port)
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
                    checkpoint, compute: host.model.compute, pool: environment.pool, diskDirectory: disk))
            checkpoint.dropPages()
            host.weightsChanged()
            answer("begin", begin.version) {
                $0.trainReady = .with {
                    $0.epoch = begin.epoch
                    $0.version = begin.version
                    $0.state = state(member, checksums)
                }
            }
        }
    }

    func take(_ cells: WireTrainCells) {
        guard cells.epoch == epoch, let member, cells.version == member.version else { return }
        for cell in cells.cells {
            self.cells[cell.index] = ReceivedCell(
                index: Int(cell.index), guide: cell.guide, sequences: cell.sequences.map(TrainingSequence.init))
        }
    }

    func step(_ step: WireTrainStep, host find: (UInt32) -> ModelHost?) {
        if repeated("step", step.epoch, step.version) { return }
        guard step.epoch == epoch, let member, step.version == member.version else { return }
        perform(step.epoch, "training step \(step.version + 1)") {
            FailPoint.pass("training.step")
            var first = 0
            let ranges = step.rangeEnds.map { end in
                defer { first = Int(end) }
                return first..<Int(end)
            }
            let own = try ranges[member.exchange.rank].map { index in
                guard let cell = cells[UInt32(index)] else { throw WorkerError("cell \(index) did not come") }
                return cell
            }
            let objective = StepObjective(step.objective)
            var guides = StepGuides()
            for cell in own where cell.guide != 0 {
                guides.models[cell.index] = try frozenModel(cell.guide, find(cell.guide))
            }
            if step.hasTeacher { guides.divergence = TeacherDivergence(step.teacher) }
            guides.givesReference = step.hasReference_p
            let firstCell = ranges[member.exchange.rank].lowerBound
            let sealed = try member.gradients(
                TrainingStepOrder(
                    version: step.version,
                    cells: own.map {
                        TrainingCell(index: $0.index, $0.sequences, sharesPrompts: step.sharesPrompts)
                    }, ranges: ranges,
                    waveCells: max(1, Int(step.waveCells)), temperature: step.temperature,
                    auxiliaryCoefficient: step.auxiliaryCoefficient, recomputes: step.recomputes),
                guides: guides
            ) { cell, scores, reference in
                Self.evaluate(objective, own[cell.index - firstCell].sequences, scores, reference)
            }
            cells = [:]
            answer("step", step.version) { $0.stepSealed = sealed.wire(epoch: step.epoch, version: step.version) }
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
        guard let host, let student = self.host else { throw WorkerError("model \(id) is not loaded here") }
        let model = FrozenModel(host.model, experts: host.exchange, student: student.model)
        frozen[id] = model
        control.withLock { $0.frozen.append(model) }
        return model
    }

    func apply(_ order: WireStepApply) {
        if repeated("apply", order.epoch, order.version + 1) { return }
        guard order.epoch == epoch, let member, order.version == member.version else { return }
        perform(order.epoch, "applying step \(order.version + 1)") {
            FailPoint.pass("training.apply")
            let hashes = try member.apply(
                AdamWStep(
                    number: Int(order.number), learningRate: order.learningRate, gradientScale: order.gradientScale,
                    settings: AdamWSettings(
                        beta1: order.beta1, beta2: order.beta2, epsilon: order.adamEpsilon,
                        weightDecay: order.weightDecay)))
            host?.weightsChanged()
            answers = [:]
            answer("apply", member.version) { $0.stepApplied = state(member, hashes) }
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
        if repeated("snapshot", order.epoch, order.version) { return }
        guard order.epoch == epoch, let member, order.version == member.version else { return }
        perform(order.epoch, "writing the checkpoint of step \(order.version)") {
            var problem = ""
            do {
                try SnapshotWriter(member, environment.shards, model: host!.description.id).write(
                    to: URL(fileURLWithPath: order.directory, isDirectory: true))
            } catch { problem = String(describing: error) }
            let written = WireSnapshotWritten.with {
                $0.epoch = order.epoch
                $0.version = order.version
                $0.problem = problem
            }
            if problem.isEmpty {
                answer("snapshot", order.version) { $0.snapshotWritten = written }
            } else {
                var envelope = WireEnvelope()
                envelope.snapshotWritten = written
                send(envelope)
            }
        }
    }

    // MARK: - Answers

    private func perform(_ epoch: UInt32, _ activity: String, _ body: () throws -> Void) {
        if control.withLock({ $0.abortedEpoch >= epoch }) { return }
        control.withLock { $0.activity = activity }
        defer { control.withLock { $0.activity = nil } }
        do { try body() } catch {
            if control.withLock({ $0.abortedEpoch >= epoch }) { return }
            var envelope = WireEnvelope()
            envelope.trainFailed = .with {
                $0.epoch = epoch
                $0.reason = String(describing: error)
                $0.isSnapshotUnreadable = error is CheckpointError
            }
            send(envelope)
        }
    }

    private func key(_ kind: String, _ epoch: UInt32, _ version: UInt64) -> String { "\(kind) \(epoch) \(version)" }

    private func answer(_ kind: String, _ version: UInt64, _ fill: (inout WireEnvelope) -> Void) {
        var envelope = WireEnvelope()
        fill(&envelope)
        answers[key(kind, epoch, version)] = envelope
        send(envelope)
    }

    private func repeated(_ kind: String, _ epoch: UInt32, _ version: UInt64) -> Bool {
        guard let answer = answers[key(kind, epoch, version)] else { return false }
        send(answer)
        return true
    }
}
