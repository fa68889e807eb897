// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import Recipes
import Testing

/// Data commands and jobs call a row by the same name and read the same columns of it.
@Suite("Rows of data commands") final class RowIdentityTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-rows-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: folder) }

    private func write(_ name: String, _ text: String) throws -> URL {
        let url = folder.appendingPathComponent(name)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: url)
        return url
    }

    private func jobIDs(_ url: URL) throws -> [String] {
        let data = try DataSection(YAMLReader(try YAMLNode.parse("{path: x}"), path: "data"))
        var reader = try DataReader<PromptRecord>(prompts: url, data)
        return try reader.readAll().map(\.id)
    }

    @Test("text, integers, none, empty lines, a mark at the start: the job's ids")
    func ids() throws {
        let url = try write(
            "a.jsonl",
            "\u{FEFF}{\"id\":\"q\",\"question\":\"1?\"}\r\n\r\n{\"id\":404,\"question\":\"2?\"}\n  \n{\"question\":\"3?\"}\n"
                + "{\"id\":null,\"problem\":\"4?\"}\n{\"id\":123456789012345678901,\"query\":\"5?\"}\n")
        let rows = try Rows.read(url)
        let ids = rows.enumerated().map { Rows.id($1, $0) }
        #expect(ids == ["q", "404", "row-5", "row-6", "123456789012345678901"])
        #expect(try ids == jobIDs(url))
        #expect(rows.map(Rows.query) == ["1?", "2?", "3?", "4?", "5?"])
        // What is written elsewhere keeps its name.
        let rest = folder.appendingPathComponent("rest.jsonl")
        try Rows.write(Array(rows.dropFirst(2)), to: rest)
        #expect(try jobIDs(rest) == Array(ids.dropFirst(2)))
    }

    @Test("a split by question, problem or query holds some rows back, not all or none")
    func split() throws {
        for name in ["question", "problem", "query", "prompt"] {
            let text = (0..<200).map { "{\"id\":\($0),\"\(name)\":\"what is \($0) + 1?\",\"answer\":\($0 + 1)}\n" }
                .joined()
            let (held, rest) = Curation.split(try Rows.read(try write("s.jsonl", text)), share: 0.25)
            #expect((25...80).contains(held.count) && held.count + rest.count == 200, "\(name)")
        }
    }

    @Test("integer ids join with the answers of a run")
    func joins() throws {
        let rows = try Rows.read(
            try write("q.jsonl", (1...12).map { "{\"id\":\($0),\"problem\":\"p\($0)?\",\"answer\":\"1\"}\n" }.joined()))
        let answers = (1...12).flatMap { id in
            (0..<4).map {
                Answer(
                    id: "\(id)", sibling: $0, query: "p", reference: "1", completion: "1", reward: $0 < id % 4 ? 1 : 0)
            }
        }
        let rates = PassRate.of(answers)
        let pairs = Curation.pairs(rows, passRates: rates, usedIDs: [], most: 0.9, count: nil)
        #expect(pairs.rows.count == 9 && pairs.report.count(of: "not_measured") == 0)
        #expect(Curation.queries(rows, passRates: rates).report.count(of: "solved_without_thinking") == 9)
    }

    @Test("rows keep the order of their keys and their numbers through a command")
    func order() throws {
        let line = #"{"id":7,"z":1.0,"prompt":"é","tools":[{"type":"function","b":0.00001,"a":12345678901234567890}]}"#
        let target = folder.appendingPathComponent("t.jsonl")
        try Rows.write(try Rows.read(try write("o.jsonl", line + "\n")), to: target)
        #expect(try String(contentsOf: target, encoding: .utf8) == line + "\n")
    }

    @Test("what cannot be read is refused with its line")
    func refused() throws {
        for (text, word) in [
            ("{\"id\":\"a\"}\n{\"id\":1,\"id\":2}\n", ":2: is not JSON: an object has the key 'id' twice"),
            ("{\"id\":[1]}\n", ":1: 'id' is a list"), ("[{\"id\":1}, 2]", "row 2: '2' is no object"),
            ("{\"a\":NaN}\n", "NaN"),
        ] {
            let url = try write("bad.jsonl", text)
            let error = #expect(throws: CurationError.self) { try Rows.read(url) }
            #expect(error?.description.contains(word) == true, "\(error?.description ?? "")")
        }
    }

    @Test("pass rates: answers that were cut off count, and solved is what the checking reward says")
    func passRates() throws {
        var lines = [
            "{\"id\":\"5\",\"completion\":\"1\",\"outcome\":\"ok\",\"reward\":1,\"rewards\":{\"math_answer\":1}}"
        ]
        for _ in 0..<7 {
            lines.append("{\"id\":\"5\",\"completion\":\"1 1 1\",\"outcome\":\"truncated\",\"reward\":0}")
        }
        lines.append(
            "{\"id\":\"6\",\"completion\":\"2\",\"outcome\":\"ok\",\"reward\":1,\"rewards\":{\"format\":1,\"math_answer\":0}}"
        )
        lines.append("{\"id\":\"6\",\"outcome\":\"infra_error\",\"completion\":\"\"}")
        lines.append("{\"id\":\"7\",\"completion\":\"2\",\"outcome\":\"ok\",\"reward\":1}")
        _ = try write("run/rollouts/text.jsonl", lines.joined(separator: "\n"))
        let answers = try Answer.read(folder.appendingPathComponent("run"))
        let rates = PassRate.of(answers)
        #expect(rates["5"] == PassRate(solved: 1, count: 8) && rates["6"] == PassRate(solved: 0, count: 1))
        #expect(rates["7"] == PassRate(solved: 1, count: 1), "a run that did not write its rewards: their sum")
        let made = Curation.answers(answers, queries: [], perQuery: 8)
        #expect(made.demonstrations.report.count(of: "truncated") == 7 && made.review.count == 1)
    }

    @Test("reviews: wrong references go, corrected ones are taken over, answers judged by them are void")
    func reviews() throws {
        let rows = ["a", "b", "c", "d"].map { id -> Rows.Row in
            ["id": id, "question": "\(id)?", "answer": "1", "solution": "so 1"]
        }
        let reviews = try Reviews([
            ["id": "a", "verdict": "hard"], ["id": "b", "verdict": "wrong_reference"],
            ["id": "c", "verdict": "corrected", "answer": "2", "solution": "so 1"], ["id": "d"],
        ])
        #expect(reviews.rows.count == 3)
        let queries = Curation.queries(rows, reviews: reviews)
        #expect(queries.rows.map { $0["id"] as? String } == ["a", "c", "d"])
        #expect(queries.rows.map(Rows.reference) == ["1", "2", "1"])
        #expect(queries.report.count(of: "wrong_reference") == 1)
        func answers(_ reference: String) -> [Answer] {
            ["a", "b", "c", "d"].map {
                Answer(id: $0, query: "?", reference: reference, completion: "<think>1</think>1", reward: 0)
            }
        }
        #expect(answers("1").map(reviews.isOutdated) == [false, true, true, false])
        #expect(answers("2").map(reviews.isOutdated) == [false, true, false, false])
        let made = Curation.answers(answers("1"), queries: rows, reviews: reviews)
        #expect(made.demonstrations.report.count(of: "wrong_reference") == 2)
        #expect(made.review.map { $0["id"] as? String } == ["d"], "what has a verdict is not asked again")
        #expect(throws: CurationError.self) { try Reviews([["id": "a", "verdict": "maybe"]]) }
        #expect(throws: CurationError.self) { try Reviews([["id": "a", "verdict": "corrected"]]) }
    }
}
