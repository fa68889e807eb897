// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// Register programs, the task of the tiny world: three digits and up to eight operations on them, answered by the
/// digits at the end. Small enough that a model of half a million weights learns it in a minute, with an answer of three
/// digits that nobody guesses.
///
/// A query is `360AmBpCr`: the digits, then a mark and an operation per step. Thinking writes a line `Am760` per step.
/// Row N depends on seed and N alone; training and held-out files take different seeds, and rows that a file of the
/// seed `heldOutSeed` holds too are left out of others by the query's own hash: see ``isHeldOut(_:)``.
package struct RegisterPrograms: Sendable {
    package enum Form: String, CaseIterable, Sendable {
        /// `messages` with the question, and `answer`: for rollouts.
        case prompts
        /// `messages` with question and answer: demonstrations.
        case demonstrations
    }

    /// What a question says about thinking.
    package enum Flag: String, CaseIterable, Sendable {
        case think, noThink = "no_think", mixed, none
    }

    package var count: Int
    package var seed: UInt64
    package var form: Form
    package var operations: [Character]
    package var steps: ClosedRange<Int>
    package var flag: Flag
    /// Probability that the thinking of a demonstration stops before the last step, with the right answer all the same:
    /// a cold start that has the skill and the form but not the habit, which reinforcement then teaches.
    package var underThinking: Double
    /// Only queries that are, or are not, kept for evaluation.
    package var isForEvaluation: Bool
    /// Digits of the program's language, ten of them; the operations are the same in all.
    package var digits = Array("0123456789")

    /// The languages of the tiny world, each an alphabet of digits: a small family tree for multilingual questions.
    package static let languages: [String: [Character]] = [
        "arabic-numerals": Array("0123456789"), "letters": Array("KLMNOPQRST"), "marks": Array("!\"#$%&'()*"),
        "capitals": Array("UVWXYZJIQ@"),
    ]

    /// Operations without and with multiplication.
    package static let easy6 = Array("abcrst")
    package static let all8 = Array("abcmrstp")

    package init(
        count: Int, seed: UInt64, form: Form, operations: [Character] = easy6, steps: ClosedRange<Int> = 1...8,
        flag: Flag = .think, underThinking: Double = 0, isForEvaluation: Bool = false
    ) throws(JobError) {
        guard (1...10_000_000).contains(count) else {
            throw JobError(.invalidValue, "-n \(count) is not in 1...10000000")
        }
        guard !operations.isEmpty, operations.allSatisfy(Self.known.contains) else {
            throw JobError(.invalidValue, "--operations: choose easy6, all8 or letters of \(String(Self.known))")
        }
        guard (1...26).contains(steps.lowerBound), steps.upperBound <= 26 else {
            throw JobError(.invalidValue, "--steps-min and --steps-max: 1 to 26 steps, in order")
        }
        self.count = count
        self.seed = seed
        self.form = form
        self.operations = operations
        self.steps = steps
        self.flag = flag
        self.underThinking = underThinking
        self.isForEvaluation = isForEvaluation
    }

    private static let known = Array("abcmnpqrst")

    /// A program with its run.
    struct Program {
        let query: String
        /// A line per step: mark, operation, digits after it.
        let trace: [String]
        let answer: String
    }

    static func run(_ digits: [Int], _ operations: [Character]) -> Program {
        var (x, y, z) = (digits[0], digits[1], digits[2])
        var query = "\(x)\(y)\(z)"
        var trace: [String] = []
        for (index, operation) in operations.enumerated() {
            switch operation {
            case "a": x = (x + y) % 10
            case "b": y = (y + z) % 10
            case "c": z = (z + x) % 10
            case "m": x = (x - y + 10) % 10
            case "n": y = (y - z + 10) % 10
            case "p": x = x * y % 10
            case "q": y = y * z % 10
            case "r": (x, y, z) = (y, z, x)
            case "s": (x, y, z) = (z, y, x)
            default: (x, y, z) = (y, x, z)
            }
            let mark = Character(UnicodeScalar(UInt8(65 + index)))
            query += "\(mark)\(operation)"
            trace.append("\(mark)\(operation)\(x)\(y)\(z)")
        }
        return Program(query: query, trace: trace, answer: "\(x)\(y)\(z)")
    }

    /// One query in eight is for evaluation, whatever file asks.
    static func isHeldOut(_ query: String) -> Bool { CRC32C.of(Array(query.utf8)) % 8 == 0 }

    /// A text with the digits of the language; JSON's own characters escaped.
    private func spelled(_ text: String) -> String {
        String(text.map { character in character.wholeNumberValue.map { digits[$0] } ?? character })
            .replacing("\"", with: "\\\"")
    }

    /// Line `index` of the file, without its newline.
    package func line(_ index: Int) -> String {
        var random = RowRandom(seed: seed, row: UInt32(index), domain: 0x7265_6773)
        var program: Program
        repeat {
            let digits = (0..<3).map { _ in random.below(10) }
            let count = steps.lowerBound + random.below(steps.count)
            program = Self.run(digits, (0..<count).map { _ in operations[random.below(operations.count)] })
        } while Self.isHeldOut(program.query) != isForEvaluation
        var thinks = true
        var question = program.query
        switch flag {
        case .think: question += " /think"
        case .none: break
        case .noThink: (thinks, question) = (false, question + " /no_think")
        case .mixed:
            thinks = random.below(2) == 0
            question += thinks ? " /think" : " /no_think"
        }
        let id = "register-\(seed)-\(index)"
        let user = "{\"content\":\"\(spelled(question))\",\"role\":\"user\"}"
        guard form == .demonstrations else {
            return "{\"answer\":\"\(spelled(program.answer))\",\"id\":\"\(id)\",\"messages\":[\(user)]}"
        }
        var lines = program.trace.count
        if program.trace.count > 1, Double(random.below(1 << 24)) / Double(1 << 24) < underThinking {
            lines = 1 + random.below(program.trace.count - 1)
        }
        let reasoning = spelled(program.trace.prefix(lines).joined())
        let answer = spelled(program.answer)
        let assistant =
            thinks
            ? "{\"content\":\"\(answer)\",\"reasoning_content\":\"\(reasoning)\",\"role\":\"assistant\"}"
            : "{\"content\":\"\(answer)\",\"role\":\"assistant\"}"
        return "{\"id\":\"\(id)\",\"messages\":[\(user),\(assistant)]}"
    }

    /// Writes all lines; an existing file is replaced.
    /// - Throws: ``JobError`` `fileSystem`.
    package func write(to url: URL) throws(JobError) {
        do {
            let text = (0..<count).map { line($0) + "\n" }.joined()
            try Data(text.utf8).write(to: url)
        } catch {
            throw JobError(.fileSystem, "cannot be written: \(failureReason(error))", file: url.path)
        }
    }
}
