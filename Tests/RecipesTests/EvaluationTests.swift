// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import Recipes
import Testing

/// Suites, their data and their figures.
@Suite("Evaluation")
struct EvaluationTests {
    final class Folder {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-evaluation-\(UUID().uuidString)")
        init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
        deinit { try? FileManager.default.removeItem(at: url) }
        func write(_ name: String, _ rows: [Rows.Row]) throws -> URL {
            let file = url.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Rows.write(rows, to: file)
            return file
        }
    }

    @Test("means, pass@k, intervals and groups, by hand")
    func statistics() {
        let statistics = SampleStatistics([
            .init(scores: [1, 1, 0, 0], group: "de"), .init(scores: [0, 0, 0, 0], group: "de"),
            .init(scores: [1, 1, 1, 1], group: "fr"), .init(scores: []),
        ])
        #expect(statistics.questions.count == 3, "a question without a sample says nothing")
        #expect(statistics.mean == 0.5)
        // Standard deviation of 0.5, 0, 1 is 0.5; over three questions.
        #expect(abs(statistics.halfWidth - 1.96 * 0.5 / 3.0.squareRoot()) < 1e-12)
        // 1 - C(2,2)/C(4,2) = 5/6 of the first question.
        #expect(abs(statistics.pass(at: 2)!.value - (5.0 / 6 + 0 + 1) / 3) < 1e-12)
        #expect(statistics.pass(at: 8) == nil, "fewer samples than k")
        #expect(SampleStatistics([.init(scores: [0.5])]).pass(at: 1) == nil, "no verdicts")
        #expect(statistics.groups == ["de": 0.25, "fr": 1] && statistics.macroMean == 0.625)
    }

    @Test("a rating is where the expected number solved is the number solved")
    func rating() throws {
        let even = SampleStatistics([
            .init(scores: [0, 1], difficulty: 1200), .init(scores: [0, 0], difficulty: 1200),
        ])
        #expect(abs(try #require(even.rating) - 1200) < 1e-6)
        // One of 1000, 1400 and 1800 solved: the expected number at the rating is one.
        let mixed = SampleStatistics([1000.0, 1400, 1800].map { .init(scores: [$0 < 1200 ? 1 : 0], difficulty: $0) })
        let rating = try #require(mixed.rating)
        let expected = [1000.0, 1400, 1800].reduce(0) { $0 + 1 / (1 + pow(10, ($1 - rating) / 400)) }
        #expect(abs(expected - 1) < 1e-6)
        #expect(SampleStatistics([.init(scores: [1], difficulty: 800)]).rating! > 3999)
        #expect(SampleStatistics([.init(scores: [1])]).rating == nil)
    }

    @Test("public forms become questions with what their reward needs")
    func formats() throws {
        let folder = try Folder()
        func prepared(_ format: PublicFormat, _ row: Rows.Row) throws -> Rows.Row {
            var data = EvaluationData()
            data.format = format
            let target = folder.url.appendingPathComponent("\(UUID().uuidString).jsonl")
            try data.prepare(try folder.write("source.jsonl", [row]), to: target)
            return try #require(try Rows.read(target).first)
        }
        #expect(
            try prepared(.gsm8k, ["question": "?", "answer": "so 3 + 4\n#### 1,234"])["answer"] as? String == "1234")
        let mmlu = try prepared(.mmlu, ["question": "Q", "choices": ["x", "y"], "answer": 1])
        #expect(mmlu["answer"] as? String == "B" && Rows.query(mmlu) == "Q\n\nA. x\nB. y")
        let gpqa = try prepared(
            .gpqa,
            [
                "Question": "Q", "Correct Answer": "r", "Incorrect Answer 1": "a", "Incorrect Answer 2": "b",
                "Incorrect Answer 3": "c",
            ])
        let letter = try #require(gpqa["answer"] as? String)
        #expect(Rows.query(gpqa).contains("\(letter). r"))
        let belebele = try prepared(
            .belebele,
            [
                "flores_passage": "P", "question": "Q", "mc_answer1": "1", "mc_answer2": "2", "mc_answer3": "3",
                "mc_answer4": "4", "correct_answer_num": "3", "dialect": "deu_Latn",
            ])
        #expect(belebele["answer"] as? String == "C" && belebele["language"] as? String == "deu_Latn")
        let zebra = try prepared(
            .zebralogic,
            ["puzzle": "p", "solution": ["header": ["House", "Name"], "rows": [["1", "Eric"], ["2", "Ann"]]]])
        #expect((zebra["answer"] as? String)?.contains("\"House 2\":{\"Name\":\"Ann\"}") == true)
        let bfcl = try prepared(
            .bfcl,
            [
                "question": [[["role": "user", "content": "go"]]], "function": [["name": "f"]],
                "ground_truth": [["f": ["x": [1, "1"]]]],
            ])
        #expect((bfcl["expected_calls"] as? [Rows.Row])?.first?["name"] as? String == "f" && bfcl["tools"] != nil)
        #expect(throws: CurationError.self) { try prepared(.mmlu, ["question": "Q", "answer": 1]) }
        // An index or a letter of no choice is no answer.
        for answer in [2, -1, "C", "x"] as [Any] {
            #expect(throws: CurationError.self) {
                try prepared(.mmlu, ["question": "Q", "choices": ["x", "y"], "answer": answer])
            }
        }
        let pro = try prepared(
            .mmluPro,
            [
                "question_id": 7, "question": "Q", "options": ["x", "y ", "z\n"], "answer": "C", "answer_index": 2,
                "src": "s",
            ])
        #expect(pro["answer"] as? String == "C" && Rows.query(pro) == "Q\n\nA. x\nB. y\nC. z")
        let spaced = try prepared(
            .gpqa,
            [
                "Question": "Q", "Correct Answer": "right\n", "Incorrect Answer 1": "w1", "Incorrect Answer 2": "w2",
                "Incorrect Answer 3": "w3 ", "Record ID": "rec1",
            ])
        #expect(Rows.query(spaced).split(separator: "\n").allSatisfy { !$0.hasSuffix(" ") })
        #expect(spaced["id"] as? String == "rec1")
        let math = try prepared(
            .plain,
            [
                "problem": "P", "answer": "\\frac{1}{2}", "unique_id": "test/1",
                "solution":
                    "We find $x = \\tfrac12$, which is what was asked for: the answer is $\\boxed{\\tfrac{1}{2}}$.",
            ])
        #expect(math["answer"] as? String == "\\frac{1}{2}" && Rows.query(math) == "P")
        let aime = try prepared(.plain, ["ID": "2024-I-1", "Problem": "P", "Solution": "So 204.", "Answer": 204])
        #expect(aime["answer"] as? String == "204" && Rows.query(aime) == "P")
        let worked = try prepared(.plain, ["question": "Q", "answer": "2 * 3 = 6\n#### 6"])
        #expect(worked["answer"] as? String == "6")
        #expect(throws: CurationError.self) {
            try prepared(.plain, ["question": "Q", "options": ["x", "y"], "answer": "A"])
        }
        for format in PublicFormat.allCases { #expect(!format.reward.isEmpty) }
    }

    @Test("a share is the same share of each group and the same rows every time")
    func shares() throws {
        let folder = try Folder()
        let source = try folder.write(
            "source.jsonl",
            (0..<100).map { ["id": "q\($0)", "question": "\($0)", "answer": "1", "language": $0 < 80 ? "en" : "sw"] })
        var data = EvaluationData()
        data.share = 0.1
        data.by = "language"
        data.prompt = "{language}: {question}"
        let (first, second) = (folder.url.appendingPathComponent("1"), folder.url.appendingPathComponent("2"))
        try data.prepare(source, to: first)
        try data.prepare(source, to: second)
        #expect(try Data(contentsOf: first) == Data(contentsOf: second))
        let rows = try Rows.read(first)
        #expect(
            rows.count { $0["language"] as? String == "en" } == 8
                && rows.count { $0["language"] as? String == "sw" } == 2)
        #expect(Rows.query(rows[0]).hasPrefix("en: "))
        data.seed = 1
        try data.prepare(source, to: second)
        #expect(try Data(contentsOf: first) != Data(contentsOf: second))
    }

    @Test("every figure is over all samples: what could not be judged and what was cut off counts as wrong")
    func counting() throws {
        let folder = try Folder()
        let rows = try folder.write("rows.jsonl", [["id": "a", "language": "x"], ["id": "b", "language": "y"]])
        _ = try folder.write(
            "run/rollouts/text.jsonl",
            [
                ["id": "a", "reward": 1, "outcome": "ok", "tokens": 10],
                ["id": "a", "outcome": "infra_error", "tokens": 20],
                ["id": "b", "outcome": "truncated", "tokens": 30],
                ["id": "b", "reward": 0.4, "outcome": "ok", "tokens": 20],
            ])
        var score = EvaluationScore()
        score.by = "language"
        score.families = ["all": ["x", "y"], "none": ["z"]]
        let run = folder.url.appendingPathComponent("run")
        let figures = try score.generated(run, rows: rows)
        #expect(
            figures["score"] == 0.35 && figures["failed"] == 1 && figures["truncated"] == 0.25
                && figures["tokens"] == 20
        )
        #expect(figures["samples"] == 4 && figures["questions"] == 2 && figures["score_of_judged"] == 0.6)
        #expect(figures["language/x"] == 0.5 && figures["macro"] == 0.35 && figures["family/all"] == 0.35)
        #expect(figures["failed/language/x"] == 1 && figures["failed/language/y"] == nil)
        #expect(figures["family/none"] == nil)
        score.threshold = 0.4
        #expect(try score.generated(run, rows: rows)["score"] == 0.5)
    }

    @Test("a group that failed counts with all its samples, and questions that were not asked do not count")
    func failedGroups() throws {
        let folder = try Folder()
        let rows = try folder.write("rows.jsonl", ["a", "b", "c"].map { ["id": $0] })
        _ = try folder.write(
            "run/rollouts/text.jsonl",
            [
                ["group": 0, "sibling": 0, "id": "a", "reward": 1, "outcome": "ok"],
                ["group": 0, "sibling": 1, "id": "a", "reward": 1, "outcome": "ok"],
                ["group": 1, "id": "b", "failed": "the sandbox does not start"],
            ])
        let run = folder.url.appendingPathComponent("run")
        let figures = try EvaluationScore().generated(run, rows: rows)
        #expect(
            figures["score"] == 0.5 && figures["questions"] == 2 && figures["failed"] == 2 && figures["samples"] == 4)
        #expect(figures["pass@1"] == 0.5 && figures["pass@2"] == 0.5)
    }

    @Test("a run in which nothing could be judged has no figures but a reason")
    func nothingJudged() throws {
        let folder = try Folder()
        let rows = try folder.write("rows.jsonl", ["a", "b"].map { ["id": $0] })
        let run = folder.url.appendingPathComponent("run")
        func failure(_ lines: [Rows.Row]) throws -> String? {
            _ = try folder.write("run/rollouts/text.jsonl", lines)
            do { _ = try EvaluationScore().generated(run, rows: rows) } catch { return "\(error)" }
            return nil
        }
        let sandbox = "no user namespaces"
        let text = try failure([
            ["id": "a", "outcome": "infra_error", "outcome_detail": sandbox],
            ["group": 1, "id": "b", "failed": sandbox],
        ])
        #expect(text?.hasSuffix("none of 2 answers could be judged: no user namespaces") == true, "\(text ?? "")")
        let strange = try failure([["id": "z", "reward": 1]])
        #expect(strange?.contains("were these rows asked?") == true)
        #expect(try failure([["id": "a", "reward": 0, "outcome": "ok"]]) == nil)
    }

    @Test("the likeliest choice counts")
    func ranking() throws {
        let folder = try Folder()
        let asked = try folder.write(
            "asked.jsonl",
            ["a", "b"].map { ["id": $0, "question": "?", "choices": ["A", "B"], "answer": "B", "language": "x"] })
        var data = EvaluationData()
        data.ranksChoices = true
        let rows = folder.url.appendingPathComponent("rows.jsonl")
        try data.prepare(asked, to: rows)
        func write(_ last: Double?) throws {
            var scores: [Rows.Row] = [
                ["id": "a/0", "logprobs": [-3.0, -2.0]], ["id": "a/1", "logprobs": [-3.0, -1.0]],
                ["id": "b/0", "logprobs": [-1.0, -1.0]],
            ]
            if let last { scores.append(["id": "b/1", "logprobs": [-1.0, last]]) }
            _ = try folder.write("run/scores/records.jsonl", scores)
        }
        let run = folder.url.appendingPathComponent("run")
        try write(-4)
        var score = EvaluationScore()
        score.by = "language"
        let figures = try score.ranked(run, rows: rows)
        #expect(figures["score"] == 0.5 && figures["language/x"] == 0.5 && figures["questions"] == 2)
        #expect(throws: CurationError.self) { try EvaluationScore().ranked(run, rows: asked) }
        // A choice that was not scored: its question cannot be judged.
        try write(nil)
        let partial = try EvaluationScore().ranked(run, rows: rows)
        #expect(partial["score"] == 0.5 && partial["failed"] == 1 && partial["samples"] == 2)
        #expect(partial["score_of_judged"] == 1)
    }

    @Test("a suite becomes stages; rows win over defaults; mistakes are told")
    func suite() throws {
        let folder = try Folder()
        let file = folder.url.appendingPathComponent("suite.yaml")
        func read(_ rows: String) throws -> Pipeline {
            try """
            kind: suite
            name: s
            output: out
            model: {path: m}
            defaults: {samples: 4, sampling: {max_new_tokens: 100}}
            non_thinking: {sampling: {presence_penalty: 1.5}}
            rows: \(rows)
            """.write(to: file, atomically: true, encoding: .utf8)
            return try Pipeline.read(file)
        }
        let pipeline = try read(
            "[{name: a, data: a.jsonl, samples: 8, budgets: [16], stop_text: '</think>'}, {name: b, data: b.jsonl, rank_choices: true, format: mmlu}]"
        )
        #expect(
            pipeline.stages.map(\.name) == [
                "a", "a.thinking", "a.thinking.score", "a.non_thinking", "a.non_thinking.score", "a.thinking-16",
                "a.thinking-16.score", "b", "b.non_thinking", "b.non_thinking.score",
            ])
        #expect(pipeline.stages[1].inputs == ["a"] && pipeline.stages[2].inputs == ["a", "a.thinking"])
        guard case .job(nil, let settings) = pipeline.stages[3].work else {
            Issue.record("a.non_thinking is no job")
            return
        }
        let job = try Job.read(
            nil,
            overrides: settings + [JobOverride(argument: "name=x"), JobOverride(argument: "output=y")],
            overridesDirectory: folder.url.path)
        guard case .rollout(let rollout) = job else {
            Issue.record("no rollout")
            return
        }
        #expect(
            rollout.groupSize == 8 && rollout.sampling.presencePenalty == 1.5 && rollout.sampling.maxNewTokens == 100)
        #expect(rollout.sampling.preset == .nonThinking && rollout.thinking.mode == .off)
        #expect(throws: JobError.self) { try read("[]") }
        #expect(throws: JobError.self) { try read("[{name: a, data: a}, {name: a, data: a}]") }
        #expect(throws: JobError.self) { try read("[{name: a, data: a, sample: 3}]") }
        #expect(throws: JobError.self) { try read("[{name: a, data: a, modes: [think]}]") }
    }

    @Test("training and evaluation that share ids or queries are counted")
    func overlap() {
        func row(_ id: String, _ text: String) -> Rows.Row {
            ["id": id, "messages": [["role": "user", "content": text]]]
        }
        let held = [row("e1", "What is 2+2? /think"), row("e2", "And 3+3?")]
        #expect(Joining.overlap(training: [row("t", "What is 5+5?")], evaluation: held).isEmpty)
        let overlap = Joining.overlap(
            training: [row("e1", "other"), row("t2", "what is  2+2? /no_think"), row("t3", "x")], evaluation: held)
        #expect(overlap.ids == 1 && overlap.queries == 1 && overlap.example == "e1")
    }
}

/// Questions made on the spot.
@Suite("Generated tasks")
struct GeneratedTaskTests {
    private func rows(
        _ name: String, _ options: [String] = [], count: Int = 40, seed: UInt64 = 1, evaluation: Bool = false
    ) throws -> [Rows.Row] {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tasks-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: file) }
        try TaskGenerators.write(
            name, TaskOptions(options), count: count, seed: seed, isForEvaluation: evaluation, to: file)
        return try Rows.read(file)
    }

    @Test(
        "the same seed gives the same rows; no question is on both sides",
        arguments: TaskGenerators.types.map { $0.name })
    func sides(name: String) throws {
        let training = try rows(name)
        #expect(training.map { Rows.query($0) } == (try rows(name)).map { Rows.query($0) })
        #expect(training.map { Rows.query($0) } != (try rows(name, seed: 2)).map { Rows.query($0) })
        let held = Set(try rows(name, evaluation: true).map { "\($0["messages"] ?? $0["prompt"] ?? "")" })
        #expect(held.isDisjoint(with: training.map { "\($0["messages"] ?? $0["prompt"] ?? "")" }))
    }

    @Test("logic grids have one solution, the reference, and no clue to spare")
    func zebra() throws {
        for row in try rows("zebra", ["houses=3", "attributes=2"], count: 12) {
            let text = Rows.query(row)
            let clues = text.split(separator: "\n").filter { $0.first?.isNumber == true }.map(String.init)
            #expect(!clues.isEmpty && clues.count < 12)
            let solutions = Self.solutions(clues)
            #expect(solutions.count == 1, "\(text)")
            let answer = try #require(
                try JSONSerialization.jsonObject(with: Data((row["answer"] as! String).utf8))
                    as? [String: [String: String]])
            #expect(solutions.first == (1...3).map { answer["House \($0)"]! })
            for spare in clues.indices {
                var fewer = clues
                fewer.remove(at: spare)
                #expect(Self.solutions(fewer).count > 1, "clue \(spare + 1) of \(text)")
            }
        }
    }

    /// Every assignment of three names and pets that the clues' own words allow.
    private static func solutions(_ clues: [String]) -> [[[String: String]]] {
        let (names, pets) = (["Eric", "Arnold", "Peter"], ["cat", "dog", "fish"])
        func orders(_ items: [String]) -> [[String]] {
            items.count < 2
                ? [items] : items.flatMap { item in orders(items.filter { $0 != item }).map { [item] + $0 } }
        }
        return orders(names).flatMap { names in orders(pets).map { (names, $0) } }.filter { names, pets in
            func place(_ text: Substring) -> Int {
                let word = text.split(separator: " ").last.map(String.init) ?? ""
                return names.firstIndex(of: word) ?? pets.firstIndex(of: word) ?? -1
            }
            return clues.allSatisfy { clue in
                let text = clue.drop { $0 != " " }.dropFirst().dropLast()
                func sides(_ separator: String) -> (Int, Int)? {
                    guard let range = text.range(of: separator) else { return nil }
                    return (place(text[..<range.lowerBound]), place(text[range.upperBound...]))
                }
                func house(_ separator: String) -> (Int, Int)? {
                    guard let range = text.range(of: separator) else { return nil }
                    return (place(text[..<range.lowerBound]), Int(text[range.upperBound...])! - 1)
                }
                if let (a, b) = house(" is in house ") { return a == b }
                if let (a, b) = house(" is not in house ") { return a != b }
                if let (a, b) = sides(" is directly left of ") { return a + 1 == b }
                if let (a, b) = sides(" is somewhere to the left of ") { return a < b }
                if let range = text.range(of: " are next to each other"),
                    let (a, b) = { () -> (Int, Int)? in
                        let both = text[..<range.lowerBound]
                        guard let and = both.range(of: " and ") else { return nil }
                        return (place(both[..<and.lowerBound]), place(both[and.upperBound...]))
                    }()
                {
                    return abs(a - b) == 1
                }
                if let (a, b) = sides(" is ") { return a == b }
                return false
            }
        }.map { names, pets in zip(names, pets).map { ["Name": $0, "Pet": $1] } }
    }

    @Test("needles are in the text, as often as the question needs")
    func recall() throws {
        for row in try rows("recall", ["length=200"], count: 30) {
            let text = Rows.query(row)
            let expected = try #require(row["expected"] as? [String])
            #expect(!expected.isEmpty)
            if row["kind"] as? String != "count" { #expect(expected.allSatisfy(text.contains)) }
            #expect(text.split(whereSeparator: \.isWhitespace).count >= 200)
        }
        for row in try rows("recall", ["style=tiny", "length=100"]) {
            let (text, answer) = (Rows.query(row), row["answer"] as! String)
            #expect(text.hasSuffix("?\(answer.first!) /no_think") && text.contains(answer))
        }
    }

    @Test("options that a kind does not have are refused")
    func options() {
        #expect(throws: CurationError.self) { try rows("zebra", ["rooms=3"]) }
        #expect(throws: CurationError.self) { try rows("zebra", ["houses=9"]) }
        #expect(throws: CurationError.self) { try rows("zebra", ["houses"]) }
        #expect(throws: CurationError.self) { try rows("sudoku") }
    }
}
