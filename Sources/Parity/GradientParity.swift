// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
package import Foundation
internal import Qwen3
package import RuntimeSupport
internal import Tensors

/// Fixture kind "grads": loss, gradient of every parameter and three AdamW steps against torch.
package struct GradientParity {
    private let root: URL
    private let pool: ComputePool
    private let name: String
    private let meta: Meta

    struct Meta: Decodable {
        struct AdamW: Decodable {
            struct Step: Decodable {
                let loss_before_step: Double
                let grad_norm_before_clip: Double
                let lr: Double
            }
            let betas: [Double]
            let eps: Double
            let weight_decay: Double
            let clip: Double
            let loss: String
            let steps: [Step]
        }
        struct Auxiliary: Decodable {
            struct Form: Decodable { let aux_loss: Double }
            let masked: Form
        }
        let model: String
        let ce_loss: Double
        let ce_grad_norm: Double
        let router_aux_loss_coef: Double?
        let aux: Auxiliary?
        let adamw: AdamW?
    }

    package init(_ root: URL, pool: ComputePool) throws {
        self.root = root
        self.pool = pool
        name = root.lastPathComponent
        meta = try JSONDecoder().decode(Meta.self, from: Data(contentsOf: root.appending(path: "meta.json")))
    }

    /// Relative error of a tensor's gradient, by its norm. The peers differ by 3e-6 among themselves.
    package static let gradientTolerance = 2e-5
    /// Of a weight after three steps, absolute: Adam divides by the gradient's own size, so elements whose gradient is
    /// rounding noise may go either way by a learning rate.
    package static let lossTolerance = 2e-5

    package func run() throws -> [ParityCase] {
        let directory = root.deletingLastPathComponent().deletingLastPathComponent().appending(
            path: "models/\(meta.model)")
        if let problem = try ModelFamily.problem(directory) { return [.skipped("grads", name, problem)] }
        let checkpoint = try Checkpoint(directory: directory)
        let batches = try FixtureTensors(root.appending(path: "batches.safetensors"))
        var cases: [ParityCase] = []
        let step = try StepOnFixture(checkpoint, pool: pool)
        let loss = try step.gradient(try FixtureBatch(batches, "step0"), coefficient: 0)
        cases.append(scalar("loss", loss.crossEntropy, meta.ce_loss, Self.lossTolerance))
        cases.append(scalar("gradient norm", step.norm, meta.ce_grad_norm, Self.gradientTolerance))
        cases.append(try compare("gradient", step, "grad_ce.safetensors"))
        if let auxiliary = meta.aux {
            let loss = try step.gradient(try FixtureBatch(batches, "step0"), coefficient: 1, crossEntropy: 0)
            cases.append(scalar("auxiliary loss", loss.auxiliary, auxiliary.masked.aux_loss, Self.lossTolerance))
            cases.append(try compare("auxiliary gradient", step, "grad_aux.safetensors"))
        }
        let after = root.appending(path: "weights_after_3_steps.safetensors")
        if let adamW = meta.adamw, FileManager.default.fileExists(atPath: after.path) {
            cases += try optimize(step, adamW, batches)
        }
        return cases
    }

    private func scalar(_ what: String, _ actual: Double, _ expected: Double, _ tolerance: Double) -> ParityCase {
        ParityCase(
            kind: "grads", name: "\(name) \(what)", worstError: abs(actual - expected) / max(1, abs(expected)),
            tolerance: tolerance, detail: "\(actual), expected \(expected)")
    }

    private func compare(_ what: String, _ step: StepOnFixture, _ file: String) throws -> ParityCase {
        try step.compare(
            kind: "grads", name: "\(name) \(what)", FixtureTensors(root.appending(path: file)),
            tolerance: Self.gradientTolerance)
    }

    private func optimize(
        _ step: StepOnFixture, _ adamW: Meta.AdamW, _ batches: FixtureTensors
    ) throws -> [ParityCase] {
        var cases: [ParityCase] = []
        let coefficient = adamW.loss.contains("aux") ? meta.router_aux_loss_coef ?? 0 : 0
        try step.startOptimizer()
        let settings = AdamWSettings(
            beta1: adamW.betas[0], beta2: adamW.betas[1], epsilon: adamW.eps, weightDecay: adamW.weight_decay)
        for (index, expected) in adamW.steps.enumerated() {
            let loss = try step.gradient(try FixtureBatch(batches, "step\(index)"), coefficient: coefficient)
            cases.append(
                scalar(
                    "step \(index) loss", loss.crossEntropy + coefficient * loss.auxiliary, expected.loss_before_step,
                    10 * Self.lossTolerance))
            cases.append(
                scalar("step \(index) gradient norm", step.norm, expected.grad_norm_before_clip, 1e-4))
            step.apply(
                AdamWStep(
                    number: index + 1, learningRate: expected.lr,
                    gradientScale: GradientNorm.clipFactor(sumOfSquares: step.norm * step.norm, limit: adamW.clip),
                    settings: settings))
        }
        let expected = try FixtureTensors(root.appending(path: "weights_after_3_steps.safetensors"))
        let rates = adamW.steps.reduce(0) { $0 + $1.lr }
        var (squares, count) = (0.0, 0)
        for name in expected.names {
            for (a, b) in zip(step.weightsOf(name), try expected.floats(name)) {
                squares += (Double(a) - Double(b)) * (Double(a) - Double(b))
                count += 1
            }
        }
        cases.append(
            ParityCase(
                kind: "grads", name: "\(name) weights after \(adamW.steps.count) AdamW steps, rms in learning rates",
                worstError: (squares / Double(max(count, 1))).squareRoot() / max(rates, 1e-12), tolerance: 2e-3))
        return cases
    }
}

/// A right-padded batch with labels.
struct FixtureBatch {
    let sequences: [[Int32]]
    /// Scored positions of each sequence.
    let scored: [[Int32]]

    init(_ tensors: FixtureTensors, _ prefix: String) throws {
        let shape = try tensors.shape("\(prefix).input_ids")
        let ids = try tensors.integers("\(prefix).input_ids")
        let mask = try tensors.integers("\(prefix).attention_mask")
        let labels = try tensors.integers("\(prefix).labels")
        var sequences: [[Int32]] = []
        var scored: [[Int32]] = []
        for row in 0..<shape[0] {
            let places = (row * shape[1]..<(row + 1) * shape[1]).filter { mask[$0] == 1 }
            sequences.append(places.map { Int32(ids[$0]) })
            scored.append(
                places.indices.filter { $0 > 0 && labels[places[$0]] >= 0 }.map { Int32($0) })
        }
        self.sequences = sequences
        self.scored = scored
    }
}

/// One whole step in this process: cells of one sequence each, the tree, the experts' fold, AdamW.
final class StepOnFixture {
    private let model: Qwen3Model
    private let pass: CellPass
    private let layout: ParameterLayout
    private let sum: PairwiseSum
    private let loader: WeightLoader
    private var total: PageBuffer?
    private let local: LocalExpertExchange?
    private let experts: ExpertGradients?
    private var trunkState: OptimizerState?
    private var expertStates: [ExpertGradients.ExpertID: OptimizerState] = [:]
    private let configuration: Qwen3Configuration

    init(_ checkpoint: Checkpoint, compute: ComputeType = .fp32, pool: ComputePool) throws {
        configuration = checkpoint.configuration
        loader = WeightLoader(checkpoint, compute: compute, pool: pool)
        model = try Qwen3Model(checkpoint, compute: compute, pool: pool)
        layout = ParameterLayout.trunk(of: configuration)
        pass = CellPass(model, layout: layout)
        sum = PairwiseSum(elementCount: layout.count, pool: pool)
        local = model.localExperts
        if let local {
            let gradients = ExpertGradients(
                compute: compute, hiddenSize: configuration.hiddenSize,
                intermediateSize: configuration.moeIntermediateSize, pool: pool)
            for (layer, weights) in local.layers {
                for expert in weights.experts.indices { try gradients.own(.init(layer: layer, expert: expert)) }
            }
            local.gradients = gradients
            experts = gradients
        } else {
            experts = nil
        }
    }

    /// Puts other weights in place of the checkpoint's.
    func load(_ weights: FixtureTensors) throws {
        for tensor in configuration.parameterTensors {
            let values = try weights.floats(tensor.name.rawValue)
            let rows = tensor.shape.count == 1 ? 1 : tensor.shape[0]
            guard let layer = tensor.layer, let expert = tensor.expert else {
                model.refresh(tensor, rows: 0..<rows, values)
                continue
            }
            let names = TensorName.layer(layer)
            let projection = TensorName.Projection.allCases.first { names.expert(expert, $0) == tensor.name }!
            local!.layers[layer]!.experts[expert]!.refresh(projection, rows: 0..<rows, values)
        }
    }

    /// The worst tensor by relative norm of the difference.
    func compare(kind: String, name: String, _ expected: FixtureTensors, tolerance: Double) throws -> ParityCase {
        func norm(_ values: [Float]) -> Double { values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot() }
        var worst = (error: 0.0, name: "")
        var largest = 0.0
        for name in expected.names { largest = max(largest, norm(try expected.floats(name))) }
        for name in expected.names.sorted() {
            let reference = try expected.floats(name)
            let actual = gradientOf(name)
            let difference = norm(zip(actual, reference).map { $0 - $1 })
            // A tensor without gradient is judged by the largest one.
            let error = difference / max(norm(reference), 1e-4 * largest)
            if !(error <= worst.error) || actual.count != reference.count { worst = (error, name) }
        }
        return ParityCase(
            kind: kind, name: "\(name), \(expected.names.count) tensors", worstError: worst.error, tolerance: tolerance,
            detail: worst.name)
    }

    /// Mean cross-entropy and the auxiliary loss; their gradient stays here.
    func gradient(
        _ batch: FixtureBatch, coefficient: Double, crossEntropy: Double = 1
    ) throws -> (crossEntropy: Double, auxiliary: Double) {
        let cells = batch.sequences.indices.map {
            TrainingCell(index: $0, sequences: [batch.sequences[$0]], scored: [batch.scored[$0]])
        }
        let tokens = Double(batch.scored.reduce(0) { $0 + $1.count })
        var loss = 0.0
        let auxiliary = try run(cells, coefficient: coefficient, temperature: 1) { _, scores in
            for score in scores { loss -= Double(score.logProb) / tokens }
            return scores.map { _ in RowGradient(logProb: Float(-crossEntropy / tokens)) }
        }
        return (loss, auxiliary)
    }

    /// Cells forward and back; returns the auxiliary loss.
    func run(
        _ cells: [TrainingCell], coefficient: Double, temperature: Float,
        objective: (TrainingCell, [TokenScore]) -> [RowGradient]
    ) throws -> Double {
        if let total { sum.recycle(total) }
        experts?.reset()
        var counts = [Int](repeating: 0, count: configuration.expertCount)
        for cell in cells where coefficient > 0 {
            try pass.record(cell)
            for (expert, count) in pass.expertCounts.enumerated() { counts[expert] += count }
        }
        let sparse = (0..<configuration.layerCount).count(where: configuration.isMoELayer)
        let rows = Double(sparse * cells.reduce(0) { $0 + $1.tokenCount })
        let experts = Double(configuration.expertCount)
        let auxiliary = coefficient > 0 ? counts.map { Float(coefficient * experts * Double($0) / rows / rows) } : nil
        var auxiliaryLoss = 0.0
        for cell in cells {
            let scores = try pass.forward(cell, temperature: temperature)
            for (expert, sum) in pass.routerProbabilitySums.enumerated() where coefficient > 0 {
                auxiliaryLoss += experts * Double(counts[expert]) / rows * sum / rows
            }
            let vector = try sum.makeVector()
            _ = try pass.backward(
                objective(cell, scores), teacher: nil, auxiliary: auxiliary, into: vector.floats())
            sum.add(cell: cell.index, vector)
        }
        total = sum.finish()
        for layer in 0..<configuration.layerCount { try self.experts?.fold(layer: layer, cellsBelow: .max) }
        return auxiliaryLoss
    }

    var norm: Double {
        guard let total else { return 0 }
        var squares = 0.0
        for block in layout.blocks {
            squares += GradientNorm.sumOfSquares(total.floats() + block.offset, count: block.count)
        }
        for id in experts?.owned ?? [] {
            squares += GradientNorm.sumOfSquares(experts!.gradient(id)!, count: experts!.elementCount)
        }
        return squares.squareRoot()
    }

    func gradientOf(_ name: String) -> [Float] {
        if let (id, range) = expertRange(name) {
            return Array(UnsafeBufferPointer(start: experts!.gradient(id)! + range.lowerBound, count: range.count))
        }
        let entry = layout[TensorName(name)]
        return Array(UnsafeBufferPointer(start: total!.floats() + entry.offset, count: entry.elementCount))
    }

    func weightsOf(_ name: String) -> [Float] {
        if let (id, range) = expertRange(name) {
            return Array(
                UnsafeBufferPointer(start: expertStates[id]!.master + range.lowerBound, count: range.count))
        }
        let entry = layout[TensorName(name)]
        return Array(UnsafeBufferPointer(start: trunkState!.master + entry.offset, count: entry.elementCount))
    }

    private func expertRange(_ name: String) -> (ExpertGradients.ExpertID, Range<Int>)? {
        guard let tensor = configuration.parameterTensors.first(where: { $0.name.rawValue == name }),
            let layer = tensor.layer, let expert = tensor.expert
        else { return nil }
        let entry = ParameterLayout.expert(of: configuration, layer: layer, expert: expert)[tensor.name]
        return (.init(layer: layer, expert: expert), entry.offset..<entry.offset + entry.elementCount)
    }

    func startOptimizer() throws {
        let state = try OptimizerState(count: layout.count)
        for entry in layout.entries {
            try loader.masterRows(entry.tensor, rows: 0..<entry.rows, into: state.master + entry.offset)
        }
        trunkState = state
        for id in experts?.owned ?? [] {
            let layout = ParameterLayout.expert(of: configuration, layer: id.layer, expert: id.expert)
            let state = try OptimizerState(count: layout.count)
            for entry in layout.entries {
                try loader.masterRows(entry.tensor, rows: 0..<entry.rows, into: state.master + entry.offset)
            }
            expertStates[id] = state
        }
    }

    func apply(_ step: AdamWStep) {
        for block in layout.blocks {
            let entry = layout.entries[block.entry]
            trunkState!.apply(
                step, block.offset..<block.offset + block.count, decays: entry.decays,
                gradient: total!.floats() + block.offset)
            model.refresh(entry.tensor, rows: block.rows, trunkState!.master + block.offset)
        }
        for id in experts?.owned ?? [] {
            let state = expertStates[id]!
            state.apply(step, 0..<state.count, decays: true, gradient: experts!.gradient(id)!)
            let layout = ParameterLayout.expert(of: configuration, layer: id.layer, expert: id.expert)
            for (entry, projection) in zip(layout.entries, TensorName.Projection.allCases) {
                local!.layers[id.layer]!.experts[id.expert]!.refresh(
                    projection, rows: 0..<entry.rows, state.master + entry.offset)
            }
        }
    }
}
