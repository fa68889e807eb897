// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import RuntimeSupport
import Testing

/// Rows in the forms in which public data sets come, and what a job's keys make of them.
@Suite("Forms of rows") struct RowFormTests {
    private func section(_ text: String) throws -> DataSection {
        try DataSection(YAMLReader(try YAMLNode.parse("{path: x\(text.isEmpty ? "" : ", ")\(text)}"), path: "data"))
    }

    private func withFile<R>(_ row: String, _ body: (URL) throws -> R) throws -> R {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-form-\(UUID().uuidString).jsonl")
        try Data((row + "\n").utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        return try body(url)
    }

    private func prompt(_ row: String, _ keys: String = "") throws -> PromptRecord {
        try withFile(row) { url in
            var reader = try DataReader<PromptRecord>(prompts: url, try section(keys))
            return try #require(try reader.next())
        }
    }

    private func example(_ row: String, _ keys: String = "") throws -> ScoreRecord {
        try withFile(row) { url in
            var reader = try DataReader<ScoreRecord>(scores: url, try section(keys))
            return try #require(try reader.next())
        }
    }

    private func refusal(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "accepted"
        } catch { return "\(error)" }
    }

    private func turns(_ content: PromptContent) -> [String] {
        switch content {
        case .text(let text): ["text: \(text)"]
        case .messages(let messages): messages.map { "\($0.role): \($0.content)" }
        }
    }

    private func turns(_ record: ScoreRecord) -> [String] {
        switch record.content {
        case .messages(let messages): turns(.messages(messages))
        case .completion(let prompt, let text): turns(prompt) + ["completion: \(text)"]
        case .pair(let pair):
            turns(pair.chosen.prompt) + ["chosen: \(pair.chosen.response)", "rejected: \(pair.rejected.response)"]
        case .text(let text): ["text: \(text)"]
        case .tokens(let ids): ["\(ids)"]
        }
    }

    @Test("columns: other names, paths into objects, and what is missing")
    func columns() throws {
        let row = #"{"question":"1+1?","solution":"two","prompt":"no","extra_info":{"answer":2.50}}"#
        let record = try prompt(row, "columns: {prompt: question, answer: extra_info.answer}")
        #expect(record.content == .text("1+1?") && record.answer == "2.50")
        #expect(record.columns["question"] == nil && record.columns["extra_info"] == #"{"answer":2.50}"#)
        #expect(try prompt(row, "columns: {answer: solution}").answer == "two")
        #expect(
            try turns(example(#"{"q":"a","a":"b"}"#, "columns: {prompt: q, completion: a}")) == [
                "text: a", "completion: b",
            ])
        #expect(try turns(example(#"{"body":"b","text":"t"}"#, "columns: {text: body}")) == ["text: b"])
        let swapped = try prompt(#"{"prompt":"p","answer":"a"}"#, "columns: {prompt: answer, answer: prompt}")
        #expect(swapped.content == .text("a") && swapped.answer == "p")
        let missing = refusal { _ = try prompt(#"{"a":1,"b":2}"#, "columns: {prompt: q}") }
        #expect(missing.contains(":1: no column 'q', which data.columns reads as 'prompt'; the row has: a, b"))
        #expect(
            refusal { _ = try prompt(#"{"prompt":"x"}"#, "columns: {question: prompt, answer: x}") }.contains(
                "no column 'x'"))
        #expect(
            refusal { _ = try prompt(#"{"prompt":"x"}"#, "columns: {prompt: question}") }.contains(
                "so {question: prompt}"))
        #expect(refusal { _ = try section("columns: {prompt: a, question: b}") }.contains("both the prompt"))
        #expect(refusal { _ = try section("columns: {prompt: a}, prompt_column: b") }.contains("keep one of them"))
        let keys =
            "columns: {prompt: question, answer: 'reward_model.ground_truth'}, split: test, name: main, system_prompt: 's\"x', prompt_template: '{q} \\boxed{{}}', apply_chat_template: true"
        let first = try section(keys)
        #expect(
            try DataSection(YAMLReader(try YAMLNode.parse(first.resolved.yaml), path: "data")) == first,
            "what is resolved reads back")
    }

    @Test("a text is asked as it is, or as a turn of the user where the job says so or has a system prompt")
    func readings() throws {
        let row = #"{"prompt":"p"}"#
        #expect(try turns(prompt(row).content) == ["text: p"])
        #expect(try turns(prompt(row, "apply_chat_template: true").content) == ["user: p"])
        #expect(try turns(prompt(row, "system_prompt: s").content) == ["system: s", "user: p"])
        let messages = #"{"messages":[{"role":"user","content":"u"}]}"#
        #expect(try turns(prompt(messages, "system_prompt: s").content) == ["system: s", "user: u"])
        let own = #"{"messages":[{"role":"system","content":"o"},{"role":"user","content":"u"}]}"#
        #expect(try turns(prompt(own, "system_prompt: s").content) == ["system: o", "user: u"])
        #expect(
            refusal { _ = try section("system_prompt: s, apply_chat_template: false") }.contains("needs a conversation")
        )
        let pair = #"{"prompt":"p","chosen":"c","rejected":"r"}"#
        #expect(try turns(example(pair, "apply_chat_template: true")) == ["user: p", "chosen: c", "rejected: r"])
        #expect(
            try turns(example(#"{"prompt":"p","completion":"c"}"#, "system_prompt: s"))
                == ["system: s", "user: p", "assistant: c"])
        #expect(
            try turns(
                example(
                    #"{"prompt":"p","completion":[{"role":"assistant","content":"c"}]}"#, "apply_chat_template: true"))
                == ["user: p", "assistant: c"])
    }

    @Test("a prompt's template is Python's str.format with columns")
    func template() throws {
        let row = #"{"question":"1 + {1}?","answer":2,"n":1.50,"o":{"k":"v"},"options":["a","b"]}"#
        func made(_ text: String) throws -> [String] { try turns(prompt(row, "prompt_template: \"\(text)\"").content) }
        #expect(
            try made(#"{question}\nPut the answer in \\boxed{{}}."#) == ["text: 1 + {1}?\nPut the answer in \\boxed{}."]
        )
        #expect(try made("{n} {o.k} {options} }}{{") == [#"text: 1.50 v ["a","b"] }{"#])
        #expect(
            try turns(prompt(row, "prompt_template: '{prompt}!', columns: {prompt: question}").content)
                == ["text: 1 + {1}?!"])
        #expect(
            try turns(prompt(row, "prompt_template: 'Q: {question}', system_prompt: s").content).last
                == "user: Q: 1 + {1}?")
        #expect(refusal { _ = try made("{other}") }.contains("no column 'other', which data.prompt_template names"))
        for (text, word) in [
            ("{question} {}", "'{}' names no column; write '{{}}'"), ("{question}}", "'}' by itself"),
            ("{question", "no '}' closes"), ("{question:>5}", "only {column}"), ("{question!r}", "only {column}"),
            ("no column", "names no column"),
        ] {
            #expect(refusal { _ = try section("prompt_template: '\(text)'") }.contains(word), "\(text)")
        }
        let conversation = #"{"messages":[{"role":"user","content":"u"}]}"#
        #expect(refusal { _ = try prompt(conversation, "prompt_template: '{messages}'") }.contains("holds messages"))
    }

    @Test("ShareGPT: conversations with from and value, roles by their usual names, a system column")
    func shareGPT() throws {
        let row =
            #"{"system":"s","conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{\"b\":1.0,\"a\":2}}"},{"from":"observation","value":"o"},{"from":"gpt","value":"a"}]}"#
        let record = try example(row)
        #expect(try turns(record) == ["system: s", "user: q", "assistant: ", "tool: o", "assistant: a"])
        guard case .messages(let messages) = record.content else { return }
        #expect(
            messages[2].object["tool_calls"]
                == .array([["name": "f", "arguments": ["b": .decimal("1.0"), "a": 2]]]))
        #expect(messages[1].object.members.map(\.key) == ["role", "content"])
        #expect(
            try turns(
                example(
                    #"{"conversations":[{"from":"system","value":"s"},{"from":"human","value":"q"},{"from":"gpt","value":"a"},{"from":"tool","value":"t"},{"from":"function","value":"f"}]}"#
                )
            ).map { String($0.prefix(4)) }
                == ["syst", "user", "assi", "tool", "tool"])
        #expect(
            try turns(prompt(#"{"conversations":[{"from":"human","value":"q"}]}"#, "system_prompt: s").content) == [
                "system: s", "user: q",
            ])
        #expect(
            refusal { _ = try example(#"{"conversations":[{"from":"alien","value":"q"}]}"#) }.contains(
                "role' is 'alien'"))
        #expect(refusal { _ = try example(#"{"conversations":[{"from":"human"}]}"#) }.contains("'from' and 'value'"))
        #expect(refusal { _ = try example(#"{"conversations":"x"}"#) }.contains("'conversations' is a string"))
        let text = #"{"conversations":"[{\"from\":\"human\",\"value\":\"q\"}]"}"#
        #expect(try turns(prompt(text).content) == ["user: q"], "JSON in a text, as CSV has it")
    }

    @Test("Alpaca: instruction, input and output are turns; earlier turns and a system column too")
    func alpaca() throws {
        let row = #"{"instruction":"Add.","input":"1 1","output":"2"}"#
        #expect(try turns(example(row)) == ["user: Add.\n\n1 1", "assistant: 2"])
        #expect(try turns(prompt(row, "system_prompt: s").content) == ["system: s", "user: Add.\n\n1 1"])
        #expect(
            try turns(example(#"{"instruction":"c","input":"","output":"d","system":"s","history":[["a","b"]]}"#))
                == ["system: s", "user: a", "assistant: b", "user: c", "assistant: d"])
        #expect(
            try turns(example(row, "columns: {prompt: instruction, completion: output}")) == [
                "text: Add.", "completion: 2",
            ])
        #expect(RowColumns.query(of: try JSONValue(parsing: row).objectValue!) == "Add.\n\n1 1")
    }

    @Test("verl, GSM8K, MATH-500, AIME: question and reference")
    func reference() throws {
        let verl =
            #"{"data_source":"d","prompt":[{"role":"user","content":"q"}],"ability":"math","reward_model":{"style":"rule","ground_truth":"5"},"extra_info":{"split":"train","index":0}}"#
        let record = try prompt(verl)
        #expect(try turns(record.content) == ["user: q"] && record.answer == "5")
        #expect(record.columns["data_source"] == "d" && record.columns["extra_info"] == #"{"split":"train","index":0}"#)
        #expect(
            try prompt(#####"{"question":"q","answer":"3 * 411 = <<3*411=1233>>\nSo 1,233.\n#### 1,233"}"#####).answer
                == "1233")
        #expect(try prompt(#####"{"question":"q","answer":"#### Heading\ntext"}"#####).answer == "#### Heading\ntext")
        let math =
            #"{"problem":"p","solution":"Then $x = \\frac12$, so we find $\\boxed{\\tfrac{1}{2}}$.","answer":"\\frac{1}{2}","level":2,"unique_id":"test/a/1.json"}"#
        #expect(try prompt(math).answer == "\\frac{1}{2}")
        let aime = try prompt(#"{"ID":"2024-I-1","Problem":"p","Solution":"So it is 204.","Answer":204}"#, "")
        #expect(aime.content == .text("p") && aime.answer == "204")
        #expect(refusal { _ = try prompt(#"{"prompt":"q","answer":"1","solution":"2"}"#) }.contains("differ"))
    }

    @Test("content in parts: texts are joined, anything else is refused")
    func parts() throws {
        let row = #"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#
        #expect(try turns(prompt(row).content) == ["user: ab"])
        let image = #"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}"#
        #expect(refusal { _ = try prompt(image) }.contains("is no text (image_url)"))
    }

    @Test("what a job cannot read of a row is told with what the row has and the remedy")
    func remedies() {
        let prompt = refusal { _ = try self.prompt(#"{"Frage":"a","n":1}"#) }
        #expect(prompt.contains("the row has: Frage, n") && prompt.contains("{prompt: COLUMN}"))
        let example = refusal { _ = try self.example(#"{"question":"a","answer":"b"}"#) }
        #expect(
            example.contains("the row has: question, answer")
                && example.contains("{prompt: question, completion: answer}"))
    }
}
