// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import RuntimeSupport
import TestSupport
import Testing
import Tokenization

@testable import CoordinatorRuntime

/// From a line of a file to token ids: what `apply_chat_template` of transformers gives for the same row.
@Suite("Rows reach the chat template unchanged") struct RowRenderingTests {
    private let tokenizer: Tokenizer
    private let renderer: PromptRenderer

    init() throws {
        tokenizer = try Tokenizer(directory: Fixtures.url("tokenizer/main"))
        renderer = try PromptRenderer(tokenizer, stopIDs: [try #require(tokenizer.endOfSequenceID)])
    }

    private func withFile<R>(_ text: String, _ body: (URL, DataSection) throws -> R) throws -> R {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-rows-\(UUID().uuidString).jsonl")
        try Data(text.utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        return try body(url, try DataSection(YAMLReader(try YAMLNode.parse("{path: x}"), path: "data")))
    }

    /// The ids of a row in a rollout, or, where it ends with an answer, in a score job and in SFT.
    private func ids(_ row: String) throws -> [Int32] {
        try withFile(row) { url, data in
            let last = try JSONValue(parsing: row)
            let messages = (last["prompt"] ?? last["messages"])?.arrayValue
            if messages?.last?["role"]?.stringValue == "assistant" {
                var reader = try DataReader<ScoreRecord>(scores: url, data)
                return try renderer.tokens(of: try #require(try reader.next()))
            }
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            return try renderer.tokens(of: try #require(try reader.next()))
        }
    }

    @Test("every conversation of the template's fixtures, tool calls and tools included")
    func fixtures() throws {
        let document = try JSONValue(
            parsing: Array(try Data(contentsOf: Fixtures.url("tokenizer/main/chat_cases.json"))))
        var count = 0
        for item in document["cases"]?.arrayValue ?? document.arrayValue ?? []
        where item["template"] == "qwen3" && item["enable_thinking"]?.isNull != false {
            let isAnswered = item["messages"]?.arrayValue?.last?["role"]?.stringValue == "assistant"
            guard item["add_generation_prompt"]?.boolValue == !isAnswered else { continue }
            var row = JSONObject([])
            row["messages"] = item["messages"]
            row["tools"] = item["tools"]
            let expected = (item["ids"]?.arrayValue ?? []).compactMap(\.intValue).map(Int32.init)
            #expect(try ids(JSONValue.object(row).compactText) == expected, "\(item["name"]?.stringValue ?? "")")
            count += 1
        }
        #expect(count >= 8)
    }

    @Test("order of keys, 1.0, exponents, accents, long integers, arguments as text, tools as text")
    func toolRows() throws {
        let text = try String(contentsOf: Fixtures.url("rows/tools.jsonl"), encoding: .utf8)
        for line in text.split(separator: "\n") {
            let item = try JSONValue(parsing: String(line))
            let row = try #require(item["row"]?.stringValue)
            let expected = (item["ids"]?.arrayValue ?? []).compactMap(\.intValue).map(Int32.init)
            #expect(try ids(row) == expected, "\(row)")
        }
    }

    @Test("SFT learns the tool call of the last turn, from prompt and completion as lists too")
    func demonstrations() throws {
        let call =
            #"{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"get_w","arguments":{"city":"Oslo","days":3}}}]}"#
        let user = #"{"role":"user","content":"w?"}"#
        let tools = #""tools":[{"type":"function","function":{"name":"get_w","x":1.0}}]"#
        let whole = try demonstration(#"{"messages":[\#(user),\#(call)]}"#)
        let learned = tokenizer.decode(whole.tokens[whole.spans[0]])
        #expect(
            learned.contains(
                "<tool_call>\n{\"name\": \"get_w\", \"arguments\": {\"city\": \"Oslo\", \"days\": 3}}\n</tool_call>"))
        let pair = try demonstration(#"{"prompt":[\#(user)],"completion":[\#(call)]}"#)
        #expect(pair == whole && whole.spans.count == 1)
        let tooled = try demonstration(#"{"messages":[\#(user),\#(call)],\#(tools)}"#)
        #expect(tokenizer.decode(tooled.tokens).contains(#"{"name": "get_w", "x": 1.0}"#))
        #expect(tooled.spans[0].count == whole.spans[0].count)
    }

    private func demonstration(
        _ row: String, with renderer: PromptRenderer? = nil, allTurns: Bool = false
    ) throws -> LearnedConversation {
        try withFile(row) { url, data in
            var reader = try DataReader<ScoreRecord>(scores: url, data)
            return try (renderer ?? self.renderer).demonstration(
                of: try #require(try reader.next()), allTurns: allTurns)
        }
    }

    // MARK: - What rows and jobs say of the template

    private func prompt(_ row: String, _ renderer: PromptRenderer? = nil) throws -> String {
        try withFile(row) { url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            return tokenizer.decode(try (renderer ?? self.renderer).tokens(of: try #require(try reader.next())))
        }
    }

    private func renderer(_ yaml: String, stopIDs: [Int32] = []) throws -> PromptRenderer {
        let text = "kind: rollout\nname: r\nmodel: {path: /m}\ndata: {path: /d}\noutput: /o\n" + yaml
        guard case .rollout(let job) = try Job.parse(text) else { throw CancellationError() }
        // The resolved job says the same.
        guard case .rollout(let again) = try Job.parse(Job.rollout(job).resolvedYAML), again == job else {
            throw CancellationError()
        }
        return try PromptRenderer(tokenizer, job.chatTemplate, stopIDs: stopIDs)
    }

    private static let user = #"{"role": "user", "content": "hi"}"#

    @Test("a prompt that ends with the assistant's words is gone on with")
    func prefill() throws {
        let row = #"{"prompt": [\#(Self.user), {"role": "assistant", "content": "The answer is"}]}"#
        #expect(try prompt(row).hasSuffix("<|im_start|>assistant\n<think>\n\n</think>\n\nThe answer is"))
        #expect(throws: JobError.self) { try prompt(row.replacingOccurrences(of: "prompt", with: "messages")) }
        let called =
            #"{"prompt": [\#(Self.user), {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}]}"#
        #expect(throws: JobError.self) { try prompt(called) }
    }

    @Test("chat_template_kwargs of a row count before the job's, and the job's thinking is one of them")
    func templateArguments() throws {
        let plain = #"{"prompt": [\#(Self.user)]}"#
        func row(_ thinks: Bool) -> String {
            #"{"prompt": [\#(Self.user)], "chat_template_kwargs": {"enable_thinking": \#(thinks)}}"#
        }
        let off = "<think>\n\n</think>\n\n"
        #expect(try prompt(row(false)).hasSuffix(off))
        #expect(try !prompt(plain).hasSuffix(off) && !prompt(row(true)).hasSuffix(off))
        let text = #"{"prompt": [\#(Self.user)], "chat_template_kwargs": "{\"enable_thinking\": false}"}"#
        #expect(try prompt(text).hasSuffix(off))
        for yaml in [
            "thinking: {mode: off}", "chat_template_kwargs: {enable_thinking: false}",
            #"chat_template_kwargs: '{"enable_thinking": false}'"#,
        ] {
            let renderer = try renderer(yaml)
            #expect(try prompt(plain, renderer).hasSuffix(off), "\(yaml)")
            #expect(try !prompt(row(true), renderer).hasSuffix(off), "\(yaml)")
        }
        #expect(throws: JobError.self) {
            try renderer("thinking: {mode: off}\nchat_template_kwargs: {enable_thinking: true}")
        }
        #expect(throws: JobError.self) { try renderer("chat_template_kwargs: {messages: []}") }
        #expect(throws: JobError.self) { try renderer("chat_template_kwargs: 3") }
        for value in ["3", "[]", #"{"tools": []}"#, #""{""#] {
            #expect(throws: JobError.self) {
                try prompt(#"{"prompt": [\#(Self.user)], "chat_template_kwargs": \#(value)}"#)
            }
        }
    }

    @Test("arguments of a job keep their kinds and the order of their keys")
    func argumentKinds() throws {
        let file = try templateFile("{{ x | tojson }} {{ messages[0].content }}")
        defer { try? FileManager.default.removeItem(at: file) }
        let renderer = try renderer(
            "chat_template: \(file.path)\nchat_template_kwargs: {x: {b: 1, a: [1.0, true, null, '2', no, 1e3]}}")
        #expect(
            try prompt(#"{"prompt": [\#(Self.user)]}"#, renderer)
                == #"{"b": 1, "a": [1.0, true, null, "2", "no", 1000.0]} hi"#)
    }

    private func templateFile(_ text: String) throws -> URL {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-template-\(UUID()).jinja")
        try Data(text.utf8).write(to: url)
        return url
    }

    @Test("a job's template is used instead of the model's; what is wrong with one is said")
    func ownTemplate() throws {
        let file = try templateFile("{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}")
        defer { try? FileManager.default.removeItem(at: file) }
        #expect(
            try prompt(#"{"prompt": [\#(Self.user)]}"#, renderer("chat_template: \(file.path)")) == "[user]hi<|im_end|>"
        )
        #expect(throws: TokenizerError.self) { try renderer("chat_template: \(file.path).none") }
        try Data("{% if".utf8).write(to: file)
        #expect(throws: TokenizerError.self) { try renderer("chat_template: \(file.path)") }
        // A template that never ends is an error of the row.
        try Data("{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}".utf8).write(
            to: file)
        let endless = try renderer("chat_template: \(file.path)")
        let error = #expect(throws: RowProblem.self) { try prompt(#"{"prompt": [\#(Self.user)]}"#, endless) }
        #expect(error?.description.contains("chat_template") == true, "\(error?.description ?? "")")
    }

    @Test("a template that writes the date gives the same bytes on every day, and the job may name the day")
    func date() throws {
        let file = try templateFile("{{ strftime_now('%d %b %Y') }}")
        defer { try? FileManager.default.removeItem(at: file) }
        let standard = try renderer("chat_template: \(file.path)")
        #expect(try prompt(#"{"prompt": [\#(Self.user)]}"#, standard) == "26 Jul 2024")
        #expect(standard.warnings.count == 1 && renderer.warnings.isEmpty)
        for (date, text) in [
            ("2026-11-28", "28 Nov 2026"), ("2000-02-29", "29 Feb 2000"), ("1970-01-01", "01 Jan 1970"),
        ] {
            let dated = try renderer("chat_template: \(file.path)\nchat_template_date: \(date)")
            #expect(try prompt(#"{"prompt": [\#(Self.user)]}"#, dated) == text && dated.warnings.isEmpty)
        }
        #expect(throws: JobError.self) { try renderer("chat_template_date: 28.11.2026") }
    }

    /// Base models' files name <|endoftext|> alone, and their template ends turns with <|im_end|>.
    @Test("the end of the template's turn ends answers of base models, in training and in generation")
    func baseModel() throws {
        let (document, turn) = (
            try #require(tokenizer.tokenID(of: "<|endoftext|>")), try #require(tokenizer.tokenID(of: "<|im_end|>"))
        )
        let base = try PromptRenderer(tokenizer, stopIDs: [document])
        #expect(base.stopIDs == [document, turn] && base.endOfAnswer == turn)
        let row = #"{"messages": [\#(Self.user), {"role": "assistant", "content": "yo"}]}"#
        let learned = try demonstration(row, with: base)
        #expect(tokenizer.decode(learned.tokens[learned.spans[0]]) == "<think>\n\n</think>\n\nyo<|im_end|>")
        #expect(learned.tokens.last == turn)
        #expect(renderer.stopIDs == [turn])
    }

    @Test("SFT learns all turns of the assistant where it is asked to, and nothing of a prompt")
    func allTurns() throws {
        let turns = #"{"role": "assistant", "content": "a"}, \#(Self.user), {"role": "assistant", "content": "b"}"#
        func texts(_ row: String, all: Bool) throws -> [String] {
            let learned = try demonstration(row, allTurns: all)
            return learned.spans.map { tokenizer.decode(learned.tokens[$0]) }
        }
        let whole = #"{"messages": [\#(Self.user), \#(turns)]}"#
        let last = "<think>\n\n</think>\n\nb<|im_end|>"
        #expect(try texts(whole, all: false) == [last])
        #expect(try texts(whole, all: true) == ["a<|im_end|>", last])
        let split =
            #"{"prompt": [\#(Self.user), {"role": "assistant", "content": "x"}, \#(Self.user)], "completion": [\#(turns)]}"#
        #expect(try texts(split, all: true) == ["a<|im_end|>", last])
        let row = try demonstration(whole, allTurns: true)
        let stored = Demonstration(Demonstration(id: "a", spans: row.spans).json)
        #expect(stored.places(in: row.tokens) == row.spans.flatMap { $0.map(Int32.init) })
    }

    @Test("a special token for which the model has no row is refused in a prompt")
    func missingRow() throws {
        let end = try #require(tokenizer.tokenID(of: "<|im_end|>"))
        let small = try PromptRenderer(tokenizer, idLimit: Int(end))
        let error = #expect(throws: (any Error).self) { try prompt(#"{"prompt": [\#(Self.user)]}"#, small) }
        #expect(error.map { "\($0)" }?.contains("no row") == true)
    }
}
