// SPDX-License-Identifier: Apache-2.0
package import Checkpoints
package import JobSpecification

/// What is to be planned: a model, a step of work, and hosts.
package struct PlanningRequest: Sendable {
    package var configuration: Qwen3Configuration
    /// Name for messages.
    package var model: String
    /// A rollout or training job; its data and model paths are not looked at.
    package var job: Job
    package var hosts: [HostSpecification]
    /// Prompts of one step.
    package var promptCount: Int
    /// Tokens of a prompt, and of a response on average.
    package var promptTokens: Int
    package var responseTokens: Int
    /// Responses have between 1 - spread and 1 + spread times the average, evenly; 0: all the same.
    package var responseSpread = 0.5
    /// See ``RoutingSample``.
    package var skew = 0.0
    package var seed: UInt64 = 1

    /// - Parameters:
    ///   - job: gives the prompts of a step, sampling and resources.
    ///   - promptCount: nil: a training job's `rows_per_step`, a rollout job's `data.limit` or 256.
    ///   - responseTokens: nil: half of `sampling.max_new_tokens`.
    package init(
        configuration: Qwen3Configuration, model: String, job: Job, hosts: [HostSpecification], promptCount: Int? = nil,
        promptTokens: Int = 256, responseTokens: Int? = nil
    ) throws(PlanningError) {
        self.configuration = configuration
        self.model = model
        self.job = job
        self.hosts = hosts
        self.promptTokens = promptTokens
        let maximum: Int
        let rows: Int
        switch job {
        case .rollout(let job):
            maximum = job.sampling.maxNewTokens
            rows = job.data.limit ?? 256
        case .train(let job):
            maximum = job.sampling.maxNewTokens
            rows = job.rowsPerStep
        case .score: throw PlanningError("only rollout and train jobs are planned")
        }
        if let key = Self.unplanned(job) {
            throw PlanningError(
                key == "method: reward"
                    ? "reward models are not planned"
                    : "\(key): models beside the policy are not planned; take it out of the job to plan the rest")
        }
        self.promptCount = promptCount ?? rows
        self.responseTokens = responseTokens ?? max(1, maximum / 2)
        guard self.responseTokens <= maximum else {
            throw PlanningError("responses of \(self.responseTokens) tokens; sampling.max_new_tokens is \(maximum)")
        }
        let longest = promptTokens + maximum
        guard longest <= configuration.maxPositionEmbeddings else {
            throw PlanningError(
                "\(promptTokens) prompt and \(maximum) response tokens exceed the context of \(model), "
                    + "\(configuration.maxPositionEmbeddings)")
        }
    }

    /// The key of a second model, whose memory and passes no plan counts.
    private static func unplanned(_ job: Job) -> String? {
        func isModel(_ judge: JudgeSection?) -> Bool { if case .model = judge?.source { true } else { false } }
        switch job {
        case .rollout(let job):
            return job.teacher != nil
                ? "teacher" : job.rewardModel != nil ? "reward_model" : isModel(job.judge) ? "judge" : nil
        case .train(let job):
            if job.method == .reward { return "method: reward" }
            if job.method == .grpo, job.loss.klCoefficient > 0 { return "loss.kl_coef" }
            return job.teacher != nil
                ? "teacher" : job.rewardModel != nil ? "reward_model" : isModel(job.judge) ? "judge" : nil
        case .score: return nil
        }
    }

    /// What the job does in a step that the times do not hold.
    var leftOut: [String] {
        let (environment, judge): (Bool, Bool)
        switch job {
        case .rollout(let job): (environment, judge) = (job.environment != nil, job.judge != nil)
        case .train(let job): (environment, judge) = (job.environment != nil, job.judge != nil)
        case .score: (environment, judge) = (false, false)
        }
        return (generates ? ["rewards"] : []) + (judge ? ["answers of the judge"] : [])
            + (environment ? ["calls of tools and the turns after them"] : [])
    }

    /// The worker on each host, by kind.
    var workers: [HostSpecification] { hosts.flatMap { [HostSpecification](repeating: $0, count: $0.count) } }

    var resources: ResourcesSection {
        switch job {
        case .rollout(let job): job.resources
        case .train(let job): job.resources
        case .score(let job): job.resources
        }
    }

    var groupSize: Int {
        switch job {
        case .rollout(let job): job.groupSize
        case .train(let job): job.groupSize
        case .score: 1
        }
    }

    var section: ModelSection {
        switch job {
        case .rollout(let job): job.model
        case .train(let job): job.model
        case .score(let job): job.model
        }
    }

    /// Whether the step begins with responses.
    var generates: Bool { if case .train(let job) = self.job { job.generates } else { true } }
}

/// Why there is no plan, in one line.
package struct PlanningError: Error, CustomStringConvertible, Equatable {
    package let description: String
    package init(_ description: String) { self.description = description }
}
