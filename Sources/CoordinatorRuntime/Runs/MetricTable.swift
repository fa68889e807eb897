// SPDX-License-Identifier: Apache-2.0

/// Every figure that runs write, for the reference page. A figure of a name that is not here fails a test.
package enum MetricTable {
    /// A figure, or a family of them: `<…>` in its name stands for one word or more.
    package struct Metric: Sendable {
        package let name: String
        package let sentence: String
    }

    private static func metric(_ name: String, _ sentence: String) -> Metric { Metric(name: name, sentence: sentence) }

    /// In `metrics.jsonl` of training, a line per step.
    package static let training: [Metric] =
        [
            metric("step", "Number of the step, from 1."),
            metric("loss", "What was minimised: policy gradient, cross-entropy, divergence, together."),
            metric("learning_rate", "Of this step."),
            metric("grad_norm", "Norm of the whole gradient before it was clipped."),
            metric("num_tokens", "Tokens of the step's sequences, prompts included."),
            metric("num_rows", "Sequences that were learned from."),
            metric("cells", "Cells (micro-batches) of the step."),
            metric("skipped", "1 where every response was left out and nothing was learned."),
            metric("aux_loss", "The routers' load-balancing loss."),
            metric("distillation/divergence", "From the teacher, per token."),
            metric("kl", "Divergence from the reference model, per token."),
            metric("clip_ratio/low_mean", "Share of tokens whose ratio was clipped below."),
            metric("clip_ratio/high_mean", "Share of tokens whose ratio was clipped above."),
            metric("ratio_max", "Largest importance ratio; exactly 1 on policy."),
            metric(
                "logprob_drift_max",
                "Largest difference between a token's log-probability in generation and in training; 0 on policy."),
            metric("staleness", "Updates since the batch was generated."),
            metric(
                "accuracy", "Of method reward: share of pairs in which the preferred response has the higher scalar."),
            metric("margin", "Of method reward: mean difference of the pair's scalars."),
            metric("mean_reward", "Of method reward: mean scalar."),
            metric("max_reward", "Of method reward: largest scalar."),
            metric("min_reward", "Of method reward: smallest scalar."),
            metric("reward", "Mean reward of the step's responses."),
            metric("reward_std", "Standard deviation of the rewards."),
        ] + responses

    /// In both.
    private static let responses: [Metric] = [
        metric("entropy", "Of the policy's distribution, mean per token, in nats."),
        metric("frac_reward_zero_std", "Share of groups whose rewards are all equal."),
        metric("frac_groups_failed", "Share of groups of which no usable response came."),
        metric("completions/mean_length", "Tokens of a response on average."),
        metric("completions/min_length", "Tokens of the shortest response."),
        metric("completions/max_length", "Tokens of the longest response."),
        metric("completions/clipped_ratio", "Share of responses that did not stop by themselves."),
        metric("completions/truncated_ratio", "Share of responses that hit max_new_tokens."),
        metric("completions/failed_ratio", "Share of responses that could not be judged."),
        metric("rewards/<name>/mean", "Mean of one reward function."),
        metric("rewards/<name>/std", "Standard deviation of one reward function."),
        metric("environment/turns", "Turns of a trajectory on average."),
        metric("environment/calls", "Calls of tools in a trajectory on average."),
        metric("environment/invalid_calls", "Calls that could not be run, per trajectory."),
    ]

    /// In `metrics.jsonl` of rollouts and scores, one line of totals.
    package static let rollouts: [Metric] =
        [
            metric("reward", "Mean reward of all responses."),
            metric("num_tokens", "Tokens of all responses."),
            metric("pass@<k>", "Probability that one of k responses is right, unbiased; where rewards are 0 or 1."),
            metric("accuracy", "Of a reward model over preferences: share of pairs that it orders rightly."),
            metric("margin", "Of a reward model over preferences: mean difference of a pair's scalars."),
            metric("pairs", "Of a reward model over preferences: their number."),
        ] + responses

    /// In `metrics.jsonl` of evaluations (`apus eval count`, suites).
    package static let evaluations: [Metric] = [
        metric(
            "score", "Mean over questions, of all samples that were asked for; what could not be judged counts as 0."),
        metric("ci95", "Half of the score's 95 % interval."),
        metric("questions", "Questions."),
        metric("samples", "Samples of all questions."),
        metric("failed", "Samples that could not be judged."),
        metric("failed/<by>/<group>", "The same of one group."),
        metric("score_of_judged", "The score without samples that could not be judged."),
        metric("pass@<k>", "Probability that one of k samples is right, unbiased."),
        metric("pass@<k>/ci95", "Half of its 95 % interval."),
        metric("tokens", "Tokens of a sample on average."),
        metric("truncated", "Share of samples that hit max_new_tokens."),
        metric("rating", "Rating by the rows' difficulty."),
        metric("macro", "Mean of the groups' scores."),
        metric("family/<family>", "Mean of the scores of a family of groups."),
        metric("<by>/<group>", "Score of one group."),
    ]

    /// In `timing.jsonl`: what the clock says, different in every run.
    package static let timing: [Metric] = [
        metric("step", "Number of the step."),
        metric("step_time", "Seconds of the step."),
        metric("generation_time", "Seconds of generation and judging."),
        metric("training_time", "Seconds of the update."),
        metric("groups", "Groups that have ended."),
        metric("tokens_per_second", "Tokens by seconds."),
        metric("wall_time", "Seconds since 1970."),
    ]

    /// The reference page, in Markdown.
    package static var page: String {
        var lines = [
            "# Metrics: every figure of a run", "",
            "Made from the table of figures in `Sources/CoordinatorRuntime/Runs` by `Scripts/generate-reference`; not written "
                + "by hand. Names are TRL's where TRL has the figure. A figure that does not apply is left out of the line.",
            "",
        ]
        let tables = [
            ("Training: `metrics.jsonl`, a line per step, and TensorBoard events", training),
            ("Rollouts and scores: `metrics.jsonl`, one line", rollouts),
            ("Evaluations: `metrics.jsonl`, one line", evaluations),
            ("Times: `timing.jsonl`", timing),
        ]
        for (title, metrics) in tables {
            lines += ["## \(title)", "", "| figure | |", "|---|---|"]
            lines += metrics.map { "| `\($0.name)` | \($0.sentence) |" }
            lines.append("")
        }
        return lines.joined(separator: "\n")
    }
}
