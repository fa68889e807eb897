// SPDX-License-Identifier: Apache-2.0

/// Arithmetic of the forward pass; a property of the job, whatever the dtype of the stored weights.
package enum ComputeType: String, CaseIterable, Sendable {
    case fp32, bf16

    /// Bytes of one key or value element in the cache.
    package var byteCount: Int { self == .fp32 ? 4 : 2 }
}

/// `model:` the policy that generates, or the model that scores.
package struct ModelSection: Equatable, Sendable {
    /// Directory of a Hugging Face checkpoint. See ``BaseDirectories`` for relative paths.
    package let path: String
    package let compute: ComputeType
    /// Copies of each expert shard (or of a dense model) among the workers.
    package let replicas: Int
    /// Longer contexts by YaRN, whatever the checkpoint's configuration says; nil: as it says.
    package let yarnFactor: Double?
    /// Context that YaRN extends, in tokens; nil: the configuration's.
    package let originalContext: Int?

    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.model, short: "path")
        yarnFactor = try fields["yarn_factor"]?.number()
        originalContext = try fields["original_context"]?.integer()
        if originalContext != nil, yarnFactor == nil {
            throw fields.error("original_context", "is for yarn_factor; set it or remove this")
        }
        path = try fields.required("path").filePath()
        compute = try fields.choice("compute")
        replicas = try fields.integer("replicas")
    }

    package var resolved: ResolvedValue {
        .section([
            "path": .string(path), "compute": .string(compute.rawValue), "replicas": .integer(replicas),
            "yarn_factor": yarnFactor.map { .number($0) }, "original_context": originalContext.map { .integer($0) },
        ])
    }
}

/// What a scoring pass keeps of each position.
package enum TeacherOutputs: Equatable, Sendable {
    /// The log-probability of the token that is there.
    case sampled
    /// Also the K most likely tokens with their log-probabilities.
    case topK(Int)
    /// All vocabulary rows.
    case full

    /// Reads `sampled`, `full` or `{top_k: K}` (also `top_k: K` as the words of one string).
    package init(_ reader: YAMLReader) throws(JobError) {
        if case .mapping = reader.node.content {
            self = .topK(try reader.fields(JobSchema.topOutputs).required("top_k").integer())
            return
        }
        switch try reader.text() {
        case "sampled": self = .sampled
        case "full": self = .full
        case let other:
            throw reader.error(.invalidValue, "'\(other)' is not one of sampled, full, {top_k: K}")
        }
    }

    package var resolved: ResolvedValue {
        switch self {
        case .sampled: .string("sampled")
        case .topK(let count): .mapping(["top_k": .integer(count)])
        case .full: .string("full")
        }
    }
}

/// `teacher:` a frozen model that scores the policy's rollouts.
package struct TeacherSection: Equatable, Sendable {
    package let path: String
    package let compute: ComputeType
    package let outputs: TeacherOutputs

    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.scoringTeacher, short: "path")
        path = try fields.required("path").filePath()
        compute = try fields.choice("compute")
        outputs = if let reader = fields["outputs"] { try TeacherOutputs(reader) } else { .sampled }
    }

    package var resolved: ResolvedValue {
        .section([
            "path": .string(path), "compute": .string(compute.rawValue), "outputs": outputs.resolved,
        ])
    }
}
