// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@Suite("Philox")
struct PhiloxTests {
    // Known-answer vectors of Random123 1.14 (tests/kat_vectors, philox4x32 10).
    @Test("agrees with Random123's known answers")
    func knownAnswers() {
        #expect(
            Philox.block(counter: (0, 0, 0, 0), key: (0, 0))
                == (0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
        let ones = UInt32.max
        #expect(
            Philox.block(counter: (ones, ones, ones, ones), key: (ones, ones))
                == (0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
    }
}
