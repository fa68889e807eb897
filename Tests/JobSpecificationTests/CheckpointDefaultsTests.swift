// SPDX-License-Identifier: Apache-2.0
import JobSpecification
import Testing

@Suite("Defaults from the checkpoint")
struct CheckpointDefaultsTests {
    /// Qwen3-0.6B's numbers.
    private static let small = CheckpointFacts(
        contextLength: 40_960, parameterCount: 596_000_000, cacheElementsPerToken: 57_344, thinks: true,
        sampling: ["temperature": .number(0.6), "top_p": .number(0.95), "top_k": .integer(20)])
    /// Qwen3-30B-A3B's.
    private static let experts = CheckpointFacts(
        contextLength: 40_960, parameterCount: 30_500_000_000, cacheElementsPerToken: 49_152,
        expertParameterCount: 29_000_000_000, expertRowBytesPerToken: [.bf16: 11_500_000, .fp32: 15_000_000])

    private static let rollout = """
        kind: rollout
        name: r
        model: {path: m}
        data: {path: d}
        output: o

        """
    private static func train(_ method: String, _ more: String = "") -> String {
        "kind: train\nname: t\nmethod: \(method)\nmodel: {path: m}\ndata: {path: d}\nsteps: 4\noutput: o\n" + more
            + "\n"
    }

    /// Paths with values of what came from the checkpoint.
    private static func derived(_ text: String, _ facts: CheckpointFacts?) throws -> [String: ResolvedValue] {
        let reading = try JobReading.parse(text, checkpoint: { $0 == "m" ? facts : nil })
        return Dictionary(
            uniqueKeysWithValues: reading.settings.compactMap { setting in
                if case .checkpoint = setting.origin { (setting.path, setting.value) } else { nil }
            })
    }

    @Test("a rollout takes the checkpoint's sampling, a response that fits a model that thinks, and a cache for it")
    func rollouts() throws {
        #expect(
            try Self.derived(Self.rollout, Self.small) == [
                "sampling.temperature": .number(0.6), "sampling.top_p": .number(0.95), "sampling.top_k": .integer(20),
                "sampling.max_new_tokens": .integer(4096),
                "resources.kv_cache_bytes": .integer(14 * (256 << 20)),
            ])
        let plain = try Self.derived(Self.rollout + "thinking: {mode: off}", Self.small)
        #expect(plain["sampling.max_new_tokens"] == .integer(1024))
        var short = Self.small
        short.contextLength = 2048
        #expect(try Self.derived(Self.rollout, short)["sampling.max_new_tokens"] == .integer(1024))
        short.contextLength = 512
        #expect(try Self.derived(Self.rollout, short)["sampling.max_new_tokens"] == .integer(256))
    }

    @Test("what is written stays, and one value of the distribution keeps the checkpoint's others out")
    func written() throws {
        let one = try Self.derived(Self.rollout + "sampling: {temperature: 0.8, max_new_tokens: 9}", Self.small)
        #expect(Array(one.keys) == ["resources.kv_cache_bytes"])
        let preset = try Self.derived(Self.rollout + "sampling: {preset: checkpoint, top_k: 5}", Self.small)
        #expect(preset["sampling.top_p"] == .number(0.95))
        #expect(preset["sampling.top_k"] == nil)
        let named = try Self.derived(Self.rollout + "sampling: {preset: non_thinking}", Self.small)
        #expect(named["sampling.temperature"] == nil)
    }

    @Test("training samples from the model's own distribution")
    func trainingSampling() throws {
        let found = try Self.derived(Self.train("grpo", "reward: exact"), Self.small)
        #expect(
            found.keys.sorted() == ["optimizer.learning_rate", "resources.kv_cache_bytes", "sampling.max_new_tokens"])
    }

    @Test(
        "learning rates by method and size",
        arguments: [
            ("sft", "", 2e-5, 5e-6), ("reward", "", 2e-5, 5e-6), ("grpo", "reward: exact", 2e-6, 5e-7),
            ("distill", "teacher: t", 1e-5, 2e-6), ("distill", "teacher: {path: t, on_policy: false}", 2e-5, 5e-6),
        ])
    func learningRates(_ method: String, _ more: String, _ small: Double, _ large: Double) throws {
        let text = Self.train(method, more)
        #expect(try Self.derived(text, Self.small)["optimizer.learning_rate"] == .number(small))
        #expect(try Self.derived(text, Self.experts)["optimizer.learning_rate"] == .number(large))
        guard case .train(let job) = try Job.parse(text, checkpoint: { _ in Self.small }) else { return }
        #expect(job.optimizer.learningRate == small)
    }

    @Test("a wave is cut where rows of experts would outgrow their state; small models keep 64 cells")
    func waves() throws {
        #expect(try Self.derived(Self.train("sft"), Self.experts)["wave_cells"] == .integer(3))
        #expect(try Self.derived(Self.train("sft", "cell_tokens: 512"), Self.experts)["wave_cells"] == .integer(14))
        #expect(try Self.derived(Self.train("sft", "wave_cells: 9"), Self.experts)["wave_cells"] == nil)
        #expect(try Self.derived(Self.train("sft"), Self.small)["wave_cells"] == nil)
    }

    @Test("where the checkpoint cannot be seen the settings stay open, and who sees it finds the same")
    func open() throws {
        for text in [Self.rollout, Self.train("grpo", "reward: exact"), Self.train("sft")] {
            let far = try JobReading.parse(text)
            let near = try JobReading.parse(text, checkpoint: { _ in Self.small })
            #expect(far.settings.contains { $0.origin == .open })
            #expect(!near.settings.contains { $0.origin == .open })
            #expect(near.submissionYAML == near.job.resolvedYAML)
            let there = try JobReading.parse(far.submissionYAML, checkpoint: { _ in Self.small })
            #expect(there.job == near.job)
            // Once they are found they stay, whatever is looked at later.
            #expect(try Job.parse(near.job.resolvedYAML, checkpoint: { _ in Self.experts }) == near.job)
        }
    }

    @Test("settings say where they come from")
    func origins() throws {
        let reading = try JobReading.parse(
            Self.rollout + "advantage: verl\n", overrides: [try JobOverride(argument: "sampling.top_p=0.5")],
            checkpoint: { _ in Self.small })
        func origin(_ path: String) -> JobReading.Setting.Origin? { reading.settings.first { $0.path == path }?.origin }
        #expect(origin("model.path") == .line(3))
        #expect(origin("advantage.preset") == .line(6))
        #expect(origin("advantage.epsilon") == .standard)
        #expect(origin("sampling.top_p") == .override("--set sampling.top_p=0.5"))
        #expect(origin("sampling.max_new_tokens") == .checkpoint("a model that thinks"))
        #expect(origin("seed") == .standard)
    }
}
