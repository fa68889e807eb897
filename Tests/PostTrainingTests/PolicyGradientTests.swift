// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import TestSupport
import Testing

@testable import PostTraining

/// The cases that TRL 1.16 was run on.
struct LossCases: Decodable {
    struct Case: Decodable, Sendable {
        struct Options: Decodable, Sendable {
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
            let tis_mode: String?
            let off_policy_mask_threshold: Double?
            let top_entropy_quantile: Double?
            let max_completion_length: Double
        }
        let id: Int
        let salt: String
        let B: Int
        let T: Int
        let options: Options
        let inputs: [String]
        let loss_f64: Double
    }
    let cases: [Case]

    static let file = try! SafetensorsFile(Fixtures.url("grpo/loss_cases.safetensors"))
    static let all = try! JSONDecoder().decode(
        LossCases.self, from: Data(contentsOf: Fixtures.url("grpo/loss_cases.json"))
    ).cases

    static func isSupported(_ item: Case) -> Bool {
        !["sapo", "vespo", "luspo"].contains(item.options.loss_type) && (item.options.top_entropy_quantile ?? 1) >= 1
    }

    static func values(_ name: String) throws -> [Double] {
        let view = try file.tensor(name)
        return try view.withBytes { bytes in
            switch view.byteCountPerElement {
            case 4 where name.hasSuffix("mask"): bytes.bindMemory(to: Int32.self).map(Double.init)
            case 8: bytes.bindMemory(to: Double.self).map { $0 }
            default: bytes.bindMemory(to: Float.self).map(Double.init)
            }
        }
    }
}

extension TensorView {
    fileprivate var byteCountPerElement: Int {
        let count = shape.reduce(1, *)
        return withBytes { $0.count } / max(count, 1)
    }
}

@Suite("Policy gradient")
struct PolicyGradientTests {
    @Test("loss and gradient of TRL's cases", arguments: LossCases.all.filter(LossCases.isSupported).map(\.id))
    func trl(id: Int) throws {
        let item = LossCases.all[id]
        let o = item.options
        func input(_ name: String) throws -> [Double]? {
            guard item.inputs.contains(name) else { return nil }
            return try LossCases.values(String(format: "%03d.", item.id) + name)
        }
        let new = try input("new_logps")!
        let mask = try input("completion_mask")!
        let tool = try input("tool_mask")
        let advantages = try input("advantages")!
        let old = try input("old_per_token_logps")
        let reference = try input("ref_per_token_logps")
        let sampling = try input("sampling_per_token_logps")
        let importance = try input("importance_sampling_ratio")
        let expected = try LossCases.values(String(format: "%03d.grad_f64", item.id))

        var options = PolicyGradientOptions()
        options.form = o.loss_type == "cispo" ? .cispo : .clipped
        options.ratioLevel = o.level == "sequence" ? .sequence : .token
        options.clipLow = o.loss_type == "cispo" ? 0 : o.epsilon
        options.clipHigh = o.epsilon_high ?? o.epsilon
        options.dualClip = o.delta
        options.klCoefficient = o.beta
        options.klBiasCorrection = o.use_bias_correction_kl ?? true
        options.offPolicyThreshold = o.off_policy_mask_threshold

        let accumulation = o.grad_accum ?? 1
        var total = 0.0
        var worst = 0.0
        let scale = expected.reduce(0) { max($0, abs($1)) }
        let tokenTotal = (0..<item.B * item.T).reduce(0.0) { $0 + (mask[$1] * (tool?[$1] ?? 1)) }
        for row in 0..<item.B {
            let range = row * item.T..<(row + 1) * item.T
            func slice(_ values: [Double]) -> [Float] { values[range].map { Float($0) } }
            let active = range.map { mask[$0] * (tool?[$0] ?? 1) }
            let count = max(active.reduce(0, +), 1)
            let share: Double
            switch o.loss_type {
            case "grpo": share = 1 / count / Double(item.B) / accumulation
            case "bnpo": share = 1 / max(tokenTotal, 1) / accumulation
            case "dr_grpo": share = 1 / (Double(item.B) * o.max_completion_length) / accumulation
            default:
                share = 1 / (max(o.num_items_in_batch, 1) * accumulation / (o.steps_per_generation ?? accumulation))
            }
            let importanceRow: [Float]? = importance.map { values in
                values.count == item.B ? [Float](repeating: Float(values[row]), count: item.T) : slice(values)
            }
            let loss = PolicyGradient(options).evaluate(
                PolicyTokens(
                    current: slice(new), old: slice(old ?? new), behaviour: sampling.map(slice),
                    reference: reference.map(slice),
                    advantages: advantages.count == item.B
                        ? [Float](repeating: Float(advantages[row]), count: item.T) : slice(advantages),
                    importance: importanceRow, weights: active.map { $0 * share }))
            total += loss.loss
            for (index, place) in range.enumerated() {
                worst = max(worst, abs(loss.gradients[index] - expected[place]))
            }
        }
        #expect(abs(total - item.loss_f64) <= 1e-9 * max(1, abs(item.loss_f64)), "\(item.salt): \(total)")
        #expect(worst <= 1e-9 * max(scale, 1e-3), "\(item.salt): gradient off by \(worst) of \(scale)")
    }

    @Test("the cases that are not supported are these")
    func unsupported() {
        let salts = LossCases.all.filter { !LossCases.isSupported($0) }.map(\.salt)
        #expect(salts == ["top_entropy_20pct", "top_entropy_50pct", "other_luspo", "other_sapo", "other_vespo"])
    }

    @Test("our exponential is within two units of the last place of libm's")
    func exponential() {
        for step in -4000...4000 {
            let x = Double(step) * 0.17 + 0.0371
            let expected = exp(x)
            if expected.isFinite, expected > 1e-300 {
                #expect(abs(portableExp(x) - expected) <= 3 * expected.ulp, "\(x)")
            }
        }
        #expect(portableExp(1000) == .infinity)
        #expect(portableExp(-1000) == 0)
    }
}
