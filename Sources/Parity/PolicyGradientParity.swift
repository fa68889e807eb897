// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
package import Foundation
internal import PostTraining
internal import Qwen3
internal import Rewards
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
        var cases: [ParityCase] = []
        if names.contains("loss_cases.json") {
            cases += ParityRunner.capture("grpo", "loss_cases.json") { try losses() }
        }
        if names.contains("advantage_cases.json") {
            cases += ParityRunner.capture("grpo", "advantage_cases.json") { try advantages() }
        }
        if names.contains("sampling_correction_cases.json") {
            cases.append(
                .skipped("grpo", "sampling corrections", "rollouts and training have one engine: there is none"))
        }
        for name in names where name.hasPrefix("full_") {
            cases += ParityRunner.capture("grpo", name) {
                try WholeStep(root.appending(path: name), pool: pool).run()
            }
        }
        return cases
    }

    // MARK: - Losses

    struct LossCases: Decodable {
        struct Case: Decodable {
            let id: Int
            let salt: String?
            let B: Int
            let T: Int
            let options: Options
            let inputs: [String]
            let loss_f64: Double
        }
        let cases: [Lenient<Case>]
    }

    /// Settings of a loss as TRL's GRPOConfig names them, with its defaults for what is absent.
    struct Options: Decodable {
        private let loss_type: String?
        private let level: String?
        private let importance_sampling_level: String?
        private let epsilon: Double?
        private let epsilon_high: Double?
        let delta: Double?
        private let beta: Double?
        private let use_bias_correction_kl: Bool?
        let num_items_in_batch: Double?
        private let grad_accum: Double?
        private let steps_per_generation: Double?
        let off_policy_mask_threshold: Double?
        private let top_entropy_quantile: Double?
        let max_completion_length: Double?
        private let temperature: Double?

        var form: String { loss_type ?? "dapo" }
        var ratioLevel: String { level ?? importance_sampling_level ?? "token" }
        var klCoefficient: Double { beta ?? 0 }
        var samplingTemperature: Double { temperature ?? 1 }
        var accumulation: Double { grad_accum ?? 1 }
        var stepsPerGeneration: Double { steps_per_generation ?? accumulation }

        /// Why the form cannot be compared; nil where it can.
        var problem: String? {
            guard ["grpo", "bnpo", "dr_grpo", "dapo", "cispo"].contains(form) else {
                return "the loss \(form) is not implemented"
            }
            if (top_entropy_quantile ?? 1) < 1 { return "top_entropy_quantile is not implemented" }
            return nil
        }

        var policy: PolicyGradientOptions {
            var options = PolicyGradientOptions()
            let low = epsilon ?? 0.2
            options.form = form == "cispo" ? .cispo : .clipped
            options.ratioLevel = ratioLevel == "sequence" ? .sequence : .token
            options.clipLow = form == "cispo" ? 0 : low
            options.clipHigh = epsilon_high ?? low
            options.dualClip = delta
            options.klCoefficient = klCoefficient
            options.klBiasCorrection = use_bias_correction_kl ?? true
            options.offPolicyThreshold = off_policy_mask_threshold
            return options
        }
    }

    private func losses() throws -> [ParityCase] {
        let list = try JSONDecoder().decode(
            LossCases.self, from: Data(contentsOf: root.appending(path: "loss_cases.json"))
        ).cases
        let tensors = try FixtureTensors(root.appending(path: "loss_cases.safetensors"))
        return list.cases("grpo", name: Self.name) { item in
            let name = Self.name(item)
            if let problem = item.options.problem { return [.skipped("grpo", name, problem)] }
            let (loss, gradient) = try evaluate(item, tensors)
            let expected = try tensors.doubles("\(Self.key(item.id)).grad_f64")
            let scale = expected.reduce(1e-3) { max($0, abs($1)) }
            let worst = zip(gradient, expected).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
            let error = max(worst, abs(loss - item.loss_f64) / max(1, abs(item.loss_f64)))
            return [
                ParityCase(
                    kind: "grpo", name: name, worstError: error, tolerance: 1e-9,
                    detail: "loss and gradient against float64")
            ]
        }
    }

    private static func name(_ item: LossCases.Case) -> String {
        "loss \(item.id) \(item.salt ?? "") \(item.options.form) \(item.options.ratioLevel)"
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
        let objective = PolicyGradient(o.policy)
        let total = mask.reduce(0, +)
        var (loss, gradient) = (0.0, [Double]())
        for row in 0..<item.B {
            let range = row * item.T..<(row + 1) * item.T
            func spread(_ values: [Float]) -> [Float] {
                values.count == item.B ? [Float](repeating: values[row], count: item.T) : Array(values[range])
            }
            let share = Self.share(
                o, rows: item.B, width: item.T, rowCount: max(mask[range].reduce(0, +), 1), total: total)
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

    /// A token's share of the loss by TRL's divisors, accumulation included.
    ///
    /// - Parameters:
    ///   - width: tokens of the longest completion: `max_completion_length` where that is absent.
    ///   - rowCount: counted tokens of the token's response.
    ///   - total: counted tokens of all responses.
    private static func share(_ o: Options, rows: Int, width: Int, rowCount: Double, total: Double) -> Double {
        switch o.form {
        case "grpo": 1 / rowCount / Double(rows) / o.accumulation
        case "bnpo": 1 / max(total, 1) / o.accumulation
        case "dr_grpo": 1 / (Double(rows) * (o.max_completion_length ?? Double(width))) / o.accumulation
        default: 1 / (max(o.num_items_in_batch ?? total, 1) * o.accumulation / o.stepsPerGeneration)
        }
    }

    // MARK: - Advantages

    private struct AdvantageCases: Decodable {
        struct Case: Decodable {
            let variant: String
            let G: Int
            let scale_rewards: String?
            let aggregation: String?
            let reward_weights: [Double]?
            let rewards: [[Double?]]
            let advantages: [Double]
        }
        let cases: [Lenient<Case>]
    }

    private func advantages() throws -> [ParityCase] {
        let file = try JSONDecoder().decode(
            AdvantageCases.self, from: Data(contentsOf: root.appending(path: "advantage_cases.json")))
        return file.cases.cases("grpo", name: { "advantages \($0.variant)" }) { item in
            let (scale, aggregation) = (item.scale_rewards ?? "group", item.aggregation ?? "sum_then_normalize")
            let name = "advantages \(item.variant) \(scale) \(aggregation)"
            guard let scale = GroupRelativeAdvantage.Scale(rawValue: scale),
                let aggregation = GroupRelativeAdvantage.Aggregation(rawValue: aggregation)
            else { return [.skipped("grpo", name, "this form is not implemented")] }
            let ours = GroupRelativeAdvantage(scale: scale, epsilon: 1e-4, aggregation: aggregation)
                .advantages(rewards: item.rewards, weights: item.reward_weights, groupSize: item.G).advantages
            // TRL takes rewards apart in fp32: how much of a group's spread that leaves depends on their size.
            var (largest, smallest) = (0.0, Double.infinity)
            for rewards in item.rewards {
                for first in stride(from: 0, to: rewards.count, by: item.G) {
                    let group = rewards[first..<min(rewards.count, first + item.G)].compactMap { $0 }
                    largest = group.reduce(largest) { max($0, abs($1)) }
                    let spread = (group.max() ?? 0) - (group.min() ?? 0)
                    if spread > 0 { smallest = min(smallest, spread) }
                }
            }
            let rounding = 0x1p-20 * max(largest, largest / smallest)
            let worst = zip(ours, item.advantages).reduce(0) { max($0, abs($1.0 - $1.1) / max(1, abs($1.1))) }
            return [
                ParityCase(
                    kind: "grpo", name: name, worstError: ours.count == item.advantages.count ? worst : .infinity,
                    tolerance: min(4e-2, 1e-4 + rounding))
            ]
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
        let model: String
        let config: PolicyGradientParity.Options
        let num_items_in_batch: Double?
        let loss: Double
        let grad_norm: Double
        let router_aux_loss_coef: Double?
        let aux_loss_enabled: Bool?
    }

    init(_ root: URL, pool: ComputePool) throws {
        self.root = root
        self.pool = pool
        meta = try JSONDecoder().decode(Meta.self, from: Data(contentsOf: root.appending(path: "meta.json")))
        batch = try FixtureTensors(root.appending(path: "batch.safetensors"))
    }

    func run() throws -> [ParityCase] {
        let name = root.lastPathComponent
        let models = root.deletingLastPathComponent().deletingLastPathComponent().appending(path: "models")
        let directory = models.appending(path: meta.model)
        if let problem = try meta.config.problem ?? ModelFamily.problem(directory) {
            return [.skipped("grpo", name, problem)]
        }
        let step = try StepOnFixture(try Checkpoint(directory: directory), pool: pool)
        try step.load(FixtureTensors(root.appending(path: "policy_weights.safetensors")))
        let rows = try sequences()
        let coefficient = meta.aux_loss_enabled == true ? meta.router_aux_loss_coef ?? 0 : 0
        let objective = try objective(rows)
        var statistics = StepStatistics()
        var scores: [Float] = []
        // What the loss is summed from, about: a sum of fp32 terms is as good as their sizes allow.
        var size = 0.0
        let auxiliary = try step.run(
            rows.enumerated().map { TrainingCell(index: $0, [$1]) }, coefficient: coefficient,
            temperature: Float(meta.config.samplingTemperature)
        ) { cell, tokens in
            scores += tokens.map(\.logProb)
            let gradients = objective.evaluate(rows[cell.index], tokens, &statistics)
            size += gradients.reduce(0) { $0 + abs(Double($1.logProb)) }
            return gradients
        }
        let mask = try batch.integers("completion_mask")
        let expected = zip(try batch.floats("per_token_logps"), mask).filter { $0.1 == 1 }.map(\.0)
        let drift = zip(scores, expected).reduce(0) {
            max($0, abs(Double($1.0) - Double($1.1)) / max(1, abs(Double($1.1)) / 16))
        }
        let loss = statistics[.policyLoss] + coefficient * auxiliary
        return [
            ParityCase(
                kind: "grpo", name: "\(name) log-probabilities",
                worstError: scores.count == expected.count ? drift : .infinity, tolerance: 1e-4),
            ParityCase(
                kind: "grpo", name: "\(name) loss", worstError: abs(loss - meta.loss) / max(1, size, abs(meta.loss)),
                tolerance: 5e-5, detail: "\(loss), expected \(meta.loss)"),
            ParityCase(
                kind: "grpo", name: "\(name) gradient norm",
                worstError: abs(step.norm - meta.grad_norm) / max(meta.grad_norm, 1e-6),
                tolerance: 1e-4),
            try step.compare(
                kind: "grpo", name: "\(name) gradient", FixtureTensors(root.appending(path: "grads.safetensors")),
                tolerance: 1e-4),
        ]
    }

    private func objective(_ rows: [TrainingSequence]) throws -> StepObjective {
        let config = meta.config
        var divisors = StepDivisors(rows)
        // Responses that are masked as a whole count all the same.
        divisors.policySequences = Double(rows.count)
        var objective = StepObjective(policy: config.policy, divisors: divisors)
        switch config.form {
        case "grpo": objective.aggregation = .sequenceMean
        case "dr_grpo":
            objective.aggregation = .constantLength
            objective.constantLength =
                try config.max_completion_length ?? Double(batch.shape("completion_ids")[1])
        case "bnpo": objective.aggregation = .tokenMean
        default:
            objective.aggregation = .tokenMean
            if let count = meta.num_items_in_batch ?? config.num_items_in_batch {
                objective.divisors.policyTokens = count
            }
        }
        return objective
    }

    /// The unmasked tokens of prompt and completion; scored are those of the completion.
    private func sequences() throws -> [TrainingSequence] {
        let (shape, width) = (try batch.shape("completion_ids"), try batch.shape("prompt_ids")[1])
        let (prompts, promptMask) = (try batch.integers("prompt_ids"), try batch.integers("prompt_mask"))
        let (completions, mask) = (try batch.integers("completion_ids"), try batch.integers("completion_mask"))
        /// One value per token, or one per response that stands for all of its tokens.
        func optional(_ name: String) throws -> [Float]? {
            guard batch.contains(name) else { return nil }
            let values = try batch.floats(name)
            return values.count == shape[0] ? values.flatMap { [Float](repeating: $0, count: shape[1]) } : values
        }
        guard let advantages = try optional("advantages") else { throw ParityError("the batch has no advantages") }
        let (old, reference) = (try optional("old_per_token_logps"), try optional("ref_per_token_logps"))
        let importance = try optional("importance_sampling_ratio")
        let tool = batch.contains("tool_mask") ? try batch.integers("tool_mask") : nil
        if meta.config.off_policy_mask_threshold != nil, batch.contains("sampling_per_token_logps") {
            throw ParityError("an off-policy mask by another engine's log-probabilities has no counterpart here")
        }
        return (0..<shape[0]).map { row in
            let prompt = (row * width..<(row + 1) * width).filter { promptMask[$0] == 1 }.map { prompts[$0] }
            let places = (row * shape[1]..<(row + 1) * shape[1]).filter { mask[$0] == 1 }
            return TrainingSequence(
                tokens: prompt + places.map { completions[$0] },
                scored: places.indices.map { Int32(prompt.count + $0) },
                advantages: places.map { advantages[$0] }, old: old.map { values in places.map { values[$0] } } ?? [],
                reference: reference.map { values in places.map { values[$0] } } ?? [],
                importance: importance.map { values in places.map { values[$0] } } ?? [],
                policyMask: places.map { tool?[$0] ?? 1 == 1 })
        }
    }
}
