// SPDX-License-Identifier: Apache-2.0
import JobSpecification
import Testing

@Suite("Training jobs") struct TrainJobTests {
    private func text(_ method: String, _ more: String = "", data: String = "{path: data.jsonl}") -> String {
        """
        kind: train
        name: small
        method: \(method)
        model: {path: models/tiny}
        data: \(data)
        steps: 4
        output: runs/small
        """ + "\n" + more
    }

    private func job(_ text: String) throws -> TrainJob {
        let parsed = try Job.parse(text, bases: BaseDirectories(jobFile: "/jobs", overrides: "/here"))
        #expect(try Job.parse(parsed.resolvedYAML) == parsed, "every setting is written out")
        guard case .train(let job) = parsed else { throw JobError(.wrongType, "no training job") }
        return job
    }

    @Test("a mixture of files with weights; every path counts from the job file")
    func mixture() throws {
        let job = try job(text("sft", data: "[{path: a.jsonl, weight: 3}, {path: /b.jsonl, limit: 5}]"))
        #expect(job.data.map(\.path) == ["/jobs/a.jsonl", "/b.jsonl"])
        #expect(job.data.map(\.weight) == [3, 1])
        #expect(job.data[1].limit == 5)
        #expect(message(text("sft", data: "[]")).contains("empty list"))
        #expect(message(text("sft", data: "[{path: a, weight: 1000}, {path: b}]")).contains("leave it out"))
        #expect(message(text("sft", data: "{path: a, weight: 2}")).contains("unknown key 'weight'"))
    }

    @Test("a reward model: made of data alone; asked by jobs that have the reward, its path from the job file")
    func rewardModels() throws {
        let made = try job(text("reward", "center_rewards_coefficient: 0.25"))
        #expect(!made.generates && made.centerRewardsCoefficient == 0.25 && made.method == .reward)
        let asked = try job(text("grpo", "reward: reward_model\nreward_model: {path: judge, compute: fp32}"))
        #expect(asked.rewardModel?.path == "/jobs/judge" && asked.rewardModel?.compute == .fp32)
        #expect(try job(text("grpo", "reward: task\nreward_model: {path: judge}")).rewardModel?.compute == .bf16)
        #expect(message(text("grpo", "reward: reward_model")).contains("needs one: path"))
        #expect(message(text("grpo", "reward: exact\nreward_model: {path: x}")).contains("is for the reward"))
        #expect(message(text("sft", "center_rewards_coefficient: 0.1")).contains("is for method reward"))
        for key in ["sampling: {}", "loss: {preset: grpo}", "reward: exact", "group_size: 2"] {
            #expect(message(text("reward", key)).contains("method reward generates nothing"), "\(key)")
        }
        #expect(message(text("reward", "teacher: {path: x}")).contains("method reward has none"))
    }

    @Test func referencePathCountsFromTheJobFile() throws {
        let job = try job(text("grpo", "reward: exact\nreference: {path: base}\nloss: {kl_coef: 0.1}"))
        #expect(job.reference?.path == "/jobs/base")
    }

    @Test("overlong responses are punished linearly in the buffer")
    func overlong() throws {
        let job = try job(
            text("grpo", "reward: exact\nsampling: {max_new_tokens: 100}\noverlong: {buffer: 20, penalty: 0.5}"))
        let values = try [0, 80, 81, 90, 100].map { try #require(job.overlong).value(tokenCount: $0) }
        #expect(values == [0, 0, -0.025, -0.25, -0.5])
        #expect(
            message(text("grpo", "reward: exact\nsampling: {max_new_tokens: 10}\noverlong: {buffer: 20}"))
                .contains("more than sampling.max_new_tokens"))
    }

    @Test func dynamicSamplingAndLossOptions() throws {
        let job = try job(
            text(
                "grpo",
                "reward: exact\ndynamic_sampling: {}\nloss: {off_policy_threshold: 2, kl_bias_correction: true}"))
        #expect(job.refillMax == 3)
        #expect(job.loss.offPolicyThreshold == 2 && job.loss.klBiasCorrection)
        #expect(message(text("sft", "dynamic_sampling: {refills: 2}")).contains("method sft generates nothing"))
    }

    @Test("distillation may have a task reward beside the teacher")
    func distillationWithReward() throws {
        let plain = try job(text("distill", "teacher: {path: t}"))
        #expect(plain.groupSize == 1 && plain.rewards.isEmpty)
        let mixed = try job(text("distill", "teacher: {path: t, weight: 0.5}\nreward: exact"))
        #expect(mixed.groupSize == 8 && mixed.teacher?.weight == 0.5)
        #expect(
            message(text("distill", "teacher: {path: t}\nreward: exact\ngroup_size: 1"))
                .contains("no relative advantage"))
        #expect(message(text("distill", "teacher: {path: t}\noverlong: {buffer: 2}")).contains("needs a reward"))
    }

    @Test func distillationOffPolicy() throws {
        let job = try job(text("distill", "teacher: {path: t, on_policy: false, cross_entropy_weight: 0.5}"))
        #expect(!job.generates && job.teacher?.crossEntropyWeight == 0.5)
        #expect(
            message(text("distill", "teacher: {path: t, on_policy: false}\nreward: exact"))
                .contains("generates nothing"))
        #expect(
            message(text("distill", "teacher: {path: t, on_policy: false, divergence: sampled}"))
                .contains("student's own samples"))
        #expect(message(text("distill", "teacher: {path: t, cross_entropy_weight: 1}")).contains("on_policy: false"))
    }

    @Test func teacherOfOneFile() throws {
        let job = try job(text("distill", "teacher: {path: t}", data: "[{path: a}, {path: b, teacher: special}]"))
        #expect(job.data.map(\.teacher) == [nil, "/jobs/special"])
        #expect(message(text("sft", data: "[{path: a, teacher: t}]")).contains("has no teachers"))
    }

    @Test func distillationOverTheLikeliestTokens() throws {
        let top = try job(text("distill", "teacher: {path: t, top_k: 16, tail: false}"))
        #expect(top.teacher?.topK == 16 && top.teacher?.hasTail == false)
        #expect(message(text("distill", "teacher: {path: t, tail: false}")).contains("is of top_k"))
        #expect(
            message(text("distill", "teacher: {path: t, top_k: 4, divergence: sampled}")).contains("looks at one token")
        )
    }

    @Test("settings that contradict each other are refused with the reason")
    func contradictions() {
        #expect(message(text("grpo")).contains("needs a reward"))
        #expect(
            message(text("grpo", "reward: exact\nrows_per_step: 3\nupdates_per_batch: 2")).contains("no multiple"))
        #expect(
            message(text("grpo", "reward: exact\nloss: {kl_coef: 0.1, kl_estimator: k1}")).contains("no gradient"))
        #expect(message(text("grpo", "reward: exact\nsampling: {temperature: 0}")).contains("must be sampled"))
    }
}
