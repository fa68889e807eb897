// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import Testing

@Suite struct DataReaderTests {
    /// Runs `body` with a file of `text` and the data section `section`.
    private func withData<R>(_ text: String, _ section: String = "", _ body: (URL, DataSection) throws -> R)
        throws -> R
    {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-data-\(UUID().uuidString).jsonl")
        try Data(text.utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        let reader = YAMLReader(try YAMLNode.parse("{path: x, \(section)}"), path: "data")
        return try body(url, try DataSection(reader))
    }

    private func failure(_ text: String, _ section: String = "") throws -> String {
        try withData(text, section) { url, data in
            do {
                var reader = try DataReader<PromptRecord>(prompts: url, data)
                _ = try reader.readAll()
                return "accepted"
            } catch let error as JobError {
                #expect(error.description == "\(url.path):\(error.line ?? 0): \(error.message)")
                return "line \(error.line ?? 0): \(error.message)"
            }
        }
    }

    @Test func columns() throws {
        let text = """
            {"prompt":"What?","answer":42}
            {"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],"solution":"1/2","id":"b"}

            {"prompt":[{"role":"user","content":"u"}],"id":7,"extra":[1,{"a":null}]}
            """
        let records = try withData(text) { url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            return try reader.readAll()
        }
        #expect(records.map(\.id) == ["row-1", "b", "7"])
        #expect(records.map(\.answer) == ["42", "1/2", nil])
        #expect(records[0].content == .text("What?"))
        #expect(
            records[1].content
                == .messages([
                    ChatMessage(role: "system", content: "s"), ChatMessage(role: "user", content: "u"),
                ]))
        #expect(records[2].lineNumber == 4)
        #expect(records.map(\.columns) == [[:], [:], ["extra": "[1,{\"a\":null}]"]])
    }

    @Test("the last of /think and /no_think counts, the system's first, the assistant's words never")
    func lastFlag() {
        func flag(_ messages: (String, String)...) -> String? {
            PromptRecord(
                id: "", content: .messages(messages.map { ChatMessage(role: $0, content: $1) }), answer: nil,
                lineNumber: 1
            ).lastFlag
        }
        #expect(flag(("user", "a")) == nil)
        #expect(flag(("system", "/no_think"), ("user", "a")) == "no_think")
        #expect(flag(("system", "/no_think"), ("user", "a /think")) == "think")
        #expect(flag(("user", "a /think"), ("assistant", "/no_think"), ("user", "b")) == "think")
        #expect(flag(("user", "/think about /no_think")) == "no_think")
        #expect(flag(("user", "a/think")) == nil)
    }

    @Test func problemsNameTheLine() throws {
        let good = "{\"prompt\":\"a\"}\n"
        #expect(try failure(good + "{\"prompt\":").hasPrefix("line 2: is not JSON"))
        #expect(try failure(good + "[1]").hasPrefix("line 2: is a list, not an object"))
        #expect(try failure(good + "{}").hasPrefix("line 2: no column 'prompt' or 'messages'"))
        #expect(try failure("{\"prompt\":\"\"}").hasPrefix("line 1: 'prompt' is empty"))
        #expect(try failure("{\"prompt\":\"a\",\"messages\":[]}").hasPrefix("line 1: both"))
        #expect(try failure("{\"messages\":[{\"role\":\"boss\",\"content\":\"\"}]}").contains("'boss'"))
        #expect(
            try failure("{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}").contains(
                "nothing left to answer"))
        #expect(
            try failure("{\"prompt\":\"a\",\"id\":\"x\"}\n{\"prompt\":\"b\",\"id\":\"x\"}")
                .hasPrefix("line 2: the id 'x' occurs twice"))
        #expect(try failure("{\"prompt\":\"a\",\"answer\":\"1\",\"solution\":\"2\"}").contains("differ"))
        #expect(
            try failure("{\"prompt\":\"\(String(repeating: "a", count: 100))\"}", "max_row_bytes: 64")
                .hasPrefix("line 1: longer than data.max_row_bytes (64)"))
    }

    @Test func skippingKeepsOrderAndCounts() throws {
        var text = ""
        for index in 0..<500 {
            text += index % 3 == 1 ? "garbage \(index)\n" : "{\"prompt\":\"p\(index)\"}\n"
        }
        text += "{\"prompt\":\"\(String(repeating: "b", count: 600_000))\"}\n{\"prompt\":\"last\"}"
        try withData(text, "on_bad_row: skip, max_row_bytes: 1000") { url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            let records = try reader.readAll()
            #expect(records.count == 334)
            #expect(records[1].id == "row-3")
            #expect(records.last?.content == .text("last"))
            #expect(records.last?.lineNumber == 502)
            #expect(reader.skippedCount == 168)
            #expect(reader.skipped.count == 100)
            #expect(reader.skipped[0].place.number == 2)
            #expect(reader.skipped[0].reason.hasPrefix("is not JSON: "))
        }
    }

    @Test func limitStopsBeforeLaterRows() throws {
        try withData("{\"prompt\":\"a\"}\ngarbage", "limit: 1") { url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            #expect(try reader.readAll().count == 1)
        }
    }

    @Test func namedColumns() throws {
        try withData(
            "{\"question\":\"a\",\"gold\":\"b\",\"answer\":\"c\"}",
            "prompt_column: question, answer_column: gold"
        ) {
            url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            let record = try reader.next()
            #expect(record?.content == .text("a"))
            #expect(record?.answer == "b")
        }
    }

    @Test func scoreRows() throws {
        let text =
            "{\"token_ids\":[1,2,3]}\n{\"text\":\"t\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}]}\n"
        try withData(text) { url, data in
            var reader = try DataReader<ScoreRecord>(scores: url, data)
            let contents = try reader.readAll().map(\.content)
            #expect(
                contents == [
                    .tokens([1, 2, 3]), .text("t"), .messages([ChatMessage(role: "user", content: "u")]),
                ])
        }
        try withData("{\"token_ids\":[1,-2]}") { url, data in
            var reader = try DataReader<ScoreRecord>(scores: url, data)
            #expect(throws: JobError.self) { try reader.next() }
        }
    }

    @Test func scoreRowsWithPromptAndCompletion() throws {
        let text = """
            {"prompt":"a","completion":"b"}
            {"prompt":[{"role":"user","content":"u"}],"completion":"b"}
            """
        try withData(text) { url, data in
            var reader = try DataReader<ScoreRecord>(scores: url, data)
            #expect(
                try reader.readAll().map(\.content) == [
                    .completion(prompt: .text("a"), text: "b"),
                    .completion(prompt: .messages([ChatMessage(role: "user", content: "u")]), text: "b"),
                ])
        }
        for bad in [
            "{\"completion\":\"b\"}", "{\"prompt\":\"a\",\"completion\":7}", "{\"prompt\":\"a\"}",
            "{\"prompt\":\"a\",\"completion\":\"b\",\"text\":\"c\"}",
        ] {
            try withData(bad) { url, data in
                var reader = try DataReader<ScoreRecord>(scores: url, data)
                #expect(throws: JobError.self) { try reader.next() }
            }
        }
    }

    @Test("preferences: texts, messages behind a prompt, whole conversations; nothing else")
    func preferences() throws {
        func message(_ role: String, _ text: String) -> String { "{\"role\":\"\(role)\",\"content\":\"\(text)\"}" }
        let (u, b, c) = (message("user", "u"), message("assistant", "b"), message("assistant", "c"))
        let text = """
            {"prompt":"a","chosen":"b","rejected":"c"}
            {"prompt":[\(u)],"chosen":[\(b)],"rejected":[\(c)]}
            {"prompt":[\(u)],"chosen":"b","rejected":[\(c)]}
            {"chosen":[\(u),\(b)],"rejected":[\(u),\(b),\(u),\(c)]}
            """
        let user = ChatMessage(role: "user", content: "u")
        let conversation = PromptContent.messages([user])
        func pair(_ a: PromptContent, _ b: PromptContent) -> ScoreRecord.Content {
            .pair(PreferencePair(chosen: .init(prompt: a, response: "b"), rejected: .init(prompt: b, response: "c")))
        }
        try withData(text) { url, data in
            var reader = try DataReader<ScoreRecord>(scores: url, data)
            #expect(
                try reader.readAll().map(\.content) == [
                    pair(.text("a"), .text("a")), pair(conversation, conversation), pair(conversation, conversation),
                    pair(conversation, .messages([user, ChatMessage(role: "assistant", content: "b"), user])),
                ])
        }
        for (bad, complaint) in [
            ("{\"prompt\":\"a\",\"chosen\":\"b\"}", "no column 'rejected'"),
            ("{\"prompt\":\"a\",\"rejected\":\"b\"}", "no column 'chosen'"),
            ("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}", "are equal"),
            ("{\"prompt\":\"a\",\"chosen\":\"\",\"rejected\":\"b\"}", "'chosen' is empty"),
            ("{\"prompt\":\"a\",\"chosen\":7,\"rejected\":\"b\"}", "is a number"),
            ("{\"chosen\":\"b\",\"rejected\":\"c\"}", "'prompt' must be beside it"),
            ("{\"prompt\":\"a\",\"chosen\":[\(b)],\"rejected\":[\(c)]}", "'prompt' is a text"),
            ("{\"chosen\":[\(u)],\"rejected\":[\(u),\(c)]}", "does not end with an answer"),
            ("{\"chosen\":[\(b)],\"rejected\":[\(c)]}", "no message before the answer"),
        ] {
            try withData(bad) { url, data in
                var reader = try DataReader<ScoreRecord>(scores: url, data)
                let error = #expect(throws: JobError.self) { try reader.next() }
                #expect(error?.message.contains(complaint) == true, "\(bad): \(error?.message ?? "")")
            }
        }
    }

    @Test func rowsThatTheJobCannotUse() throws {
        try withData("{\"prompt\":\"a\",\"answer\":\"1\"}\n{\"prompt\":\"b\"}") { url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data) { $0.answer == nil ? "no answer" : nil }
            #expect(try reader.next()?.answer == "1")
            let expected = JobError(
                .malformedRow,
                "no answer; mend the row or set data.on_bad_row: skip", line: 2, file: url.path)
            #expect(throws: expected) { try reader.next() }
        }
    }

    @Test func arithmeticPromptsHaveTwoForms() throws {
        let plain = try ArithmeticPrompts(count: 5, seed: 7)
        let chat = try ArithmeticPrompts(count: 5, seed: 7, form: .messages)
        #expect(plain.line(0).hasPrefix("{\"answer\":\""))
        #expect(plain.line(0).contains("\"prompt\":\"What is "))
        #expect(chat.line(0).contains("\"messages\":[{\"content\":\"What is "))
        #expect((0..<5).map { plain.record($0).answer } == (0..<5).map { chat.record($0).answer })
    }

    @Test(arguments: ArithmeticPrompts.Form.allCases)
    func arithmeticPromptsAreReproducible(_ form: ArithmeticPrompts.Form) throws {
        let small = try ArithmeticPrompts(count: 3, seed: 7, form: form)
        let large = try ArithmeticPrompts(count: 200, seed: 7, form: form)
        #expect((0..<3).map(small.line) == (0..<3).map(large.line))
        #expect(try ArithmeticPrompts(count: 1, seed: 8, form: form).line(0) != small.line(0))
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-\(UUID().uuidString).jsonl")
        defer { try? FileManager.default.removeItem(at: url) }
        try large.write(to: url)
        let section = try DataSection(YAMLReader(YAMLNode.parse("path: x"), path: "data"))
        var reader = try DataReader<PromptRecord>(prompts: url, section)
        #expect(try reader.readAll() == (0..<200).map(large.record))
        #expect(throws: JobError.self) { try ArithmeticPrompts(count: 0, seed: 1) }
    }
}
