// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import ClusterPlanning
import CoordinatorRuntime
import Foundation
import JobSpecification
import Rewards

/// What is to be planned.
struct PlanningOptions: ParsableArguments {
    @Option(help: "A preset such as qwen3-235b-a22b, or a checkpoint directory.")
    var model: String?

    @Option(help: "A hosts file (YAML); without it hosts are like this machine, on 10 Gbit/s.")
    var hosts: String?

    @Option(help: "Workers; with a hosts file of one kind, instead of its count.")
    var workers: Int?

    @Option(help: "A rollout or train job file; its data is not read. Without it: GRPO with the settings below.")
    var job: String?

    @Option(help: "Prompts of a step. Default: the job's, or 256.")
    var prompts: Int?

    @Option(help: "Responses to each prompt, without a job file.")
    var groupSize = 8

    @Option(help: "Tokens of a prompt.")
    var promptTokens = 256

    @Option(help: "Tokens of a response on average. Default: half of the job's max_new_tokens, or 1024.")
    var responseTokens: Int?

    @Option(help: "How unevenly tokens choose experts: the expert of rank r has weight r^-skew; 0 is even.")
    var skew = 0.0

    @Option(help: "Also write the plan to this file, as JSON.")
    var json: String?

    var isAsked: Bool { model != nil || hosts != nil || workers != nil || job != nil }

    func validate() throws {
        guard (0...4).contains(skew) else { throw ValidationError("--skew must be 0 to 4") }
        guard (1...HostSpecification.workerCountMax).contains(workers ?? 1) else {
            throw ValidationError("--workers must be 1 to \(HostSpecification.workerCountMax)")
        }
        guard [prompts ?? 1, groupSize, promptTokens, responseTokens ?? 1].allSatisfy({ (1...1_000_000).contains($0) })
        else { throw ValidationError("--prompts, --group-size and token counts must be 1 to 1000000") }
    }

    /// - Throws: one line about what is wrong or missing.
    func request() throws -> PlanningRequest {
        let text = try self.job.map { try Job.text(of: URL(fileURLWithPath: $0)) }
        func parse(_ look: CheckpointLook?) throws -> Job? {
            guard let text else { return nil }
            do throws(JobError) {
                return try Job.parse(
                    text, rewardNames: RewardRegistry.names, rewardProblem: RewardRegistry.problem, checkpoint: look)
            } catch { throw error.inFile(self.job ?? "") }
        }
        let configuration = try configuration(parse(nil))
        let given = try parse { _ in CheckpointFacts(configuration) }
        let job = try given ?? defaultJob(configuration)
        var request = try PlanningRequest(
            configuration: configuration, model: model ?? "the model", job: job, hosts: try machines(),
            promptCount: prompts, promptTokens: promptTokens, responseTokens: responseTokens)
        request.skew = skew
        return request
    }

    private func configuration(_ given: Job?) throws -> Qwen3Configuration {
        let path: String?
        switch given {
        case .rollout(let job): path = job.model.path
        case .train(let job): path = job.model.path
        case .score, nil: path = nil
        }
        guard let name = model ?? path else {
            throw PlanningError("name the model: --model qwen3-30b-a3b, or a checkpoint directory")
        }
        let directory = URL(fileURLWithPath: name)
        if FileManager.default.fileExists(atPath: directory.path) {
            return try Qwen3Configuration(directory: directory)
        }
        return try ModelPreset(named: name).configuration()
    }

    /// One step of GRPO whose cache holds what a worker may have under way at once.
    private func defaultJob(_ configuration: Qwen3Configuration) throws -> Job {
        let mean = responseTokens ?? 1024
        let tokens = promptTokens + mean
        let sequences = 64
        let cache = (tokens + 63) / 64 * 64 * configuration.keyValueByteCountPerToken(elementByteCount: 2) * sequences
        return try Job.parse(
            """
            kind: train
            name: plan
            method: grpo
            model: {path: model, compute: bf16}
            data: {path: prompts.jsonl}
            steps: 1
            rows_per_step: \(prompts ?? 256)
            group_size: \(groupSize)
            sampling: {temperature: 1.0, max_new_tokens: \(2 * mean)}
            reward: [math_answer]
            cell_tokens: \(max(4096, promptTokens + 2 * mean))
            recompute_activations: true
            resources: {kv_cache_bytes: \(max(cache, 1 << 24)), max_sequences: \(sequences)}
            output: run
            """)
    }

    private func machines() throws -> [HostSpecification] {
        var list: [HostSpecification]
        if let hosts {
            list = try HostSpecification.read(URL(fileURLWithPath: hosts))
            if let workers {
                guard list.count == 1 else {
                    throw PlanningError(
                        "--workers replaces the count of a hosts file of one kind; \(hosts) has \(list.count)")
                }
                list[0].count = workers
            }
        } else {
            list = [try ThisMachine.host()]
            list[0].count = workers ?? 1
            complain("no hosts file: taking \(list[0].count) hosts like this one on 10 Gbit/s with 50 µs")
        }
        return list
    }
}
