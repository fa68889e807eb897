// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
package import Foundation
internal import PostTraining
internal import Qwen3
package import RuntimeSupport
internal import Tensors

/// Fixture kind "grpo": TRL's losses on given log-probabilities, and whole steps on tiny models.
package struct PolicyGradientParity {
    private let root: URL
    private let pool: ComputePool

    package init(_ root: URL, pool: ComputePool) {
        self.root = root
        self.pool = pool
    }

    package func run() throws -> [ParityCase] {
        let names = try FileManager.default.contentsOfDirectory(atPath: root.path).sorted()
        var cases =
            FileManager.default.fileExists(atPath: root.appending(path: "loss_cases.json").path)
            ? try losses() : []
        for name in names where name.hasPrefix("full_") {
            cases += try WholeStep(root.appending(path: name), pool: pool).run()
        }
        return cases
    }

    // MARK: - Losses

    struct LossCases: Decodable {
        struct Case: Decodable {
            let id: Int
            let salt: String
            let B: Int
            let T: Int
            let options: Options
            let inputs: [String]
            let loss_f64: Double
        }
        struct Options: Decodable {
            let loss_type: String
            let level: String
            let epsilon: Double
            let epsilon_high: Double?
            let delta: Double?
            let beta: Double
            let use_bias_correction_kl: Bool?
            let num_items_in_batch: Double
            let grad_accum: Double?
            let steps_per_generation: Double?
            let off_policy_mask_threshold: Double?
            let top_entropy_quantile: Double?
            let max_completion_length: Double

            var isSupported: Bool {
                !["sapo", "vespo", "luspo"].contains(loss_type) && (top_entropy_quantile ?? 1) >= 1
            }
        }
        let cases: [Case]
    }

    private func losses() throws -> [ParityCase] {
        let list = try JSONDecoder().decode(
            LossCases.self, from: Data(contentsOf: root.appending(path: "loss_cases.json"))
        ).cases
        let tensors = try FixtureTensors(root.appending(path: "loss_cases.safetensors"))
        return try list.map { item in
            let name = "loss \(item.id) \(item.salt) \(item.options.loss_type) \(item.options.level)"
            guard item.options.isSupported else {
                return .skipped("grpo", name, "this form of the loss is not implemented")
            }
            let (loss, gradient) = try evaluate(item, tensors)
            let expected = try tensors.doubles("\(Self.key(item.id)).grad_f64")
            let scale = expected.reduce(1e-3) { max($0, abs($1)) }
            let worst = zip(gradient, expected).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
            let error = max(worst, abs(loss - item.loss_f64) / max(1, abs(item.loss_f64)))
            return ParityCase(
                kind: "grpo", name: name, worstError: error, tolerance: 1e-9,
                detail: "loss and gradient against float64")
        }
    }

    private static func key(_ id: Int) -> String {
        let digits = String(id)
        return String(repeating: "0", count: max(0, 3 - digits.count)) + digits
    }

    private func evaluate(_ item: LossCases.Case, _ tensors: FixtureTensors) throws -> (Double, [Double]) {
        let o = item.options
        func input(_ name: String) throws -> [Float]? {
            guard item.inputs.contains(name) else { return nil }
            let full = "\(Self.key(item.id)).\(name)"
            return name.hasSuffix("mask") ? try tensors.integers(full).map(Float.init) : try tensors.floats(full)
        }
        guard let new = try input("new_logps"), let completion = try input("completion_mask"),
            let advantages = try input("advantages")
        else { throw ParityError("loss case \(item.id) lacks an input") }
        let tool = try input("tool_mask")
        let mask = completion.indices.map { Double(completion[$0] * (tool?[$0] ?? 1)) }
        let old = try input("old_per_token_logps") ?? new
        let importance = try input("importance_sampling_ratio")
        let (reference, sampling) = (try input("ref_per_token_logps"), try input("sampling_per_token_logps"))
        let objective = PolicyGradient(Self.options(o))
        let total = mask.reduce(0, +)
        var (loss, gradient) = (0.0, [Double]())
        for row in 0..<item.B {
            let range = row * item.T..<(row + 1) * item.T
            func spread(_ values: [Float]) -> [Float] {
                values.count == item.B ? [Float](repeating: values[row], count: item.T) : Array(values[range])
            }
            let share = Self.share(o, rows: item.B, rowCount: max(mask[range].reduce(0, +), 1), total: total)
            let result = objective.evaluate(
                PolicyTokens(
                    current: Array(new[range]), old: Array(old[range]), behaviour: sampling.map { Array($0[range]) },
                    reference: reference.map { Array($0[range]) }, advantages: spread(advantages),
                    importance: importance.map(spread), weights: mask[range].map { $0 * share }))
            loss += result.loss
            gradient += result.gradients
        }
        return (loss, gradient)
    }

    private static func options(_ o: LossCases.Options) -> PolicyGradientOptions {
        var options = PolicyGradientOptions()
        options.form = o.loss_type == "cispo" ? .cispo : .clipped
        options.ratioLevel = o.level == "sequence" ? .sequence : .token
        options.clipLow = o.loss_type == "cispo" ? 0 : o.epsilon
        options.clipHigh = o.epsilon_high ?? o.epsilon
        options.dualClip = o.delta
        options.klCoefficient = o.beta
        options.klBiasCorrection = o.use_bias_correction_kl ?? true
        options.offPolicyThreshold = o.off_policy_mask_threshold
        return options
    }

    /// A token's share of the loss by TRL's divisors, accumulation included.
    private static func share(_ o: LossCases.Options, rows: Int, rowCount: Double, total: Double) -> Double {
        let accumulation = o.grad_accum ?? 1
        switch o.loss_type {
        case "grpo": return 1 / rowCount / Double(rows) / accumulation
        case "bnpo": return 1 / max(total, 1) / accumulation
        case "dr_grpo": return 1 / (Double(rows) * o.max_completion_length) / accumulation
        default:
            return 1 / (max(o.num_items_in_batch, 1) * accumulation / (o.steps_per_generation ?? accumulation))
        }
    }
}

/// A whole GRPO step of TRL on a tiny model: log-probabilities, loss, gradients of every parameter.
private struct WholeStep {
    private let root: URL
    private let pool: ComputePool
    private let meta: Meta
    private let batch: FixtureTensors

    private struct Meta: Decodable {
        struct Options: Decodable {
            let loss_type: String
            let importance_sampling_level: String?
            let beta: Double
            let epsilon: Double
            let epsilon_high: Double?
            let temperature: Double?
        }
        let model: String
        let config: Options
        let num_items_in_batch: Double
        let loss: Double
        let grad_norm: Double
        let router_aux_loss_coef: Double
        let aux_loss_enabled: Bool
        let aux_loss: Double?
    }

    init(_ root: URL, pool: ComputePool) throws {
        self.root = root
        self.pool = pool
        meta = try JSONDecoder().decode(Meta.self, from: Data(contentsOf: root.appending(path: "meta.json")))
        batch = try FixtureTensors(root.appending(path: "batch.safetensors"))
    }

    func run() throws -> [ParityCase] {
        let models = root.deletingLastPathComponent().deletingLastPathComponent().appending(path: "models")
        let step = try StepOnFixture(try Checkpoint(directory: models.appending(path: meta.model)), pool: pool)
        try step.load(FixtureTensors(root.appending(path: "policy_weights.safetensors")))
        let rows = try sequences()
        let coefficient = meta.aux_loss_enabled ? meta.router_aux_loss_coef : 0
        var divisors = StepDivisors(rows)
        // Responses that are masked as a whole count all the same.
        divisors.policySequences = Double(rows.count)
        var objective = StepObjective(divisors: divisors)
        objective.policy.ratioLevel = meta.config.importance_sampling_level == "sequence" ? .sequence : .token
        objective.policy.clipLow = meta.config.epsilon
        objective.policy.clipHigh = meta.config.epsilon_high ?? meta.config.epsilon
        objective.policy.klCoefficient = meta.config.beta
        objective.policy.klBiasCorrection = true
        objective.aggregation = meta.config.loss_type == "grpo" ? .sequenceMean : .tokenMean
        var statistics = StepStatistics()
        var scores: [Float] = []
        let auxiliary = try step.run(
            rows.enumerated().map { TrainingCell(index: $0, [$1]) }, coefficient: coefficient,
            temperature: Float(meta.config.temperature ?? 1)
        ) { cell, tokens in
            scores += tokens.map(\.logProb)
            return objective.evaluate(rows[cell.index], tokens, &statistics)
        }
        let name = root.lastPathComponent
        let mask = try batch.integers("completion_mask")
        let expected = zip(try batch.floats("per_token_logps"), mask).filter { $0.1 == 1 }.map(\.0)
        let drift = zip(scores, expected).reduce(0) { max($0, abs(Double($1.0) - Double($1.1))) }
        let loss = statistics[.policyLoss] + coefficient * auxiliary
        return [
            ParityCase(
                kind: "grpo", name: "\(name) log-probabilities",
                worstError: scores.count == expected.count ? drift : .infinity, tolerance: 1e-4),
            ParityCase(
                kind: "grpo", name: "\(name) loss", worstError: abs(loss - meta.loss), tolerance: 5e-5,
                detail: "\(loss), expected \(meta.loss)"),
            ParityCase(
                kind: "grpo", name: "\(name) gradient norm",
                worstError: abs(step.norm - meta.grad_norm) / meta.grad_norm,
                tolerance: 1e-4),
            try step.compare(
                kind: "grpo", name: "\(name) gradient", FixtureTensors(root.appending(path: "grads.safetensors")),
                tolerance: 1e-4),
        ]
    }

    /// The unmasked tokens of prompt and completion; scored are those of the completion.
    private func sequences() throws -> [TrainingSequence] {
        let (shape, width) = (try batch.shape("completion_ids"), try batch.shape("prompt_ids")[1])
        let (prompts, promptMask) = (try batch.integers("prompt_ids"), try batch.integers("prompt_mask"))
        let (completions, mask) = (try batch.integers("completion_ids"), try batch.integers("completion_mask"))
        let (advantages, old) = (try batch.floats("advantages"), try batch.floats("old_per_token_logps"))
        let reference = batch.contains("ref_per_token_logps") ? try batch.floats("ref_per_token_logps") : nil
        return (0..<shape[0]).map { row in
            let prompt = (row * width..<(row + 1) * width).filter { promptMask[$0] == 1 }.map { prompts[$0] }
            let places = (row * shape[1]..<(row + 1) * shape[1]).filter { mask[$0] == 1 }
            return TrainingSequence(
                tokens: prompt + places.map { completions[$0] },
                scored: places.indices.map { Int32(prompt.count + $0) },
                advantages: places.map { _ in advantages[row] }, old: places.map { old[$0] },
                reference: reference.map { values in places.map { values[$0] } } ?? [],
                policyMask: places.map { _ in true })
        }
    }
}
