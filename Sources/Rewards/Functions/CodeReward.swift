// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Whether the answer's program passes its tests, in sandboxes. The program is the last fenced block of the answer, or all
/// of it without fences. Column `tests`, a JSON list: `{"input", "output"}` gives standard input and the expected standard
/// output, `{"code"}` is Python that asserts what the program's functions and classes return. 1 when all pass; the share
/// with `partial: true`. Any other key is an infrastructure error: tests that check nothing must not pass.
///
/// Output is compared by lines, without white space at line ends and without empty lines at the end; lines of numbers are
/// equal when all their numbers are, decimal ones within 1e-9. The program must end with status 0.
///
/// `code` runs in a sandbox of its own and asks the program's over a socket: what the program returns is compared there as
/// data, and only the tests' own end is a pass. So exits, signals, output, patched modules and objects that equal
/// everything earn nothing. What the tests themselves leave to the program's classes (`assert Vector(1) == Vector(1)`
/// calls their `__eq__`) is up to the program.
///
/// Time is processor time. A program that the host does not let run in ten times as long is a `verifier_timeout`, and
/// where there is no sandbox nothing runs: no reward comes of either.
package struct CodeReward: RewardFunction {
    package static let name = "code_tests"
    package static let ability = RewardAbility.reasoning
    package static let needsAnswer = false

    private let isPartial: Bool
    private let milliseconds: UInt64
    private let memoryByteCount: UInt64

    /// Options: `partial` (default false), `milliseconds` of processor time for one test (default 6000), `memory_mebibytes`
    /// of address space (default 1024).
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["partial", "milliseconds", "memory_mebibytes"])
        isPartial = try options.boolean("partial", default: false)
        milliseconds = UInt64(try options.number("milliseconds", 10...600_000, default: 6000))
        memoryByteCount = UInt64(try options.number("memory_mebibytes", 64...65_536, default: 1024)) << 20
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        // A program that got no processor says nothing of the response.
        var isStarved = false
        let outcome = RewardOutcome.of(sample) { text in
            let tests = try CodeTest.read(try sample.column("tests", for: Self.name))
            let program = CodeBlock.program(in: text)
            var passed = 0
            var detail = ""
            for test in tests {
                let result = ProgramRunner.run(run(test, program))
                switch result.end {
                case .unavailable, .cancelled: throw MissingColumn(reason: result.detail)
                case .broken: throw MissingColumn(reason: "the column 'tests': \(result.detail)")
                case .starved:
                    isStarved = true
                    return (0, result.detail)
                case .ended, .processorTime, .asleep: break
                }
                if test.isPassed(by: result) {
                    passed += 1
                } else {
                    if detail.isEmpty { detail = result.detail }
                    if !isPartial { break }
                }
            }
            let share = Double(passed) / Double(tests.count)
            return (
                isPartial ? share : share == 1 ? 1 : 0,
                "\(passed) of \(tests.count) tests" + (detail.isEmpty ? "" : ": \(detail.prefix(200))")
            )
        }
        return isStarved ? .verifierTimeout : outcome
    }

    private func run(_ test: CodeTest, _ program: String) -> ProgramRun {
        var run = ProgramRun(
            source: program, processorMilliseconds: milliseconds, memoryByteCount: memoryByteCount)
        switch test {
        case .output(let input, let output):
            run.input = Data(input.utf8)
            // What is right fits, with all the white space that does not count within reason.
            run.outputByteCount = 2 * output.utf8.count + (64 << 10)
        case .code(let code): run.tests = code
        }
        return run
    }
}

/// One test of a program.
enum CodeTest: Equatable {
    case output(input: String, String)
    case code(String)

    /// - Throws: one line; the data is at fault.
    static func read(_ column: String) throws -> [CodeTest] {
        guard let rows = try? JSONDecoder().decode([[String: Value]].self, from: Data(column.utf8)), !rows.isEmpty
        else {
            throw MissingColumn(reason: "the column 'tests' is no JSON list of {input, output} or {code}")
        }
        return try rows.enumerated().map { index, row in
            let present = row.filter { $0.value != .null }
            func wrong(_ what: String) -> MissingColumn {
                MissingColumn(
                    reason:
                        "the column 'tests': test \(index + 1) \(what); expected {\"input\", \"output\"} or {\"code\"}")
            }
            if let other = present.keys.sorted().first(where: { !["input", "output", "code"].contains($0) }) {
                throw wrong("has the key '\(other.prefix(40))'")
            }
            if let code = present["code"] {
                guard case .text(let text) = code else { throw wrong("has a 'code' that is no text") }
                guard present.count == 1 else { throw wrong("has 'code' and other keys") }
                return .code(unixLines(text))
            }
            guard let output = present["output"] else { throw wrong("has neither 'output' nor 'code'") }
            return .output(input: unixLines(present["input"]?.text ?? ""), unixLines(output.text))
        }
    }

    func isPassed(by result: ProgramResult) -> Bool {
        guard result.end == .ended else { return false }
        guard case .output(_, let expected) = self else { return result.passed }
        return result.status == 0 && result.output.count == result.outputByteCount
            && ProgramOutput.matches(String(decoding: result.output, as: UTF8.self), expected)
    }

    /// A carriage return and a newline are one `Character`: texts are mended before they are looked at.
    static func unixLines(_ text: String) -> String { text.replacingOccurrences(of: "\r\n", with: "\n") }

    /// A text, or a number or truth value as it reads.
    private enum Value: Decodable, Equatable {
        case text(String)
        case null

        var text: String {
            if case .text(let text) = self { text } else { "" }
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .null
            } else if let text = try? container.decode(String.self) {
                self = .text(text)
            } else if let truth = try? container.decode(Bool.self) {
                self = .text(truth ? "True" : "False")
            } else if let integer = try? container.decode(Int.self) {
                self = .text("\(integer)")
            } else if let number = try? container.decode(Double.self) {
                self = .text("\(number)")
            } else {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "no text")
            }
        }
    }
}

/// Comparison of what a program printed, by bytes: outputs may have megabytes.
enum ProgramOutput {
    private static let tolerance = 1e-9

    static func matches(_ output: String, _ expected: String) -> Bool {
        let (output, expected) = (lines(output), lines(expected))
        return output.count == expected.count && zip(output, expected).allSatisfy(isEqual)
    }

    private typealias Line = ArraySlice<UInt8>

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (9...13).contains(byte) }

    private static func lines(_ text: String) -> [Line] {
        var lines = Array(text.utf8).split(separator: 10, omittingEmptySubsequences: false).map { line in
            var line = line
            while line.last.map(isSpace) == true { line = line.dropLast() }
            return line
        }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
    }

    private static func isEqual(_ line: Line, _ expected: Line) -> Bool {
        if line == expected { return true }
        let (words, wanted) = (line.split(whereSeparator: isSpace), expected.split(whereSeparator: isSpace))
        guard words.count == wanted.count, !words.isEmpty else { return false }
        return zip(words, wanted).allSatisfy(isEqualNumber)
    }

    /// Integers by their digits; where either is a decimal number, by its value.
    private static func isEqualNumber(_ word: Line, _ expected: Line) -> Bool {
        guard let a = number(word), let b = number(expected) else { return false }
        guard a.isDecimal || b.isDecimal else { return word == expected }
        return abs(a.value - b.value) <= tolerance * max(1, abs(b.value))
    }

    private static func number(_ word: Line) -> (value: Double, isDecimal: Bool)? {
        guard word.count <= 64, word.allSatisfy({ (48...57).contains($0) || [43, 45, 46, 69, 101].contains($0) }),
            let value = Double(String(decoding: word, as: UTF8.self)), value.isFinite
        else { return nil }
        return (value, word.contains { [46, 69, 101].contains($0) })
    }
}

/// Fenced blocks of code. A fence stands at the start of a line: backticks in the middle of one are the program's.
enum CodeBlock {
    /// The last closed block; without one the last that is open, without any the whole text.
    static func program(in text: String) -> String {
        var closed: [Substring]?
        var open: (fence: Int, indent: Int, lines: [Substring])?
        let text = CodeTest.unixLines(text)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let bare = line.drop { $0 == " " }
            let fence = bare.prefix { $0 == "`" }.count
            let rest = bare.dropFirst(fence)
            if let block = open {
                if fence >= block.fence, rest.allSatisfy(\.isWhitespace) {
                    closed = block.lines
                    open = nil
                } else {
                    // Blocks in lists are indented as a whole.
                    let indent = min(block.indent, line.prefix { $0 == " " }.count)
                    open!.lines.append(line.dropFirst(indent))
                }
            } else if fence >= 3, !rest.contains("`") {
                open = (fence, line.count - bare.count, [])
            }
        }
        guard let lines = closed ?? open?.lines else { return text }
        return lines.joined(separator: "\n")
    }
}
