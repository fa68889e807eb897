// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

@Suite("Prompts that siblings share")
struct SharedPromptTests {
    @Test(
        "computed once, they give the same scores to the bit and the same gradients up to rounding",
        arguments: ComputeType.allCases)
    func same(compute: ComputeType) throws {
        for name in ["dense_tied_bf16", "moe_norm_bf16"] {
            let pool = ComputePool(threadCount: 2)
            let checkpoint = try Checkpoint(directory: Fixtures.url("models/\(name)"))
            let model = try Qwen3Model(checkpoint, compute: compute, pool: pool)
            let layout = ParameterLayout.trunk(of: model.configuration)
            let prompt: [Int32] = (0..<39).map { Int32(($0 * 17 + 3) % 300) }
            var sequences: [[Int32]] = []
            var scored: [[Int32]] = []
            for sibling in 0..<4 {
                let start: [Int32] = sibling == 3 ? Array(prompt.prefix(20)) : prompt
                let answer: [Int32] = (0..<(3 + 4 * sibling)).map { Int32(($0 * 29 + sibling * 7) % 300) }
                sequences.append(start + answer)
                scored.append((Int32(start.count)..<Int32(start.count + answer.count)).map { $0 })
            }
            var results: [(scores: [TokenScore], gradient: [Float])] = []
            for (shares, recomputes) in [(false, false), (true, false), (true, true)] {
                let pass = CellPass(model, layout: layout)
                pass.recomputes = recomputes
                let cell = TrainingCell(index: 0, sequences: sequences, scored: scored, sharesPrompts: shares)
                if shares { #expect(cell.shared == [0, 32, 32, 16]) }
                let scores = try pass.forward(cell, temperature: 1)
                let vector = try PageBuffer(byteCount: layout.count * 4)
                let wanted = scores.indices.map { RowGradient(logProb: Float($0 % 5) * 0.1 - 0.2, entropy: 0.01) }
                _ = try pass.backward(wanted, teacher: nil, auxiliary: nil, into: vector.floats())
                results.append((scores, Array(UnsafeBufferPointer(start: vector.floats(), count: layout.count))))
            }
            #expect(results[0].scores == results[1].scores)
            // Attention computed again on the way back is the same attention.
            #expect(results[2].scores == results[1].scores)
            let isSame = results[2].gradient == results[1].gradient
            #expect(isSame)
            let norm = results[0].gradient.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
            let difference = zip(results[0].gradient, results[1].gradient)
                .reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
            // Under bf16 a shared row's gradient is rounded once, as a sum, and not once per sibling.
            #expect(
                norm > 0.01 && difference < (compute == .fp32 ? 1e-5 : 2e-2) * norm, "\(name): \(difference) of \(norm)"
            )
        }
    }
}
