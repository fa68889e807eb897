// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@testable import Tokenization

@Suite("Thinking and response")
struct ThinkingParserTests {
    let tokenizer: Tokenizer
    let parser: ThinkingParser

    init() throws {
        tokenizer = try FixtureCases.tokenizer("main")
        parser = try ThinkingParser(tokenizer)
    }

    @Test(
        "an answer is split at its last closing tag",
        arguments: [
            ("<think>\nr\n</think>\n\na<|im_end|>", false, ThinkingParser.State.finished, "r", "a"),
            ("<think>\n\n</think>\n\na", false, .finished, "", "a"),
            ("<think>\nr", false, .unfinished, "r", ""), ("a", false, .absent, "", "a"),
            ("r", true, .unfinished, "r", ""), ("r\n</think>\n\na", true, .finished, "r", "a"),
            ("r</think>a", false, .finished, "r", "a"),
            ("<think>x</think>y</think>a", false, .finished, "x</think>y", "a"),
            ("</think>a<think>b", false, .finished, "", "a<think>b"), ("", false, .absent, "", ""),
            ("<think>", false, .unfinished, "", ""), ("x</think>", false, .finished, "x", ""),
        ])
    func split(
        text: String, startsInThinking: Bool, state: ThinkingParser.State, thinking: String, response: String
    ) {
        let ids = tokenizer.encode(text)
        let byIDs = parser.text(of: ids, tokenizer, startsInThinking: startsInThinking)
        #expect(byIDs == .init(state: state, thinking: thinking, response: response))
        let visible = tokenizer.decode(ids, skipSpecial: true)
        #expect(ThinkingParser.split(text: visible, startsInThinking: startsInThinking) == byIDs)
        let ranges = parser.split(ids, startsInThinking: startsInThinking)
        #expect(ranges.thinking.upperBound <= ids.count && ranges.response.upperBound == ids.count)
    }

    @Test("the stop-thinking instruction closes the block with any tokenizer")
    func stopThinking() throws {
        let ids = ThinkingParser.stopThinkingIDs(tokenizer)
        #expect(ids.filter { $0 == parser.endID }.count == 1)
        #expect(tokenizer.decode(ids) == ThinkingParser.stopThinkingText)
        let answer = tokenizer.encode("<think>\nlong") + ids + tokenizer.encode("42")
        #expect(parser.text(of: answer, tokenizer).response == "42")
    }

    @Test("a vocabulary without think tags is refused")
    func noTags() throws {
        let plain = try Tokenizer(tokenizer: TinyWorldTokenizer.file([("added_tokens", [])]))
        let error = try #require(throws: TokenizerError.self) { try ThinkingParser(plain) }
        #expect(error.code == .missingToken)
    }
}
