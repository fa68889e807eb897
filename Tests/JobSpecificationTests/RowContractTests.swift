// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import RuntimeSupport
import Testing

@Suite("What a row of data may look like") struct RowContractTests {
    private func withData<R>(_ bytes: Data, _ section: String, _ body: (URL, DataSection) throws -> R) throws -> R {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-row-\(UUID().uuidString).jsonl")
        try bytes.write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        return try body(url, try DataSection(YAMLReader(try YAMLNode.parse("{path: x, \(section)}"), path: "data")))
    }

    private func prompts(_ text: String, _ section: String = "") throws -> [PromptRecord] {
        try withData(Data(text.utf8), section) { url, data in
            var reader = try DataReader<PromptRecord>(prompts: url, data)
            return try reader.readAll()
        }
    }

    private func refusal(_ bytes: Data) throws -> String {
        try withData(bytes, "") { url, data in
            do {
                var reader = try DataReader<PromptRecord>(prompts: url, data)
                return "accepted \(try reader.readAll().count)"
            } catch let error as JobError { return "\(error.line ?? 0): \(error.message)" }
        }
    }
    private func refusal(_ text: String) throws -> String { try refusal(Data(text.utf8)) }

    @Test("the prompt is found under its usual names; several of one rank are refused")
    func promptColumns() throws {
        for name in ["prompt", "question", "problem", "query", "text"] {
            #expect(try prompts(#"{"\#(name)":"a?","answer":"1"}"#).first?.content == .text("a?"), "\(name)")
        }
        let both = try prompts(#"{"messages":[{"role":"user","content":"m"}],"question":"q"}"#)
        #expect(both.first?.content.query == "m" && both.first?.columns["question"] == "q")
        #expect(try prompts(#"{"problem":"p","text":"t"}"#).first?.content == .text("p"))
        #expect(try refusal(#"{"problem":"p","question":"q"}"#).hasPrefix("1: both 'question' and 'problem'"))
        #expect(try prompts(#"{"problem":"p","question":"q"}"#, "prompt_column: problem").first?.content.query == "p")
    }

    @Test("reference answers are exact, whatever column they stand in")
    func answers() throws {
        let cases: [(String, String?)] = [
            (#""answer":98765432109876543210"#, "98765432109876543210"), (#""answer":0.00001"#, "0.00001"),
            (#""answer":2.71828182845904523536"#, "2.71828182845904523536"), (#""answer":1.50"#, "1.50"),
            (#""solution":-7"#, "-7"), (#""reference":"r""#, "r"), (#""ground_truth":"g""#, "g"),
            (#""ground_truth":["g"]"#, nil), (#""reward_model":{"style":"rule","ground_truth":"12"}"#, "12"),
            (#""answer":"\\frac{1}{2}","solution":"We see \\boxed{\\frac{1}{2}}.""#, "\\frac{1}{2}"),
        ]
        for (columns, expected) in cases {
            #expect(try prompts(#"{"prompt":"q",\#(columns)}"#).first?.answer == expected, "\(columns)")
        }
        #expect(try refusal(#"{"prompt":"q","answer":"1","solution":"so 2"}"#).contains("differ"))
    }

    @Test("ids: text, integers of any size, and the line's number")
    func identifiers() throws {
        let rows = try prompts(
            "{\"prompt\":\"a\",\"id\":\"x\"}\n\r\n{\"prompt\":\"b\",\"id\":90071992547409931}\n"
                + "{\"prompt\":\"c\"}\n{\"prompt\":\"d\",\"id\":null}")
        #expect(rows.map(\.id) == ["x", "90071992547409931", "row-4", "row-5"])
    }

    @Test("other columns keep their order of keys and their numbers")
    func columns() throws {
        let row = try prompts(#"{"prompt":"q","state":{"b":1.0,"a":[2e3,"é"]},"n":0.00001}"#)[0]
        #expect(row.columns == ["state": #"{"b":1.0,"a":[2e3,"é"]}"#, "n": "0.00001"])
    }

    @Test("a key that occurs twice is refused with its line, in nested objects too")
    func repeatedKeys() throws {
        #expect(
            try refusal("{\"prompt\":\"a\"}\n{\"prompt\":\"b\",\"prompt\":\"c\"}")
                == "2: is not JSON: an object has the key 'prompt' twice, at byte 27; mend the row or set data.on_bad_row: skip"
        )
        #expect(try refusal(#"{"prompt":"a","x":{"k":1,"k":2}}"#).contains("'k' twice"))
    }

    @Test("tool calls: what the template would not print is refused by name")
    func toolCalls() throws {
        func problem(_ message: String, _ rest: String = "") throws -> String {
            try refusal(
                #"{"messages":[{"role":"user","content":"u"},\#(message),{"role":"user","content":"v"}]\#(rest)}"#)
        }
        let call = #"{"function":{"name":"f","arguments":{}}}"#
        let good = #"{"role":"assistant","content":null,"tool_calls":[\#(call)]}"#
        #expect(try problem(good) == "accepted 1")
        #expect(
            try problem(#"{"role":"assistant","content":"","tool_calls":"[\#(call.replacing("\"", with: "\\\""))]"}"#)
                == "accepted 1")
        #expect(try problem(#"{"role":"assistant","content":null}"#).contains("no strings"))
        #expect(
            try problem(#"{"role":"user","content":"x","tool_calls":[\#(call)]}"#).contains(
                "only a message of the assistant"))
        #expect(
            try problem(#"{"role":"assistant","content":"","tool_calls":[{"function":{"arguments":{}}}]}"#).contains(
                "no 'name'"))
        #expect(
            try problem(#"{"role":"assistant","content":"","tool_calls":[{"name":"f","arguments":[1]}]}"#).contains(
                "arguments"))
        #expect(
            try problem(#"{"role":"assistant","content":"","function_call":{"name":"f"}}"#).contains("function_call"))
        #expect(try problem(good, #","tools":{"name":"f"}"#).contains("'tools' is an object"))
        #expect(try problem(good, #","tools":["f"]"#).contains("'tools[0]'"))
        #expect(try problem(good, #","tools":"nothing""#).contains("'tools' is a text that is not valid JSON"))
        #expect(try problem(good, #","tools":"""#) == "accepted 1")
    }

    @Test("what a file is: marks and line ends are read, what holds no rows is named")
    func files() throws {
        let text = "\u{FEFF}{\"prompt\":\"a\"}\r\n   \r\n{\"prompt\":\"b\"}\r\n"
        #expect(try prompts(text).map(\.content.query) == ["a", "b"])
        for (bytes, word) in [
            (Data([0x1F, 0x8B, 8, 0]), "gzip"), (Data("PAR1....".utf8), "Parquet"),
            (Data([0xFF, 0xFE, 0x7B, 0]), "UTF-16"),
            (Data([0x28, 0xB5, 0x2F, 0xFD]), "zstd"), (Data("PK\u{3}\u{4}".utf8), "zip archive"),
            (Data("version https://git-lfs.github.com/spec/v1\noid sha256:00\n".utf8), "Git LFS"),
            (Data("{\"prompt\":\"a\",\"x\":NaN}".utf8), "NaN and Infinity"),
            (Data("{\"prompt\":\"\\ud800\"}".utf8), "surrogate"),
        ] {
            #expect(try refusal(bytes).contains(word), "\(word)")
        }
    }

    @Test("the recipe of a job changes with the content of its data and with nothing else")
    func recipe() throws {
        try withData(Data("{\"prompt\":\"a\"}\n".utf8), "") { url, _ in
            func recipe() throws -> String {
                try Job.parse("{kind: rollout, name: n, model: {path: m}, data: {path: '\(url.path)'}, output: o}")
                    .recipe()
            }
            let first = try recipe()
            #expect(try first == recipe() && first.count == 64)
            try Data("{\"prompt\":\"b\"}\n".utf8).write(to: url)
            #expect(try first != recipe())
            try Data("{\"prompt\":\"a\"}\n".utf8).write(to: url)
            #expect(try first == recipe())
            try FileManager.default.removeItem(at: url)
            #expect(throws: JobError.self) { try recipe() }
        }
    }

    @Test("a share of groups that may fail")
    func failedGroups() throws {
        func share(_ text: String) throws -> Double? {
            guard
                case .rollout(let job) = try Job.parse(
                    "{kind: rollout, name: n, model: {path: m}, data: {path: d}, output: o\(text)}")
            else { return nil }
            return job.failedGroupsMax
        }
        #expect(try share("") == 0.1 && share(", max_failed_groups: 0") == 0)
        #expect(throws: JobError.self) { try share(", max_failed_groups: 2") }
    }
}
