// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

/// Chat templates as models and TRL have them, which are not part of this project; read from a folder of reference data
/// next to the checkout, where there is one.
enum ReferenceTemplates {
    static let folder = Fixtures.root
        .appendingPathComponent("../../../shared/fixtures/chat_templates/templates", isDirectory: true)
        .standardizedFileURL
    static let exist = FileManager.default.fileExists(atPath: folder.path)

    static func template(_ name: String) throws -> ChatTemplate {
        try ChatTemplate(ChatTemplateTexts.text(ofFile: folder.appendingPathComponent("\(name).jinja")))
    }
}

@Suite("Chat templates")
struct ChatTemplateTests {
    /// The template of the Qwen3 models, which the fixtures' tokenizer has.
    private let qwen3: ChatTemplate

    init() throws { qwen3 = try FixtureCases.tokenizer("main").chatTemplate() }

    @Test("text, ids and assistant mask of every chat case are those of transformers and TRL")
    func chatCases() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        let cases = try FixtureCases.cases("tokenizer/main/chat_cases.json")
        var count = 0
        for item in cases {
            let name = try item.text("template")
            guard name == "qwen3" || ReferenceTemplates.exist else { continue }
            count += 1
            let template = name == "qwen3" ? qwen3 : try ReferenceTemplates.template(name)
            let chat = try template.render(
                messages: try #require(item["messages"]), tools: item["tools"],
                addGenerationPrompt: item["add_generation_prompt"]?.boolValue ?? false,
                enableThinking: item["enable_thinking"]?.boolValue)
            #expect(same(chat.text, try item.text("text")), "\(item["name"]?.stringValue ?? "")")
            let encoded = chat.encodeWithAssistantMask(tokenizer)
            #expect(encoded.ids == item["ids"]?.ids)
            #expect(template.marksGeneration || !encoded.assistantMask.contains(true))
            guard let mask = item["assistant_mask"] else { continue }
            #expect(
                encoded.assistantMask.map { $0 ? 1 : 0 } == mask.ids, "\(item["name"]?.stringValue ?? "")")
        }
        #expect(count >= (ReferenceTemplates.exist ? 78 : 54))
    }

    @Test("the worked examples of the released template")
    func releasedCases() throws {
        let cases = try FixtureCases.cases("chat_template/cases.json")
        #expect(cases.count == 16)
        for item in cases {
            let input = try #require(item["input"])
            let chat = try qwen3.render(
                messages: try #require(input["messages"]), tools: input["tools"],
                addGenerationPrompt: input["add_generation_prompt"]?.boolValue ?? false,
                enableThinking: input["enable_thinking"]?.boolValue)
            #expect(same(chat.text, try item.text("output")), "\(item["name"]?.stringValue ?? "")")
        }
    }

    @Test("a directory without a template, a name that it lacks and a text that is none are told apart")
    func unusable() throws {
        let bare = try Tokenizer(tokenizer: TinyWorldTokenizer.file())
        #expect(throws: TokenizerError.self) { try bare.chatTemplate() }
        let main = try FixtureCases.tokenizer("main")
        var error = try #require(throws: TokenizerError.self) { try main.chatTemplate(named: "rag") }
        #expect(error.code == .unknownTemplate && error.message.contains("the model has default"))
        error = try #require(throws: TokenizerError.self) { try main.chatTemplate(text: "a\n{% if %}") }
        #expect(error.code == .invalidTemplate && error.message.contains("line 2"))
    }

    @Test(
        "messages that the template cannot print are refused",
        arguments: [
            ("text", nil, "messages: expected a list"), (["text"], nil, "messages[0]: expected an object"),
            ([["role": "assistant", "content": "", "tool_calls": [1]]], nil, "chat_template: "),
        ] as [(JSONValue, JSONValue?, String)])
    func invalidMessages(messages: JSONValue, tools: JSONValue?, words: String) throws {
        let error = try #require(throws: TokenizerError.self) { try qwen3.render(messages: messages, tools: tools) }
        #expect(error.code == .invalidMessages)
        #expect(error.description.contains(words), "\(error)")
    }

    @Test("tags and line feeds are found next to combining marks and carriage returns")
    func scalarsNotCharacters() throws {
        let content: JSONValue = .string("<think>\n\u{301}r\r\n</think>\u{301}\n\nanswer")
        let chat = try qwen3.render(messages: [["role": "assistant", "content": content]])
        // No question: every index counts as the last query, so thinking is removed.
        #expect(same(chat.text, "<|im_start|>assistant\n\u{301}\n\nanswer<|im_end|>\n"))
    }

    // MARK: - Where templates stand

    /// A directory with the tiny tokenizer and these files.
    private func directory(_ files: [String: String]) throws -> URL {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-template-\(UUID())")
        for (name, text) in files {
            let file = url.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        try Data(TinyWorldTokenizer.file()).write(to: url.appendingPathComponent("tokenizer.json"))
        return url
    }

    private func rendered(
        _ files: [String: String], named name: String? = nil, tools: JSONValue? = nil
    ) throws -> String {
        let url = try directory(files)
        defer { try? FileManager.default.removeItem(at: url) }
        return try Tokenizer(directory: url).chatTemplate(named: name, withTools: tools != nil).render(
            messages: [["role": "user", "content": "x"]], tools: tools
        ).text
    }

    /// As transformers finds them.
    @Test func templatesAreFoundInAllPlaces() throws {
        let configuration = #"{"chat_template": "C{{ messages[0].content }}"}"#
        let named = #"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#
        #expect(try rendered(["tokenizer_config.json": configuration]) == "Cx")
        #expect(try rendered(["tokenizer_config.json": configuration, "chat_template.jinja": "J\n"]) == "J")
        #expect(try rendered(["tokenizer_config.json": named]) == "D")
        #expect(try rendered(["tokenizer_config.json": named], tools: [["name": "f"]]) == "T")
        #expect(try rendered(["tokenizer_config.json": named], named: "tool_use") == "T")
        // Files replace all of the configuration's.
        #expect(
            try rendered(
                [
                    "tokenizer_config.json": named, "chat_template.jinja": "J",
                    "additional_chat_templates/rag.jinja": "R",
                ], tools: [["name": "f"]]) == "J")
        #expect(
            try rendered(["chat_template.jinja": "J", "additional_chat_templates/rag.jinja": "R"], named: "rag") == "R")
        #expect(try rendered(["chat_template.json": #"{"chat_template": "P"}"#]) == "P")
        #expect(
            try rendered(["chat_template.json": #"{"chat_template": "P"}"#, "tokenizer_config.json": configuration])
                == "Cx")
    }

    /// Line ends of another system are line feeds; a byte order mark is part of the text.
    @Test func lineEndsAndByteOrderMarks() throws {
        #expect(try rendered(["chat_template.jinja": "a\r\n{% if true %}\r\nb\rc{% endif %}\r\n"]) == "a\nb\nc")
        #expect(try rendered(["chat_template.jinja": "\u{feff}{{ 'a' }}"]) == "\u{feff}a")
    }

    @Test("special tokens are the template's variables, and its own arguments count before them")
    func variables() throws {
        let files = [
            "tokenizer_config.json":
                #"{"chat_template": "{{ bos_token }}{{ eos_token }}{{ x }}", "bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}"#
        ]
        #expect(try rendered(files) == "<|im_start|><|im_end|>")
        let url = try directory(files)
        defer { try? FileManager.default.removeItem(at: url) }
        var conversation = Conversation(messages: [["role": "user", "content": "x"]])
        conversation.arguments = JSONObject([
            .init(key: "eos_token", value: "E"), .init(key: "x", value: .integer("7")),
        ])
        #expect(try Tokenizer(directory: url).chatTemplate().render(conversation).text == "<|im_start|>E7")
    }
}
