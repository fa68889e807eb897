// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

@Suite("Chat templates")
struct ChatTemplateTests {
    @Test("text, ids and assistant mask of every chat case are those of transformers and TRL")
    func chatCases() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        let cases = try FixtureCases.cases("tokenizer/main/chat_cases.json")
        #expect(cases.count > 50)
        var masks = 0
        for item in cases {
            let template = try ChatTemplate(name: try item.text("template"))
            let chat = try template.render(
                messages: try #require(item["messages"]), tools: item["tools"],
                addGenerationPrompt: item["add_generation_prompt"]?.boolValue ?? false,
                enableThinking: item["enable_thinking"]?.boolValue)
            #expect(same(chat.text, try item.text("text")), "\(item["name"]?.stringValue ?? "")")
            let encoded = chat.encodeWithAssistantMask(tokenizer)
            #expect(encoded.ids == item["ids"]?.ids)
            #expect(template.marksGeneration || !encoded.assistantMask.contains(true))
            guard let mask = item["assistant_mask"] else { continue }
            masks += 1
            #expect(
                encoded.assistantMask.map { $0 ? 1 : 0 } == mask.ids, "\(item["name"]?.stringValue ?? "")")
        }
        #expect(masks > 0)
    }

    @Test("the worked examples of the released template")
    func releasedCases() throws {
        let cases = try FixtureCases.cases("chat_template/cases.json")
        #expect(cases.count == 16)
        for item in cases {
            let input = try #require(item["input"])
            let chat = try ChatTemplate.qwen3.render(
                messages: try #require(input["messages"]), tools: input["tools"],
                addGenerationPrompt: input["add_generation_prompt"]?.boolValue ?? false,
                enableThinking: input["enable_thinking"]?.boolValue)
            #expect(same(chat.text, try item.text("output")), "\(item["name"]?.stringValue ?? "")")
        }
    }

    @Test("the template of a directory is recognized by its hash")
    func recognized() throws {
        #expect(try FixtureCases.tokenizer("main").chatTemplate() == .qwen3)
        #expect(try FixtureCases.tokenizer("main").chatTemplate(named: "qwen3_training") == .qwen3Training)
        let text = try #require(try FixtureCases.tokenizer("main").chatTemplateText)
        #expect(try ChatTemplate(text: text + "\n") == .qwen3)
    }

    @Test("an unknown template or name is an error that says what to do")
    func unknown() throws {
        let text = try #require(try FixtureCases.tokenizer("main").chatTemplateText)
        for changed in [text + " ", text + "\n\n", ""] {
            let error = try #require(throws: TokenizerError.self) { try ChatTemplate(text: changed) }
            #expect(error.code == .unknownTemplate)
            #expect(error.message.contains("qwen3_training"))
        }
        #expect(throws: TokenizerError.self) { try ChatTemplate(name: "llama") }
        let bare = try Tokenizer(tokenizer: TinyWorldTokenizer.file())
        let error = try #require(throws: TokenizerError.self) { try bare.chatTemplate() }
        #expect(error.code == .unknownTemplate)
        #expect(try bare.chatTemplate(named: "qwen3") == .qwen3)
    }

    @Test(
        "messages that the template cannot print are refused by place",
        arguments: [
            ([], nil, "messages"), ("text", nil, "messages"), (["text"], nil, "messages[0]"),
            ([["role": "system", "content": nil]], nil, "messages[0].content"),
            ([["role": "system"]], [["name": "f"]], "messages[0].content"),
            ([["role": "user", "content": "q"]], "tools", "tools"),
            ([["role": "assistant", "content": "", "tool_calls": "f"]], nil, "messages[0].tool_calls"),
            ([["role": "assistant", "tool_calls": [1]]], nil, "messages[0].tool_calls[0]"),
            (
                [["role": "assistant", "tool_calls": [["name": "f"]]]], nil,
                "messages[0].tool_calls[0].arguments"
            ),
            (
                [["role": "assistant", "tool_calls": [["arguments": [:]]]]], nil,
                "messages[0].tool_calls[0].name"
            ),
        ] as [(JSONValue, JSONValue?, String)])
    func invalidMessages(messages: JSONValue, tools: JSONValue?, location: String) throws {
        for template in ChatTemplate.allCases {
            let error = try #require(throws: TokenizerError.self) {
                try template.render(messages: messages, tools: tools)
            }
            #expect(error.code == .invalidMessages)
            #expect(error.location == location)
        }
    }

    @Test("tags and line feeds are found next to combining marks and carriage returns")
    func scalarsNotCharacters() throws {
        let content: JSONValue = .string("<think>\n\u{301}r\r\n</think>\u{301}\n\nanswer")
        let chat = try ChatTemplate.qwen3.render(messages: [["role": "assistant", "content": content]])
        // No question: every index counts as the last query, so thinking is removed.
        #expect(same(chat.text, "<|im_start|>assistant\n\u{301}\n\nanswer<|im_end|>\n"))
        let training = try ChatTemplate.qwen3Training.render(messages: [
            ["role": "assistant", "content": content]
        ])
        let expected = "<|im_start|>assistant\n<think>\n\u{301}r\r\n</think>\n\n\u{301}\n\nanswer<|im_end|>\n"
        #expect(same(training.text, expected))
    }

    @Test("the training template keeps a prefix when turns are added; the released one does not")
    func prefixes() throws {
        let first: [JSONValue] = [
            ["role": "user", "content": "q"],
            ["role": "assistant", "reasoning_content": "r", "content": "a"],
        ]
        let longer = first + [["role": "user", "content": "q2"]]
        func text(_ template: ChatTemplate, _ messages: [JSONValue]) throws -> String {
            try template.render(messages: .array(messages)).text
        }
        let (short, long) = (try text(.qwen3Training, first), try text(.qwen3Training, longer))
        #expect(long.hasPrefix(short))
        let (inference, later) = (try text(.qwen3, first), try text(.qwen3, longer))
        #expect(!later.hasPrefix(inference))
        let plain = try text(.qwen3Instruct2507, longer)
        #expect(!plain.contains("think"))
    }

    @Test("the training form of the 2507 template prints the same text and marks the answers")
    func instructTraining() throws {
        let messages: JSONValue = [
            ["role": "user", "content": "ü"], ["role": "assistant", "content": "ja"],
            ["role": "user", "content": "2"], ["role": "assistant", "content": ""],
        ]
        let plain = try ChatTemplate.qwen3Instruct2507.render(messages: messages)
        let marked = try ChatTemplate.qwen3Instruct2507Training.render(messages: messages)
        #expect(plain.text == marked.text && plain.generatedRanges.isEmpty)
        let scalars = Array(marked.text.unicodeScalars)
        let parts = marked.generatedRanges.map { range in
            String(String.UnicodeScalarView(scalars[range]))
        }
        #expect(parts == ["ja<|im_end|>\n", "<|im_end|>\n"])
    }
}
