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

    /// The final answer of `text` (a response without its thinking): what the last `\boxed{…}` holds; without
    /// a box, what follows the last "answer is", "answer:" or "####"; without those, a text of one line that is no prose;
    /// and in prose, where `takesLastNumber`, the last number or formula between dollar signs, as math-verify takes it.
    /// `requiresSingle`: several answers in boxes or behind such words must mean the same, so that a list of guesses cannot
    /// pay.
    package static func final(
        in text: String, requiresBox: Bool = false, requiresSingle: Bool = false, takesLastNumber: Bool = false
    ) throws(Problem) -> String {
        let boxes = try boxed(in: text)
        var candidates = boxes
        if candidates.isEmpty {
            guard !requiresBox else { throw .none }
            candidates = marked(in: text)
        }
        if candidates.isEmpty {
            let line = emphasized(text.trimmed)
            let isLine = !line.isEmpty && !line.contains(where: \.isNewline)
            if takesLastNumber, !isLine || MathProse.isProse(line), let last = MathProse.lastNumber(in: text) {
                candidates = [last]
            } else {
                guard isLine else { throw .none }
                candidates = [line]
            }
        }
        guard let last = candidates.last, !last.trimmed.isEmpty else {
            throw boxes.isEmpty ? .none : .emptyBox
        }
        guard last.utf8.count <= byteCountMax else { throw .tooLong }
        guard requiresSingle else { return last }
        // Comparing each with the last is bounded: 16 boxes are more than any honest response has.
        guard candidates.count <= 16, candidates.dropLast().allSatisfy({ areEquivalent(last, $0) }) else {
            throw .several
        }
        return last
    }

    /// The text inside Markdown's bold or italic marks.
    private static func emphasized(_ text: String) -> String {
        for mark in ["**", "__", "*", "`"]
        where text.count > 2 * mark.count && text.hasPrefix(mark) && text.hasSuffix(mark) {
            let inside = String(text.dropFirst(mark.count).dropLast(mark.count))
            return inside.contains(mark) ? text : inside.trimmed
        }
        return text
    }

    /// Whether two answers (without surrounding prose) mean the same.
    package static func areEquivalent(_ gold: String, _ answer: String) -> Bool {
        let (a, b) = (cleaned(gold), cleaned(answer))
        guard !a.isEmpty, !b.isEmpty, a.utf8.count <= byteCountMax, b.utf8.count <= byteCountMax else {
            return false
        }
        if a.filter({ !$0.isWhitespace }) == b.filter({ !$0.isWhitespace }) { return true }
        if let x = MathText(a), let y = MathText(b), x.isEqual(to: y) { return true }
        guard let x = MathParser.parse(a), let y = MathParser.parse(b) else { return false }
        return MathEquivalence.areEqual(x, y)
    }

    /// One spelling for what has many: dollar signs, thin spaces, degree signs and Unicode operators.
    static func cleaned(_ text: String) -> String {
        var result = text
        let replacements = [
            ("\\!", ""), ("\\$", ""), ("$", ""), ("{,}", ","), ("^{\\circ}", "\\text{deg}"),
            ("^\\circ", "\\text{deg}"),
            ("°", "\\text{deg}"), ("\u{2212}", "-"), ("\u{2013}", "-"), ("×", "*"), ("·", "*"), ("÷", "/"),
            ("π", "\\pi "), ("∞", "\\infty "), ("≤", "<="), ("≥", ">="), ("≠", "\\neq "), ("±", "\\pm "),
            ("√", "\\sqrt "), ("\u{A0}", " "), ("\u{202F}", " "), ("~", " "),
        ]
        for (from, to) in replacements { result = result.replacing(from, with: to) }
        result = result.trimmed
        while let last = result.last, last == "." || last == "," {
            result = String(result.dropLast()).trimmed
        }
        return result
    }

    /// What the boxes of `text` hold, in order; a box inside another belongs to the outer one. `\fbox`
    /// counts, as in math-verify. One pass over the bytes, whatever the text.
    private static func boxed(in text: String) throws(Problem) -> [String] {
        let bytes = Array(text.utf8)
        let openings = [Array("\\boxed{".utf8), Array("\\fbox{".utf8)]
        var result: [String] = []
        var index = 0
        while index < bytes.count {
            guard bytes[index] == UInt8(ascii: "\\"),
                let opening = openings.first(where: { bytes[index...].starts(with: $0) })
            else {
                index += 1
                continue
            }
            let start = index + opening.count
            var depth = 1
            index = start
            while index < bytes.count, depth > 0 {
                switch bytes[index] {
                case UInt8(ascii: "\\"): index += 1  // the next byte is escaped
                case UInt8(ascii: "{"): depth += 1
                case UInt8(ascii: "}"): depth -= 1
                default: break
                }
                index += 1
            }
            guard depth == 0 else { throw .unclosedBox }
            result.append(String(decoding: bytes[start..<(index - 1)], as: UTF8.self))
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
        guard !text.isEmpty, text.allSatisfy({ $0.isLetter || $0 == " " || $0 == "-" || $0 == "'" }) else {
            return nil
        }
        words = text.lowercased().split(separator: " ").joined(separator: " ")
        self.isMarked = isMarked
    }

    func isEqual(to other: MathText) -> Bool {
        // A single letter may be a variable, where case matters; as a choice it is marked on one side at
        // least.
        words == other.words && (words.count > 1 || isMarked || other.isMarked)
    }
}
