// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Whether the answer's program passes its tests, in a sandbox. The program is the last fenced block of the answer, or
/// all of it without fences. Column `tests`, a JSON list: `{"input", "output"}` gives standard input and the expected
/// output (white space at line ends does not count), `{"code"}` is run after the program and must not fail. 1 when all
/// pass; the share with `partial: true`. Without a sandbox nothing runs, and no reward comes of it.
package struct CodeReward: RewardFunction {
    package static let name = "code_tests"
    package static let ability = RewardAbility.reasoning
    package static let needsAnswer = false

    private let isPartial: Bool
    private let milliseconds: UInt64
    /// All tests together must end before the verifier's own deadline.
    private static let totalMilliseconds: UInt64 = 8_000

    /// Options: `partial` (default false), `milliseconds` of one test (default 2000).
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["partial", "milliseconds"])
        isPartial = try options.boolean("partial", default: false)
        milliseconds = UInt64(try options.number("milliseconds", 10...8000, default: 2000))
    }

    private struct Test: Decodable {
        let input: String?
        let output: String?
        let code: String?
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let column = try sample.column("tests", for: Self.name)
            guard let tests = try? JSONDecoder().decode([Test].self, from: Data(column.utf8)), !tests.isEmpty else {
                throw MissingColumn(reason: "the column 'tests' is no JSON list of {input, output} or {code}")
            }
            let program = Self.program(text)
            var left = Self.totalMilliseconds
            var passed = 0
            for test in tests {
                guard left > 0 else { break }
                let started = ContinuousClock.now
                if try passes(test, program, milliseconds: min(milliseconds, left)) {
                    passed += 1
                } else if !isPartial {
                    break
                }
                let took = started.duration(to: .now).components
                left -= min(left, UInt64(took.seconds) * 1000 + UInt64(took.attoseconds / 1_000_000_000_000_000))
            }
            let share = Double(passed) / Double(tests.count)
            return (isPartial ? share : share == 1 ? 1 : 0, "\(passed) of \(tests.count) tests")
        }
    }

    private func passes(_ test: Test, _ program: String, milliseconds: UInt64) throws -> Bool {
        let code = test.code.map { program + "\n" + $0 } ?? program
        let result = try Sandbox.run(
            Python.command(code: code), input: Array((test.input ?? "").utf8),
            limits: Sandbox.Limits(milliseconds: milliseconds))
        guard result.status == 0 else { return false }
        return test.output.map { Self.lines($0) == Self.lines(result.text) } ?? true
    }

    private static func lines(_ text: String) -> [Substring] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            var line = line
            while line.last?.isWhitespace == true { line = line.dropLast() }
            return line
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
    }

    private static func program(_ text: String) -> String {
        let parts = text.components(separatedBy: "```")
        guard parts.count >= 3 else { return text }
        // The last closed block, without the name of its language.
        let block = parts[(parts.count - 1) / 2 * 2 - 1]
        return block.firstIndex(of: "\n").map { String(block[$0...].dropFirst()) } ?? block
    }
}
