// SPDX-License-Identifier: Apache-2.0
import Foundation
import Parity
import RuntimeSupport
import TestSupport
import Testing

@Suite("Training parity with torch and TRL")
struct TrainingParityTests {
    private func check(_ cases: [ParityCase], atLeast count: Int) {
        #expect(cases.count { !$0.isSkipped } >= count)
        for result in cases where !result.isSkipped {
            #expect(result.passed, "\(result.name): \(result.worstError) > \(result.tolerance) \(result.detail)")
        }
    }

    @Test(
        "gradients of every parameter and three AdamW steps",
        arguments: [
            "dense_tied_bf16", "dense_untied_fp32", "moe_norm_bf16", "moe_nonorm_sparse2_fp32", "llama_plain_fp32",
            "qwen2_tied_fp32",
        ])
    func gradients(name: String) throws {
        check(try GradientParity(Fixtures.url("grads/\(name)"), pool: ComputePool(threadCount: 2)).run(), atLeast: 3)
    }

    @Test("losses and whole GRPO steps")
    func policyGradient() throws {
        check(try PolicyGradientParity(Fixtures.url("grpo"), pool: ComputePool(threadCount: 2)).run(), atLeast: 126)
    }

    @Test("divergences from a teacher")
    func distillation() throws { check(try DistillationParity(Fixtures.url("distill")).run(), atLeast: 50) }
}
