// SPDX-License-Identifier: Apache-2.0
//
// Answers that are compared with a reference, each in its own form.
internal import Foundation

/// The chosen letter of a multiple-choice question: the last box, "answer is X", or a letter that stands alone. Several
/// different letters are no choice.
package struct MultipleChoiceReward: RewardFunction {
    package static let name = "multiple_choice"
    package static let ability = RewardAbility.reasoning
    package static let needsAnswer = true

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let reference = try sample.reference(for: Self.name).trimmed.uppercased()
            guard let choice = Self.choice(text) else { return (0, "no choice") }
            return RewardOutcome.verdict(String(choice) == reference, String(choice))
        }
    }

    /// The letter that a text settles on; nil for none or several.
    package static func choice(_ text: String) -> Character? {
        let text = String(text.suffix(4096))
        let patterns = [
            #/\\boxed\{\s*(?:\\text\{)?\s*\(?([A-Za-z])\)?\s*\}/#,
            #/(?i)answer\s*(?:is|:)?\s*:?\s*\**\(?([A-Z])\)?(?![A-Za-z])/#,
            #/"answer"\s*:\s*"([A-Za-z])"/#,
        ]
        for pattern in patterns {
            let found = Set(text.matches(of: pattern).compactMap { $0.output.1.uppercased().first })
            if found.count == 1 { return found.first }
            if found.count > 1 { return nil }
        }
        // Without a phrase only a bare letter counts: prose is full of "a" and "I".
        let bare = text.trimmed.drop { "(*".contains($0) }.prefix { !").*:".contains($0) }.trimmed
        return bare.count == 1 && bare.first!.isLetter ? bare.uppercased().first : nil
    }
}

/// A JSON answer compared with the reference leaf by leaf: grids of logic puzzles, extracted records. 1 when all leaves
/// agree and there are no others; the share of the reference's leaves with `partial: true`.
package struct JSONAnswerReward: RewardFunction {
    package static let name = "json_answer"
    package static let ability = RewardAbility.reasoning
    package static let needsAnswer = true

    private let isPartial: Bool

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["partial"])
        isPartial = try options.boolean("partial", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            guard let wanted = Self.leaves(try sample.reference(for: Self.name)), !wanted.isEmpty else {
                throw MissingColumn(reason: "the reference answer is no JSON")
            }
            guard let found = Self.object(in: text).flatMap(Self.leaves) else { return (0, "no JSON in the answer") }
            let right = wanted.count { found[$0.key] == $0.value }
            let isWhole = right == wanted.count && found.count == wanted.count
            return (
                isPartial ? Double(right) / Double(wanted.count) : isWhole ? 1 : 0, "\(right) of \(wanted.count) values"
            )
        }
    }

    /// The last object or list of the text that is not part of another.
    static func object(in text: String) -> String? {
        var end: String.Index?
        var depth = 0
        var found: String?
        // From the back: the last closing bracket and the one that opens it.
        for index in text.indices.reversed() {
            switch text[index] {
            case "}", "]":
                if depth == 0 { end = index }
                depth += 1
            case "{", "[":
                guard depth > 0 else { continue }
                depth -= 1
                if depth == 0, let end { found = String(text[index...end]) }
            default: continue
            }
            if let found { return found }
        }
        return nil
    }

    /// Leaves by path, texts without regard to case and outer spaces.
    private static func leaves(_ text: String) -> [String: String]? {
        guard let value = try? JSONSerialization.jsonObject(with: Data(text.utf8)) else { return nil }
        var result: [String: String] = [:]
        func walk(_ value: Any, _ path: String) {
            switch value {
            case let object as [String: Any]:
                for (key, value) in object { walk(value, "\(path)/\(key.trimmed.lowercased())") }
            case let list as [Any]: for (index, value) in list.enumerated() { walk(value, "\(path)/\(index)") }
            default: result[path] = "\(value)".trimmed.lowercased()
            }
        }
        walk(value, "")
        return result
    }
}

/// All of the expected strings occur in the answer: the measure of needle tasks (RULER, Hsieh et al. 2024). The column
/// `expected` is a JSON list; without it the reference answer is the one string. The share with `partial: true`.
package struct ContainsReward: RewardFunction {
    package static let name = "contains"
    package static let ability = RewardAbility.specialised
    package static let needsAnswer = false

    private let isPartial: Bool

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["partial"])
        isPartial = try options.boolean("partial", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let wanted: [String]
            if let list = sample.metadata["expected"] {
                guard let texts = try? JSONDecoder().decode([String].self, from: Data(list.utf8)), !texts.isEmpty else {
                    throw MissingColumn(reason: "the column 'expected' is no JSON list of strings")
                }
                wanted = texts
            } else {
                wanted = [try sample.reference(for: Self.name).trimmed]
            }
            let lowered = text.lowercased()
            let found = wanted.count { lowered.contains($0.lowercased()) }
            let share = Double(found) / Double(wanted.count)
            return (isPartial ? share : found == wanted.count ? 1 : 0, "\(found) of \(wanted.count)")
        }
    }
}

/// F1 over words between answer and reference, as in SQuAD (Rajpurkar et al. 2016).
package struct TokenOverlapReward: RewardFunction {
    package static let name = "token_f1"
    package static let ability = RewardAbility.specialised
    package static let needsAnswer = true

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let score = Overlap.f1(Overlap.words(text), Overlap.words(try sample.reference(for: Self.name)))
            return (score, "F1 \(score)")
        }
    }
}

/// chrF: F2 over character n-grams of one to six, for translations (Popović 2015).
package struct ChrFReward: RewardFunction {
    package static let name = "chrf"
    package static let ability = RewardAbility.specialised
    package static let needsAnswer = true

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let score = Overlap.chrF(text, try sample.reference(for: Self.name))
            return (score, "chrF \(score)")
        }
    }
}

/// Counts of common parts.
enum Overlap {
    static func words(_ text: String) -> [String] {
        text.lowercased().split { !($0.isLetter || $0.isNumber) }.map(String.init).filter {
            !["a", "an", "the"].contains($0)
        }
    }

    static func f1(_ found: [String], _ wanted: [String]) -> Double {
        f(common(found, wanted), found.count, wanted.count, beta: 1)
    }

    static func chrF(_ found: String, _ wanted: String) -> Double {
        let found = found.filter { !$0.isWhitespace }.map(String.init)
        let wanted = wanted.filter { !$0.isWhitespace }.map(String.init)
        var scores: [Double] = []
        for length in 1...6 where wanted.count >= length {
            let a = grams(found, length)
            let b = grams(wanted, length)
            scores.append(f(common(a, b), a.count, b.count, beta: 2))
        }
        return scores.isEmpty ? 0 : scores.reduce(0, +) / Double(scores.count)
    }

    private static func grams(_ items: [String], _ length: Int) -> [String] {
        items.count < length ? [] : (0...items.count - length).map { items[$0..<$0 + length].joined() }
    }

    private static func common(_ a: [String], _ b: [String]) -> Int {
        var counts: [String: Int] = [:]
        for item in a { counts[item, default: 0] += 1 }
        var common = 0
        for item in b where counts[item, default: 0] > 0 {
            counts[item]! -= 1
            common += 1
        }
        return common
    }

    private static func f(_ common: Int, _ found: Int, _ wanted: Int, beta: Double) -> Double {
        guard common > 0 else { return 0 }
        let (precision, recall) = (Double(common) / Double(found), Double(common) / Double(wanted))
        return (1 + beta * beta) * precision * recall / (beta * beta * precision + recall)
    }
}
