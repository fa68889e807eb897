// SPDX-License-Identifier: Apache-2.0

/// Finds the final answer in a response and compares answers.
package enum MathAnswer {
    /// Bytes of an answer that is read.
    package static let byteCountMax = 2048

    /// Why a response has no final answer.
    package enum Problem: String, Error, Sendable {
        case none = "no final answer"
        case several = "several different answers"
        case unclosedBox = "a box is not closed"
        case emptyBox = "an empty box"
        case tooLong = "the answer is too long"
    }

    /// The final answer of `text` (a response without its thinking): what `\boxed{…}` holds; without a box, what
    /// follows "answer is", "answer:" or "####"; without those, a text of one line. Answers that differ from one
    /// another are none: a list of guesses must not pay.
    package static func final(in text: String, requiresBox: Bool = false) throws(Problem) -> String {
        let boxes = try boxed(in: text)
        var candidates = boxes
        if candidates.isEmpty {
            guard !requiresBox else { throw .none }
            candidates = marked(in: text)
        }
        if candidates.isEmpty {
            let line = text.trimmed
            guard !line.isEmpty, !line.contains(where: \.isNewline) else { throw .none }
            candidates = [line]
        }
        guard let last = candidates.last, !last.trimmed.isEmpty else { throw boxes.isEmpty ? .none : .emptyBox }
        guard last.utf8.count <= byteCountMax else { throw .tooLong }
        // The comparison of each with the last is bounded: 16 boxes are more than any honest response has.
        guard candidates.count <= 16, candidates.dropLast().allSatisfy({ areEquivalent(last, $0) }) else {
            throw .several
        }
        return last
    }

    /// Whether two answers (without surrounding prose) mean the same.
    package static func areEquivalent(_ gold: String, _ answer: String) -> Bool {
        let (a, b) = (cleaned(gold), cleaned(answer))
        guard !a.isEmpty, !b.isEmpty, a.utf8.count <= byteCountMax, b.utf8.count <= byteCountMax else { return false }
        if a.filter({ !$0.isWhitespace }) == b.filter({ !$0.isWhitespace }) { return true }
        if let x = MathText(a), let y = MathText(b), x.isEqual(to: y) { return true }
        guard let x = MathParser.parse(a), let y = MathParser.parse(b) else { return false }
        return MathEquivalence.areEqual(x, y)
    }

    /// One spelling for what has many: dollar signs, thin spaces, degree signs and Unicode operators.
    static func cleaned(_ text: String) -> String {
        var result = text
        let replacements = [
            ("\\!", ""), ("\\$", ""), ("$", ""), ("{,}", ","), ("^{\\circ}", "\\text{deg}"), ("^\\circ", "\\text{deg}"),
            ("°", "\\text{deg}"), ("\u{2212}", "-"), ("\u{2013}", "-"), ("×", "*"), ("·", "*"), ("÷", "/"),
            ("π", "\\pi "), ("∞", "\\infty "), ("≤", "<="), ("≥", ">="), ("≠", "\\neq "), ("±", "\\pm "),
            ("√", "\\sqrt "), ("\u{A0}", " "), ("\u{202F}", " "), ("~", " "),
        ]
        for (from, to) in replacements { result = result.replacing(from, with: to) }
        result = result.trimmed
        while let last = result.last, last == "." || last == "," { result = String(result.dropLast()).trimmed }
        return result
    }

    /// What the boxes of `text` hold, in order. `\fbox` counts, as in math-verify.
    private static func boxed(in text: String) throws(Problem) -> [String] {
        var result: [String] = []
        var rest = text[...]
        while let start = ["\\boxed{", "\\fbox{"].compactMap({ rest.firstRange(of: $0) }).min(by: {
            $0.lowerBound < $1.lowerBound
        }) {
            var depth = 1
            var isEscaped = false
            var end = start.upperBound
            while end < rest.endIndex, depth > 0 {
                if !isEscaped { depth += rest[end] == "{" ? 1 : rest[end] == "}" ? -1 : 0 }
                isEscaped = rest[end] == "\\" && !isEscaped
                end = rest.index(after: end)
            }
            guard depth == 0 else { throw .unclosedBox }
            result.append(String(rest[start.upperBound..<rest.index(before: end)]))
            guard result.count <= 64 else { throw .several }
            rest = rest[end...]
        }
        return result
    }

    /// What follows the usual words, to the end of its line.
    private static func marked(in text: String) -> [String] {
        var result: [String] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let lower = line.lowercased()
            for marker in ["answer is", "answer:", "####"] {
                guard let range = lower.ranges(of: marker).last else { continue }
                let offset = lower.distance(from: lower.startIndex, to: range.upperBound)
                guard offset <= line.count else { continue }
                let rest = line.dropFirst(offset).trimmed
                let stripped = rest.drop { $0 == ":" || $0 == "*" || $0 == " " }
                result.append(String(stripped).replacing("**", with: "").trimmed)
                break
            }
        }
        return result
    }
}

/// An answer in words, or the letter of a choice.
struct MathText {
    private let words: String
    /// Written as `\text{…}` or `(C)`: certainly no variable.
    private let isMarked: Bool

    /// nil for anything but words.
    init?(_ text: String) {
        var text = text.trimmed
        var isMarked = false
        for command in ["\\textbf{", "\\text{", "\\mathrm{", "\\textrm{", "\\mbox{"]
        where text.hasPrefix(command) && text.hasSuffix("}") {
            text = String(text.dropFirst(command.count).dropLast()).trimmed
            isMarked = true
        }
        if text.hasPrefix("("), text.hasSuffix(")"), text.count == 3 {
            text = String(text.dropFirst().dropLast())
            isMarked = true
        }
        guard !text.isEmpty, text.allSatisfy({ $0.isLetter || $0 == " " || $0 == "-" || $0 == "'" }) else { return nil }
        words = text.lowercased().split(separator: " ").joined(separator: " ")
        self.isMarked = isMarked
    }

    func isEqual(to other: MathText) -> Bool {
        // A single letter may be a variable, where case matters; as a choice it is marked on one side at least.
        words == other.words && (words.count > 1 || isMarked || other.isMarked)
    }
}
