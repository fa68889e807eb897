// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import JobSpecification

/// `kind: pipeline`: stages in order, each a job of the cluster or a command of this program, with gates between them.
///
/// A stage's directory is called after it and lies in the pipeline's output; `{stage}` in a setting or an argument stands
/// for it, and makes that stage an input. `{pipeline}` stands for the directory of the pipeline's file, and the pipeline's
/// variables for their values. A stage `suite:` is the stages of an evaluation suite, called after it and the suite's rows; a
/// suite's file is also a pipeline of its own.
package struct Pipeline: Equatable, Sendable {
    /// What a stage does.
    package enum Work: Equatable, Sendable {
        /// A job file with settings that replace its own; without a file the settings are all there is.
        case job(file: String?, settings: [JobOverride])
        /// A command of this program, run in the stage's directory.
        case command([String])
    }

    /// Bounds of a figure of the last line of a stage's `metrics.jsonl`.
    package struct Gate: Equatable, Sendable {
        package let figure: String
        package let minimum: Double?
        package let maximum: Double?
    }

    package struct Stage: Equatable, Sendable {
        package let name: String
        package let work: Work
        /// Earlier stages that it reads.
        package let inputs: [String]
        package let gates: [Gate]
        /// Figures that the table of stages shows.
        package let figures: [String]
    }

    package let name: String
    package let output: URL
    package let stages: [Stage]
    package let report: [ReportSection]

    /// Whether a file says that it is a pipeline; anything else about it may be wrong.
    package static func isPipeline(_ url: URL) -> Bool {
        guard let text = try? Job.text(of: url), let node = try? YAMLNode.parse(text),
            case .mapping(let entries) = node.content
        else { return false }
        return entries.contains { entry in
            ["pipeline", "suite"].contains {
                entry.key == "kind" && entry.value.content == .scalar($0, isPlain: true)
            }
        }
    }

    /// - Parameters:
    ///   - output: instead of the file's.
    ///   - variables: values instead of the file's; paths count from the pipeline's file.
    /// - Throws: ``JobError`` with the file, the line and the key path.
    package static func read(
        _ url: URL, output: String? = nil, variables: [String: String] = [:]
    ) throws(JobError) -> Pipeline {
        do throws(JobError) {
            return try Pipeline(
                YAMLReader(YAMLNode.parse(Job.text(of: url))), file: url, output: output, variables: variables)
        } catch { throw error.inFile(url.path) }
    }

    private init(
        _ reader: YAMLReader, file: URL, output override: String?, variables overrides: [String: String]
    ) throws(JobError) {
        let isSuite = Self.isSuite(reader)
        let reader = reader.of(isSuite ? .suite : .pipeline)
        let fields = try reader.fields(JobSchema.keys(of: isSuite ? .suite : .pipeline))
        var variables: [String: String] = [:]
        for (name, text) in try fields["variables"]?.scalarTexts(64) ?? [] { variables[name] = text }
        for (name, text) in overrides {
            guard variables[name] != nil else {
                throw JobError(
                    .malformedOverride,
                    "variables.\(name): the pipeline has no such variable; it has: "
                        + (variables.isEmpty ? "none" : variables.keys.sorted().joined(separator: ", ")))
            }
            variables[name] = text
        }
        name = try fields.required("name").jobName()
        let directory = file.standardizedFileURL.deletingLastPathComponent()
        let written = try fields.required("output").filePath()
        let output =
            override.map { URL(fileURLWithPath: $0, isDirectory: true).standardizedFileURL }
            ?? URL(fileURLWithPath: written, isDirectory: true, relativeTo: directory).standardizedFileURL
        self.output = output
        var stages: [Stage] = []
        var suiteReports: [ReportSection] = []
        if isSuite {
            var places = Places(earlier: [], variables: variables, directory: directory, output: output)
            let suite = try EvaluationSuite(
                YAMLReader(try places.fill(reader), path: reader.path).of(.suite), prefix: "", directory: directory,
                inputs: [])
            stages = try Self.filled(suite.stages, output)
            self.stages = stages
            report = suite.report
            return
        }
        for item in try fields.required("stages").items() {
            let places = Places(earlier: stages.map(\.name), variables: variables, directory: directory, output: output)
            var added: [Stage]
            if case .mapping(let entries) = item.node.content, entries.contains(where: { $0.key == "suite" }) {
                let suite = try Self.suite(item, places)
                added = try Self.filled(suite.stages, output)
                suiteReports += suite.report
            } else {
                added = [try Self.stage(item, places)]
            }
            for stage in added {
                if variables[stage.name] != nil {
                    throw item.error(.invalidValue, "\(stage.name) is a variable and cannot be a stage too")
                }
                if stages.contains(where: { $0.name == stage.name }) {
                    throw item.error(.invalidValue, "there are two stages called \(stage.name)")
                }
                stages.append(stage)
            }
        }
        guard !stages.isEmpty else { throw fields.error("stages", "is empty") }
        self.stages = stages
        let own =
            try fields["report"].map { reader throws(JobError) in
                try ReportSection.list(reader, stages: stages.map(\.name))
            } ?? []
        report = own + suiteReports
    }

    private static func isSuite(_ reader: YAMLReader) -> Bool {
        guard case .mapping(let entries) = reader.node.content else { return false }
        return entries.contains { $0.key == "kind" && $0.value.content == .scalar("suite", isPlain: true) }
    }

    /// The stages of `suite: FILE`, its settings replaced by those of `set:`.
    private static func suite(_ reader: YAMLReader, _ places: Places) throws(JobError) -> EvaluationSuite {
        var places = places
        let fields = try reader.fields(JobSchema.suiteStage)
        let name = try fields.required("name").jobName()
        let path = fields["suite"]!
        let file = URL(fileURLWithPath: try places.fill(path.filePath(), path), relativeTo: places.directory)
            .standardizedFileURL
        var node: YAMLNode
        do throws(JobError) { node = try YAMLNode.parse(Job.text(of: file)) } catch { throw error.inFile(file.path) }
        if let set = fields["set"] {
            guard case .mapping(let entries) = set.node.content else {
                throw set.error(.wrongType, "expected settings such as model.path: …, got \(set.node.kind)")
            }
            for entry in entries {
                let value = YAMLReader(entry.value, path: "\(set.path).\(entry.key)")
                node = try node.applying(
                    try JobOverride(
                        key: entry.key, value: try places.fill(value), source: "stage \(name), \(entry.key)"))
            }
        }
        do throws(JobError) {
            // The suite's own `{names}` count from its file.
            var own = Places(
                earlier: places.earlier, variables: places.variables, directory: file.deletingLastPathComponent(),
                output: places.output)
            let filled = try own.fill(YAMLReader(node))
            return try EvaluationSuite(
                YAMLReader(filled).of(.suite), prefix: "\(name).", directory: file.deletingLastPathComponent(),
                inputs: places.used.union(own.used).sorted())
        } catch { throw error.inFile(file.path) }
    }

    /// A suite's stages name each other as `{stage}` too.
    private static func filled(_ stages: [Stage], _ output: URL) throws(JobError) -> [Stage] {
        let names = stages.map(\.name)
        func filled(_ text: String) -> String {
            names.reduce(text) {
                $0.replacing("{\($1)}", with: output.appendingPathComponent($1).path)
            }
        }
        var result: [Stage] = []
        for stage in stages {
            let work: Work
            switch stage.work {
            case .command(let arguments): work = .command(arguments.map(filled))
            case .job(let file, let settings):
                work = .job(
                    file: file,
                    settings: settings.map { setting in
                        guard case .scalar(let text, let isPlain) = setting.value.content else { return setting }
                        return setting.replacingValue(
                            YAMLNode(.scalar(filled(text), isPlain: isPlain), setting.value.origin))
                    })
            }
            result.append(
                Stage(name: stage.name, work: work, inputs: stage.inputs, gates: stage.gates, figures: stage.figures))
        }
        return result
    }

    private static func stage(_ reader: YAMLReader, _ places: Places) throws(JobError) -> Stage {
        let fields = try reader.fields(JobSchema.stage)
        let name = try fields.required("name").jobName()
        var places = places
        let work: Work
        switch (fields["job"], fields["run"]) {
        case (let job?, nil):
            let file = try places.fill(job.filePath(), job)
            var settings: [JobOverride] = []
            if let set = fields["set"] {
                guard case .mapping(let entries) = set.node.content else {
                    throw set.error(.wrongType, "expected settings such as model.path: …, got \(set.node.kind)")
                }
                for entry in entries {
                    let value = YAMLReader(entry.value, path: "\(set.path).\(entry.key)")
                    settings.append(
                        try JobOverride(
                            key: entry.key, value: Places.isTemplate(entry.key) ? entry.value : try places.fill(value),
                            source: "stage \(name), \(entry.key)"))
                }
            }
            work = .job(
                file: URL(fileURLWithPath: file, relativeTo: places.directory).standardizedFileURL.path,
                settings: settings)
        case (nil, let run?):
            if let set = fields["set"] { throw set.error(.invalidValue, "is for jobs; write the command's options") }
            var arguments: [String] = []
            for item in try run.items() { arguments.append(try places.fill(item.text(), item)) }
            guard !arguments.isEmpty else { throw run.error(.invalidValue, "is empty") }
            work = .command(arguments)
        default: throw reader.error(.invalidValue, "stage \(name): give either job or run")
        }
        return Stage(
            name: name, work: work, inputs: places.used.sorted(), gates: try gates(fields["gate"]),
            figures: try figures(fields["show"]))
    }

    private static func gates(_ reader: YAMLReader?) throws(JobError) -> [Gate] {
        guard let reader else { return [] }
        guard case .mapping(let entries) = reader.node.content else {
            throw reader.error(.wrongType, "expected figures with bounds, such as pass@1: {min: 0.3}")
        }
        var gates: [Gate] = []
        for entry in entries {
            let bounds = try YAMLReader(entry.value, path: "\(reader.path).\(entry.key)").fields(JobSchema.gate)
            let gate = Gate(
                figure: entry.key, minimum: try bounds["min"]?.number(), maximum: try bounds["max"]?.number())
            if gate.minimum == nil, gate.maximum == nil {
                throw bounds.reader.error(.invalidValue, "give min, max or both")
            }
            gates.append(gate)
        }
        return gates
    }

    private static func figures(_ reader: YAMLReader?) throws(JobError) -> [String] {
        guard let reader else { return [] }
        var names: [String] = []
        for item in try reader.items() { names.append(try item.string()) }
        return names
    }

    /// Puts directories in the place of `{names}`.
    private struct Places {
        let earlier: [String]
        let variables: [String: String]
        let directory: URL
        let output: URL
        var used: Set<String> = []

        init(earlier: [String], variables: [String: String], directory: URL, output: URL) {
            self.earlier = earlier
            self.variables = variables
            self.directory = directory
            self.output = output
        }

        mutating func fill(_ reader: YAMLReader) throws(JobError) -> YAMLNode {
            var node = reader.node
            switch node.content {
            case .scalar(let text, let isPlain): node.content = .scalar(try fill(text, reader), isPlain: isPlain)
            case .sequence(let items):
                var filled: [YAMLNode] = []
                for item in items { filled.append(try fill(YAMLReader(item, path: reader.path))) }
                node.content = .sequence(filled)
            case .mapping(var entries):
                for index in entries.indices where !Self.isTemplate(entries[index].key) {
                    entries[index].value = try fill(YAMLReader(entries[index].value, path: reader.path))
                }
                node.content = .mapping(entries)
            }
            return node
        }

        /// A prompt's template has braces of its own, for the columns of a row.
        static func isTemplate(_ key: String) -> Bool {
            key.split(separator: ".").last == "prompt_template"
        }

        mutating func fill(_ text: String, _ reader: YAMLReader) throws(JobError) -> String {
            var result = ""
            var rest = Substring(text)
            while let open = rest.firstIndex(of: "{") {
                guard let close = rest[open...].firstIndex(of: "}") else { break }
                let name = String(rest[rest.index(after: open)..<close])
                result += rest[..<open]
                if name == "question" {
                    // An evaluation's prompt keeps the place of its question.
                    result += "{question}"
                } else if name == "pipeline" {
                    result += directory.path
                } else if let value = variables[name] {
                    result += value
                } else if earlier.contains(name) {
                    used.insert(name)
                    result += output.appendingPathComponent(name).path
                } else {
                    let near = EditDistance.nearest(to: name, among: earlier + variables.keys + ["pipeline"])
                    throw reader.error(
                        .invalidValue,
                        "{\(name)} is no earlier stage or variable" + (near.map { "; did you mean {\($0)}?" } ?? ""))
                }
                rest = rest[rest.index(after: close)...]
            }
            return result + rest
        }
    }

    package func directory(of stage: String) -> URL { output.appendingPathComponent(stage, isDirectory: true) }
}

extension Pipeline.Gate {
    /// What is wrong with `value`; nil when it passes.
    package func problem(_ value: Double?) -> String? {
        let bounds = [minimum.map { "at least \($0)" }, maximum.map { "at most \($0)" }].compactMap { $0 }
            .joined(separator: " and ")
        guard let value else { return "\(figure) is in no line of metrics.jsonl; the gate wants \(bounds)" }
        guard (minimum.map { value >= $0 } ?? true) && (maximum.map { value <= $0 } ?? true) else {
            return "\(figure) is \(value); the gate wants \(bounds)"
        }
        return nil
    }
}
