// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

/// Which tokens of a conversation the assistant wrote.
@Suite("Turns of the assistant")
struct AssistantTurnsTests {
    private let tokenizer: Tokenizer
    private let ends: Set<Int32>

    init() throws {
        tokenizer = try FixtureCases.tokenizer("main")
        ends = [try #require(tokenizer.tokenID(of: "<|endoftext|>"))]
    }

    private func template(_ name: String) throws -> ChatTemplate {
        try tokenizer.chatTemplate(
            text: ChatTemplateTexts.text(ofFile: Fixtures.url("jinja/templates/\(name).jinja")))
    }

    /// The learned texts.
    private func learned(
        _ messages: JSONValue, _ turns: LearnedTurns = .last, _ template: ChatTemplate, thinks: Bool? = nil
    ) throws -> [String] {
        var conversation = Conversation(messages: messages)
        if let thinks { conversation.arguments["enable_thinking"] = .bool(thinks) }
        let found = try template.learned(
            conversation, turns, turnEnd: template.turnEnd(tokenizer), ends: ends, tokenizer)
        #expect(found.tokens.count == found.spans.last?.upperBound)
        #expect(zip(found.spans, found.spans.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
        return found.spans.map { tokenizer.decode(found.tokens[$0]) }
    }

    private static let dialogue: JSONValue = [
        ["role": "system", "content": "S"], ["role": "user", "content": "1+1?"], ["role": "assistant", "content": "2"],
        ["role": "user", "content": "2+2?"], ["role": "assistant", "content": "4"],
    ]

    @Test("the end of a turn is the template's, whatever the model's files name")
    func turnEnds() throws {
        let end = try #require(tokenizer.tokenID(of: "<|im_end|>"))
        for name in ["plain", "ponder"] { #expect(try template(name).turnEnd(tokenizer) == end) }
        #expect(try tokenizer.chatTemplate().turnEnd(tokenizer) == end)
        // No token, no rendering: no end.
        for text in ["{{ messages[1].content }}\n\n", "{{ raise_exception('x') }}", "{{ messages[0].content }}"] {
            #expect(try tokenizer.chatTemplate(text: text).turnEnd(tokenizer) == nil)
        }
        #expect(
            try tokenizer.chatTemplate(text: "{{ messages[1].content }} <|endoftext|>").turnEnd(tokenizer) == ends.first
        )
    }

    @Test(
        "of a template that only grows, all turns or the last one are learned, with their ends",
        arguments: [false, true])
    func growing(all: Bool) throws {
        let texts = try learned(Self.dialogue, all ? .all(afterMessage: 0) : .last, template("plain"))
        #expect(texts == (all ? ["2<|im_end|>", "4<|im_end|>"] : ["4<|im_end|>"]))
        #expect(try learned(Self.dialogue, .all(afterMessage: 3), template("plain")) == ["4<|im_end|>"])
    }

    @Test("what a template marks is learned, as it marks it", arguments: [false, true])
    func marked(all: Bool) throws {
        // The file's own end of sequence is empty here.
        let template = try ChatTemplate(
            ChatTemplateTexts.text(ofFile: Fixtures.url("jinja/templates/marked.jinja")),
            specialTokens: [("eos_token", "<|im_end|>")])
        let texts = try learned(Self.dialogue, all ? .all(afterMessage: 0) : .last, template)
        #expect(texts == (all ? ["2<|im_end|>", "4<|im_end|>"] : ["4<|im_end|>"]))
        #expect(try learned(Self.dialogue, .all(afterMessage: 3), template) == ["4<|im_end|>"])
    }

    @Test("thinking and tool calls of the last turn are learned; earlier thinking that a template drops is refused")
    func thinking() throws {
        let thought: JSONValue = ["role": "assistant", "reasoning_content": "r", "content": "a"]
        let user: JSONValue = ["role": "user", "content": "q"]
        let call: JSONValue = [
            "role": "assistant", "content": "", "tool_calls": [["function": ["name": "f", "arguments": "{\"x\": 1}"]]],
        ]
        for template in [try tokenizer.chatTemplate(), try template("ponder")] {
            #expect(
                try learned([user, thought, user, thought], .last, template) == [
                    "<think>\nr\n</think>\n\na<|im_end|>"
                ])
            let called = try learned([user, call], .last, template)
            #expect(
                called == [
                    "<think>\n\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call><|im_end|>"
                ])
            // As it is rendered in the whole conversation: without its thinking.
            #expect(
                try learned([user, thought, user, thought], .all(afterMessage: 0), template) == [
                    "a<|im_end|>", "<think>\nr\n</think>\n\na<|im_end|>",
                ])
            // Between tool calls thinking stays until the next question.
            let tool: JSONValue = ["role": "tool", "content": "t"]
            let pondered: JSONValue = [
                "role": "assistant", "reasoning_content": "r", "content": "",
                "tool_calls": [["name": "f", "arguments": "{}"]],
            ]
            let error = #expect(throws: TokenizerError.self) {
                try learned([user, pondered, tool, thought, user, thought], .all(afterMessage: 0), template)
            }
            #expect(error?.code == .unlearnableTurns && error?.location == "messages[3]", "\(error?.description ?? "")")
            #expect(error?.message.contains("assistant_only_loss: false") == true)
        }
    }

    @Test("thinking that is off and an answer with reasoning contradict each other, and the message says so")
    func thinkingOff() throws {
        let messages: JSONValue = [
            ["role": "user", "content": "hi"], ["role": "assistant", "content": "yo", "reasoning_content": "hm"],
        ]
        let error = #expect(throws: TokenizerError.self) {
            try learned(messages, .last, tokenizer.chatTemplate(), thinks: false)
        }
        #expect(error?.message.contains("remove its reasoning, or do not turn thinking off") == true)
        let plain: JSONValue = [["role": "user", "content": "hi"], ["role": "assistant", "content": "yo"]]
        #expect(try learned(plain, .last, tokenizer.chatTemplate(), thinks: false) == ["yo<|im_end|>"])
    }

    @Test(
        "spans that cannot be told are refused with the reason",
        arguments: [
            // The answer is rendered otherwise than its opening.
            (
                "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>bot\n{% endif %}",
                "does not render a conversation as what follows its prompt"
            ),
            // No token ends it.
            (
                "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
                "ends the answer with no token"
            ),
            // The opening and the answer share a token.
            (
                "{% for m in messages %}<|im_start|>{{ 're' if m.role == 'assistant' }}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>re{% endif %}",
                "are one token"
            ),
            (
                "{% for m in messages %}{% generation %}{% endgeneration %}{{ m.content }}<|im_end|>{% endfor %}",
                "mark nothing"
            ),
        ])
    func refused(text: String, words: String) throws {
        let messages: JSONValue = [["role": "user", "content": "q"], ["role": "assistant", "content": "turn"]]
        let error = #expect(throws: TokenizerError.self) {
            try learned(messages, .last, try tokenizer.chatTemplate(text: text))
        }
        #expect(error?.code == .unlearnableTurns, "\(error?.description ?? "")")
        #expect(error?.message.contains(words) == true, "\(error?.description ?? "")")
        // It is still good for generation.
        _ = try tokenizer.chatTemplate(text: text).render(messages: messages, addGenerationPrompt: true)
    }

    @Test("an earlier answer that has the end of a turn in its text is refused, a last one is learned to its end")
    func endsInTexts() throws {
        let messages: JSONValue = [
            ["role": "user", "content": "q"], ["role": "assistant", "content": "a <|im_end|> b"],
            ["role": "user", "content": "q"], ["role": "assistant", "content": "c <|im_end|> d"],
        ]
        #expect(try learned(messages, .last, template("plain")) == ["c <|im_end|> d<|im_end|>"])
        let error = #expect(throws: TokenizerError.self) {
            try learned(messages, .all(afterMessage: 0), template("plain"))
        }
        #expect(error?.message.contains("its text has <|im_end|>") == true)
    }

    @Test("prompts that end in an open think block are told by their tokens")
    func openThinking() throws {
        func tokens(_ text: String) -> [Int32] { tokenizer.encode(text) }
        let end = try #require(tokenizer.tokenID(of: "<|im_end|>"))
        let open = tokens("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n")
        let closed = tokens("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
        let asked = tokens("<|im_start|>user\n<think>?<|im_end|>\n<|im_start|>assistant\n")
        #expect(ThinkingParser.allOpen([open, open], tokenizer, ends: [end]))
        for prompts in [[], [closed], [asked], [open, closed]] {
            #expect(!ThinkingParser.allOpen(prompts, tokenizer, ends: [end]))
        }
    }

    @Test(
        "a template from anywhere is stopped",
        arguments: [
            "{% for i in range(99999999) %}{% endfor %}",
            "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{ 'x' * 1000000000 }}",
            "{% set ns = namespace(t='xxxxxxxx') %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
            String(repeating: "{% if true %}", count: 5000),
        ])
    func hostile(text: String) throws {
        #expect(throws: TokenizerError.self) {
            try tokenizer.chatTemplate(text: text).render(messages: Self.dialogue)
        }
        _ = try? tokenizer.chatTemplate(text: text).turnEnd(tokenizer)
    }
}
