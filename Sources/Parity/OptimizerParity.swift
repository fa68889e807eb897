// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import PostTraining
internal import Qwen3

/// `grads/optimizer_unit`: torch's AdamW and clipping on given gradients, transformers' schedules.
struct OptimizerParity {
    private let root: URL

    init(_ root: URL) { self.root = root }

    private struct Meta: Decodable {
        struct Case: Decodable {
            let lr: Double
            let betas: [Double]
            let eps: Double
            let weight_decay: Double
            let clip: Double?
            let grad_norms_before_clip: [Double]
        }
        struct Schedule: Decodable {
            let kind: String
            let warmup: Int
            let total: Int
            let lr_of_step: [Double]
        }
        let cases: [Lenient<Case>]
        let schedules: [Lenient<Schedule>]?
    }

    func run() throws -> [ParityCase] {
        let meta = try JSONDecoder().decode(Meta.self, from: Data(contentsOf: root.appending(path: "meta.json")))
        let tensors = try FixtureTensors(root.appending(path: "steps.safetensors"))
        var index = -1
        let steps = meta.cases.cases("grads", name: { _ in "AdamW" }) { item in
            index += 1
            return try adamW(item, index, tensors)
        }
        let schedules = (meta.schedules ?? []).cases("grads", name: { "schedule \($0.kind)" }) { [schedule($0)] }
        return steps + schedules
    }

    private func adamW(_ item: Meta.Case, _ number: Int, _ tensors: FixtureTensors) throws -> [ParityCase] {
        let prefix = "\(number).p"
        let names = tensors.names.filter { $0.hasPrefix(prefix) && $0.hasSuffix(".init") }.sorted()
            .map { $0.dropFirst(prefix.count).dropLast(".init".count) }
        let states = try names.map { name in
            let values = try tensors.floats("\(prefix)\(name).init")
            let state = try OptimizerState(count: values.count)
            state.master.update(from: values, count: values.count)
            return state
        }
        let settings = AdamWSettings(
            beta1: item.betas[0], beta2: item.betas[1], epsilon: item.eps, weightDecay: item.weight_decay)
        var (worst, norm) = (0.0, 0.0)
        for (step, expected) in item.grad_norms_before_clip.enumerated() {
            let gradients = try names.map { try tensors.floats("\(number).step\(step).g\($0)") }
            let squares = gradients.reduce(0.0) { $0 + GradientNorm.sumOfSquares($1, count: $1.count) }
            norm = max(norm, abs(squares.squareRoot() - expected) / max(expected, 1e-6))
            let update = AdamWStep(
                number: step + 1, learningRate: item.lr,
                gradientScale: GradientNorm.clipFactor(sumOfSquares: squares, limit: item.clip), settings: settings)
            for (place, state) in states.enumerated() {
                state.apply(update, 0..<state.count, decays: true, gradient: gradients[place])
                let after = try tensors.floats("\(number).step\(step).p\(names[place]).after")
                for (index, value) in after.enumerated() {
                    let error = abs(Double(state.master[index]) - Double(value)) / max(1, abs(Double(value)))
                    worst = error <= worst ? worst : error.isNaN ? .infinity : error
                }
            }
        }
        return [
            ParityCase(kind: "grads", name: "optimizer_unit \(number) weights", worstError: worst, tolerance: 2e-6),
            ParityCase(
                kind: "grads", name: "optimizer_unit \(number) gradient norms", worstError: norm, tolerance: 2e-6),
        ]
    }

    private func schedule(_ item: Meta.Schedule) -> ParityCase {
        let name = "schedule \(item.kind), warm-up \(item.warmup) of \(item.total)"
        let names = ["constant_with_warmup": "constant"]
        guard let kind = LearningRateSchedule.Kind(rawValue: names[item.kind] ?? item.kind) else {
            return .skipped("grads", name, "this schedule is not implemented")
        }
        let schedule = LearningRateSchedule(kind: kind, warmupSteps: item.warmup, totalSteps: item.total)
        // A job ends with its last step.
        let worst = item.lr_of_step.prefix(item.total).enumerated().reduce(0.0) {
            max($0, abs(schedule.factor(step: $1.offset) - $1.element))
        }
        return ParityCase(kind: "grads", name: name, worstError: worst, tolerance: 1e-12)
    }
}
