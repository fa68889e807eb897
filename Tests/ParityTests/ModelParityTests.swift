// SPDX-License-Identifier: Apache-2.0
import Foundation
import Parity
import RuntimeSupport
import TestSupport
import Testing

@Suite("Model parity with transformers")
struct ModelParityTests {
    static let models =
        (try? FileManager.default.contentsOfDirectory(atPath: Fixtures.url("models").path).sorted()) ?? []

    @Test("every layer boundary, router choice and greedy continuation", arguments: models)
    func model(name: String) throws {
        let cases = try ModelParity(Fixtures.url("models/\(name)"), pool: ComputePool(threadCount: 2)).run()
        #expect(cases.count > 20)
        for result in cases {
            #expect(result.passed, "\(result.name): \(result.worstError) > \(result.tolerance) \(result.detail)")
        }
    }
}
