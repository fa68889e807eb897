// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// /run.json of a sandbox: what the harness in it has to do.
struct SandboxOrder: Codable, Sendable {
    enum Kind: String, Codable {
        /// A program alone.
        case program
        /// A program that tests in another sandbox ask.
        case subject
        case tests
    }

    var kind: Kind
    /// The program's text.
    var source: String?
    var tests: String?
    /// Under which the verdict on tests is given.
    var token: String?
    var marker = 0
    var link: Int?
    var threads = 0

    var encoded: [UInt8] { Array((try? JSONEncoder().encode(self)) ?? Data()) }
}

enum Harness {
    static let source =
        [HarnessCommon.source, HarnessCodec.source, HarnessProgram.source, HarnessTests.source].joined(
            separator: "\n\n\n")
        + "\n\n\n{\"program\": run_alone, \"subject\": run_for_tests, \"tests\": run_tests}[RUN[\"kind\"]]()\n"
}
