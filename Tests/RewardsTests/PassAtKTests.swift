// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import TestSupport
import Testing

@Suite("pass@k")
struct PassAtKTests {
    private struct File: Decodable {
        struct Case: Decodable {
            let n: Int
            let c: Int
            let k: Int
            let exact: Double
        }
        let cases: [Case]
    }

    @Test("equals the exact fractions")
    func exact() throws {
        let file = try JSONDecoder().decode(File.self, from: Data(contentsOf: Fixtures.url("eval/pass_at_k.json")))
        #expect(file.cases.count > 10)
        for item in file.cases where item.k <= item.n {
            let value = try #require(PassAtK.estimate(count: item.n, correct: item.c, k: item.k))
            #expect(abs(value - item.exact) < 1e-12, "\(item)")
        }
        #expect(PassAtK.estimate(count: 3, correct: 1, k: 4) == nil)
    }
}
