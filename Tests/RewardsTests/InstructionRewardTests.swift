// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import Testing

@Suite("Instructions and modes") struct InstructionRewardTests {
    private func value(
        _ response: String, _ ids: [String], _ settings: [[String: Any]] = [], partial: Bool = false
    ) throws -> Double? {
        func json(_ value: Any) throws -> String {
            String(decoding: try JSONSerialization.data(withJSONObject: value), as: UTF8.self)
        }
        let reward = try RewardRegistry.named("instructions", options: partial ? ["partial": "true"] : [:])
        let sample = RewardSample(
            response: response, answer: nil,
            metadata: ["instruction_id_list": try json(ids), "kwargs": try json(settings)])
        if case .ok(let value, _) = reward.evaluate(sample) { return value }
        return nil
    }

    @Test("each of IFEval's instructions: a text that follows it and one that does not")
    func instructions() throws {
        let cases: [(String, [String: Any], String, String)] = [
            ("keywords:existence", ["keywords": ["Sea", "wind"]], "the sea and the Wind", "the sea"),
            ("keywords:forbidden_words", ["forbidden_words": ["sea"]], "the season", "The Sea."),
            ("keywords:frequency", ["keyword": "sun", "frequency": 2, "relation": "at least"], "Sun, sun", "sun"),
            (
                "keywords:letter_frequency", ["letter": "e", "let_frequency": 2, "let_relation": "less than"], "sea",
                "see"
            ),
            (
                "language:response_language", ["language": "de"], "Das ist der Weg und nicht das Ziel",
                "This is the way of it"
            ),
            ("language:response_language", ["language": "ko"], "안녕하세요 여러분", "hello everyone"),
            (
                "length_constraints:number_sentences", ["num_sentences": 3, "relation": "less than"], "One. Two...",
                "A. B. C."
            ),
            (
                "length_constraints:number_words", ["num_words": 3, "relation": "at least"], "it's well-made, yes",
                "too few"
            ),
            ("length_constraints:number_paragraphs", ["num_paragraphs": 2], "a\n***\nb", "a\n\nb"),
            (
                "length_constraints:nth_paragraph_first_word",
                ["num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"], "First.\n\nThen.", "Then.\n\nFirst."
            ),
            (
                "detectable_content:number_placeholders", ["num_placeholders": 2], "[name] lives in [city]",
                "[name] lives"
            ),
            ("detectable_content:postscript", ["postscript_marker": "P.S."], "Bye.\nP.S. Write soon", "Bye."),
            ("detectable_format:number_bullet_lists", ["num_bullets": 2], "* a\n- b", "* a"),
            ("detectable_format:number_highlighted_sections", ["num_highlights": 2], "*a* and **b**", "*a* and b"),
            (
                "detectable_format:multiple_sections", ["section_spliter": "Section", "num_sections": 2],
                "Section 1\nx\nSection 2\ny", "Section 1\nx"
            ),
            ("detectable_format:constrained_response", [:], "My answer is maybe.", "Maybe."),
            ("detectable_format:json_format", [:], "```json\n{\"a\": 1}\n```", "{a: 1}"),
            ("detectable_format:json_keys", ["keys": ["a", "b"]], "{\"a\": 1, \"b\": 2}", "{\"a\": 1}"),
            ("detectable_format:title", [:], "<<Storm>>\nIt rained.", "Storm\nIt rained."),
            ("combination:two_responses", [:], "a\n******\nb", "a\n******\na"),
            ("combination:repeat_prompt", ["prompt_to_repeat": "Say hi."], "Say hi.\nHi.", "Hi."),
            ("startend:end_checker", ["end_phrase": "That is all."], "Done. That is all.", "That is all. Done."),
            ("startend:quotation", [:], "\"all of it\"", "\"all\" of it"),
            (
                "change_case:capital_word_frequency", ["capital_frequency": 2, "capital_relation": "at least"],
                "A BIG day", "a BIG day"
            ),
            ("change_case:english_capital", [:], "ALL OF IT.", "ALL of it."),
            ("change_case:english_lowercase", [:], "all of it.", "All of it."),
            ("punctuation:no_comma", [:], "one and two", "one, two"),
            ("length_constraints:exact_words", ["num_words": 2], "two words", "three words here"),
        ]
        for (id, settings, good, bad) in cases {
            #expect(try value(good, [id], [settings]) == 1, "\(id): \(good)")
            #expect(try value(bad, [id], [settings]) == 0, "\(id): \(bad)")
        }
        #expect(Set(cases.map(\.0)).count == 27)
    }

    @Test("all must be followed, or the share counts; the thinking is no text; what cannot be checked is no reward")
    func rules() throws {
        let ids = ["punctuation:no_comma", "change_case:english_lowercase"]
        #expect(try value("one, two", ids) == 0)
        #expect(try value("one, two", ids, partial: true) == 0.5)
        #expect(try value("<think>\nOne, Two\n</think>\n\none two", ids) == 1)
        #expect(try value("<think>\none two", ids) == 0)
        #expect(try value("", ids) == 0)
        #expect(try value("x", ["no:such_thing"]) == nil)
        #expect(try value("x", ["keywords:existence"]) == nil, "its keywords are missing")
        #expect(try value("x", ["language:response_language"], [["language": "xx"]]) == nil)
        #expect(
            try value(
                String(repeating: "[a", count: 400_000), ["detectable_content:number_placeholders"],
                [["num_placeholders": 1]]) == 0)
    }

    @Test("the last flag decides, thinking is the default")
    func mode() throws {
        let reward = try RewardRegistry.named("thinking_mode")
        func value(_ response: String, _ flag: String?) -> Double? {
            let sample = RewardSample(
                response: response, answer: nil, metadata: flag.map { [ThinkingModeReward.flagColumn: $0] } ?? [:])
            if case .ok(let value, _) = reward.evaluate(sample) { return value }
            return nil
        }
        let (thinks, plain, bare) = ("<think>\nso\n</think>\n\n4", "<think>\n\n</think>\n\n4", "4")
        #expect(value(thinks, "think") == 1 && value(thinks, nil) == 1 && value(thinks, "no_think") == 0)
        #expect(value(plain, "think") == 0 && value(plain, nil) == 0 && value(plain, "no_think") == 1)
        #expect(value(bare, "no_think") == 1 && value("<think>\nso", "think") == 0)
        #expect(value("<think>\nso\n</think>\n\n", "think") == 0, "an answer is wanted")
    }
}
