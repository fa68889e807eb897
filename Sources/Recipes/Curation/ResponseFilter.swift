// SPDX-License-Identifier: Apache-2.0
//
// The six reasons for which the cold start leaves answers out (Qwen3 technical report, 4.1). The report gives no
// thresholds: each filter is a score in [0, 1] and a threshold that can be set; a score above it removes the answer.

internal import Rewards

/// A reason to leave an answer out of the cold start.
package enum ResponseFilter: String, CaseIterable, Sendable {
    /// (1) The final answer is not the reference's: 1 less the value of the reward that checks it.
    case incorrect
    /// (2) Substantial repetition: the share of pieces of eight words (or forty characters) that came before.
    case repetition
    /// (3) Guesswork: hedging at the end, an answer that the thinking never arrives at, or no thinking at all.
    case guesswork
    /// (4) Thinking and summary disagree about the answer.
    case inconsistency
    /// (5) Language mixing: the share of letters of scripts that the query does not use.
    case languageMixing = "language_mixing"
    /// (6) Too similar to an item of the validation reserve.
    case similarity

    package var standardThreshold: Double {
        switch self {
        case .incorrect: 0
        case .repetition: 0.2
        case .guesswork, .inconsistency: 0.5
        case .languageMixing: 0.02
        // The same question with other numbers reaches 0.6.
        case .similarity: 0.7
        }
    }

    /// How strongly the reason applies.
    package func score(_ answer: Answer, reserve: Shingles) -> Double {
        switch self {
        case .incorrect: answer.isWellFormed ? min(1, max(0, 1 - answer.correctness)) : 1
        case .repetition: max(Repetition.share(answer.thinking), Repetition.share(answer.response))
        case .guesswork: Guesswork.score(answer)
        case .inconsistency: FinalAnswer.disagree(answer.thinking, answer.response) ? 1 : 0
        case .languageMixing: Script.foreignShare(answer.completion, beside: answer.query)
        case .similarity: reserve.similarity(answer.query)
        }
    }
}

/// How much of a text has been said before.
enum Repetition {
    static func share(_ text: String) -> Double {
        let words = text.split(whereSeparator: \.isWhitespace)
        if words.count >= 24 { return share(Array(words), length: 8) }
        return share(Array(text), length: 40)
    }

    private static func share<Element: Hashable>(_ elements: [Element], length: Int) -> Double {
        let count = elements.count - length + 1
        guard count > length else { return 0 }
        var seen: Set<ArraySlice<Element>> = []
        var repeated = 0
        for first in 0..<count where !seen.insert(elements[first..<first + length]).inserted { repeated += 1 }
        return Double(repeated) / Double(count)
    }
}

/// Signs that an answer was not worked out.
enum Guesswork {
    private static let hedges = [
        "i guess", "i'll guess", "my guess", "just guess", "a guess", "guessing", "i'm not sure", "i am not sure",
        "no idea", "randomly", "pick one", "i'll pick", "let me just say", "let's just say", "hard to tell",
        "我猜", "随便", "不确定",
    ]

    static func score(_ answer: Answer) -> Double {
        let thinking = answer.thinking
        // A hedge on the way is thinking aloud; at the end it is the ground of the answer.
        let tail = (String(thinking.suffix(200)) + "\n" + answer.response).lowercased()
        if hedges.contains(where: tail.contains) { return 1 }
        if thinking.isEmpty { return answer.completion.contains("<think>") ? 1 : 0 }
        guard let final = FinalAnswer.last(answer.response) else { return 0 }
        return FinalAnswer.occurs(final, in: thinking) ? 0 : 1
    }
}

/// The answer that a text ends on.
enum FinalAnswer {
    /// The last `\boxed{…}`, otherwise the last number, otherwise the last word.
    static func last(_ text: String) -> String? {
        if let boxed = boxed(text) { return boxed }
        let words = text.split { !($0.isLetter || $0.isNumber || $0 == "." || $0 == "-" || $0 == "/") }.map {
            $0.trimming("./-")
        }
        let digits = words.last { $0.contains(where: \.isNumber) }
        return digits ?? words.last { !$0.isEmpty }
    }

    /// Whether both texts say what the answer is, and not the same. A thinking that states no answer says nothing.
    static func disagree(_ thinking: String, _ response: String) -> Bool {
        guard let stated = stated(thinking), let final = last(response) else { return false }
        return !isSame(stated, final) && !occurs(stated, in: response)
    }

    static func occurs(_ answer: String, in text: String) -> Bool {
        let (answer, text) = (plain(answer), plain(text))
        return !answer.isEmpty && text.contains(answer)
    }

    /// What follows the last "answer is", "answer:" or "= " at the end, or the last box.
    private static func stated(_ text: String) -> String? {
        if let boxed = boxed(text) { return boxed }
        let lowered = text.lowercased()
        for phrase in ["answer is", "answer:", "答案是", "final answer"] {
            guard let range = lowered.ranges(of: phrase).last else { continue }
            let rest = lowered[range.upperBound...].prefix(80).prefix { $0 != "\n" }
            let words = rest.split { !($0.isLetter || $0.isNumber || $0 == "." || $0 == "-" || $0 == "/") }.map {
                $0.trimming("./-")
            }
            if let word = words.first(where: { $0.contains(where: \.isNumber) }) ?? words.last { return word }
        }
        return nil
    }

    private static func boxed(_ text: String) -> String? {
        guard let open = text.ranges(of: "\\boxed{").last else { return nil }
        var depth = 1
        var result = ""
        for character in text[open.upperBound...].prefix(2048) {
            if character == "{" { depth += 1 }
            if character == "}" { depth -= 1 }
            if depth == 0 { return result }
            result.append(character)
        }
        return nil
    }

    private static func isSame(_ a: String, _ b: String) -> Bool {
        plain(a) == plain(b) || MathAnswer.areEquivalent(a, b)
    }

    private static func plain(_ text: String) -> String { text.lowercased().filter { !$0.isWhitespace && $0 != "," } }
}

/// Writing systems, coarse enough to tell languages apart that mix in generated text.
enum Script: Hashable {
    case latin, cyrillic, han, kana, hangul, arabic, hebrew, devanagari, thai, other

    init?(_ scalar: Unicode.Scalar) {
        switch scalar.value {
        case 0x41...0x5A, 0x61...0x7A, 0xC0...0x24F, 0x1E00...0x1EFF: self = .latin
        // Greek letters are mathematics anywhere.
        case 0x370...0x3FF, 0x1F00...0x1FFF: return nil
        case 0x400...0x52F: self = .cyrillic
        case 0x590...0x5FF: self = .hebrew
        case 0x600...0x6FF, 0x750...0x77F: self = .arabic
        case 0x900...0x97F: self = .devanagari
        case 0xE00...0xE7F: self = .thai
        case 0x3040...0x30FF: self = .kana
        case 0x1100...0x11FF, 0xAC00...0xD7AF: self = .hangul
        case 0x3400...0x4DBF, 0x4E00...0x9FFF, 0x20000...0x2FFFF: self = .han
        default:
            guard scalar.properties.isAlphabetic, scalar.value > 0x24F else { return nil }
            self = .other
        }
    }

    /// Share of the letters of `text` that belong to scripts the query does not use. Latin letters are at home
    /// everywhere: names, variables and commands are written with them.
    static func foreignShare(_ text: String, beside query: String) -> Double {
        let home = Set(query.unicodeScalars.compactMap(Script.init)).union([.latin])
        var (foreign, letters) = (0, 0)
        for script in text.unicodeScalars.lazy.compactMap(Script.init) {
            letters += 1
            if !home.contains(script) { foreign += 1 }
        }
        return letters == 0 ? 0 : Double(foreign) / Double(letters)
    }
}

extension StringProtocol {
    /// Without `characters` at both ends.
    fileprivate func trimming(_ characters: String) -> String {
        var result = Substring(self)
        while let first = result.first, characters.contains(first) { result = result.dropFirst() }
        while let last = result.last, characters.contains(last) { result = result.dropLast() }
        return String(result)
    }
}
