// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import Recipes
import Rewards
import Testing

@Suite("Pipelines") struct PipelineTests {
    /// Writes figures instead of working, and stops where it is told to.
    final class Stand: StageExecutor {
        var done: [String] = []
        var failing: String?
        var processorSeconds: Double? { Double(2 * done.count) }

        struct Killed: Error {}

        func run(_ reading: JobReading, file: URL) throws {
            let job = reading.job
            if job.name == failing { throw Killed() }
            done.append(job.name)
            let output = URL(fileURLWithPath: job.output)
            try FileManager.default.createDirectory(at: output, withIntermediateDirectories: true)
            try "{\"pass@1\": 0.25}\n{\"pass@1\": 0.5, \"loss\": 1}\n".write(
                to: output.appendingPathComponent("metrics.jsonl"), atomically: true, encoding: .utf8)
            try job.resolvedYAML.write(to: output.appendingPathComponent("job.yaml"), atomically: true, encoding: .utf8)
            try "{\"status\":\"done\"}\n".write(
                to: output.appendingPathComponent("status.json"), atomically: true, encoding: .utf8)
        }

        func run(command: [String], in directory: URL) throws {
            if failing == command[0] { throw Killed() }
            done.append(command.joined(separator: " "))
            try command.joined(separator: "\n").write(
                to: directory.appendingPathComponent("made"), atomically: true, encoding: .utf8)
        }
    }

    private final class Bench {
        let directory: URL
        let stand = Stand()
        var lines: [String] = []

        init() throws {
            directory = FileManager.default.temporaryDirectory.appendingPathComponent(
                "apus-test-\(UUID().uuidString)", isDirectory: true)
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            try write(
                "sft.yaml",
                """
                kind: train
                name: any
                method: sft
                model: {path: base}
                data: {path: data.jsonl}
                steps: 4
                output: elsewhere
                """)
        }

        deinit { try? FileManager.default.removeItem(at: directory) }

        func write(_ name: String, _ text: String) throws {
            try text.write(to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
        }

        func pipeline(_ stages: String) throws -> Pipeline {
            try write("pipeline.yaml", "kind: pipeline\nname: small\noutput: out\nstages:\n" + stages)
            return try Pipeline.read(directory.appendingPathComponent("pipeline.yaml"))
        }

        func run(_ stages: String, from: String? = nil) throws {
            let pipeline = try pipeline(stages)
            try PipelineRunner(
                pipeline, executor: stand,
                readJob: { try JobReading.read($0, overrides: $1, overridesDirectory: self.directory.path) },
                report: { self.lines.append($0) }
            ).run(from: from)
        }

        func message(_ stages: String) -> String {
            do {
                try run(stages)
                return ""
            } catch { return String(describing: error) }
        }
    }

    private static let stages = """
          - name: data
            run: [data, registers, rows.jsonl, -n, "4"]
          - name: start
            job: sft.yaml
            set: {model.path: base, data.path: "{data}/rows.jsonl", steps: 2}
          - name: more
            job: sft.yaml
            set: {model.path: "{start}/model", data: [{path: "{data}/rows.jsonl"}, {path: extra.jsonl}]}
            gate: {pass@1: {min: 0.4}}
            show: [pass@1, loss]
        """

    @Test("an edited file of data is noticed, in jobs and in commands; what a stage makes is not asked twice")
    func editedData() throws {
        let bench = try Bench()
        try bench.write("extra.jsonl", "{\"prompt\": \"a\"}\n")
        let stages = Self.stages.replacing("rows.jsonl, -n", with: "\"--from={pipeline}/list.txt\", -n")
        try bench.write("list.txt", "1")
        try bench.run(stages)
        try bench.run(stages)
        #expect(bench.stand.done.count == 3)
        try bench.write("extra.jsonl", "{\"prompt\": \"b\"}\n")
        let message = bench.message(stages)
        #expect(
            message.contains("extra.jsonl has changed since stage more") && message.contains("--from more"),
            "\(message)")
        try bench.run(stages, from: "more")
        #expect(bench.stand.done.count == 4)
        try bench.write("list.txt", "2")
        #expect(bench.message(stages).contains("list.txt has changed since stage data"))
        try bench.run(stages, from: "data")
        #expect(bench.stand.done.count == 7)
        // Records of versions that wrote no hashes are as good as they were.
        let url = StageRecord.url("more", in: bench.directory.appendingPathComponent("out"))
        var record = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
        record["data"] = nil
        try JSONSerialization.data(withJSONObject: record).write(to: url)
        try bench.write("extra.jsonl", "{\"prompt\": \"c\"}\n")
        #expect(bench.message(stages).isEmpty && bench.stand.done.count == 7)
    }

    @Test("stages run in order, their paths filled in, with an output of their own")
    func runs() throws {
        let bench = try Bench()
        let pipeline = try bench.pipeline(Self.stages)
        #expect(pipeline.stages.map(\.inputs) == [[], ["data"], ["data", "start"]])
        try bench.run(Self.stages)
        #expect(bench.stand.done == ["data registers rows.jsonl -n 4", "start", "more"])
        let text = try String(contentsOf: bench.directory.appendingPathComponent("out/more/job.yaml"), encoding: .utf8)
        guard case .train(let job) = try Job.parse(text) else { throw JobError(.wrongType, "no training job") }
        #expect(job.model.path == bench.directory.appendingPathComponent("out/start/model").path)
        #expect(job.data.map(\.path) == ["out/data/rows.jsonl", "extra.jsonl"].map { bench.directory.path + "/" + $0 })
        #expect(job.name == "more" && job.stepCount == 4)
        #expect(bench.lines.last == "more: done, pass@1 0.500, loss 1.000")
        let record = try #require(StageRecord.read("more", in: pipeline.output))
        #expect(record.isFinished && record.inputs.keys.sorted() == ["data", "start"] && record.figures["loss"] == 1)
        let table = PipelineRunner(pipeline, executor: bench.stand, readJob: { try JobReading.read($0, overrides: $1) })
        { _ in
        }
        .table()
        #expect(table.count == 4 && table[0].contains("pass@1") && table[3].contains("0.500"))
    }

    @Test("stopped anywhere, it goes on without making anything again")
    func resumes() throws {
        for failing in ["data", "start", "more"] {
            let bench = try Bench()
            bench.stand.failing = failing
            #expect(throws: Stand.Killed.self) { try bench.run(Self.stages) }
            bench.stand.failing = nil
            try bench.run(Self.stages)
            #expect(bench.stand.done == ["data registers rows.jsonl -n 4", "start", "more"], "\(failing)")
            // Killed after the work and before the record: the work counts.
            try FileManager.default.removeItem(
                at: StageRecord.url("more", in: bench.directory.appendingPathComponent("out")))
            try bench.run(Self.stages)
            #expect(bench.stand.done.count == 3)
        }
    }

    @Test("a changed stage is not taken for done; --from makes it and what follows again")
    func changes() throws {
        let bench = try Bench()
        try bench.run(Self.stages)
        let changed = Self.stages.replacingOccurrences(of: "steps: 2", with: "steps: 3")
        #expect(bench.message(changed).contains("stage start in") && bench.message(changed).contains("--from start"))
        try bench.run(changed, from: "start")
        #expect(bench.stand.done == ["data registers rows.jsonl -n 4", "start", "more", "start", "more"])
        // An input's change is a change of what is made from it.
        let other = changed.replacingOccurrences(of: "\"4\"", with: "\"5\"")
        #expect(bench.message(other).contains("stage data in"))
        #expect(throws: PipelineError.self) { try bench.run(changed, from: "nothing") }
    }

    @Test("variables stand for their values, and are part of what a stage is made from")
    func variables() throws {
        let bench = try Bench()
        try bench.write(
            "pipeline.yaml",
            """
            kind: pipeline
            name: small
            output: out
            variables: {seed: 1, base: models/base}
            stages:
              - {name: data, run: [data, --seed, "{seed}"]}
              - {name: start, job: sft.yaml, set: {model.path: "{base}", data.path: "{data}/rows.jsonl", seed: "{seed}"}}
            """)
        let url = bench.directory.appendingPathComponent("pipeline.yaml")
        func run(_ variables: [String: String]) throws {
            try PipelineRunner(
                Pipeline.read(url, variables: variables), executor: bench.stand,
                readJob: { try JobReading.read($0, overrides: $1, overridesDirectory: bench.directory.path) },
                report: { _ in }
            ).run()
        }
        try run([:])
        #expect(bench.stand.done == ["data --seed 1", "start"])
        let text = try String(contentsOf: bench.directory.appendingPathComponent("out/start/job.yaml"), encoding: .utf8)
        guard case .train(let job) = try Job.parse(text) else { throw JobError(.wrongType, "no training job") }
        #expect(job.seed == 1 && job.model.path == bench.directory.path + "/models/base")
        #expect(throws: PipelineError.self) { try run(["seed": "2"]) }
        #expect(throws: JobError.self) { try run(["seeds": "2"]) }
    }

    @Test("a gate stops the pipeline, keeps what was made, and is looked at again")
    func gates() throws {
        let bench = try Bench()
        let strict = Self.stages.replacingOccurrences(of: "min: 0.4", with: "min: 0.6")
        let text = bench.message(strict)
        #expect(text.contains("pass@1 is 0.5; the gate wants at least 0.6"), "\(text)")
        try bench.run(Self.stages)
        #expect(bench.stand.done.count == 3, "the stage is not made again")
        let absent = Self.stages.replacingOccurrences(of: "pass@1: {min", with: "pass@9: {max")
        let other = try Bench()
        #expect(other.message(absent).contains("pass@9 is in no line"))
    }

    @Test("mistakes are told with their line before anything runs")
    func mistakes() throws {
        let bench = try Bench()
        func told(_ old: String, _ new: String, _ expected: String) {
            let text = bench.message(Self.stages.replacingOccurrences(of: old, with: new))
            #expect(text.contains(expected), "\(text)")
        }
        told("{start}", "{stat}", "{stat} is no earlier stage or variable; did you mean {start}?")
        told("name: more", "name: start", "two stages called start")
        told("steps: 2", "stepz: 2", "unknown key 'stepz'; did you mean 'steps'?")
        told(
            "job: sft.yaml\n    set: {model.path: base", "jobs: sft.yaml\n    set: {model.path: base",
            "did you mean 'job'?")
        told("gate: {pass@1: {min: 0.4}}", "gate: {pass@1: {}}", "give min, max or both")
        told("run: [data, registers, rows.jsonl, -n, \"4\"]", "show: [loss]", "give either job or run")
        #expect(bench.stand.done.isEmpty)
        let job = try Job.read(bench.directory.appendingPathComponent("sft.yaml"))
        #expect(job.name == "any" && !Pipeline.isPipeline(bench.directory.appendingPathComponent("sft.yaml")))
        let message = (try? Job.parse("kind: pipeline")).map { _ in "" } ?? "refused"
        #expect(message == "refused")
    }
}

/// The pipelines and suites that come with the project.
@Suite("Shipped pipelines") struct ShippedPipelineTests {
    private static let cluster = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Cluster", isDirectory: true)

    private static let files: [String] = ["jobs", "jobs/qwen3", "suites", "tiny-world"].flatMap { folder in
        let names =
            (try? FileManager.default.contentsOfDirectory(atPath: cluster.appendingPathComponent(folder).path)) ?? []
        return names.filter { $0.hasSuffix(".yaml") }.map { "\(folder)/\($0)" }
    }.sorted()

    @Test("every one is read with all of its jobs", arguments: files)
    func shipped(file: String) throws {
        let url = Self.cluster.appendingPathComponent(file)
        guard Pipeline.isPipeline(url) else {
            _ = try Job.read(url, rewardNames: RewardRegistry.names, rewardProblem: RewardRegistry.problem)
            return
        }
        for stage in try Pipeline.read(url).stages {
            guard case .job(let file, let settings) = stage.work else { continue }
            _ = try Job.read(
                file.map { URL(fileURLWithPath: $0) },
                overrides: settings + [JobOverride(argument: "name=x"), JobOverride(argument: "output=x")],
                overridesDirectory: url.deletingLastPathComponent().path, rewardNames: RewardRegistry.names,
                rewardProblem: RewardRegistry.problem)
        }
    }
}
