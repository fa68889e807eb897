// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@testable import Tokenization

// These need the released Qwen3 tokenizer.json (11 MB, not committed): set APUS_QWEN_TOKENIZER to its
// directory. Without it the suite is reported as skipped, with the reason below.
@Suite(
    "Released Qwen3 tokenizer",
    .enabled(
        if: FixtureCases.hasRealTokenizer,
        "SKIPPED: APUS_QWEN_TOKENIZER names no directory of the released tokenizer"))
struct ReleasedTokenizerTests {
    @Test("ids and text of the recorded cases, chats, and the stop-thinking instruction")
    func recordedCases() throws {
        let tokenizer = try FixtureCases.realTokenizer()
        #expect(tokenizer.vocabularyCount == 151_669)
        #expect(tokenizer.endOfTextIDs == [151_645, 151_643])
        #expect(tokenizer.paddingID == 151_643)
        let cases = try FixtureCases.cases("tokenizer_real/cases.json")
        #expect(cases.count == 36)
        for item in cases {
            let text = try item.text("text")
            let ids = tokenizer.encode(text)
            #expect(ids == item["ids"]?.ids, "\(text.debugDescription)")
            #expect(tokenizer.encodeWithOffsets(text).ids == ids)
            #expect(same(tokenizer.decode(ids), try item.text("decode")))
            #expect(same(tokenizer.decode(ids, skipSpecial: true), try item.text("decode_skip_special")))
        }
        let template = try tokenizer.chatTemplate()
        for item in try FixtureCases.cases("chat_template/cases.json") {
            let input = try #require(item["input"])
            let chat = try template.render(
                messages: try #require(input["messages"]), tools: input["tools"],
                addGenerationPrompt: input["add_generation_prompt"]?.boolValue ?? false,
                enableThinking: input["enable_thinking"]?.boolValue)
            #expect(tokenizer.encode(chat.text) == item["token_ids"]?.ids)
        }
        let stop = ThinkingParser.stopThinkingIDs(tokenizer)
        #expect(stop.count == 24 && stop.first == 271 && Array(stop.suffix(3)) == [624, 151_668, 271])
    }
}
