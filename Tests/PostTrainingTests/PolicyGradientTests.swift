// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import PostTraining

@Suite("Policy gradient")
struct PolicyGradientTests {
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
