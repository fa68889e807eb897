// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Parity
import TestSupport
import Testing

@Suite("The parity check has teeth")
struct MistakeTests {
    /// Failing cases of the check when the logits come from the naive forward pass with `mistake`.
    static func failures(_ model: String, _ mistake: Mistake) throws -> [ParityCase] {
        let directory = Fixtures.url("models/\(model)")
        let naive = try NaiveForward(directory, mistake: mistake)
        var comparison = Comparison()
        for batch in ["nopad", "long"] {
            let expected = try FixtureTensors(directory.appending(path: "ref/forward_\(batch).safetensors"))
            let shape = try expected.shape("input_ids")
            let ids = try expected.integers("input_ids")
            let logits = (0..<shape[0]).flatMap { naive.logits(Array(ids[$0 * shape[1]..<($0 + 1) * shape[1]])) }
            comparison.add("logits", logits, try expected.floats("logits"), relative: false)
        }
        return comparison.cases(kind: "models", prefix: model).filter { !$0.passed }
    }

    @Test("an independent forward pass without a mistake passes", arguments: ModelParityTests.models)
    func correct(model: String) throws {
        let failures = try Self.failures(model, .none)
        #expect(failures.isEmpty, "\(failures)")
    }

    @Test("every classic mistake fails on some model", arguments: Mistake.allCases)
    func mistakes(mistake: Mistake) throws {
        let caught = try ModelParityTests.models.contains { try !Self.failures($0, mistake).isEmpty }
        let isHarmless = mistake == .none || mistake == .topKThenSoftmaxWhenRenormalised
        #expect(caught != isHarmless)
    }
}
