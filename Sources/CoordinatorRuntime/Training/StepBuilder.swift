// SPDX-License-Identifier: Apache-2.0
//
// A training step from the journal: the batch's rollouts, judged, or rows of data, as sequences with streams; whole-step
// divisors; cells; and a message per member. A pure function of journal, job and version, so that a repeated step is the
// same step.
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import PostTraining
internal import Qwen3
internal import Rewards
internal import SwiftProtobuf

/// What was built for one step.
struct BuiltStep: Sendable {
    let plan: StepPlan
    /// Per member, in order of rank: cells, then the step.
    let messages: [[WireEnvelope]]
}

struct StepBuilder {
    let journal: Journal
    let job: JobRecord
    let specification: TrainJob
    let epoch: UInt32
    let version: UInt64
    let memberCount: Int

    /// Bytes of cells in one transfer, about, and of the largest cell, which is a transfer of its own.
    private static let messageByteCount = 512 << 10
    private static let cellByteCountMax = 1_000_000_000

    /// - Throws: one line.
    func build() throws -> BuiltStep {
        var report = StepReport()
        let sequences = try self.sequences(&report)
        let guides = sequences.map(\.guide)
        let divisors = StepDivisors(sequences)
        let isOfPairs = specification.method == .reward
        let shared = sequences.indices.map { index -> Int in
            guard sharesPrompts, index > 0, guides[index] == guides[index - 1] else { return 0 }
            let (a, b) = (sequences[index - 1], sequences[index])
            return TrainingCell.sharedCount(a.tokens, a.scored, b.tokens, b.scored)
        }
        let packed = CellPacking.pack(
            tokenCounts: sequences.map(\.tokens.count), shared: shared, kinds: guides,
            unit: isOfPairs ? 2 : 1, budget: specification.cellTokens)
        let cells = packed.enumerated().map { index, members in
            WireTrainCell.with {
                $0.index = UInt32(index)
                $0.guide = guides[members[0]]
                $0.sequences = members.map { sequences[$0].wire }
            }
        }
        let counts = packed.map { cell in
            cell.reduce(0) { $0 + sequences[$1].tokens.count } - cell.dropFirst().reduce(0) { $0 + shared[$1] }
        }
        let ranges = CellPacking.share(cellTokenCounts: counts, members: memberCount)
        report.put("num_tokens", Double(sequences.reduce(0) { $0 + $1.tokens.count }))
        report.put("num_rows", Double(counts.reduce(0, +)))
        report.put("cells", Double(cells.count))
        // Steps since the weights that generated: 0 is on policy.
        if !specification.rewards.isEmpty {
            report.put("staleness", Double(Int(version) % specification.updatesPerBatch))
        }
        for (cell, members) in zip(cells, packed) where cell.byteCount > Self.cellByteCountMax {
            throw SubmissionError(
                description: "cell \(cell.index) of step \(version + 1) has \(members.count) sequences and "
                    + "\(cell.byteCount) bytes; the limit is \(Self.cellByteCountMax): lower cell_tokens"
                    + (specification.replaysRoutes ? " or switch routing_replay off" : ""), exitCode: 5)
        }
        // Said also while it is 0, as it is before the first step.
        if specification.method == .grpo, specification.loss.klCoefficient != 0 { report.put("kl", 0) }
        let step = step(divisors, rangeEnds: ranges.map { UInt32($0.upperBound) })
        let messages = ranges.map { range in cellMessages(cells[range]) + [envelope { $0.trainStep = step }] }
        if sequences.isEmpty { report.put("skipped", 1) }
        return BuiltStep(plan: plan(report, isSkipped: sequences.isEmpty), messages: messages)
    }

    /// Prompts of siblings and of pairs are computed once. The load-balancing loss counts every token of every sequence, as its
    /// definition has it, so with it they are not.
    private var sharesPrompts: Bool {
        (specification.generates || specification.method == .reward) && specification.routerAuxiliaryCoefficient == 0
    }

    private func envelope(_ fill: (inout WireEnvelope) -> Void) -> WireEnvelope {
        var envelope = WireEnvelope()
        fill(&envelope)
        return envelope
    }

    private func cellMessages(_ cells: ArraySlice<WireTrainCell>) -> [WireEnvelope] {
        var messages: [WireEnvelope] = []
        var open: [WireTrainCell] = []
        var size = 0
        func close() {
            guard !open.isEmpty else { return }
            messages.append(
                envelope {
                    $0.trainCells = .with {
                        $0.epoch = epoch
                        $0.version = version
                        $0.cells = open
                    }
                })
            open = []
            size = 0
        }
        for cell in cells {
            open.append(cell)
            size += cell.byteCount
            if size > Self.messageByteCount { close() }
        }
        close()
        return messages
    }

    // MARK: - Settings

    private func step(_ divisors: StepDivisors, rangeEnds: [UInt32]) -> WireTrainStep {
        .with {
            $0.epoch = epoch
            $0.version = version
            $0.rangeEnds = rangeEnds
            $0.waveCells = UInt32(specification.waveCells)
            $0.sharesPrompts = sharesPrompts
            $0.recomputes = specification.recomputesActivations
            $0.temperature = specification.generates ? Float(specification.sampling.temperature) : 1
            $0.auxiliaryCoefficient = specification.routerAuxiliaryCoefficient
            $0.objective = objective(divisors)
            if let teacher = specification.teacher {
                if teacher.divergence == .sampled {
                    $0.hasReference_p = true
                } else {
                    $0.teacher = settings(teacher)
                }
            } else if specification.loss.klCoefficient != 0 {
                $0.hasReference_p = true
            }
        }
    }

    private func settings(_ teacher: DistillationSection) -> WireTeacherSettings {
        .with {
            $0.beta = Float(teacher.beta)
            $0.temperature = Float(teacher.temperature)
            $0.topK = UInt32(teacher.topK ?? 0)
            $0.hasTail_p = teacher.hasTail
            switch teacher.divergence {
            case .forward: $0.forward = 1
            case .reverse: $0.reverse = 1
            case .mix:
                $0.forward = 0.5
                $0.reverse = 0.5
            case .jsd: $0.symmetric = 1
            case .sampled: break
            }
        }
    }

    private func objective(_ divisors: StepDivisors) -> WireObjectiveSettings {
        let loss = specification.loss
        return .with {
            $0.form = loss.form
            $0.ratioLevel = loss.ratioLevel
            $0.clipLow = loss.clipRatioLow
            $0.clipHigh = loss.clipRatioHigh
            if let bound = loss.dualClip { $0.dualClip = bound }
            if specification.teacher?.divergence == .sampled {
                $0.klInReward = specification.teacher?.weight ?? 1
            } else if loss.klInReward {
                $0.klInReward = loss.klCoefficient
            } else {
                $0.klCoefficient = loss.klCoefficient
            }
            $0.klEstimator = loss.klEstimator
            $0.aggregation = loss.aggregation
            $0.constantLength = Double(loss.constantLength ?? specification.sampling.maxNewTokens)
            $0.entropyCoefficient = entropyCoefficient
            $0.policyTokens = divisors.policyTokens
            $0.policySequences = divisors.policySequences
            // What a stream counts beside the others: its share of the whole divided by more or less.
            let crossEntropy = specification.teacher?.crossEntropyWeight ?? 1
            $0.crossEntropyWeight = crossEntropy > 0 ? divisors.crossEntropyWeight / crossEntropy : 0
            $0.divergenceWeight = divisors.divergenceWeight / (specification.teacher?.weight ?? 1)
            $0.klBiasCorrection = loss.klBiasCorrection
            if let threshold = loss.offPolicyThreshold { $0.offPolicyThreshold = threshold }
            if specification.method == .reward {
                $0.preferencePairs = Double(specification.rowsPerStep)
                $0.centerRewardsCoefficient = specification.centerRewardsCoefficient
            }
        }
    }

    /// The controller's state is a function of the steps so far.
    private var entropyCoefficient: Double {
        guard let target = specification.loss.targetEntropy else { return specification.loss.entropyCoefficient }
        var controller = EntropyController(target: target)
        for earlier in 0..<version {
            // A step without a sequence measured no entropy.
            guard let step = job.prepared[earlier], !step.skipped else { continue }
            controller.note(entropy: StepMetrics(step).entropy)
        }
        return controller.bonus
    }

    private func plan(_ report: StepReport, isSkipped: Bool) -> StepPlan {
        let optimizer = specification.optimizer
        let schedule = LearningRateSchedule(
            kind: .init(rawValue: optimizer.schedule.rawValue)!, warmupSteps: optimizer.warmupSteps,
            totalSteps: specification.stepCount, decayStart: optimizer.decayStart,
            finalFraction: optimizer.finalFraction)
        return StepPlan(
            number: isSkipped ? 0 : job.updateCount(before: version) + 1,
            learningRate: optimizer.learningRate * schedule.factor(step: Int(version)),
            clipNorm: optimizer.maxGradientNorm, beta1: optimizer.beta1, beta2: optimizer.beta2,
            epsilon: optimizer.epsilon, weightDecay: optimizer.weightDecay, report: report.json)
    }

    // MARK: - Sequences

    private func sequences(_ report: inout StepReport) throws -> [TrainingSequence] {
        let sequences =
            if specification.method == .reward { try pairs() } else if specification.generates {
                try responses(&report)
            } else { try demonstrations() }
        // A cell has one guide: those of the same guide come together, otherwise in order.
        // In the order in which the job names them: their numbers depend on what the cluster did before.
        let named = Set(sequences.map(\.guide))
        let guides = ([0] + job.models).filter(named.contains)
        return guides.flatMap { guide in sequences.filter { $0.guide == guide } }
    }

    /// The frozen model that a row's sequences are compared with: its file's teacher, or the reference; 0: none.
    private func guide(ofRow row: Int) -> UInt32 {
        var end = 0
        for source in job.admitted.sources {
            end += Int(source.rowCount)
            guard row < end else { continue }
            return source.teacher == 0
                ? job.admitted.scoreModel : job.admitted.furtherScoreModels[Int(source.teacher) - 1]
        }
        return job.admitted.scoreModel
    }

    private func demonstrations() throws -> [TrainingSequence] {
        var order = DataOrder(seed: UInt64(specification.seed), job.admitted)
        return try (0..<specification.rowsPerStep).map { slot in
            let position = Int(version) * specification.rowsPerStep + slot
            let number = order.row(at: position)
            let row = try journal.row(job: job.id, group: number)
            let scored = Demonstration(row.json).places(in: row.tokens)
            let ones = [Float](repeating: 1, count: scored.count)
            let teacher = specification.teacher
            var sequence = TrainingSequence(
                tokens: row.tokens, scored: scored,
                crossEntropy: teacher.map { $0.crossEntropyWeight > 0 } ?? true ? ones : [],
                divergence: teacher == nil ? [] : ones)
            if teacher != nil { sequence.guide = guide(ofRow: number) }
            return sequence
        }
    }

    /// Chosen and rejected in turn; each has one scalar, behind its last token.
    private func pairs() throws -> [TrainingSequence] {
        var order = DataOrder(seed: UInt64(specification.seed), job.admitted)
        return try (0..<specification.rowsPerStep).flatMap { slot in
            let number = order.row(at: Int(version) * specification.rowsPerStep + slot)
            let row = try journal.row(job: job.id, group: number)
            let count = try PreferenceRow(row.json).chosenCount
            return [row.tokens.prefix(count), row.tokens.dropFirst(count)].map {
                TrainingSequence(tokens: Array($0), scored: [Int32($0.count)])
            }
        }
    }

    private func responses(_ report: inout StepReport) throws -> [TrainingSequence] {
        let number = Int(version) / specification.updatesPerBatch
        let batch = job.groups(ofBatch: number).chosen
        report.put("frac_groups_failed", failedShare(ofBatch: number))
        let perUpdate = specification.rowsPerStep / specification.updatesPerBatch
        let first = Int(version) % specification.updatesPerBatch * perUpdate
        var order = DataOrder(seed: UInt64(specification.seed), job.admitted)
        var sequences: [TrainingSequence] = []
        for group in batch.dropFirst(first).prefix(perUpdate) {
            let number = order.row(at: group)
            let row = try journal.row(job: job.id, group: number)
            let members = try (0..<job.groupSize).map { try rollout(group, $0) }
            let judged = GroupJudgement(
                rewards: specification.rewards, advantage: specification.advantage,
                droppedGroups: specification.droppedGroups, overlong: specification.overlong, members)
            report.add(members, judged)
            for (sibling, member) in members.enumerated() where judged.drops[sibling] == nil && !member.tokens.isEmpty {
                var sequence = sequence(row.tokens, member, advantage: judged.advantages[sibling])
                sequence.guide = guide(ofRow: number)
                if specification.replaysRoutes { sequence.routes = [UInt8](member.routedExperts) }
                sequences.append(sequence)
            }
        }
        return sequences
    }

    /// Of the groups that a batch generated, those that failed.
    private func failedShare(ofBatch batch: Int) -> Double {
        let groups = (0...Int(job.admitted.refillMax)).flatMap { job.groups(ofBatch: batch, round: $0) }
        let failed = groups.count { job.failedGroups[$0] != nil }
        let whole = groups.count { job.failedGroups[$0] == nil && job.missingSiblings($0).isEmpty }
        return failed == 0 ? 0 : Double(failed) / Double(failed + whole)
    }

    private func rollout(_ group: Int, _ sibling: Int) throws -> WireRolloutRecord {
        let result = try journal.record(job: job.id, isScore: false, group: group, sibling: sibling)
        guard case .rollout(let rollout)? = result?.record else {
            throw JournalError(description: "job \(job.id): group \(group), sibling \(sibling) has no record")
        }
        return rollout
    }

    private func sequence(_ prompt: [Int32], _ record: WireRolloutRecord, advantage: Double) -> TrainingSequence {
        let response = record.tokens.int32Elements
        let scored = (0..<Int32(response.count)).map { Int32(prompt.count) + $0 }
        // Text that the thinking budget forced in was not the policy's choice.
        let own = record.forced.map { $0 == 0 }
        switch specification.method {
        case .distill where specification.teacher?.divergence != .sampled:
            var sequence = TrainingSequence(
                tokens: prompt + response, scored: scored, divergence: own.map { $0 ? 1 : 0 })
            if !specification.rewards.isEmpty {
                sequence.advantages = [Float](repeating: Float(advantage), count: response.count)
                sequence.old = record.logProbs.floatElements
                sequence.policyMask = own
            }
            return sequence
        case .distill, .grpo, .sft, .reward:
            return TrainingSequence(
                tokens: prompt + response, scored: scored,
                advantages: [Float](repeating: Float(advantage), count: response.count),
                old: record.logProbs.floatElements, policyMask: own)
        }
    }
}

/// A row of data that is a demonstration: which of its tokens are learned.
struct Demonstration: Codable {
    let id: String
    /// First place and one past the last of each run of learned tokens, one after another.
    let bounds: [Int32]

    init(id: String, spans: [Range<Int>]) {
        self.id = id
        bounds = spans.flatMap { [Int32($0.lowerBound), Int32($0.upperBound)] }
    }

    /// Of a row that this coordinator stored.
    init(_ json: String) {
        self =
            (try? JSONDecoder().decode(Demonstration.self, from: Data(json.utf8))) ?? Demonstration(id: "", spans: [])
    }

    /// Places of the learned tokens; the first token has nothing before it from which it could be learned.
    func places(in tokens: [Int32]) -> [Int32] {
        guard !bounds.isEmpty else { return Array(1..<Int32(tokens.count)) }
        return stride(from: 0, to: bounds.count - 1, by: 2).flatMap { max(1, bounds[$0])..<bounds[$0 + 1] }
    }

    var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return String(decoding: (try? encoder.encode(self)) ?? Data(), as: UTF8.self)
    }
}

extension TrainingSequence {
    fileprivate var wire: WireTrainSequence {
        .with {
            $0.tokens = Data(littleEndian: tokens)
            $0.scored = Data(littleEndian: scored)
            $0.advantages = Data(littleEndian: advantages)
            $0.old = Data(littleEndian: old)
            $0.reference = Data(littleEndian: reference)
            $0.importance = Data(littleEndian: importance)
            $0.policyMask = Data(policyMask.map { $0 ? 1 : 0 })
            $0.crossEntropy = Data(littleEndian: crossEntropy)
            $0.divergence = Data(littleEndian: divergence)
            $0.routes = Data(routes)
        }
    }
}
