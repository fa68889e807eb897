// SPDX-License-Identifier: Apache-2.0
import Foundation
import FoundationXML
import JobSpecification
import Recipes
import TestSupport
import Testing

@Suite("Reports of pipelines") struct ReportTests {
    private func pipeline(_ directory: URL, _ report: String) throws -> Pipeline {
        let url = directory.appendingPathComponent("pipeline.yaml")
        try """
        kind: pipeline
        name: small
        output: out
        stages:
          - {name: start, run: [a]}
          - {name: start-test, run: [b]}
          - {name: end, run: [c, "{start}"]}
          - {name: end-test, run: [d]}
        report:
        \(report)
        """.write(to: url, atomically: true, encoding: .utf8)
        return try Pipeline.read(url)
    }

    @Test("a lineage damaged anywhere is told without its damaged part, or as it reads; never a crash")
    func damagedLineage() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-test-\(UUID().uuidString)")
        let run = directory.appendingPathComponent("run")
        try FileManager.default.createDirectory(at: run, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = run.appendingPathComponent("lineage.json")
        let whole = Array(#"{"data":"0123456789abcdef","job":"fedcba9876543210","step":3}"#.utf8)
        try Data(whole).write(to: file)
        let line = try #require(try Lineage.of(run).first)
        #expect(line.text == "run: job fedcba987654, data 0123456789ab, step 3")
        var unknown = 0
        func read(_ bytes: [UInt8]) throws {
            try Data(bytes).write(to: file)
            do {
                for line in try Lineage.of(run) { #expect(line.text.hasPrefix("run: ")) }
            } catch is CurationError { unknown += 1 }
        }
        for bytes in Damage.truncations(whole) { try read(bytes) }
        #expect(unknown == whole.count)
        for bytes in Damage.flips(whole, masks: Damage.bits) { try read(bytes) }
        #expect(unknown > whole.count * 2)
    }

    @Test("tables and curves hold the stages' figures; the page escapes what is in them")
    func report() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let pipeline = try pipeline(
            directory,
            """
              - table: Two <stages>
                columns: [[pass@1, -test, pass@1], [seconds, "", seconds]]
                beside: [theirs]
                rows: [[first, start, "1.5"], [second, end, "2.5"]]
              - {curve: Rise, axis: budget, figure: pass@1, points: [[1, start-test], [8, end-test]]}
              - {training: Steps, stages: [end], figures: [loss]}
              - claims: Said
                rows:
                  - [it rises, "1 to 2", "end-test:pass@1", ">", "start-test:pass@1"]
                  - [it costs a tenth, "1/10", "end:cpu_seconds", "<=", "0.1*start:cpu_seconds"]
                  - [it is good, "", "end-test:pass@1", ">=", "0.9"]
            """)
        for (name, value) in [("start", 0.0), ("start-test", 0.25), ("end", 0.0), ("end-test", 0.75)] {
            try StageRecord(recipe: "abc", inputs: [:], figures: ["pass@1": value], seconds: 12.5, processorSeconds: 20)
                .write(
                    name, in: pipeline.output)
        }
        let end = pipeline.directory(of: "end")
        try FileManager.default.createDirectory(at: end, withIntermediateDirectories: true)
        try "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 1}\n".write(
            to: end.appendingPathComponent("metrics.jsonl"), atomically: true, encoding: .utf8)
        try PipelineReport(pipeline).write()
        func text(_ name: String) throws -> String {
            try String(contentsOf: pipeline.output.appendingPathComponent(name), encoding: .utf8)
        }
        let markdown = try text("report.md")
        #expect(
            markdown.contains("| first | 0.250 | 12.5 | 1.5 |") && markdown.contains("| second | 0.750 | 12.5 | 2.5 |"))
        #expect(markdown.contains("| end | start | abc | 12.5 | 20.0 |"))
        #expect(try text("report.html").contains("<h2>Two &lt;stages&gt;</h2>"))
        #expect(try text("report/curve-1.csv") == "line,budget,value\npass@1,1.0,0.25\npass@1,8.0,0.75\n")
        #expect(try text("report/curve-2.csv").contains("end,2.0,1.0"))
        let tables = try ReportTable.read(pipeline.output)
        #expect(tables.map(\.title) == ["Two <stages>", "Rise", "Said", "Stages"])
        #expect(
            tables[2].rows == [
                ["it rises", "1 to 2", "0.750", ">", "0.250", "yes"],
                ["it costs a tenth", "1/10", "20.0", "<=", "2.000", "no"],
                ["it is good", "", "0.750", ">=", "0.900", "no"],
            ])
        #expect(ReportTable.compare([tables]) == tables)
        let other = tables.map { table in
            ReportTable(
                title: table.title, head: table.head, rows: table.rows.map { $0.map { $0 == "0.250" ? "0.350" : $0 } })
        }
        let both = ReportTable.compare([tables, other])
        #expect(both[0].rows[0] == ["first", "0.300 [0.250, 0.350]", "12.5", "1.5"])
        #expect(throws: CurationError.self) { try ReportTable.read(directory) }
        let page = try XMLDocument(xmlString: text("report/curve-1.svg"))
        #expect(page.rootElement()?.name == "svg")
    }

    @Test("a report that names no stage of the pipeline is refused before anything runs")
    func mistakes() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        func message(_ report: String) -> String {
            do {
                _ = try pipeline(directory, report)
                return "accepted"
            } catch { return String(describing: error) }
        }
        #expect(message("  - {curve: Rise, figure: x, points: [[1, strat]]}").contains("did you mean start?"))
        #expect(
            message("  - {table: T, columns: [[a, -tset, x]], rows: [[a, start]]}").contains("start-tset is no stage"))
        #expect(message("  - {table: T, columns: [[a, -test]], rows: []}").contains("a column is"))
        #expect(message("  - {claims: T, rows: [[a, b, end:x, '=', 1]]}").contains("a claim is"))
        #expect(message("  - {claims: T, rows: [[a, b, ned:x, '>', 1]]}").contains("ned is no stage"))
        #expect(message("  - {training: T, stages: [end]}").contains("figures: is required"))
    }

    /// A pipeline of two trainings with an evaluation after each, as its runs leave it.
    private func trained(_ directory: URL, _ completion: (_ stage: String, _ question: Int) -> (String, Double)) throws
        -> Pipeline
    {
        let url = directory.appendingPathComponent("pipeline.yaml")
        try """
        kind: pipeline
        name: "learned"
        output: out
        stages:
          - {name: first, run: [a]}
          - {name: first-test, run: [b, "{first}"], show: [pass@1]}
          - {name: second, run: [c, "{first}"]}
          - {name: second-test, run: [d, "{second}"], show: [pass@1]}
          - {name: second-short, run: [e, "{second}"]}
        """.write(to: url, atomically: true, encoding: .utf8)
        let pipeline = try Pipeline.read(url)
        func run(_ stage: String, _ job: String, _ file: String, _ lines: [String]) throws {
            let run = pipeline.directory(of: stage)
            let target = run.appendingPathComponent(file)
            try FileManager.default.createDirectory(
                at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data("{\(job), name: \(stage), output: \(run.path)}".utf8).write(
                to: run.appendingPathComponent("job.yaml"))
            try Data(lines.map { $0 + "\n" }.joined().utf8).write(to: target)
            try StageRecord(recipe: "abc", inputs: [:], figures: ["pass@1": 0.5], seconds: 1).write(
                stage, in: pipeline.output)
        }
        for (stage, start) in [("first", "/elsewhere"), ("second", pipeline.directory(of: "first").path + "/model")] {
            try run(
                stage, "kind: train, method: grpo, steps: 4, model: {path: \(start)}, data: {path: d}, reward: [exact]",
                "metrics.jsonl",
                (1...4).map { "{\"step\": \($0), \"reward\": \(Double($0) / 4), \"learning_rate\": 0.5}" })
        }
        for (stage, model, limit) in [
            ("first-test", "first", 64), ("second-test", "second", 64), ("second-short", "second", 8),
        ] {
            let lines = try (0..<8).map { question -> String in
                let (text, reward) = completion(stage, question)
                let row: Rows.Row = [
                    "group": question, "sibling": 0, "id": "q\(question)", "prompt": "What is <b>\(question)</b>?",
                    "answer": "\(question)", "completion": text, "outcome": "ok", "reward": reward,
                ]
                _ = try JSONSerialization.jsonObject(with: Data(row.text.utf8))
                return row.text
            }
            try run(
                stage,
                "kind: rollout, model: {path: \(pipeline.directory(of: model).path)/model}, data: {path: q}, reward: [exact], "
                    + "group_size: 1, sampling: {max_new_tokens: \(limit)}", "rollouts/text.jsonl", lines)
        }
        return pipeline
    }

    @Test("every pipeline's page: scores before and after, curves, answers to the same questions, the terminal's table")
    func page() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let pipeline = try trained(directory) { stage, question in
            let isRight = stage == "first-test" ? question < 2 : question != 1
            return ("\(stage) says \(question)", isRight ? 1 : 0)
        }
        try PipelineReport(pipeline).write()
        let tables = try ReportTable.read(pipeline.output)
        #expect(
            tables.map(\.title) == ["Scores before and after, with 95 % intervals", "Figures of the stages", "Stages"])
        #expect(
            tables[0].rows.map { Array($0.prefix(5)) } == [
                ["first-test (after first)", "-", "-", "0.250", "0.321"],
                ["first-test → second-test (grpo in second)", "0.250", "0.321", "0.875", "0.245"],
                ["second-short (after second)", "-", "-", "0.875", "0.245"],
            ], "settings that differ are not compared")
        #expect(tables[0].rows[1][5] == "pass@1 of 8 questions, 1 responses each")
        #expect(tables[1].rows[1] == ["first-test", "1.0", "0.500"])
        let html = try String(contentsOf: pipeline.output.appendingPathComponent("report.html"), encoding: .utf8)
        #expect(html.contains("Learning curves of second (grpo)") && html.contains("second: reward</text>"))
        #expect(!html.contains("learning_rate</text>"), "what does not change is no curve")
        // Made right, made wrong, still right, in the order of the data; none stayed wrong.
        for (question, before, after) in [(0, "1", "1"), (1, "1", "0"), (2, "0", "1"), (3, "0", "1"), (4, "0", "1")] {
            #expect(
                html.contains("What is &lt;b&gt;\(question)&lt;/b&gt;? <span class=\"quiet\">\(before) → \(after)"),
                "\(question)")
        }
        #expect(html.contains("first-test says 1</pre>") && html.contains("second-test says 1</pre>"))
        #expect(!html.contains("What is <b>"))
        #expect(html.components(separatedBy: "<svg").count == 3)
        for svg in ["curve-1", "curve-2"] {
            let url = pipeline.output.appendingPathComponent("report/\(svg).svg")
            #expect(try XMLDocument(xmlString: String(contentsOf: url, encoding: .utf8)).rootElement()?.name == "svg")
        }
    }

    @Test("a page shows hostile answers as text: no element, no attribute, no control character comes of them")
    func hostilePage() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let hostile = [
            "</pre><script>alert(1)</script>", "\" onload=\"x()", "<img src=x onerror=x()>", "&lt;script&gt;",
            "]]><!--",
            "\u{0}\u{1B}[31m\u{202E}x", "<style>body{display:none}</style>", "</details></body>",
        ]
        let pipeline = try trained(directory) { stage, question in (hostile[question], stage == "first-test" ? 0 : 1) }
        try PipelineReport(pipeline).write()
        let html = try String(contentsOf: pipeline.output.appendingPathComponent("report.html"), encoding: .utf8)
        for tag in ["<script", "<img", "onload=\"x", "<!--x", "]]><!--", "\u{1B}", "\u{0}", "<style>body{"] {
            #expect(!html.contains(tag), "\(tag)")
        }
        #expect(html.contains("&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;"))
        #expect(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""))
        for tag in ["details", "pre", "table", "svg", "div"] {
            #expect(
                html.components(separatedBy: "<\(tag)").count == html.components(separatedBy: "</\(tag)>").count,
                "\(tag)")
        }
        #expect(html.components(separatedBy: "</body>").count == 2)
    }
}
