// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Whether a response follows instructions that code can check, in the form of IFEval's public rows (Zhou et al. 2023):
/// columns `instruction_id_list` and `kwargs`, one entry of `kwargs` per instruction. 1 when all are followed (the strict
/// prompt-level measure), or the share that is, with option `partial: true`. The thinking does not count as text.
package struct InstructionReward: RewardFunction {
    package static let name = "instructions"
    package static let ability = RewardAbility.instructionFollowing
    package static let needsAnswer = false

    private let isPartial: Bool
    /// Bytes of a response that is read.
    private static let byteCountMax = 1 << 20

    /// Options: `partial` (default false).
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["partial"])
        isPartial = try options.boolean("partial", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let list = Self.json(sample.metadata["instruction_id_list"]) as? [String], !list.isEmpty else {
            return .infrastructureError(
                reason: "reward 'instructions' needs the column 'instruction_id_list' and the row has none")
        }
        let settings = Self.json(sample.metadata["kwargs"]) as? [[String: Any]] ?? []
        guard sample.response.utf8.count <= Self.byteCountMax else { return .ok(value: 0, detail: "too long") }
        let text: String
        do throws(ThinkingBlock.Problem) {
            text = try ThinkingBlock(sample.response, sample.thinking).answer.trimmed
        } catch { return .ok(value: 0, detail: error.rawValue) }
        var followed = 0
        var missed: [String] = []
        for (index, id) in list.enumerated() {
            guard let instruction = Instruction(id, index < settings.count ? settings[index] : [:]) else {
                return .infrastructureError(reason: "instruction '\(id)' cannot be checked")
            }
            if !text.isEmpty, instruction.isFollowed(by: text) { followed += 1 } else { missed.append(id) }
        }
        let share = Double(followed) / Double(list.count)
        return .ok(
            value: isPartial ? share : share == 1 ? 1 : 0,
            detail: missed.isEmpty ? "all followed" : "not followed: \(missed.joined(separator: ", "))")
    }

    private static func json(_ text: String?) -> Any? {
        text.flatMap { try? JSONSerialization.jsonObject(with: Data($0.utf8)) }
    }
}

/// An instruction that code can check.
struct Instruction {
    private let check: (String) -> Bool

    /// nil for an unknown instruction, or one whose settings are missing.
    init?(_ id: String, _ settings: [String: Any]) {
        func text(_ key: String) -> String? { settings[key] as? String }
        func count(_ key: String) -> Int? { (settings[key] as? NSNumber)?.intValue }
        func texts(_ key: String) -> [String]? { settings[key] as? [String] }
        /// "at least" (the default) or "less than".
        func relation(_ key: String, _ bound: Int) -> (Int) -> Bool {
            text(key) == "less than" ? { $0 < bound } : { $0 >= bound }
        }
        switch id {
        case "keywords:existence":
            guard let words = texts("keywords") else { return nil }
            check = { text in words.allSatisfy { text.lowercased().contains($0.lowercased()) } }
        case "keywords:forbidden_words":
            guard let words = texts("forbidden_words") else { return nil }
            check = { text in words.allSatisfy { Text.occurrences(ofWord: $0, in: text) == 0 } }
        case "keywords:frequency":
            guard let word = text("keyword"), let bound = count("frequency") else { return nil }
            let holds = relation("relation", bound)
            check = { holds(Text.occurrences(of: word, in: $0)) }
        case "keywords:letter_frequency":
            guard let letter = text("letter")?.lowercased(), let bound = count("let_frequency") else { return nil }
            let holds = relation("let_relation", bound)
            check = { text in holds(text.lowercased().count { String($0) == letter }) }
        case "language:response_language":
            guard let language = text("language"), Language.isKnown(language) else { return nil }
            check = { Language.isWritten($0, in: language) }
        case "length_constraints:number_sentences":
            guard let bound = count("num_sentences") else { return nil }
            let holds = relation("relation", bound)
            check = { holds(Text.sentences($0)) }
        case "length_constraints:number_words":
            guard let bound = count("num_words") else { return nil }
            let holds = relation("relation", bound)
            check = { holds(Text.words($0).count) }
        case "length_constraints:number_paragraphs":
            guard let wanted = count("num_paragraphs") else { return nil }
            check = { Text.parts($0, separator: "***").count == wanted }
        case "length_constraints:nth_paragraph_first_word":
            guard let wanted = count("num_paragraphs"), let place = count("nth_paragraph"),
                let word = text("first_word")
            else { return nil }
            check = { text in
                let parts = Text.parts(text, separator: "\n\n")
                guard parts.count == wanted, parts.indices.contains(place - 1) else { return false }
                return Text.words(parts[place - 1]).first?.lowercased() == word.lowercased()
            }
        case "detectable_content:number_placeholders":
            guard let bound = count("num_placeholders") else { return nil }
            check = { $0.matches(of: /\[[^\[\]]+\]/).count >= bound }
        case "detectable_content:postscript":
            let marker = text("postscript_marker") ?? "P.S."
            check = { $0.lowercased().contains(marker.lowercased()) }
        case "detectable_format:number_bullet_lists":
            guard let wanted = count("num_bullets") else { return nil }
            check = { Text.lines($0).count { $0.hasPrefix("* ") || $0.hasPrefix("- ") } == wanted }
        case "detectable_format:number_highlighted_sections":
            guard let bound = count("num_highlights") else { return nil }
            check = { $0.matches(of: /\*+[^*\n]+\*+/).count >= bound }
        case "detectable_format:multiple_sections":
            guard let word = text("section_spliter"), let bound = count("num_sections") else { return nil }
            check = { text in
                Text.lines(text).count { line in
                    let words = line.drop { "*#_ ".contains($0) }.split(separator: " ")
                    return words.count > 1 && words[0].lowercased() == word.lowercased()
                        && Int(words[1].prefix(while: \.isNumber)) != nil
                } >= bound
            }
        case "detectable_format:constrained_response":
            let options = ["my answer is yes.", "my answer is no.", "my answer is maybe."]
            check = { text in options.contains { text.lowercased().contains($0) } }
        case "detectable_format:json_format":
            check = { (try? JSONSerialization.jsonObject(with: Data(Text.unfenced($0).utf8))) != nil }
        case "detectable_format:title":
            check = { $0.contains(/<<[^<>\n]+>>/) }
        case "combination:two_responses":
            check = { text in
                let parts = Text.parts(text, separator: "******")
                return parts.count == 2 && parts[0] != parts[1]
            }
        case "combination:repeat_prompt":
            guard let prompt = text("prompt_to_repeat") else { return nil }
            check = { $0.lowercased().hasPrefix(prompt.trimmed.lowercased()) }
        case "startend:end_checker":
            guard let phrase = text("end_phrase") else { return nil }
            check = { $0.lowercased().trimmingSuffix("\"").hasSuffix(phrase.trimmed.lowercased()) }
        case "startend:quotation":
            check = { $0.count > 1 && $0.hasPrefix("\"") && $0.hasSuffix("\"") }
        case "change_case:capital_word_frequency":
            guard let bound = count("capital_frequency") else { return nil }
            let holds = relation("capital_relation", bound)
            check = { text in
                holds(Text.words(text).count { $0.contains(where: \.isLetter) && $0 == $0.uppercased() })
            }
        case "change_case:english_capital":
            check = { $0 == $0.uppercased() && $0.contains(where: \.isLetter) }
        case "change_case:english_lowercase":
            check = { $0 == $0.lowercased() && $0.contains(where: \.isLetter) }
        case "punctuation:no_comma":
            check = { !$0.contains(",") && !$0.contains("，") }
        // Two of our own, for exact lengths.
        case "length_constraints:exact_words":
            guard let wanted = count("num_words") else { return nil }
            check = { Text.words($0).count == wanted }
        case "detectable_format:json_keys":
            guard let keys = texts("keys") else { return nil }
            check = { text in
                let object = try? JSONSerialization.jsonObject(with: Data(Text.unfenced(text).utf8)) as? [String: Any]
                return object.map { Set($0.keys) == Set(keys) } ?? false
            }
        default: return nil
        }
    }

    func isFollowed(by text: String) -> Bool { check(text) }
}
