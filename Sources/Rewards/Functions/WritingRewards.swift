// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// How near a text comes to the length asked for (the report's LengthCtrl): 1 within `tolerance` (a share of the
/// target, default 0.1), then falling linearly to 0 at twice the target or at nothing. Columns `target_length` and
/// `length_unit` (`words`, the default, `characters`, `sentences` or `items`: lines).
package struct LengthControlReward: RewardFunction {
    package static let name = "length_control"
    package static let ability = RewardAbility.instructionFollowing
    package static let needsAnswer = false

    private let tolerance: Double

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["tolerance"])
        tolerance = try options.number("tolerance", 0...0.99, default: 0.1)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            guard let target = Int(try sample.column("target_length", for: Self.name)), target > 0 else {
                throw MissingColumn(reason: "the column 'target_length' is no positive integer")
            }
            let unit = sample.metadata["length_unit"] ?? "words"
            guard let length = Text.length(of: text, in: unit) else {
                throw MissingColumn(
                    reason: "the column 'length_unit' is '\(unit)'; expected words, characters, sentences or items")
            }
            let error = abs(Double(length - target)) / Double(target)
            let score = error <= tolerance ? 1 : max(0, 1 - (error - tolerance) / (1 - tolerance))
            return (score, "\(length) of \(target) \(unit)")
        }
    }
}

/// Whether the answer is written in the language of the column `language` (ISO 639-1).
package struct LanguageReward: RewardFunction {
    package static let name = "language"
    package static let ability = RewardAbility.instructionFollowing
    package static let needsAnswer = false

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let code = try sample.column("language", for: Self.name)
            guard Language.isKnown(code) else { throw MissingColumn(reason: "the language '\(code)' is not known") }
            let isWritten = Language.isWritten(text, in: code)
            return (isWritten ? 1 : 0, isWritten ? "in \(code)" : "not in \(code)")
        }
    }
}

/// 1 unless the response repeats itself: the share of its words that lie in word sequences seen before is at most
/// `share` (default 0.3). Thinking counts too: a loop there is what a length limit is spent on.
package struct RepetitionReward: RewardFunction {
    package static let name = "no_repetition"
    package static let ability = RewardAbility.formatFollowing
    package static let needsAnswer = false

    private let shareMax: Double
    private static let length = 8

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["share"])
        shareMax = try options.number("share", 0...1, default: 0.3)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        let words = sample.response.prefix(1 << 20).split(whereSeparator: \.isWhitespace)
        guard words.count > Self.length else { return .ok(value: 1, detail: "short") }
        var seen: Set<ArraySlice<Substring>> = []
        var repeated = 0
        for start in 0...words.count - Self.length
        where !seen.insert(words[start..<start + Self.length]).inserted { repeated += 1 }
        let share = Double(repeated) / Double(words.count - Self.length + 1)
        return .ok(value: share <= shareMax ? 1 : 0, detail: "\(share) repeated")
    }
}

/// Faithfulness to a passage (retrieval-augmented answers): +1 for the reference answer where the passage holds it, +1
/// for declining where the column `answerable` is false, -1 for a name or number that neither the passage nor the
/// question holds, 0 otherwise. Column `context`; `question` where the prompt is not all of it.
package struct GroundedReward: RewardFunction {
    package static let name = "grounded"
    package static let ability = RewardAbility.specialised
    package static let needsAnswer = false

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let context = try sample.column("context", for: Self.name)
            let known = Set(
                Overlap.words(context + " " + (sample.metadata["question"] ?? sample.metadata["prompt"] ?? "")))
            if Refusal.declines(text) {
                let isRight = sample.metadata["answerable"] == "false"
                return (isRight ? 1 : 0, isRight ? "rightly declines" : "declines")
            }
            if let invented = Self.facts(text).first(where: { !known.contains($0) }) {
                return (-1, "'\(invented.prefix(40))' is in neither passage nor question")
            }
            if sample.metadata["answerable"] == "false" { return (0, "answers what the passage does not say") }
            let isRight = text.lowercased().contains(try sample.reference(for: Self.name).trimmed.lowercased())
            return (isRight ? 1 : 0, isRight ? "right" : "not the answer")
        }
    }

    /// Numbers, and capitalized words within sentences, in the form of ``Overlap/words(_:)``.
    private static func facts(_ text: String) -> [String] {
        let words = text.split { !($0.isLetter || $0.isNumber || $0 == ".") }
        var facts: [String] = []
        var startsSentence = true
        for word in words {
            let bare = word.filter { $0.isLetter || $0.isNumber }
            if bare.contains(where: \.isNumber) || (!startsSentence && bare.first?.isUppercase == true) {
                facts.append(bare.lowercased())
            }
            startsSentence = word.hasSuffix(".")
        }
        return facts
    }
}

/// Questions with a false presupposition (the report's CounterFactQA): 1 when the answer says that the premise does not
/// hold where the column `counterfactual` is true, and the reference answer where it is not.
package struct PremiseReward: RewardFunction {
    package static let name = "premise"
    package static let ability = RewardAbility.specialised
    package static let needsAnswer = false

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        .of(sample) { text in
            let isCounterfactual = try sample.column("counterfactual", for: Self.name) == "true"
            let objects = Refusal.declines(text) || Refusal.corrects(text)
            if isCounterfactual { return (objects ? 1 : 0, objects ? "objects" : "takes the premise for true") }
            let reference = try sample.reference(for: Self.name).trimmed.lowercased()
            let isRight = !objects && text.lowercased().contains(reference)
            return (isRight ? 1 : 0, isRight ? "right" : objects ? "objects to a true premise" : "not the answer")
        }
    }
}

/// Phrases that say "I cannot know" and "that is not so".
enum Refusal {
    private static let declining = [
        "not in the context", "not in the passage", "not mentioned", "does not say", "doesn't say", "not stated",
        "cannot be determined", "can't be determined", "not enough information", "no information", "unknown",
        "i don't know", "i do not know", "not provided",
    ]
    private static let correcting = [
        "never", "did not", "didn't", "does not exist", "doesn't exist", "no such", "false premise", "not true",
        "incorrect", "actually,", "there is no", "there was no", "is not a", "was not a", "is wrong",
    ]

    static func declines(_ text: String) -> Bool { contains(text, declining) }
    static func corrects(_ text: String) -> Bool { contains(text, correcting) }

    private static func contains(_ text: String, _ phrases: [String]) -> Bool {
        let text = text.lowercased()
        return phrases.contains(where: text.contains)
    }
}
