// SPDX-License-Identifier: Apache-2.0

/// How far apart student and teacher are.
package enum DivergenceKind: String, CaseIterable, Sendable {
    /// KL(teacher || student).
    case forward
    /// KL(student || teacher).
    case reverse
    /// Half of each.
    case mix
    /// Jensen-Shannon, `beta` as TRL's GKD.
    case jsd
    /// Reverse KL on the sampled tokens alone, as a policy gradient whose advantage is log p_teacher - log p.
    case sampled
}

/// `teacher:` of a distillation: a frozen model whose whole distribution the student's is drawn to.
package struct DistillationSection: Equatable, Sendable {
    package let path: String
    package let compute: ComputeType
    package let divergence: DivergenceKind
    package let beta: Double
    /// Of both distributions.
    package let temperature: Double
    /// The teacher's most likely tokens, over which alone the divergence is; nil: the whole vocabulary.
    package let topK: Int?
    /// Whether all other tokens together are one more outcome; otherwise both sides are normalised over the K.
    package let hasTail: Bool
    /// Of the divergence beside a task reward's policy gradient, or beside the data's cross-entropy.
    package let weight: Double
    /// Whether the student writes the texts; otherwise the data's answers are what both models look at.
    package let isOnPolicy: Bool
    /// Of the cross-entropy on the data's answers, off policy.
    package let crossEntropyWeight: Double

    init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.teacher, short: "path")
        isOnPolicy = try fields.boolean("on_policy")
        crossEntropyWeight = try fields.number("cross_entropy_weight")
        if isOnPolicy, crossEntropyWeight > 0 {
            throw fields.error("cross_entropy_weight", "is for the data's answers; set on_policy: false")
        }
        path = try fields.required("path").filePath()
        compute = try fields.choice("compute")
        divergence = try fields.choice("divergence")
        beta = try fields.number("beta")
        temperature = try fields.number("temperature")
        weight = try fields.number("weight")
        topK = try fields["top_k"]?.integer()
        hasTail = try fields.boolean("tail")
        if topK == nil, fields["tail"] != nil { throw fields.error("tail", "is of top_k; set that or remove this") }
        if topK != nil, divergence == .sampled {
            throw fields.error("top_k", "divergence sampled looks at one token; remove it")
        }
        if divergence == .sampled, !isOnPolicy {
            throw fields.error("divergence", "sampled needs the student's own samples; set another")
        }
        if divergence == .jsd, beta == 0 || beta == 1 {
            throw fields.error("beta", "at 0 and 1 the divergence is none; use divergence: forward or reverse")
        }
    }

    package var resolved: ResolvedValue {
        .section([
            "path": .string(path), "compute": .string(compute.rawValue), "divergence": .string(divergence.rawValue),
            "beta": .number(beta), "temperature": .number(temperature), "weight": .number(weight),
            "top_k": topK.map { .integer($0) }, "tail": topK == nil ? nil : .boolean(hasTail),
            "on_policy": .boolean(isOnPolicy),
            "cross_entropy_weight": isOnPolicy ? nil : .number(crossEntropyWeight),
        ])
    }
}

/// `overlong:` soft punishment of long responses (Yu et al. 2025): nothing up to `max_new_tokens` less `buffer`, then
/// linearly down to -`penalty` at `max_new_tokens`, added to the reward.
package struct OverlongSection: Equatable, Sendable {
    package let buffer: Int
    package let penalty: Double
    package let maxNewTokens: Int

    init(_ reader: YAMLReader, maxNewTokens: Int) throws(JobError) {
        let fields = try reader.fields(JobSchema.overlong)
        buffer = try fields.required("buffer").integer()
        penalty = try fields.number("penalty")
        self.maxNewTokens = maxNewTokens
        guard buffer <= maxNewTokens else {
            throw fields.error("buffer", "\(buffer) is more than sampling.max_new_tokens, \(maxNewTokens)")
        }
    }

    /// What a response of `count` tokens earns beside its reward.
    package func value(tokenCount count: Int) -> Double {
        let excess = count - (maxNewTokens - buffer)
        return excess <= 0 ? 0 : -penalty * Double(excess) / Double(buffer)
    }

    package var resolved: ResolvedValue { .section(["buffer": .integer(buffer), "penalty": .number(penalty)]) }
}

/// Named sets of loss settings.
package enum LossPreset: String, CaseIterable, Sendable {
    /// Token mean over the step, clip 0.2 and 0.28 (Yu et al. 2025).
    case dapo
    /// Mean over responses of their token means (Shao et al. 2024).
    case grpo
    /// Token sums over a constant length (Liu et al. 2025).
    case drGRPO = "dr_grpo"
    /// One ratio per response, with a clip of its own size (Zheng et al. 2025).
    case gspo
    /// Clamped importance weights on the log-probability (MiniMax-M1), bounds absolute.
    case cispo
}

/// `loss:` the policy gradient; names as in verl and TRL.
package struct LossSection: Equatable, Sendable {
    package let preset: LossPreset
    package let form: String
    package let ratioLevel: String
    package let aggregation: String
    package let clipRatioLow: Double
    package let clipRatioHigh: Double
    package let dualClip: Double?
    /// Length that token sums are divided by under `constant_length`; nil is `sampling.max_new_tokens`.
    package let constantLength: Int?
    package let entropyCoefficient: Double
    /// Entropy that a bonus is switched on to hold; nil: no controller.
    package let targetEntropy: Double?

    /// Coefficient of the divergence from the reference model; 0: none.
    package let klCoefficient: Double
    package let klEstimator: String
    /// Whether it is subtracted from each token's advantage, not added to the loss.
    package let klInReward: Bool
    /// Whether the divergence is multiplied by the importance ratio.
    package let klBiasCorrection: Bool
    /// Responses with a negative advantage from which the policy has moved further than this, in mean log-probability,
    /// are left out; nil: none.
    package let offPolicyThreshold: Double?

    enum Estimator: String, CaseIterable { case k1, k2, k3 }
    enum Place: String, CaseIterable { case loss, reward }
    enum Aggregation: String, CaseIterable { case token_mean, sequence_mean, constant_length }
    enum Level: String, CaseIterable { case token, sequence }

    init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.loss)
        klBiasCorrection = try fields.boolean("kl_bias_correction")
        offPolicyThreshold = try fields["off_policy_threshold"]?.number()
        klCoefficient = try fields.number("kl_coef")
        let place: Place = try fields.choice("kl_in")
        klInReward = place == .reward
        let estimator: Estimator = try fields.choice("kl_estimator", default: klInReward ? .k1 : .k3)
        klEstimator = estimator.rawValue
        if estimator == .k1, !klInReward {
            throw fields.error(
                "kl_estimator", "k1 as a loss has no gradient in expectation; use k2 or k3, or set kl_in: reward")
        }
        if estimator != .k1, klInReward {
            throw fields.error("kl_estimator", "in the reward the divergence is k1; remove it")
        }
        preset = try fields.choice("preset")
        form = preset == .cispo ? "cispo" : "clipped"
        let level: Level = try fields.choice("ratio_level", default: preset == .gspo ? .sequence : .token)
        ratioLevel = level.rawValue
        let aggregation: Aggregation = try fields.choice(
            "aggregation",
            default: preset == .drGRPO
                ? .constant_length : preset == .grpo || preset == .gspo ? .sequence_mean : .token_mean)
        self.aggregation = aggregation.rawValue
        let (low, high): (Double, Double) =
            switch preset {
            case .dapo: (0.2, 0.28)
            case .gspo: (3e-4, 4e-4)
            case .cispo: (0, 5)
            case .grpo, .drGRPO: (0.2, 0.2)
            }
        clipRatioLow = try fields.number("clip_ratio_low", default: low)
        clipRatioHigh = try fields.number("clip_ratio_high", default: high)
        dualClip = try fields["dual_clip"]?.number()
        constantLength = try fields["constant_length"]?.integer()
        entropyCoefficient = try fields.number("entropy_coef")
        targetEntropy = try fields["target_entropy"]?.number()
        if targetEntropy != nil, entropyCoefficient != 0 {
            throw fields.error("target_entropy", "the controller sets the coefficient itself; remove entropy_coef")
        }
    }

    package var resolved: ResolvedValue {
        .section([
            "preset": .string(preset.rawValue), "ratio_level": .string(ratioLevel), "aggregation": .string(aggregation),
            "clip_ratio_low": .number(clipRatioLow), "clip_ratio_high": .number(clipRatioHigh),
            "dual_clip": dualClip.map { .number($0) }, "constant_length": constantLength.map { .integer($0) },
            "kl_coef": .number(klCoefficient), "kl_estimator": .string(klEstimator),
            "kl_in": .string(klInReward ? "reward" : "loss"), "kl_bias_correction": .boolean(klBiasCorrection),
            "off_policy_threshold": offPolicyThreshold.map { .number($0) },
            "entropy_coef": .number(entropyCoefficient), "target_entropy": targetEntropy.map { .number($0) },
        ])
    }
}

/// How the learning rate runs.
package enum ScheduleKind: String, CaseIterable, Sendable {
    case constant, linear, cosine
    case warmupStableDecay = "warmup_stable_decay"
}

/// Where master weights and moments lie between steps.
package enum OptimizerStore: String, CaseIterable, Sendable {
    case memory
    /// In files below the output, read and written once per step.
    case disk
}

/// `optimizer:` AdamW and its schedule.
package struct OptimizerSection: Equatable, Sendable {
    package let learningRate: Double
    package let beta1: Double
    package let beta2: Double
    package let epsilon: Double
    package let weightDecay: Double
    /// nil: gradients are never clipped.
    package let maxGradientNorm: Double?
    package let schedule: ScheduleKind
    package let warmupSteps: Int
    package let decayStart: Double
    package let finalFraction: Double
    package let store: OptimizerStore
    /// Whether the moments of the starting checkpoint, and its count of updates, go on; otherwise both begin at zero.
    package let resumes: Bool

    init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.optimizer)
        resumes = try fields.boolean("resume")
        store = try fields.choice("store")
        learningRate = try fields.number("learning_rate")
        beta1 = try fields.number("beta1")
        beta2 = try fields.number("beta2")
        epsilon = try fields.number("epsilon")
        weightDecay = try fields.number("weight_decay")
        let norm = try fields.number("max_grad_norm")
        maxGradientNorm = norm == 0 ? nil : norm
        schedule = try fields.choice("lr_scheduler")
        warmupSteps = try fields.integer("warmup_steps")
        decayStart = try fields.number("decay_start")
        finalFraction = try fields.number("final_fraction")
    }

    package var resolved: ResolvedValue {
        .section([
            "learning_rate": .number(learningRate), "beta1": .number(beta1), "beta2": .number(beta2),
            "epsilon": .number(epsilon), "weight_decay": .number(weightDecay),
            "max_grad_norm": .number(maxGradientNorm ?? 0), "lr_scheduler": .string(schedule.rawValue),
            "warmup_steps": .integer(warmupSteps), "decay_start": .number(decayStart),
            "final_fraction": .number(finalFraction), "store": .string(store.rawValue),
            "resume": .boolean(resumes),
        ])
    }
}
