// SPDX-License-Identifier: Apache-2.0
//
// The keys of jobs. JobKey.swift says how one is added.

/// Every key of every kind of job file. What a section holds stands once, wherever it occurs.
package enum JobSchema {
    private static let generating: [JobFileKind] = [.rollout, .train]
    private static let jobs: [JobFileKind] = [.rollout, .score, .train]
    private static let counts = 1...100_000_000

    /// Of a whole file.
    static let top: [JobKey] =
        [
            JobKey(
                "kind",
                .choice(
                    JobFileKind.self,
                    [
                        .rollout: "responses to prompts, their rewards and a teacher's log-probabilities",
                        .score: "log-probabilities of given tokens, or a reward model's scalars",
                        .train: "optimizer steps on a model",
                        .pipeline: "many jobs and commands in order",
                        .suite: "evaluations of one model",
                    ]), .required, "What the file describes."),
            JobKey(
                "name", .text(64), .required,
                "What the job is called: letters, digits, '-', '_' and '.'.", .trl("run_name"),
                .verl("trainer.experiment_name")),
        ] + jobKeys + pipelineKeys

    private static let jobKeys: [JobKey] = [
        JobKey(
            "model", .section(model, short: "path"), .required,
            "The policy that generates or is trained, or the model that scores.", in: jobs,
            .verl("actor_rollout_ref.model")),
        JobKey(
            "method",
            .choice(
                TrainingMethod.self,
                [
                    .sft: "supervised fine-tuning: cross-entropy on the answers of the data",
                    .grpo: "group-relative policy optimization on rewards of the policy's own responses",
                    .distill: "a teacher's distribution over the policy's own responses, or over the data's answers",
                    .reward: "a reward model from preferences (Bradley-Terry)",
                ]), .required, "What training learns from.", in: [.train], .verl("algorithm.adv_estimator")),
        JobKey(
            "teacher", .section(scoringTeacher, short: "path"), .none("no teacher"),
            "A frozen model that scores the responses.", in: [.rollout]),
        JobKey(
            "teacher", .section(teacher, short: "path"), .none("no teacher; method distill needs one"),
            "The frozen model whose distribution the policy's is drawn to.", in: [.train],
            .verl("distillation.teacher_model")),
        JobKey(
            "reference", .section(model, short: "path"), .none("the model that training starts from"),
            "A frozen model that loss.kl_coef keeps the policy near.", in: [.train], when: .generates,
            .trl("ref_model"), .verl("actor_rollout_ref.ref")),
        JobKey(
            "data", .section(data, short: "path"), .required, "The rows: JSON lines, one prompt or text each.",
            in: [.rollout, .score]),
        JobKey(
            "data", .oneOrMany(.section(data, short: "path"), .section(data + mixture, short: "path"), 64), .required,
            "The rows: one file, or a mixture of several with weights.", in: [.train]),
        JobKey(
            "outputs",
            .either([
                .choice([
                    .init(name: "sampled", sentence: "the log-probability of the token that is there"),
                    .init(name: "full", sentence: "the log-probabilities of the whole vocabulary"),
                ]), .section(topOutputs),
            ]), .value(.string("sampled")), "What is kept of each position.", in: [.score]),
        JobKey(
            "temperature", .number(.above(0, upTo: 100)), .value(.number(1)),
            "Divides the logits before the softmax.", in: [.score]),
        JobKey(
            "steps", .integer(counts), .required,
            "Optimizer steps. An epoch is the number of rows divided by rows_per_step.", in: [.train],
            .alias("max_steps", of: .trl), .trl("num_train_epochs", "counted in steps"),
            .verl("trainer.total_training_steps"), .verl("trainer.total_epochs", "counted in steps")),
        JobKey(
            "rows_per_step", .integer(1...1_000_000), .value(.integer(16)),
            "Prompts of a batch of rollouts, or sequences of a step of sft: all of a step's, however many workers there "
                + "are.", unit: "rows", in: [.train],
            .trl("per_device_train_batch_size", "all rows of a step, and prompts, not responses"),
            .trl("gradient_accumulation_steps", "there is none to set, all rows of a step count"),
            .trl("generation_batch_size", "counted in prompts"),
            .verl("data.train_batch_size"),
            .verl("actor_rollout_ref.actor.ppo_mini_batch_size", "divided by updates_per_batch")),
        JobKey(
            "group_size", .integer(1...4096), .depends("8; of method distill without a reward 1"),
            "Responses to each prompt (G).", unit: "responses", in: generating, when: .generates,
            .trl("num_generations"), .verl("actor_rollout_ref.rollout.n")),
        JobKey(
            "updates_per_batch", .integer(1...1024), .value(.integer(1)),
            "Optimizer steps per batch of rollouts, each on its share of the rows; more than 1 is off-policy reuse.",
            in: [.train], when: .generates, .trl("num_iterations", "which repeats the whole batch"),
            .trl("steps_per_generation"), .verl("actor_rollout_ref.actor.ppo_epochs", "which repeats the whole batch")),
        JobKey(
            "sampling", .section(sampling), .none("every key's default"), "How tokens are drawn.", in: generating,
            when: .generates, .verl("actor_rollout_ref.rollout")),
        JobKey(
            "thinking", .section(thinking), .none("every key's default"),
            "Whether the chat template asks for thinking, and for how much.", in: generating),
        JobKey(
            "chat_template", .path, .none("the model's own"),
            "A file with a chat template in Jinja, used instead of the model's; a trained checkpoint has it.", in: jobs,
            .trl("chat_template_path"), .verl("actor_rollout_ref.model.custom_chat_template", "a file here")),
        JobKey(
            "chat_template_kwargs", .other("a mapping of names to values, or its JSON text"), .none("none"),
            "Variables of the chat template for all rows, such as enable_thinking; a row's chat_template_kwargs count "
                + "before them.", in: jobs, .verl("data.apply_chat_template_kwargs")),
        JobKey(
            "chat_template_date", .text(10), .none("2024-07-26, so that a job gives the same bytes on every day"),
            "What a chat template that writes the date writes, YYYY-MM-DD.", in: jobs),
        JobKey(
            "assistant_only_loss", .boolean, .value(.boolean(false)),
            "Of method sft (and distill with on_policy: false): every turn of the assistant is learned, not the last "
                + "answer alone. What others say is never learned.", in: [.train]),
        JobKey(
            "environment", .section(environment), .none("no tools"),
            "Tools that the model may call; a response is then a trajectory of turns.", in: generating,
            when: .generates, .trl("tools"), .verl("actor_rollout_ref.rollout.multi_turn")),
        JobKey(
            "judge", .section(judge), .none("no judge"), "Who speaks the reward 'judge'.", in: generating,
            when: .generates),
        JobKey(
            "reward_model", .section(rewardModel, short: "path"), .none("no reward model"),
            "The model behind the reward 'reward_model'.", in: generating, when: .generates,
            .verl("reward_model.model")),
        JobKey(
            "seed", .integer(0...Int.max), .value(.integer(0)), "Key of every random stream of the job.",
            in: generating + [.suite], .trl("data_seed"), .verl("data.seed")),
        JobKey(
            "policy_version", .integer(0...Int.max), .value(.integer(0)),
            "Version of the model's weights, recorded with every token.", in: [.rollout, .score]),
        JobKey(
            "reward", .oneOrMany(.section(reward, short: "name"), .section(reward, short: "name"), 16),
            .none("nothing is rewarded; method grpo needs one"),
            "What responses earn: one function or a list whose weighted sum counts.", in: generating, when: .generates,
            .trl("reward_funcs"), .verl("custom_reward_function"), .verl("reward.custom_reward_function")),
        JobKey(
            "advantage", .section(advantage, short: "preset"), .none("preset trl"),
            "How rewards of a group become advantages.", in: generating),
        JobKey(
            "dropped_groups", .section(droppedGroups), .none("every key's default"),
            "Which groups and responses do not reach training.", in: generating),
        JobKey(
            "max_failed_groups", .number(.closed(0, 1)), .value(.number(DroppedGroupsSection.failedGroupsMax)),
            "Share of the groups that may fail before the job does.", in: generating, when: .generates),
        JobKey(
            "overlong", .section(overlong), .none("no punishment"),
            "Soft punishment of long responses, added to the reward (Yu et al. 2025).", in: [.train], when: .generates,
            .trl("soft_overlong_punishment"), .verl("reward_model.overlong_buffer")),
        JobKey(
            "dynamic_sampling", .section(dynamicSampling), .none("groups are not replaced"),
            "Replaces groups whose rewards are all equal by further prompts (Yu et al. 2025).", in: [.train],
            when: .generates, .verl("algorithm.filter_groups")),
        JobKey(
            "routing_replay", .boolean, .value(.boolean(false)),
            "Routers take over the experts that generation chose, for updates after the first of a batch.",
            in: [.train], when: .generates, .verl("actor_rollout_ref.actor.router_replay")),
        JobKey(
            "loss", .section(loss), .none("preset dapo"), "The policy gradient.", in: [.train], when: .generates),
        JobKey(
            "center_rewards_coefficient", .number(.closed(0, 1000)), .value(.number(0)),
            "Coefficient of the mean of (r_chosen + r_rejected)², which keeps a reward model's scalars around 0.",
            in: [.train], when: .method(.reward)),
        JobKey(
            "optimizer", .section(optimizer), .none("every key's default"), "AdamW and its schedule.", in: [.train],
            .verl("actor_rollout_ref.actor.optim")),
        JobKey(
            "router_aux_loss_coef", .number(.closed(0, 10)), .value(.number(0)),
            "Coefficient of the routers' load-balancing loss; of models with experts.", in: [.train]),
        JobKey(
            "cell_tokens", .integer(16...16_777_216), .value(.integer(2048)),
            "Tokens of a cell (micro-batch) at most; a longer sequence is a cell of its own. Part of the arithmetic: "
                + "another value gives other last bits.", unit: "tokens", in: [.train],
            .verl("actor_rollout_ref.actor.ppo_max_token_len_per_gpu"),
            .verl("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu", "counted in tokens")),
        JobKey(
            "wave_cells", .integer(1...65_536),
            .checkpoint(
                "64, or fewer where the rows of experts that wait for a wave would take more than 4 GiB and more than a "
                    + "quarter of the experts' optimizer state", otherwise: .integer(64)),
            "Cells that go back through the model together. Part of the arithmetic of models with experts.",
            unit: "cells", in: [.train]),
        JobKey(
            "recompute_activations", .boolean, .value(.boolean(false)),
            "Attention is computed again on the way back instead of kept: less memory, more time, the same bits.",
            in: [.train], .trl("gradient_checkpointing"),
            .verl("actor_rollout_ref.model.enable_gradient_checkpointing")),
        JobKey("checkpoint", .section(checkpoint), .none("every key's default"), "When to write.", in: [.train]),
        JobKey(
            "resources", .section(resources), .none("every key's default"),
            "What a worker may use; none of it changes a result.", in: jobs + [.suite]),
        JobKey(
            "output", .path, .required, "Directory of the run; it must not exist.", in: jobs,
            .alias("output_dir", of: .trl),
            .verl("trainer.default_local_dir")),
    ]

    // MARK: - Models

    static let model: [JobKey] = [
        JobKey(
            "path", .path, .required, "Directory of a Hugging Face checkpoint.",
            .alias("model_name_or_path", of: .trl), .trl("model_name_or_path", "model.path here"),
            .verl("actor_rollout_ref.model.path")),
        JobKey(
            "compute", compute, .value(.string("bf16")),
            "Arithmetic of the forward and backward pass, whatever the stored element type is.",
            .trl("bf16"), .trl("dtype"), .verl("actor_rollout_ref.rollout.dtype")),
        JobKey(
            "replicas", .integer(1...1024), .value(.integer(1)),
            "Copies of each expert, or of a dense model, among the workers."),
        JobKey(
            "yarn_factor", .number(.closed(1, 1024)), .none("as the checkpoint's configuration says"),
            "Longer contexts by YaRN."),
        JobKey(
            "original_context", .integer(16...16_777_216), .none("the configuration's"),
            "Context that YaRN extends.", unit: "tokens"),
    ]

    private static let compute = KeyType.choice(
        ComputeType.self, [.fp32: "fp32 products", .bf16: "bf16 products, added up in fp32"])

    static let topOutputs = [JobKey("top_k", .integer(1...4096), .required, "The K most likely tokens.")]

    static let scoringTeacher: [JobKey] = [
        JobKey("path", .path, .required, "Directory of a Hugging Face checkpoint."),
        JobKey("compute", compute, .value(.string("bf16")), "Arithmetic of its forward pass."),
        JobKey(
            "outputs",
            .either([
                .choice([
                    .init(name: "sampled", sentence: "the log-probability of the token that is there"),
                    .init(name: "full", sentence: "the log-probabilities of the whole vocabulary"),
                ]), .section(topOutputs),
            ]), .value(.string("sampled")), "What is kept of each position."),
    ]

    static let teacher: [JobKey] = [
        JobKey(
            "path", .path, .required, "Directory of a Hugging Face checkpoint with the policy's tokenizer.",
            .trl("teacher_model_name_or_path")),
        JobKey("compute", compute, .value(.string("bf16")), "Arithmetic of its forward pass."),
        JobKey(
            "divergence",
            .choice(
                DivergenceKind.self,
                [
                    .forward: "KL(teacher || student)", .reverse: "KL(student || teacher)", .mix: "half of each",
                    .jsd: "generalized Jensen-Shannon with beta",
                    .sampled: "reverse KL on the sampled tokens alone, as a policy gradient",
                ]), .value(.string("reverse")), "How far apart student and teacher are."),
        JobKey(
            "beta", .number(.closed(0, 1)), .value(.number(0.5)), "Of divergence jsd, as TRL's GKD has it."),
        JobKey(
            "temperature", .number(.above(0, upTo: 100)), .value(.number(1)), "Divides the logits of both."),
        JobKey(
            "weight", .number(.above(0, upTo: 1000)), .value(.number(1)),
            "Of the divergence, beside a reward's policy gradient or the data's cross-entropy."),
        JobKey(
            "top_k", .integer(1...4096), .none("the whole vocabulary"),
            "The teacher's most likely tokens, over which alone the divergence is.", .trl("loss_top_k")),
        JobKey(
            "tail", .boolean, .value(.boolean(true)),
            "With top_k: all other tokens together are one more outcome; otherwise both sides are normalised over the K.",
            .trl("loss_add_tail")),
        JobKey(
            "on_policy", .boolean, .value(.boolean(true)),
            "The student writes the texts; otherwise the data's answers are what both look at.",
            .trl("lmbda", "1 is true, 0 is false")),
        JobKey(
            "cross_entropy_weight", .number(.closed(0, 1000)), .value(.number(0)),
            "Of the cross-entropy on the data's answers, with on_policy: false."),
    ]

    static let rewardModel: [JobKey] = [
        JobKey(
            "path", .path, .required, "Directory of a checkpoint of method reward.", .verl("reward_model.model.path")),
        JobKey("compute", compute, .value(.string("bf16")), "Arithmetic of its forward pass."),
    ]

    static let judge: [JobKey] = [
        JobKey("path", .path, .none("an endpoint instead"), "A model of the cluster."),
        JobKey("compute", compute, .value(.string("bf16")), "Arithmetic of the model of path."),
        JobKey(
            "endpoint", .text(2048), .none("a model of the cluster instead"),
            "Address of an endpoint that speaks OpenAI's chat completions, such as https://host/v1.", .alias("base_url")
        ),
        JobKey("model", .text(256), .depends("an endpoint needs it"), "The model's name at the endpoint."),
        JobKey(
            "api_key_variable", .text(128), .none("no key is sent"),
            "Environment variable of the workers that holds the key of the endpoint."),
        JobKey(
            "prompt", .text(65_536), .none("a text that asks for a score from 0 to 10 by the reference answer"),
            "With {question}, {reference} and {response}; what comes back must end with \"Score: X\"."),
        JobKey("max_new_tokens", .integer(1...65_536), .value(.integer(512)), "Of the judge's answer.", unit: "tokens"),
        JobKey(
            "timeout_milliseconds", .integer(100...3_600_000), .value(.integer(60_000)),
            "Time of one question to an endpoint; it is asked three times.", unit: "milliseconds"),
    ]

    // MARK: - Data

    static let data: [JobKey] =
        [
            JobKey(
                "path", .path, .required,
                "File of rows (JSON lines, a JSON list, CSV, Parquet; the texts also as .gz), or the folder of a data set.",
                .trl("dataset_name", "a file or folder here"), .verl("data.train_files"))
        ] + dataChoice + [
            JobKey(
                "on_bad_row",
                .choice(
                    BadRowPolicy.self,
                    [
                        .skip: "leave it out and say so", .fail: "stop the job before it starts",
                    ]), .value(.string("fail")), "What to do with a row that cannot be used.",
                .verl("data.filter_overlong_prompts", "on_bad_row: skip leaves them out")),
            JobKey(
                "limit", .integer(counts), .none("all rows"), "Use the first good rows only.", unit: "rows",
                .verl("data.train_max_samples")),
            JobKey(
                "max_row_bytes", .byteCount(64...(64 << 20)), .value(.integer(1 << 20)),
                "Bytes of the longest row that is read."),
            JobKey(
                "system_prompt", .text(65_536), .none("none"),
                "Comes before conversations that have no system message of their own."),
            JobKey(
                "prompt_template", .text(65_536), .none("the prompt as it is"),
                "Makes the prompt of columns in braces, as Python's str.format, such as {question}; {{ and }} are braces."
            ),
            JobKey(
                "apply_chat_template", .boolean, .none("false, as in TRL; true with system_prompt"),
                "A prompt that is a text becomes a user's turn; otherwise it goes to the model as it is."),
            JobKey(
                "prompt_column", .text(128), .none("prompt, messages, question, problem, query or text"),
                "Column that holds the prompt when it has none of the usual names.", .verl("data.prompt_key")),
            JobKey(
                "answer_column", .text(128), .none("answer, solution, reference or ground_truth"),
                "Column that holds the reference answer when it has none of the usual names."),
        ]

    /// Which rows of a data set, and by which names.
    private static let dataChoice: [JobKey] = [
        JobKey(
            "split", .text(128), .none("train, or the only one"), "Split of a data set's folder.",
            .trl("dataset_train_split")),
        JobKey(
            "name", .text(256), .none("the data set's default"), "Configuration of a data set's folder.",
            .trl("dataset_config")),
        JobKey(
            "columns", .texts(64), .none("the usual names"),
            "Column of the file for each name that the job reads, such as {prompt: question, answer: solution}."),
    ]

    /// Questions of a suite's row.
    package static let rowData: [JobKey] =
        [JobKey("path", .path, .required, "File of rows, or the folder of a data set, beside the suite's file.")]
        + dataChoice

    static let mixture: [JobKey] = [
        JobKey(
            "weight", .number(.above(0, upTo: 1_000_000)), .value(.number(1)),
            "Share of the rows that come from this file, relative to the others'."),
        JobKey("teacher", .path, .none("teacher.path"), "A teacher of its own, of method distill."),
    ]

    // MARK: - Responses

    static let sampling: [JobKey] = [
        JobKey(
            "preset",
            .choice(
                SamplingPreset.self,
                [
                    .thinking: "Qwen3's model card for thinking: temperature 0.6, top_p 0.95, top_k 20",
                    .nonThinking: "Qwen3's model card without thinking: temperature 0.7, top_p 0.8, top_k 20",
                    .checkpoint: "what the checkpoint's generation_config.json says",
                ]), .none("kind rollout: the checkpoint's where nothing else is set; training: none"),
            "Where values that are not written come from."),
        JobKey(
            "temperature", .number(.closed(0, 100)), .checkpoint("the preset's, else 1", otherwise: .number(1)),
            "Divides the logits; 0 is greedy.", .verl("actor_rollout_ref.rollout.temperature")),
        JobKey(
            "top_p", .number(.above(0, upTo: 1)), .checkpoint("the preset's, else 1", otherwise: .number(1)),
            "Keeps the most likely tokens of this much probability; 1 is off.",
            .verl("actor_rollout_ref.rollout.top_p")),
        JobKey(
            "top_k", .integer(0...1_000_000), .checkpoint("the preset's, else 0", otherwise: .integer(0)),
            "Keeps the K most likely tokens; 0 is off.", .verl("actor_rollout_ref.rollout.top_k")),
        JobKey(
            "min_p", .number(.closed(0, 1)), .checkpoint("the preset's, else 0", otherwise: .number(0)),
            "Keeps tokens of at least this share of the likeliest one's probability; 0 is off."),
        JobKey(
            "repetition_penalty", .number(.above(0, upTo: 100)),
            .checkpoint("the preset's, else 1", otherwise: .number(1)),
            "Divides or multiplies logits of tokens that occurred, as transformers does; 1 is off."),
        JobKey(
            "presence_penalty", .number(.closed(-2, 2)), .value(.number(0)),
            "Taken from logits of tokens that occurred in the response; 0 is off."),
        JobKey(
            "max_new_tokens", .integer(1...1_048_576),
            .checkpoint(
                "1024, of a model that thinks 4096, and half of the checkpoint's context at most",
                otherwise: .integer(256)),
            "Tokens of one response at most, thinking included.", unit: "tokens",
            .alias("max_completion_length", of: .trl), .alias("max_tokens"), .trl("max_length", "responses alone here"),
            .verl("data.max_response_length"), .verl("actor_rollout_ref.rollout.response_length")),
        JobKey(
            "stop", .list(.text(256), 16), .value(.list([])),
            "Strings that end a response, besides the end-of-turn token."),
    ]

    static let thinking: [JobKey] = [
        JobKey(
            "mode",
            .choice(
                ThinkingMode.self,
                [
                    .on: "thinking", .off: "no thinking", .default: "whatever the template does when it is not told",
                ]), .value(.string("default")), "Whether the chat template asks for thinking.",
            .trl("enable_thinking", "true is on, false is off")),
        JobKey(
            "budget", .integer(1...1_048_576), .none("no budget"),
            "Tokens of thinking after which the stop-thinking text is forced.", unit: "tokens"),
        JobKey(
            "stop_text", .text(4096), .none("the text of Qwen's documentation"),
            "What is forced then; it must end the think block."),
    ]

    static let environment: [JobKey] = [
        JobKey(
            "tools", .list(.text(64), 16), .required, "Tools by their names: calculator, key_value, python, search."),
        JobKey("corpus", .path, .depends("the tool search needs one"), "JSON lines of documents for search."),
        JobKey(
            "turns", .integer(1...256), .value(.integer(8)),
            "Turns of the model at most; calls of the last one are not run.", .trl("max_tool_calling_iterations"),
            .verl("actor_rollout_ref.rollout.multi_turn.max_assistant_turns")),
        JobKey(
            "turn_tokens", .integer(1...1_048_576), .none("what sampling.max_new_tokens leaves"),
            "Tokens of one turn at most.", unit: "tokens"),
        JobKey(
            "call_milliseconds", .integer(10...600_000), .value(.integer(5_000)), "Time of one call.",
            unit: "milliseconds"),
        JobKey(
            "observation_bytes", .integer(16...1_048_576), .value(.integer(4_096)),
            "Bytes of one observation; the rest is cut.", unit: "bytes"),
        JobKey(
            "describe", .boolean, .value(.boolean(true)),
            "Whether the prompt describes the tools, as the chat template does."),
    ]

    // MARK: - Rewards

    static let reward: [JobKey] = [
        JobKey("name", .text(64), .required, "Name of a reward function."),
        JobKey(
            "weight", .number(.closed(-1_000_000, 1_000_000)), .value(.number(1)), "Factor in the sum.",
            .trl("reward_weights")),
        JobKey("options", .texts(32), .none("the function's own defaults"), "Options of the function."),
    ]

    static let advantage: [JobKey] = [
        JobKey(
            "preset",
            .choice(
                AdvantagePreset.self,
                [
                    .trl: "(r - mean) / (std + 1e-4)",
                    .verl: "(r - mean) / (std + 1e-6); a group of one keeps its reward", .drGRPO: "r - mean",
                ]), .value(.string("trl")), "Whose defaults the other keys have."),
        JobKey(
            "scale_rewards",
            .choice(
                RewardScale.self,
                [
                    .group: "the group's", .batch: "the batch's", .none: "nothing divides",
                ]), .depends("group; of preset dr_grpo none"), "Whose standard deviation divides.",
            .verl("algorithm.norm_adv_by_std_in_grpo")),
        JobKey(
            "unbiased", .boolean, .value(.boolean(true)), "The variance is divided by n - 1 instead of n."),
        JobKey(
            "epsilon", .number(.closed(0, 1)), .depends("1e-4 of preset trl, else 1e-6"),
            "Added to the standard deviation."),
        JobKey(
            "multi_objective_aggregation",
            .choice(
                RewardAggregation.self,
                [
                    .sumThenNormalize: "the weighted sum is normalised",
                    .normalizeThenSum: "each reward is normalised first",
                ]), .value(.string("sum_then_normalize")), "In which order several rewards are combined."),
    ]

    static let droppedGroups: [JobKey] = [
        JobKey(
            "policy",
            .choice(
                DroppedGroupPolicy.self,
                [
                    .keep: "all count", .dropZeroVariance: "groups whose rewards are all equal are left out",
                ]), .value(.string("keep")), "Which groups carry no signal and go.",
            .verl("algorithm.filter_groups.enable")),
        JobKey(
            "truncated",
            .choice(
                TruncatedPolicy.self,
                [
                    .keep: "they count with their reward", .drop: "they leave their group",
                ]), .value(.string("keep")), "What becomes of responses that hit max_new_tokens.",
            .trl("mask_truncated_completions")),
        JobKey(
            "failed",
            .choice(
                FailedPolicy.self,
                [
                    .dropMember: "it leaves its group", .dropGroup: "its whole group goes",
                ]), .value(.string("drop_member")), "What a response that could not be judged takes with it."),
    ]

    static let overlong: [JobKey] = [
        JobKey(
            "buffer", .integer(counts), .required,
            "The last tokens before max_new_tokens, over which the punishment grows.", unit: "tokens",
            .trl("soft_punish_cache"), .verl("reward_model.overlong_buffer.len")),
        JobKey(
            "penalty", .number(.above(0, upTo: 1_000_000)), .value(.number(1)), "At max_new_tokens.",
            .verl("reward_model.overlong_buffer.penalty_factor")),
    ]

    static let dynamicSampling: [JobKey] = [
        JobKey(
            "refills", .integer(1...64), .value(.integer(3)),
            "Times that a batch may generate rows_per_step groups more.",
            .verl("algorithm.filter_groups.max_num_gen_batches"))
    ]

    // MARK: - Training

    static let loss: [JobKey] = [
        JobKey(
            "preset",
            .choice(
                LossPreset.self,
                [
                    .dapo: "token mean over the step, clip 0.2 and 0.28 (Yu et al. 2025)",
                    .grpo: "mean over responses of their token means, clip 0.2 (Shao et al. 2024)",
                    .drGRPO: "token sums over a constant length, clip 0.2 (Liu et al. 2025)",
                    .gspo: "one ratio per response, clip 3e-4 and 4e-4 (Zheng et al. 2025)",
                    .cispo: "clamped importance weights on the log-probability (MiniMax-M1)",
                ]), .value(.string("dapo")), "Whose defaults the other keys have.", .trl("loss_type"),
            .verl("actor_rollout_ref.actor.policy_loss.loss_mode")),
        JobKey(
            "ratio_level",
            .choice(
                LossSection.Level.self,
                [
                    .token: "a ratio per token", .sequence: "a ratio per response",
                ]), .depends("token; of preset gspo sequence"), "What an importance ratio is of.",
            .trl("importance_sampling_level")),
        JobKey(
            "aggregation",
            .choice(
                LossSection.Aggregation.self,
                [
                    .token_mean: "over all tokens of the step", .sequence_mean: "over responses of their token means",
                    .constant_length: "token sums over constant_length",
                ]), .depends("the preset's"), "How tokens become one number.",
            .verl(
                "actor_rollout_ref.actor.loss_agg_mode", "token-mean is token_mean, seq-mean-token-mean sequence_mean")),
        JobKey(
            "clip_ratio_low", .number(.closed(0, 1)), .depends("the preset's"), "Clip of the ratio below 1.",
            .trl("epsilon", "which sets both clips"), .verl("actor_rollout_ref.actor.clip_ratio_low"),
            .verl("actor_rollout_ref.actor.clip_ratio", "which sets both clips")),
        JobKey(
            "clip_ratio_high", .number(.closed(0, 1000)), .depends("the preset's"), "Clip of the ratio above 1.",
            .alias("epsilon_high", of: .trl), .verl("actor_rollout_ref.actor.clip_ratio_high")),
        JobKey(
            "dual_clip", .number(.closed(1, 1000)), .none("off"), "Bound of the loss for negative advantages.",
            .trl("delta"), .verl("actor_rollout_ref.actor.clip_ratio_c")),
        JobKey(
            "constant_length", .integer(counts), .none("sampling.max_new_tokens"),
            "What token sums are divided by under aggregation constant_length.", unit: "tokens"),
        JobKey(
            "entropy_coef", .number(.closed(0, 10)), .value(.number(0)), "Coefficient of an entropy bonus.",
            .alias("entropy_coeff"), .verl("actor_rollout_ref.actor.entropy_coeff")),
        JobKey(
            "target_entropy", .number(.closed(0, 100)), .none("no controller"),
            "Entropy that a bonus is switched on to hold.", unit: "nats"),
        JobKey(
            "kl_coef", .number(.closed(0, 1000)), .value(.number(0)),
            "Coefficient of the divergence from the reference model; 0: none is loaded.", .trl("beta"),
            .verl("actor_rollout_ref.actor.kl_loss_coef"), .verl("algorithm.kl_ctrl.kl_coef")),
        JobKey(
            "kl_estimator",
            .choice(
                LossSection.Estimator.self,
                [
                    .k1: "log-ratio", .k2: "half its square", .k3: "ratio - 1 - log-ratio",
                ]), .depends("k3; in the reward k1"), "How the divergence is estimated.",
            .verl("actor_rollout_ref.actor.kl_loss_type", "low_var_kl is k3, mse is k2, kl is k1")),
        JobKey(
            "kl_in",
            .choice(
                LossSection.Place.self,
                [
                    .loss: "added to the loss", .reward: "taken from each token's advantage",
                ]), .value(.string("loss")), "Where the divergence goes.", .verl("algorithm.use_kl_in_reward"),
            .verl("actor_rollout_ref.actor.use_kl_loss")),
        JobKey(
            "kl_bias_correction", .boolean, .value(.boolean(false)),
            "The divergence is multiplied by the importance ratio.", .trl("use_bias_correction_kl")),
        JobKey(
            "off_policy_threshold", .number(.closed(0, 1000)), .none("none is left out"),
            "Responses with a negative advantage from which the policy has moved further than this, in mean "
                + "log-probability, are left out.", .trl("off_policy_mask_threshold")),
    ]

    static let optimizer: [JobKey] = [
        JobKey(
            "learning_rate", .number(.closed(0, 10)),
            .checkpoint(LearningRate.sentence, otherwise: .number(1e-6)), "Peak learning rate.",
            .alias("lr", of: .verl), .verl("actor_rollout_ref.actor.optim.lr")),
        JobKey(
            "beta1", .number(.closed(0, 0.999999)), .value(.number(0.9)), "Decay of the first moment.",
            .alias("adam_beta1", of: .trl)),
        JobKey(
            "beta2", .number(.closed(0, 0.999999)), .value(.number(0.95)), "Decay of the second moment.",
            .alias("adam_beta2", of: .trl)),
        JobKey(
            "epsilon", .number(.above(0, upTo: 1)), .value(.number(1e-8)), "Added to the root of the second moment.",
            .alias("adam_epsilon", of: .trl)),
        JobKey(
            "weight_decay", .number(.closed(0, 10)), .value(.number(0)), "Decoupled weight decay.",
            .verl("actor_rollout_ref.actor.optim.weight_decay")),
        JobKey(
            "max_grad_norm", .number(.closed(0, 1e9)), .value(.number(1)),
            "Norm that the gradient is clipped to; 0: never.", .verl("actor_rollout_ref.actor.grad_clip")),
        JobKey(
            "lr_scheduler",
            .choice(
                ScheduleKind.self,
                [
                    .constant: "after the warm-up", .linear: "down to 0", .cosine: "down to final_fraction",
                    .warmupStableDecay: "constant, then down from decay_start",
                ]), .value(.string("constant")), "How the learning rate runs.", .trl("lr_scheduler_type"),
            .verl("actor_rollout_ref.actor.optim.lr_scheduler_type")),
        JobKey(
            "warmup_steps", .integer(0...100_000_000), .value(.integer(0)),
            "Steps over which the learning rate rises from 0.", .trl("warmup_ratio", "counted in steps"),
            .verl("actor_rollout_ref.actor.optim.lr_warmup_steps"),
            .verl("actor_rollout_ref.actor.optim.lr_warmup_steps_ratio", "counted in steps")),
        JobKey(
            "decay_start", .number(.closed(0, 1)), .value(.number(0.7)),
            "Share of the steps after which warmup_stable_decay falls."),
        JobKey(
            "final_fraction", .number(.closed(0, 1)), .value(.number(0.1)),
            "Share of the learning rate at the end of cosine and warmup_stable_decay."),
        JobKey(
            "store",
            .choice(
                OptimizerStore.self,
                [
                    .memory: "in memory", .disk: "in files below the output, read and written once per step",
                ]), .value(.string("memory")), "Where master weights and moments lie between steps.",
            .verl("actor_rollout_ref.actor.fsdp_config.optimizer_offload")),
        JobKey(
            "resume", .boolean, .value(.boolean(false)),
            "Goes on with the moments and the count of updates of the starting checkpoint; otherwise both begin at zero.",
            .trl("resume_from_checkpoint", "an interrupted run goes on by the same command")),
    ]

    static let checkpoint: [JobKey] = [
        JobKey(
            "every", .integer(counts), .value(.integer(10)), "Steps between checkpoints; the last step has one.",
            unit: "steps", .trl("save_steps"), .verl("trainer.save_freq")),
        JobKey(
            "keep", .integer(1...10_000), .value(.integer(2)), "Checkpoints that are kept.", .trl("save_total_limit"),
            .verl("trainer.max_actor_ckpt_to_keep")),
    ]

    static let resources: [JobKey] = [
        JobKey(
            "workers_min", .integer(1...1024), .value(.integer(1)),
            "Workers that must have joined before the job starts.",
            .verl("trainer.nnodes")),
        JobKey(
            "memory_per_worker", .byteCount((1 << 24)...(1 << 46)), .none("what the worker offers"),
            "Memory of a worker that the job may take, weights included."),
        JobKey(
            "threads_per_worker", .integer(0...1024), .none("the worker's own, by apus worker --threads"),
            "Of jobs of earlier versions: 0, its only value."),
        JobKey(
            "kv_cache_bytes", .byteCount((1 << 16)...(1 << 46)),
            .checkpoint(
                "1GiB, or what four sequences of max_new_tokens and as long a prompt take", otherwise: .integer(1 << 30)
            ),
            "Key/value cache of a worker.", .trl("vllm_gpu_memory_utilization"),
            .verl("actor_rollout_ref.rollout.gpu_memory_utilization")),
        JobKey(
            "page_size", .integer(1...256), .value(.integer(64)), "Tokens of a page of the cache: a power of two.",
            unit: "tokens"),
        JobKey(
            "max_batch_tokens", .integer(1...1_048_576), .value(.integer(2048)), "Tokens of one forward pass.",
            unit: "tokens", .verl("actor_rollout_ref.rollout.max_num_batched_tokens")),
        JobKey(
            "max_sequences", .integer(1...65_536), .value(.integer(64)), "Sequences under way at once on a worker.",
            .verl("actor_rollout_ref.rollout.max_num_seqs")),
    ]
}
