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
        renderer = try PromptRenderer(tokenizer, thinking: .default)
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
        let ends = Set([try #require(tokenizer.endOfSequenceID)])
        func demonstration(_ row: String) throws -> (tokens: [Int32], firstScored: Int) {
            try withFile(row) { url, data in
                var reader = try DataReader<ScoreRecord>(scores: url, data)
                return try renderer.demonstration(of: try #require(try reader.next()), ends: ends)
            }
        }
        let whole = try demonstration(#"{"messages":[\#(user),\#(call)]}"#)
        let learned = tokenizer.decode(Array(whole.tokens[whole.firstScored...]))
        #expect(
            learned.contains(
                "<tool_call>\n{\"name\": \"get_w\", \"arguments\": {\"city\": \"Oslo\", \"days\": 3}}\n</tool_call>"))
        let pair = try demonstration(#"{"prompt":[\#(user)],"completion":[\#(call)]}"#)
        #expect(pair.tokens == whole.tokens && pair.firstScored == whole.firstScored)
        let tooled = try demonstration(#"{"messages":[\#(user),\#(call)],\#(tools)}"#)
        #expect(tokenizer.decode(tooled.tokens).contains(#"{"name": "get_w", "x": 1.0}"#))
        #expect(tooled.tokens.count - tooled.firstScored == whole.tokens.count - whole.firstScored)
    }
}
