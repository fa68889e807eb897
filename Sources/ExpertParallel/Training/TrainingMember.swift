// SPDX-License-Identifier: Apache-2.0
//
// One process's part in training a model: it runs its cells forward and back, owns some segments of the trunk and its
// experts with their optimizer state, and keeps the compute copies that generation reads in step with them. Everything
// here runs on the thread that generates, between generations.
internal import CKernels
package import Checkpoints
package import ClusterTransport
internal import Foundation
package import Qwen3
package import RuntimeSupport
package import Tensors

/// Who takes part in a training epoch and how the work is shared.
package struct TrainingEpoch: Sendable {
    package let number: UInt32
    package let members: [PeerIdentity]
    package let rank: Int
    /// Experts that this member owns: those it holds, all layers alike.
    package let experts: [Int]

    package init(number: UInt32, members: [PeerIdentity], rank: Int, experts: [Int]) {
        self.number = number
        self.members = members
        self.rank = rank
        self.experts = experts
    }
}

/// One optimizer step as this member sees it.
package struct TrainingStepOrder: Sendable {
    /// Version of the weights it starts from.
    package let version: UInt64
    /// This member's cells, ascending.
    package let cells: [TrainingCell]
    /// Per member its range of cells.
    package let ranges: [Range<Int>]
    /// Cells of a wave.
    package let waveCells: Int
    package let temperature: Float
    /// Coefficient of the router's auxiliary loss; 0 without it.
    package let auxiliaryCoefficient: Double
    /// Whether attention is computed again on the way back instead of kept.
    package let recomputes: Bool

    package init(
        version: UInt64, cells: [TrainingCell], ranges: [Range<Int>], waveCells: Int, temperature: Float,
        auxiliaryCoefficient: Double, recomputes: Bool = false
    ) {
        self.version = version
        self.cells = cells
        self.ranges = ranges
        self.waveCells = waveCells
        self.temperature = temperature
        self.auxiliaryCoefficient = auxiliaryCoefficient
        self.recomputes = recomputes
    }
}

/// What the objective makes of one cell's scores.
package struct CellObjective: Sendable {
    /// One per scored token.
    package var gradients: [RowGradient]
    /// Sums that add up over cells.
    package var statistics: [Double]
    /// Largest values.
    package var maxima: [Double]

    package init(gradients: [RowGradient], statistics: [Double], maxima: [Double] = []) {
        self.gradients = gradients
        self.statistics = statistics
        self.maxima = maxima
    }
}

/// What a member reports once its gradients are complete.
package struct SealedGradients: Sendable {
    /// Σ x² of each own segment.
    package var segments: [(index: Int, sumOfSquares: Double)] = []
    /// Σ x² of each own expert.
    package var experts: [(id: ExpertGradients.ExpertID, sumOfSquares: Double)] = []
    /// The objective's statistics of each own cell, then the sum of divergences, then the auxiliary loss's share.
    package var cells: [(index: Int, sums: [Double], maxima: [Double])] = []
    /// The first parameter whose gradient is not finite.
    package var problem: String?
    /// How often each expert was chosen in the own cells, over all layers.
    package var expertCounts: [Int64] = []
}

/// A frozen model beside the lanes of one in training: a pass of its own for each.
package final class FrozenModel: @unchecked Sendable {
    // @unchecked: each lane's pass is used by that lane's thread alone.
    private let lanes: TrainingLanes

    /// - Parameters:
    ///   - experts: nil for a dense model.
    ///   - laneCount: of the model in training.
    package init(_ model: Qwen3Model, experts: ClusterExpertExchange?, laneCount: Int) {
        lanes = TrainingLanes(
            model, experts, layout: ParameterLayout.trunk(of: model.configuration),
            count: laneCount)
        experts?.resume()
        lanes.follow(experts)
        // Nothing goes back through it: only its last output is wanted.
        for lane in lanes.lanes { lane.pass.recomputes = true }
    }

    /// What its logits are made of, for a divergence over the whole vocabulary.
    func rows(of cell: TrainingCell, lane: Int, _ divergence: TeacherDivergence) throws -> TeacherRows {
        let pass = lanes.lanes[lane].pass
        try pass.record(cell.withoutRoutes)
        return pass.teacherRows(divergence)
    }

    /// Its log-probabilities of the scored tokens.
    func logProbs(of cell: TrainingCell, lane: Int, temperature: Float) throws -> [Float] {
        try lanes.lanes[lane].pass.forward(cell.withoutRoutes, temperature: temperature).map(\.logProb)
    }

    /// Ends waits; from any thread.
    package func cancel() { lanes.cancel() }

    /// What its lanes wait for; from any thread.
    package var waits: [ExchangeWait] { lanes.waits }
}

/// The frozen models of a step.
package struct StepGuides: Sendable {
    /// By cell, those that are compared with one.
    package var models: [Int: FrozenModel] = [:]
    /// The models are teachers, and this is asked of both distributions.
    package var divergence: TeacherDivergence?
    /// Whether the objective gets the models' log-probabilities of the same tokens.
    package var givesReference = false

    package init() {}
}

/// Trains a model together with its peers.
package final class TrainingMember {
    package let model: Qwen3Model
    package let exchange: TrainingExchange
    package let segments: TrunkSegments
    private let modelID: UInt32
    private let experts: ClusterExpertExchange?
    private let store: ExpertShardStore
    private let training: ExpertTraining
    /// Replaced between epochs, and looked at from other threads.
    private let laneHolder = Locked<TrainingLanes?>(nil)
    private var lanes: TrainingLanes { laneHolder.withLock { $0! } }
    private let sum: OrderedSum
    private let layout: ParameterLayout
    private let expertLayouts: [ExpertGradients.ExpertID: ParameterLayout]
    private var trained: TrainedExperts?
    private var epoch = TrainingEpoch(number: 0, members: [], rank: 0, experts: [])
    private var segmentStates: [Int: OptimizerState] = [:]
    private var segmentGradients: [Int: PageBuffer] = [:]
    private var expertStates: [ExpertGradients.ExpertID: OptimizerState] = [:]
    package private(set) var version: UInt64 = 0

    /// - Parameters:
    ///   - modelID: the cluster's short id of the model.
    ///   - experts: nil for a dense model.
    package init(
        model: Qwen3Model, modelID: UInt32, experts: ClusterExpertExchange?, store: ExpertShardStore,
        training: ExpertTraining, port: ExchangePort
    ) {
        self.model = model
        self.modelID = modelID
        self.experts = experts
        self.store = store
        self.training = training
        exchange = TrainingExchange(port: port, model: modelID)
        layout = ParameterLayout.trunk(of: model.configuration)
        segments = TrunkSegments(layout)
        let lanes = TrainingLanes(model, experts, layout: layout, count: TrainingLanes.count(for: model, limit: .max))
        laneHolder.withLock { $0 = lanes }
        sum = OrderedSum(PairwiseSum(elementCount: layout.count, pool: model.pool))
        var layouts: [ExpertGradients.ExpertID: ParameterLayout] = [:]
        for layer in 0..<model.configuration.layerCount where model.configuration.isMoELayer(layer) {
            for expert in 0..<model.configuration.expertCount {
                layouts[.init(layer: layer, expert: expert)] = .expert(
                    of: model.configuration, layer: layer, expert: expert)
            }
        }
        expertLayouts = layouts
    }

    /// Cells at once.
    package var laneCount: Int { lanes.lanes.count }

    /// Computes so many cells at once at most from now on. Between epochs.
    package func limitLanes(to limit: Int) {
        let count = TrainingLanes.count(for: model, limit: limit)
        guard count != laneCount else { return }
        let lanes = TrainingLanes(model, experts, layout: layout, count: count)
        laneHolder.withLock { $0 = lanes }
    }

    // MARK: - Epochs

    /// Takes the state of `version` from a snapshot, or makes it from a checkpoint's weights, and writes the compute
    /// copies of all of the trunk and of the own experts from it.
    /// - Returns: CRC-32C over master weights and moments of each own segment and expert, as ``apply(_:)`` gives them.
    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package func begin(_ epoch: TrainingEpoch, version: UInt64, from snapshot: TrainingSnapshot) throws -> [UInt32] {
        self.epoch = epoch
        self.version = version
        exchange.begin(epoch: epoch.number, members: epoch.members, rank: epoch.rank)
        segmentStates = [:]
        segmentGradients = [:]
        expertStates = [:]
        training.set(model: modelID, nil)
        var checksums: [UInt32] = []
        for index in segments.segments.indices {
            WorkProgress.note()
            let isOwn = segments.owner(of: index, memberCount: epoch.members.count) == epoch.rank
            guard isOwn else {
                let master = try snapshot.master(ofSegment: index, segments)
                withExtendedLifetime(master) { refresh(segment: index, master.floats()) }
                continue
            }
            let state = try snapshot.segment(index, segments)
            refresh(segment: index, state.master)
            checksums.append(state.checksum)
            state.rest()
            segmentStates[index] = state
            segmentGradients[index] = try PageBuffer(byteCount: state.count * 4)
        }
        guard let experts else {
            lanes.follow(nil)
            return checksums
        }
        let gradients = ExpertGradients(
            compute: model.compute, hiddenSize: model.configuration.hiddenSize,
            intermediateSize: model.configuration.moeIntermediateSize, pool: model.pool)
        store.collect(model: modelID, as: version)
        let held = store.experts(model: modelID, policyVersion: version)
        for id in ownedExperts {
            WorkProgress.note()
            let state = try snapshot.expert(id, expertLayouts[id]!)
            guard let weights = held?.layers[id.layer]?.experts[id.expert] else {
                throw TrainingExchangeError.stalled("expert \(id.expert) of layer \(id.layer) is not loaded here")
            }
            refresh(id, weights, state.master)
            checksums.append(state.checksum)
            state.rest()
            expertStates[id] = state
            try gradients.own(id)
        }
        let trained = TrainedExperts(gradients)
        self.trained = trained
        experts.policyVersion = version
        experts.resume()
        experts.train(epoch: epoch.number, trained)
        training.set(model: modelID, trained)
        trained.begin(epoch: epoch.number, version: version)
        lanes.follow(experts)
        return checksums
    }

    /// Ends waits of the step under way; from any thread.
    package func cancel() {
        exchange.cancel()
        experts?.cancel()
        lanes.cancel()
    }

    /// What its lanes wait for; from any thread.
    package var waits: [ExchangeWait] { lanes.waits }

    private var ownedExperts: [ExpertGradients.ExpertID] {
        expertLayouts.keys.filter { epoch.experts.contains($0.expert) }.sorted()
    }

    // MARK: - A step

    /// Forward and backward over the own cells, reduction, norms.
    ///
    /// - Parameters:
    ///   - guides: frozen models that the step looks at.
    ///   - objective: what it makes of the scores of each cell.
    /// - Throws: ``TrainingExchangeError``, ``ExchangeError``, ``MemoryError``.
    package func gradients(
        _ order: TrainingStepOrder, guides: StepGuides = StepGuides(),
        objective: @escaping @Sendable (TrainingCell, [TokenScore], _ reference: [Float]?) throws -> CellObjective
    ) throws -> SealedGradients {
        precondition(order.version == version, "a step from version \(order.version), this member is at \(version)")
        // Sums of members' parts are made on this thread, with the pool's rounding of denormals.
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        var sealed = SealedGradients()
        trained?.begin(epoch: epoch.number, version: version)
        sum.begin(cells: order.cells.map(\.index))
        for lane in lanes.lanes { lane.pass.recomputes = order.recomputes }
        // Nobody sends a dispatch before everybody has begun the step.
        _ = try exchange.meet(version: version, point: 0)
        let auxiliary = try auxiliary(order)
        sealed.expertCounts = [Int64](repeating: 0, count: model.configuration.expertCount)
        let last = order.ranges.last?.upperBound ?? 0
        var next = 0
        for (wave, first) in stride(from: 0, to: last, by: order.waveCells).enumerated() {
            let begin = next
            while next < order.cells.count, order.cells[next].index < first + order.waveCells { next += 1 }
            try run(Array(order.cells[begin..<next]), order, auxiliary, guides, objective, &sealed)
            _ = try exchange.meet(version: version, point: 2 + wave)
            for layer in 0..<model.configuration.layerCount {
                try trained?.fold(layer: layer, cellsBelow: first + order.waveCells)
            }
        }
        try exchange.reduce(version: version, sum.items, cells: order.ranges, segments) { index, gradient in
            let count = segments.segments[index].elements.count
            let target = segmentGradients[index]!.floats()
            // What the step before left there is not this step's gradient.
            if let gradient {
                target.update(from: gradient, count: count)
            } else {
                target.update(repeating: 0, count: count)
            }
        }
        measure(&sealed)
        return sealed
    }

    private func run(
        _ cells: [TrainingCell], _ order: TrainingStepOrder, _ auxiliary: Auxiliary?, _ guides: StepGuides,
        _ objective: @escaping @Sendable (TrainingCell, [TokenScore], [Float]?) throws -> CellObjective,
        _ sealed: inout SealedGradients
    ) throws {
        let results = Locked<[(cell: (index: Int, sums: [Double], maxima: [Double]), counts: [Int])]>([])
        let sum = sum
        let lanes = lanes
        try lanes.each(cells) { lane, cell in
            let index = lanes.lanes.firstIndex { $0 === lane }!
            let guide = guides.models[cell.index]
            let rows = try guides.divergence.flatMap { try guide?.rows(of: cell, lane: index, $0) }
            let reference =
                guides.givesReference
                ? try guide?.logProbs(of: cell, lane: index, temperature: order.temperature) : nil
            let result = try Self.run(cell, order, auxiliary, rows, lane.pass, sum) {
                try objective($0, $1, reference)
            }
            let counts = lane.pass.expertCounts
            results.withLock { $0.append((result, counts)) }
        }
        for (cell, counts) in results.withLock({ $0 }).sorted(by: { $0.cell.index < $1.cell.index }) {
            sealed.cells.append(cell)
            for (expert, count) in counts.enumerated() { sealed.expertCounts[expert] += Int64(count) }
        }
    }

    private static func run(
        _ cell: TrainingCell, _ order: TrainingStepOrder, _ auxiliary: Auxiliary?, _ teacherRows: TeacherRows?,
        _ pass: CellPass, _ sum: OrderedSum, _ objective: (TrainingCell, [TokenScore]) throws -> CellObjective
    ) throws -> (index: Int, sums: [Double], maxima: [Double]) {
        let scores = try pass.forward(cell, temperature: order.temperature)
        let auxiliaryLoss = auxiliary.map { auxiliary in
            zip(pass.routerProbabilitySums, auxiliary.weights).reduce(0) { $0 + $1.0 * $1.1 }
        }
        let wanted = try objective(cell, scores)
        let vector = try sum.makeVector()
        let divergences = try pass.backward(
            wanted.gradients, teacher: teacherRows, auxiliary: auxiliary?.gradient, into: vector.floats())
        sum.add(cell: cell.index, vector)
        FailPoint.pass("training.cell-done")
        var divergence = 0.0
        for (value, gradient) in zip(divergences, wanted.gradients) {
            divergence += value * Double(gradient.divergence)
        }
        return (cell.index, wanted.statistics + [divergence, auxiliaryLoss ?? 0], wanted.maxima)
    }

    /// The auxiliary loss is Σₑ weight × Σ p: its gradient in each probability, and the weights without coefficient.
    private struct Auxiliary: Sendable {
        let gradient: [Float]
        let weights: [Double]
    }

    /// Counts the whole step's routes in a forward pass of its own, as the loss multiplies frequencies of the global
    /// batch with its probabilities (`load_balancing_loss_func`: over all layers and tokens at once).
    private func auxiliary(_ order: TrainingStepOrder) throws -> Auxiliary? {
        guard order.auxiliaryCoefficient > 0, experts != nil, order.ranges.contains(where: { !$0.isEmpty }) else {
            return nil
        }
        let count = model.configuration.expertCount
        let counts = Locked([Int64](repeating: 0, count: count + 1))
        try lanes.each(order.cells) { lane, cell in
            try lane.pass.record(cell)
            let chosen = lane.pass.expertCounts
            counts.withLock { counts in
                for expert in 0..<count { counts[expert] += Int64(chosen[expert]) }
                counts[count] += Int64(cell.tokenCount)
            }
        }
        let sums = try exchange.meet(version: version, point: 1, counts.withLock { $0 })
        let layers = (0..<model.configuration.layerCount).count(where: model.configuration.isMoELayer)
        let rows = Double(sums[count]) * Double(layers)
        let weights = sums.prefix(count).map { Double(count) * Double($0) / rows / rows }
        return Auxiliary(gradient: weights.map { Float(order.auxiliaryCoefficient * $0) }, weights: weights)
    }

    private func measure(_ sealed: inout SealedGradients) {
        for index in segmentGradients.keys.sorted() {
            let segment = segments.segments[index]
            let gradient = segmentGradients[index]!.floats()
            var squares = 0.0
            for block in layout.blocks[segment.blocks] {
                let part = GradientNorm.sumOfSquares(
                    gradient + block.offset - segment.elements.lowerBound, count: block.count)
                if !part.isFinite, sealed.problem == nil {
                    sealed.problem = layout.entries[block.entry].tensor.name.rawValue
                }
                squares += part
            }
            sealed.segments.append((index, squares))
        }
        trained?.withGradients { gradients in
            for id in gradients.owned {
                var squares = 0.0
                for block in expertLayouts[id]!.blocks {
                    let part = GradientNorm.sumOfSquares(gradients.gradient(id)! + block.offset, count: block.count)
                    if !part.isFinite, sealed.problem == nil {
                        sealed.problem = expertLayouts[id]!.entries[block.entry].tensor.name.rawValue
                    }
                    squares += part
                }
                sealed.experts.append((id, squares))
            }
        }
    }

    // MARK: - The update

    /// Steps what this member owns and brings all compute copies to the new version.
    ///
    /// - Returns: CRC-32C over master weights and moments of each own segment and expert, in that order.
    /// - Throws: ``TrainingExchangeError``.
    package func apply(_ step: AdamWStep) throws -> [UInt32] {
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        var hashes: [UInt32] = []
        let others = segments.segments.indices.filter { segmentStates[$0] == nil }
        try exchange.exchangeWeights(
            version: version, missing: Set(others.flatMap { segments.segments[$0].blocks }), install: install
        ) { publish in
            for index in segmentStates.keys.sorted() {
                let (segment, state) = (segments.segments[index], segmentStates[index]!)
                let gradient = segmentGradients[index]!.floats()
                let blocks = Array(layout.blocks[segment.blocks])
                model.pool.parallel(blocks.count) { place in
                    let block = blocks[place]
                    let first = block.offset - segment.elements.lowerBound
                    state.apply(
                        step, first..<first + block.count, decays: layout.entries[block.entry].decays,
                        gradient: gradient + first)
                }
                hashes.append(state.checksum)
                for (place, block) in zip(segment.blocks, blocks) {
                    let values = state.master + block.offset - segment.elements.lowerBound
                    model.refresh(layout.entries[block.entry].tensor, rows: block.rows, values)
                    if epoch.members.count > 1 { try publish(place, type(of: block), payload(of: block, values)) }
                }
                state.rest()
            }
        }
        if let experts, let trained {
            let held = store.experts(model: modelID, policyVersion: version)
            let owned = expertStates.keys.sorted()
            trained.withGradients { gradients in
                model.pool.parallel(owned.count) { place in
                    let (id, state) = (owned[place], expertStates[owned[place]]!)
                    state.apply(step, 0..<state.count, decays: true, gradient: gradients.gradient(id)!)
                    refresh(id, held!.layers[id.layer]!.experts[id.expert]!, state.master)
                }
            }
            for id in owned {
                hashes.append(expertStates[id]!.checksum)
                expertStates[id]!.rest()
            }
        }
        advance()
        return hashes
    }

    /// The next version has the same weights and moments: the step had nothing to learn from.
    ///
    /// - Returns: as ``apply(_:)``.
    package func skip() -> [UInt32] {
        let states = segmentStates.keys.sorted().map { segmentStates[$0]! } + ownExperts.map(\.state)
        let hashes = states.map { state in
            defer { state.rest() }
            return state.checksum
        }
        advance()
        return hashes
    }

    private func advance() {
        if let experts {
            store.renumber(model: modelID, from: version, to: version + 1)
            experts.policyVersion = version + 1
        }
        lanes.follow(experts)
        version += 1
    }

    /// What a block's weights travel as: norms and biases stay fp32, all else is of the compute type.
    private func type(of block: ParameterLayout.Block) -> ComputeType {
        layout.entries[block.entry].tensor.kind.isVector ? .fp32 : model.compute
    }

    private func payload(of block: ParameterLayout.Block, _ values: UnsafePointer<Float>) -> Payload {
        let type = type(of: block)
        return Payload(byteCount: block.count * type.byteCount) { target in
            switch type {
            case .fp32: memcpy(target.baseAddress!, values, block.count * 4)
            case .bf16:
                ck_f32_to_bf16(values, Int64(block.count), target.assumingMemoryBound(to: UInt16.self).baseAddress)
            }
        }
    }

    private func install(_ place: Int, _ type: ComputeType, _ payload: Payload) throws {
        let block = layout.blocks[place]
        guard payload.byteCount == block.count * type.byteCount else {
            throw TrainingExchangeError.stalled("weights of block \(place) have another size")
        }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: block.count) { wide in
            payload.withUnsafeBytes { bytes in
                switch type {
                case .fp32: memcpy(wide.baseAddress!, bytes.baseAddress!, bytes.count)
                case .bf16:
                    withUnsafeTemporaryAllocation(of: UInt16.self, capacity: block.count) { narrow in
                        memcpy(narrow.baseAddress!, bytes.baseAddress!, bytes.count)
                        ck_bf16_to_f32(narrow.baseAddress, Int64(block.count), wide.baseAddress)
                    }
                }
            }
            model.refresh(layout.entries[block.entry].tensor, rows: block.rows, wide.baseAddress!)
        }
    }

    private func refresh(segment index: Int, _ master: UnsafePointer<Float>) {
        let segment = segments.segments[index]
        for block in layout.blocks[segment.blocks] {
            model.refresh(
                layout.entries[block.entry].tensor, rows: block.rows,
                master + block.offset - segment.elements.lowerBound)
        }
    }

    private func refresh(_ id: ExpertGradients.ExpertID, _ weights: SwiGLUWeights, _ master: UnsafePointer<Float>) {
        for (entry, projection) in zip(expertLayouts[id]!.entries, TensorName.Projection.allCases) {
            weights.refresh(projection, rows: 0..<entry.rows, master + entry.offset)
        }
    }

    // MARK: - For snapshots

    package var ownSegments: [(index: Int, state: OptimizerState)] {
        segmentStates.keys.sorted().map { ($0, segmentStates[$0]!) }
    }

    package var ownExperts: [(id: ExpertGradients.ExpertID, state: OptimizerState)] {
        expertStates.keys.sorted().map { ($0, expertStates[$0]!) }
    }

}
