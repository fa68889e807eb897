// SPDX-License-Identifier: Apache-2.0
//
// Takes a pipeline's stages in order. What is finished stays finished: a stage counts as done once its record says so, and
// the record names the recipe that it is made from. Killed at any point, the same command goes on.
internal import Checkpoints
package import Foundation
package import JobSpecification

/// Why a pipeline stopped.
package struct PipelineError: Error, CustomStringConvertible, Sendable {
    package enum Code: Sendable { case badInput, gate, stage }

    package let code: Code
    package let description: String

    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// How stages are carried out: a cluster and child processes, or a test's stand-in.
package protocol StageExecutor {
    /// Runs a job to its end, or goes on with an unfinished one of the same name.
    func run(_ job: JobReading, file: URL) throws
    /// Runs a command of this program in `directory`.
    func run(command: [String], in directory: URL) throws
    /// Processor seconds of everything that it has set to work so far; nil where it does not know.
    var processorSeconds: Double? { get }
}

package struct PipelineRunner<Executor: StageExecutor> {
    package let pipeline: Pipeline
    private let executor: Executor
    private let readJob: (_ file: URL?, _ overrides: [JobOverride]) throws -> JobReading
    private let report: (String) -> Void

    /// - Parameters:
    ///   - readJob: reads a job file, or settings without one, and checks it.
    ///   - report: told a line when a stage begins or ends.
    package init(
        _ pipeline: Pipeline, executor: Executor,
        readJob: @escaping (_ file: URL?, _ overrides: [JobOverride]) throws -> JobReading,
        report: @escaping (String) -> Void
    ) {
        self.pipeline = pipeline
        self.executor = executor
        self.readJob = readJob
        self.report = report
    }

    /// What a stage amounts to.
    private struct Order {
        let stage: Pipeline.Stage
        let job: (JobReading, URL)?
        let recipe: String
        let inputs: [String: String]
        /// Files that it reads and no stage makes, with the hashes of their content.
        let data: [String: String]
    }

    /// - Parameter first: the stage from which on everything is made again; nil: whatever is not finished.
    /// - Throws: ``PipelineError``, ``JobError``, what the executor throws.
    package func run(from first: String? = nil) throws {
        // Every job is read before the first stage starts: a mistake in the last one is told at once.
        let orders = try self.orders()
        try forget(orders, from: first)
        for order in orders { try check(order) }
        for order in orders {
            if StageRecord.read(order.stage.name, in: pipeline.output)?.isFinished == true {
                report("\(order.stage.name): done already")
            } else {
                try take(order)
            }
        }
        try PipelineReport(pipeline).write()
    }

    private func orders() throws -> [Order] {
        var recipes: [String: String] = [:]
        return try pipeline.stages.map { stage in
            let inputs = recipes.filter { stage.inputs.contains($0.key) }
            let (text, job): (String, (JobReading, URL)?)
            let sets: [DataSet]
            switch stage.work {
            case .command(let arguments):
                (text, job) = (arguments.joined(separator: "\u{0}"), nil)
                // FILE, --option=FILE, LABEL=FILE
                sets = arguments.flatMap { [$0] + $0.split(separator: "=", maxSplits: 1).dropFirst().map(String.init) }
                    .map {
                        DataSet($0, split: Self.option("--split", arguments), name: Self.option("--name", arguments))
                    }
            case .job(let file, let settings):
                let url = file.map { URL(fileURLWithPath: $0) }
                let own = try ["name": stage.name, "output": pipeline.directory(of: stage.name).path].sorted {
                    $0.key < $1.key
                }.map {
                    try JobOverride(
                        key: $0.key, value: YAMLNode(.scalar($0.value, isPlain: false), .override("pipeline")),
                        source: "stage \(stage.name)")
                }
                let read = try readJob(url, settings + own)
                sets = read.job.dataSets
                // Defaults of a checkpoint are not in the recipe: an earlier stage has yet to make it.
                (text, job) = (read.job.resolvedYAML, (read, url ?? pipeline.output.appendingPathComponent(stage.name)))
            }
            let recipe = StageRecord.recipe(text, inputs: inputs)
            recipes[stage.name] = recipe
            return Order(stage: stage, job: job, recipe: recipe, inputs: inputs, data: try hashes(sets))
        }
    }

    private static func option(_ name: String, _ arguments: [String]) -> String? {
        arguments.firstIndex(of: name).flatMap { arguments.indices.contains($0 + 1) ? arguments[$0 + 1] : nil }
    }

    /// Hashes of the files and of the data sets' folders among `sets` that no stage makes: what a stage makes is in the recipes
    /// of its inputs.
    private func hashes(_ sets: [DataSet]) throws -> [String: String] {
        let own = pipeline.output.standardizedFileURL.path + "/"
        var hashes: [String: String] = [:]
        for set in sets where set.path.hasPrefix("/") {
            let url = URL(fileURLWithPath: set.path).standardizedFileURL
            var isDirectory: ObjCBool = false
            guard !url.path.hasPrefix(own), FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory)
            else { continue }
            guard isDirectory.boolValue else {
                hashes[set.path] = try DataFiles.hash(url)
                continue
            }
            // A command's argument may also be a model, or a folder to write to.
            let isModel = FileManager.default.fileExists(atPath: url.appendingPathComponent("config.json").path)
            guard !isModel, let hash = try? set.hash() else { continue }
            let key = set.path + [set.split, set.name].compactMap { $0 }.map { " (\($0))" }.joined()
            hashes[key] = hash
        }
        return hashes
    }

    private func forget(_ orders: [Order], from first: String?) throws {
        guard let first else { return }
        guard let index = orders.firstIndex(where: { $0.stage.name == first }) else {
            throw PipelineError(.badInput, "the pipeline has no stage \(first)")
        }
        for order in orders[index...] {
            let name = order.stage.name
            // The record first: without it the stage is not finished, whatever else is left.
            for url in [StageRecord.url(name, in: pipeline.output), pipeline.directory(of: name), partial(name)]
            where FileManager.default.fileExists(atPath: url.path) {
                try FileManager.default.removeItem(at: url)
            }
        }
    }

    private func check(_ order: Order) throws {
        guard let record = StageRecord.read(order.stage.name, in: pipeline.output) else { return }
        if record.recipe == order.recipe {
            // Records of older versions hold no hashes.
            guard let known = record.data,
                let path = order.data.keys.sorted().first(where: { (known[$0] ?? order.data[$0]) != order.data[$0] })
            else { return }
            throw PipelineError(
                .badInput,
                "\(path) has changed since stage \(order.stage.name) in \(pipeline.output.path) was made from it; give --from "
                    + "\(order.stage.name) to make it and what follows again, or choose another output")
        }
        throw PipelineError(
            .badInput,
            "stage \(order.stage.name) in \(pipeline.output.path) was made from other settings; give --from "
                + "\(order.stage.name) to make it and what follows again, or choose another output")
    }

    private func partial(_ stage: String) -> URL { pipeline.output.appendingPathComponent("\(stage).partial") }

    private func take(_ order: Order) throws {
        let name = order.stage.name
        report(
            "\(name): \(order.stage.inputs.isEmpty ? "starts" : "starts from \(order.stage.inputs.joined(separator: ", "))")"
        )
        let begun = Date()
        let processorBegun = executor.processorSeconds
        let directory = pipeline.directory(of: name)
        // Whoever finds something of the stage later knows what it was to become.
        try StageRecord(recipe: order.recipe, inputs: order.inputs, data: order.data).write(name, in: pipeline.output)
        // A run that is done, or a command's directory, which appears whole: only its record is missing.
        let isWhole =
            order.job == nil
            ? FileManager.default.fileExists(atPath: directory.path) : RunDirectory(directory).status?.status == "done"
        if !isWhole {
            switch order.stage.work {
            case .command(let arguments):
                let partial = partial(name)
                try? FileManager.default.removeItem(at: partial)
                try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: true)
                try executor.run(command: arguments, in: partial)
                try FileManager.default.moveItem(at: partial, to: directory)
            case .job: try executor.run(order.job!.0, file: order.job!.1)
            }
        }
        let figures = StageRecord.figures(directory)
        for gate in order.stage.gates {
            if let problem = gate.problem(figures[gate.figure]) {
                throw PipelineError(
                    .gate,
                    "stage \(name): \(problem). What it made is in \(directory.path); change its settings and give --from "
                        + "\(name)")
            }
        }
        let record = StageRecord(
            recipe: order.recipe, inputs: order.inputs, data: order.data, figures: figures,
            seconds: Date().timeIntervalSince(begun),
            processorSeconds: executor.processorSeconds.flatMap { now in processorBegun.map { max(0, now - $0) } })
        try record.write(name, in: pipeline.output)
        let shown = order.stage.figures.map { "\($0) \(figures[$0].map { String(format: "%.3f", $0) } ?? "-")" }
        report("\(name): done" + (shown.isEmpty ? "" : ", " + shown.joined(separator: ", ")))
    }

    /// Stages with their seconds and figures, for the terminal.
    package func table() -> [String] {
        let names = pipeline.stages.flatMap(\.figures).reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        let width = (pipeline.stages.map(\.name.count) + [5]).max()!
        func row(_ name: String, _ cells: [String]) -> String {
            name + String(repeating: " ", count: width - name.count)
                + zip(cells, ["seconds"] + names).map { cell, title in
                    String(repeating: " ", count: max(0, max(title.count, 7) + 2 - cell.count)) + cell
                }.joined()
        }
        return [row("stage", ["seconds"] + names)]
            + pipeline.stages.compactMap { stage in
                guard let record = StageRecord.read(stage.name, in: pipeline.output), let seconds = record.seconds
                else { return nil }
                return row(
                    stage.name,
                    [String(format: "%.1f", seconds)]
                        + names.map { name in
                            stage.figures.contains(name)
                                ? record.figures[name].map { String(format: "%.3f", $0) } ?? "-" : ""
                        })
            }
    }
}
