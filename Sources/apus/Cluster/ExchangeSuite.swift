// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Benchmarks
import Checkpoints
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import RuntimeSupport

/// What distribution costs: the same rollouts by one process and by two workers with the same threads in all.
struct ExchangeSuite {
    let layers: Int
    let threads: Int
    /// Directory of a tokenizer for the model.
    let tokenizer: URL
    let progress: (String) -> Void

    /// Sequences under way at once, all workers together.
    static let batch = 64
    private static let newTokens = 160

    /// Tokens per second of one worker, then of two.
    func run() throws -> (one: Double, two: Double) {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("apus-bench-\(getpid())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        progress("writing Qwen3-30B-A3B with \(layers) layers")
        let model = directory.appendingPathComponent("model")
        try CheckpointInitializer(preset: .qwen3_30B_A3B, layerCount: layers, tokenizerDirectory: tokenizer).write(
            to: model)
        try ArithmeticPrompts(count: Self.batch / 4, seed: 1, form: .prompt).write(
            to: directory.appendingPathComponent("prompts.jsonl"))
        let one = try rate(workers: 1, threads: threads, in: directory)
        let two = try rate(workers: 2, threads: max(1, threads / 2), in: directory)
        return (one, two)
    }

    private func rate(workers: Int, threads: Int, in directory: URL) throws -> Double {
        progress("\(workers) worker\(workers == 1 ? "" : "s") with \(threads) thread\(threads == 1 ? "" : "s") each")
        let job = directory.appendingPathComponent("job-\(workers).yaml")
        try """
        kind: rollout
        name: bench
        model: {path: model, compute: bf16}
        data: {path: prompts.jsonl}
        group_size: 4
        sampling: {temperature: 1.0, max_new_tokens: \(Self.newTokens)}
        resources: {kv_cache_bytes: 256MiB, page_size: 64, max_sequences: \(Self.batch / workers)}
        output: out-\(workers)
        """.write(to: job, atomically: true, encoding: .utf8)
        let options = try LocalClusterOptions.parse(["--workers", "\(workers)", "--threads", "\(threads)"])
        let cluster = try LocalCluster(options, directory: directory.appendingPathComponent("cluster-\(workers)"))
        defer { cluster.supervisor.stop() }
        let client = try cluster.context.client()
        defer { client.close() }
        let id = try Submission(job.path, []).submit(client)
        let total = Double(Self.batch * Self.newTokens)
        var samples: [(at: MonotonicInstant, tokens: Double)] = []
        while true {
            guard case .workerList(let list) = try client.request({ $0.listWorkers = WireListWorkers() }).body,
                case .jobList(let jobs) = try client.request({ $0.listJobs.job = id }).body, let view = jobs.jobs.first
            else { throw ClientError("the coordinator sent an unexpected answer") }
            if view.status == "failed" { throw ClientError(view.problem) }
            let tokens = Double(list.workers.reduce(0) { $0 + $1.counters.generatedTokenCount })
            // Start-up and the tail, where the batch is not full, are left out.
            if tokens > total * 0.1, tokens < total * 0.95 { samples.append((.now, tokens)) }
            if JobWatch.isEnded(view.status) { break }
            Thread.sleep(forTimeInterval: 0.1)
        }
        // Counters move with the beats: from a change to the last change.
        let changes = zip(samples, samples.dropFirst()).filter { $0.tokens != $1.tokens }.map(\.1)
        guard let first = changes.first, let last = changes.last, last.at > first.at else {
            throw ClientError("the run was too short to measure; use more --layers")
        }
        return (last.tokens - first.tokens) * 1000 / Double(last.at.milliseconds(since: first.at))
    }
}
