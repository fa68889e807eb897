// SPDX-License-Identifier: Apache-2.0
//
// `kind: suite`: evaluations as rows. A suite is no machinery of its own: it becomes stages of a pipeline, per row one that
// prepares the questions, and per mode one that generates and one that counts.
package import Foundation
package import JobSpecification

/// What a suite's rows become.
package struct EvaluationSuite: Equatable, Sendable {
    package let stages: [Pipeline.Stage]
    package let report: [ReportSection]

    /// Values of `modes`.
    package enum Mode: String, CaseIterable, Sendable {
        case thinking
        case nonThinking = "non_thinking"
    }

    /// One row with what it takes from the suite.
    private struct Source {
        let suite: YAMLFields
        let defaults: YAMLFields?
        let row: YAMLFields

        /// The row's own value, or the default.
        func value(_ key: String) -> YAMLReader? { row[key] ?? (key == "name" || key == "data" ? nil : defaults?[key]) }

        /// For one mode: the row's value for it, the row's, the suite's for it, the default.
        func value(_ key: String, _ mode: Mode) throws(JobError) -> YAMLReader? {
            if let own = try row[mode.rawValue]?.fields(JobSchema.mode)[key] { return own }
            if let own = row[key] { return own }
            if let own = try suite[mode.rawValue]?.fields(JobSchema.mode)[key] { return own }
            return defaults?[key]
        }

        /// Mappings joined, the nearest last.
        func sampling(_ mode: Mode) throws(JobError) -> YAMLNode {
            var entries: [YAMLNode.Entry] = [
                EvaluationSuite.entry("preset", mode == .thinking ? "thinking" : "non_thinking")
            ]
            let readers = [
                defaults?["sampling"], try suite[mode.rawValue]?.fields(JobSchema.mode)["sampling"],
                row["sampling"], try row[mode.rawValue]?.fields(JobSchema.mode)["sampling"],
            ]
            for reader in readers {
                guard let reader else { continue }
                guard case .mapping(let more) = reader.node.content else {
                    throw reader.error(.wrongType, "expected sampling values, got \(reader.node.kind)")
                }
                for entry in more {
                    entries.removeAll { $0.key == entry.key }
                    entries.append(entry)
                }
            }
            return YAMLNode(.mapping(entries), .override("suite"))
        }
    }

    /// - Parameters:
    ///   - prefix: what the names of its stages begin with.
    ///   - directory: of the suite's file; its paths count from there.
    ///   - inputs: stages that the suite's settings name.
    ///   - fill: puts values in the place of `{names}`.
    init(
        _ reader: YAMLReader, prefix: String, directory: URL, inputs: [String]
    ) throws(JobError) {
        let suite = try reader.fields(JobSchema.keys(of: .suite))
        let defaults = try suite["defaults"]?.fields(JobSchema.rowDefaults)
        let modes = try Self.modes(suite["modes"]) ?? Mode.allCases
        let model = try suite.required("model")
        var stages: [Pipeline.Stage] = []
        var lines: [(title: String, stage: String, modes: [Mode])] = []
        var sections: [ReportSection] = []
        for item in try suite.required("rows").items() {
            let row = try item.fields(JobSchema.row)
            let source = Source(suite: suite, defaults: defaults, row: row)
            let name = try row.required("name").jobName()
            let stage = prefix + name
            guard !stages.contains(where: { $0.name == stage }) else {
                throw item.error(.invalidValue, "there are two rows called \(name)")
            }
            stages.append(try Self.preparation(source, stage, directory, inputs))
            let rowModes = try Self.modes(source.value("modes")) ?? modes
            if try source.value("rank_choices")?.boolean() == true {
                stages += try Self.ranking(source, stage, model, suite)
                lines.append((name, stage, [.nonThinking]))
                continue
            }
            for mode in rowModes { stages += try Self.generation(source, stage, mode, nil, model, suite, inputs) }
            let budgets = try Self.budgets(source.value("budgets"))
            for budget in budgets {
                stages += try Self.generation(source, stage, .thinking, budget, model, suite, inputs)
            }
            if !budgets.isEmpty {
                sections.append(
                    .curve(
                        title: "\(name): thinking budget", axis: "tokens of thinking", figure: "score",
                        points: budgets.map {
                            ReportSection.Point(x: Double($0), stage: Self.score(stage, .thinking, $0))
                        }))
            }
            lines.append((name, stage, rowModes))
            if let by = try source.value("by")?.string() {
                sections.append(
                    .groups(
                        title: "\(name) by \(by)", prefix: "\(by)/",
                        stages: rowModes.map {
                            ReportSection.NamedStage(title: $0.rawValue, stage: Self.score(stage, $0, nil))
                        }))
            }
        }
        guard !stages.isEmpty else { throw suite.error("rows", "is empty") }
        self.stages = stages
        report = [Self.grid(try suite["name"]?.string() ?? prefix, lines)] + sections
    }

    // MARK: - Stages

    private static func preparation(
        _ source: Source, _ stage: String, _ directory: URL, _ inputs: [String]
    ) throws(JobError) -> Pipeline.Stage {
        let data = try source.row.required("data").fields(JobSchema.rowData, short: "path")
        let path = try data.required("path")
        var options: [String] = []
        for key in ["split", "name"] { if let text = try data[key]?.string() { options += ["--\(key)", text] } }
        for column in try data["columns"]?.scalarTexts(64) ?? [] {
            options += ["--column", "\(column.name)=\(column.text)"]
        }
        let file = URL(fileURLWithPath: try path.filePath(), relativeTo: directory).standardizedFileURL.path
        var command = ["eval", "prepare", file, "rows.jsonl"] + options
        for key in ["format", "prompt", "share", "limit", "seed", "by"] {
            if let text = try source.value(key)?.text() { command += ["--\(key)", text] }
        }
        if try source.value("rank_choices")?.boolean() == true { command.append("--rank-choices") }
        return Pipeline.Stage(name: stage, work: .command(command), inputs: inputs, gates: [], figures: [])
    }

    private static func generation(
        _ source: Source, _ stage: String, _ mode: Mode, _ budget: Int?, _ model: YAMLReader, _ suite: YAMLFields,
        _ inputs: [String]
    ) throws(JobError) -> [Pipeline.Stage] {
        let name = run(stage, mode, budget)
        var thinking = [entry("mode", mode == .thinking ? "on" : "off")]
        if let budget {
            thinking.append(entry("budget", "\(budget)"))
            if let text = source.value("stop_text") {
                thinking.append(YAMLNode.Entry(key: "stop_text", keyOrigin: origin, value: text.node))
            }
        }
        let format = try source.value("format")?.choice(PublicFormat.self) ?? .plain
        var settings: [(String, YAMLNode)] = [
            ("model", (source.value("model") ?? model).node), ("data.path", scalar("{\(stage)}/rows.jsonl")),
            ("group_size", try source.value("samples", mode)?.node ?? scalar("1")),
            ("sampling", try source.sampling(mode)), ("thinking", YAMLNode(.mapping(thinking), origin)),
            ("reward", source.value("reward")?.node ?? scalar(format.reward)),
        ]
        if let environment = source.value("environment") { settings.append(("environment", environment.node)) }
        for key in ["seed", "resources"] { if let value = suite[key] { settings.append((key, value.node)) } }
        return [
            try job("rollout", name, stage, settings, inputs),
            try count(source, stage: score(stage, mode, budget), run: name, rows: stage, isRanked: false),
        ]
    }

    private static func ranking(
        _ source: Source, _ stage: String, _ model: YAMLReader, _ suite: YAMLFields
    ) throws(JobError) -> [Pipeline.Stage] {
        let name = run(stage, .nonThinking, nil)
        var settings: [(String, YAMLNode)] = [
            ("model", (source.value("model") ?? model).node), ("data.path", scalar("{\(stage)}/rows.jsonl")),
        ]
        if let value = suite["resources"] { settings.append(("resources", value.node)) }
        return [
            try job("score", name, stage, settings, []),
            try count(source, stage: score(stage, .nonThinking, nil), run: name, rows: stage, isRanked: true),
        ]
    }

    private static func job(
        _ kind: String, _ name: String, _ rows: String, _ settings: [(String, YAMLNode)], _ inputs: [String]
    ) throws(JobError) -> Pipeline.Stage {
        var overrides = [try JobOverride(key: "kind", value: scalar(kind), source: name)]
        for (key, value) in settings {
            overrides.append(try JobOverride(key: key, value: value, source: "\(name), \(key)"))
        }
        return Pipeline.Stage(
            name: name, work: .job(file: nil, settings: overrides), inputs: (inputs + [rows]).sorted(), gates: [],
            figures: [])
    }

    private static func count(
        _ source: Source, stage: String, run: String, rows: String, isRanked: Bool
    ) throws(JobError) -> Pipeline.Stage {
        var command = ["eval", "count", "{\(run)}", "{\(rows)}/rows.jsonl"]
        if isRanked { command.append("--ranked") }
        if let by = try source.value("by")?.string() { command += ["--by", by] }
        if let bound = try source.value("at_least")?.text() { command += ["--at-least", bound] }
        if let families = source.value("families") {
            guard case .mapping(let entries) = families.node.content else {
                throw families.error(.wrongType, "expected families with lists of groups, got \(families.node.kind)")
            }
            for entry in entries {
                var members: [String] = []
                for item in try YAMLReader(entry.value, path: "\(families.path).\(entry.key)").items(256) {
                    members.append(try item.text())
                }
                command += ["--family", "\(entry.key)=\(members.joined(separator: ","))"]
            }
        }
        return Pipeline.Stage(
            name: stage, work: .command(command), inputs: [run, rows].sorted(), gates: [],
            figures: ["score", "ci95", "failed"])
    }

    // MARK: - Names and nodes

    private static func run(_ stage: String, _ mode: Mode, _ budget: Int?) -> String {
        "\(stage).\(mode.rawValue)\(budget.map { "-\($0)" } ?? "")"
    }

    private static func score(_ stage: String, _ mode: Mode, _ budget: Int?) -> String {
        run(stage, mode, budget) + ".score"
    }

    private static let origin = YAMLNode.Origin.override("suite")
    private static func scalar(_ text: String) -> YAMLNode { YAMLNode(.scalar(text, isPlain: false), origin) }
    fileprivate static func entry(_ key: String, _ text: String) -> YAMLNode.Entry {
        YAMLNode.Entry(key: key, keyOrigin: origin, value: scalar(text))
    }

    private static func modes(_ reader: YAMLReader?) throws(JobError) -> [Mode]? {
        guard let reader else { return nil }
        var modes: [Mode] = []
        for item in try reader.items(2) { modes.append(try item.choice(Mode.self)) }
        guard !modes.isEmpty else { throw reader.error(.invalidValue, "is empty") }
        return modes
    }

    private static func budgets(_ reader: YAMLReader?) throws(JobError) -> [Int] {
        guard let reader else { return [] }
        var budgets: [Int] = []
        for item in try reader.items(64) { budgets.append(try item.integer(1...1_048_576)) }
        return budgets
    }

    // MARK: - Report

    private static func grid(_ title: String, _ lines: [(title: String, stage: String, modes: [Mode])]) -> ReportSection
    {
        .table(
            title: "\(title): scores with 95 % intervals, in both modes",
            columns: Mode.allCases.flatMap { mode in
                [("", "score"), (" ±", "ci95"), (" tokens", "tokens")].map { title, figure in
                    ReportSection.Column(
                        title: mode.rawValue + title, suffix: ".\(mode.rawValue).score", figure: figure)
                }
            }, beside: [], rows: lines.map { ReportSection.Row(title: $0.title, stage: $0.stage, beside: []) })
    }
}
