// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import ClusterPlanning
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import RuntimeSupport

/// `apus simulate calibrate`: this machine as a hosts file, and predictions beside real small runs.
struct CalibrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "calibrate",
        abstract: "Measure this machine for plans, and compare predictions with small runs on it.",
        discussion: """
            Limits, overheads and messages are measured by themselves; then tiny models generate and train on 1 and 2 \
            worker processes. The errors are those of plans of small models on this machine: large models have less \
            overhead and come closer.
            """)

    @Option(help: "Write the hosts file here instead of printing it.")
    var output: String?

    @Option(help: "Directory of a tokenizer for the tiny models.")
    var tokenizer = "Tests/Fixtures/tokenizer/main"

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let tokenizer = URL(fileURLWithPath: tokenizer)
            let host = try ThisMachine.calibrated(tokenizer: tokenizer, progress: complain)
            let text = HostSpecification.yaml([host])
            if let output {
                try text.write(toFile: output, atomically: true, encoding: .utf8)
            } else {
                print(text)
            }
            print("run                                       predicted    measured    error")
            for run in SmallRun.all {
                complain("running \(run.name)")
                let (predicted, measured) = try run.compare(host, tokenizer)
                print(
                    Format.pad(run.name, 40)
                        + String(
                            format: "%9.1f %@ %9.1f %@ %+6.0f %%", predicted, run.unit, measured, run.unit,
                            (predicted / measured - 1) * 100))
                StandardOutput.flush()
            }
        }
    }
}

/// A real run on loopback, and what the plan says of it.
struct SmallRun {
    let preset: ModelPreset
    let workers: Int
    let trains: Bool

    static let all = [ModelPreset.tinyDense, .tinyMoE].flatMap { preset in
        [1, 2].flatMap { workers in
            [false, true].map { SmallRun(preset: preset, workers: workers, trains: $0) }
        }
    }

    var name: String {
        "\(preset.rawValue), \(workers) worker\(workers == 1 ? "" : "s"), \(trains ? "GRPO steps" : "rollouts")"
    }
    var unit: String { trains ? "ms/step" : "tokens/s" }

    private static let steps = 8
    private static let newTokens = 96

    /// Tokens per second of rollouts, or milliseconds of a training step.
    func compare(_ host: HostSpecification, _ tokenizer: URL) throws -> (predicted: Double, measured: Double) {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-calibrate-\(getpid())-\(preset.rawValue)-\(workers)-\(trains)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try CheckpointInitializer(preset: preset, seed: 1, tokenizerDirectory: tokenizer).write(
            to: directory.appendingPathComponent("model"))
        let options = try LocalClusterOptions.parse([
            "--workers", "\(workers)", "--threads", "\(max(1, host.cores / workers))",
        ])
        let cluster = try LocalCluster(options, directory: directory.appendingPathComponent("cluster"))
        defer { cluster.supervisor.stop() }
        let client = try cluster.context.client()
        defer { client.close() }
        if trains {
            let run = try observe(client, try write(prompts: 16, in: directory))
            let seconds = try plan(host, run, prompts: 16, tokenizer).seconds
            return (seconds * 1000, run.seconds * 1000)
        }
        // The difference of two runs leaves start-up and the last responses out, of both.
        let short = try observe(client, try write(prompts: 64, in: directory))
        let long = try observe(client, try write(prompts: 512, in: directory))
        let (a, b) = (
            try plan(host, short, prompts: 64, tokenizer), try plan(host, long, prompts: 512, tokenizer)
        )
        let tokens = b.phases[0].tokens - a.phases[0].tokens
        return (Double(tokens) / (b.seconds - a.seconds), (long.tokens - short.tokens) / (long.seconds - short.seconds))
    }

    private func write(prompts: Int, in directory: URL) throws -> URL {
        let file = directory.appendingPathComponent("job-\(prompts).yaml")
        try ArithmeticPrompts(count: prompts, seed: 1, form: .prompt).write(
            to: directory.appendingPathComponent("prompts-\(prompts).jsonl"))
        try job(prompts).write(to: file, atomically: true, encoding: .utf8)
        return file
    }

    private func job(_ prompts: Int) -> String {
        """
        kind: \(trains ? "train" : "rollout")
        name: calibrate
        model: {path: model, compute: bf16}
        data: {path: prompts-\(prompts).jsonl}
        group_size: 4
        sampling: {temperature: 1.0, max_new_tokens: \(Self.newTokens)}
        reward: [math_answer]
        resources: {kv_cache_bytes: 64MiB, page_size: 16, max_sequences: \(64 / workers)}
        output: out-\(prompts)
        \(trains ? "method: grpo\nsteps: \(Self.steps)\nrows_per_step: \(prompts)\ncell_tokens: 512\ncheckpoint: {every: 1000}" : "")
        """
    }

    /// What was seen of a run: seconds of the job or of a step, response tokens, responses.
    private struct Observation {
        let seconds: Double
        let tokens: Double
        let responses: Double
    }

    private func observe(_ client: ClusterClient, _ file: URL) throws -> Observation {
        let start = MonotonicInstant.now
        let id = try Submission(file.path, []).submit(client)
        var steps: [UInt32: MonotonicInstant] = [:]
        while true {
            guard case .jobList(let list) = try client.request({ $0.listJobs.job = id }).body,
                let view = list.jobs.first
            else { throw ClientError("the coordinator sent an unexpected answer") }
            if view.status == "failed" { throw ClientError(view.problem) }
            if steps[view.step] == nil { steps[view.step] = .now }
            guard JobWatch.isEnded(view.status) else {
                Thread.sleep(forTimeInterval: 0.005)
                continue
            }
            let (tokens, responses) = (Double(view.tokenCount), Double(view.sequencesDone))
            guard trains else {
                let seconds = Double(MonotonicInstant.now.milliseconds(since: start)) / 1000
                return Observation(seconds: seconds, tokens: tokens, responses: responses)
            }
            // The first steps still grow the working memory.
            guard let first = steps[2], let last = steps[UInt32(Self.steps)] else {
                throw ClientError("the steps went by unseen")
            }
            let seconds = Double(last.milliseconds(since: first)) / 1000 / Double(Self.steps - 2)
            return Observation(seconds: seconds, tokens: tokens, responses: responses)
        }
    }

    private func plan(_ host: HostSpecification, _ seen: Observation, prompts: Int, _ tokenizer: URL) throws
        -> ClusterPlan
    {
        // Workers share this machine.
        var part = host
        let share = Double(workers)
        part.count = workers
        part.cores = max(1, host.cores / workers)
        part.readBandwidth /= share
        part.fp32Products /= share
        part.bf16Products /= share
        let request = try PlanningRequest(
            configuration: preset.configuration(tokenizer: try TokenizerFacts(directory: tokenizer)),
            model: preset.rawValue, job: try Job.parse(job(prompts)), hosts: [part], promptCount: prompts,
            promptTokens: 16, responseTokens: max(1, Int(seen.tokens / max(1, seen.responses))))
        return try ClusterPlan(request)
    }
}
