// SPDX-License-Identifier: Apache-2.0

/// `judge:` who speaks the reward `judge`: a model of the cluster, or any endpoint that speaks OpenAI's chat completions.
package struct JudgeSection: Equatable, Sendable {
    package enum Source: Equatable, Sendable {
        case model(path: String, compute: ComputeType)
        /// `key`: name of the environment variable of the workers that holds the key; it is never written down.
        case endpoint(url: String, model: String, key: String?)
    }

    package let source: Source
    /// With `{question}`, `{reference}` and `{response}`; what comes back must end with `Score: X`.
    package let prompt: String
    package let maxNewTokens: Int
    /// Time of one question to an endpoint; it is asked three times before the response is given up as failed.
    package let timeoutMilliseconds: Int

    package static let standardPrompt = """
        Judge the response to a question by the reference answer. What counts is whether the response is right and \
        complete; its form does not matter.

        Question:
        {question}

        Reference answer:
        {reference}

        Response:
        {response}

        Say in a few sentences what is right and wrong. Then write, on a line of its own, a score from 0 (wrong) to 10 \
        (fully right) in the form "Score: X".
        """

    init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.judge)
        switch (fields["path"], fields["endpoint"]) {
        case (let path?, nil):
            for key in ["model", "api_key_variable"] where fields[key] != nil {
                throw fields.error(key, "is for an endpoint; remove it")
            }
            source = .model(path: try path.filePath(), compute: try fields.choice("compute"))
        case (nil, let endpoint?):
            let url = try endpoint.string()
            guard let address = JudgeAddress(url) else {
                throw endpoint.error(.invalidValue, "expected an address such as https://host/v1")
            }
            guard address.isEncrypted || address.isLoopback else {
                throw endpoint.error(
                    .invalidValue, "sends responses and the key unencrypted to \(address.host); use https")
            }
            source = .endpoint(
                url: url, model: try fields.required("model").string(),
                key: try fields["api_key_variable"]?.string())
        default: throw reader.error(.invalidValue, "give either path, a model of the cluster, or endpoint")
        }
        prompt = try fields["prompt"]?.string() ?? Self.standardPrompt
        guard prompt.contains("{response}") else {
            throw fields.error("prompt", "does not show the response; it needs {response}")
        }
        maxNewTokens = try fields.integer("max_new_tokens")
        timeoutMilliseconds = try fields.integer("timeout_milliseconds")
    }

    /// Reads `judge:`, which belongs with the reward of that name.
    static func read(_ fields: YAMLFields, _ rewards: [RewardSection]) throws(JobError) -> JudgeSection? {
        let isRewarded = rewards.contains { $0.name == "judge" }
        guard let reader = fields["judge"] else {
            if isRewarded { throw fields.error("judge", "the reward 'judge' needs one: path or endpoint") }
            return nil
        }
        // Rows of the reward 'task' may name the judge.
        guard isRewarded || rewards.contains(where: { $0.name == "task" }) else {
            throw reader.error(.invalidValue, "is for the reward 'judge'; add it or remove this")
        }
        return try JudgeSection(reader)
    }

    var resolved: ResolvedValue {
        var entries: [String: ResolvedValue?] = [
            "prompt": .string(prompt), "max_new_tokens": .integer(maxNewTokens),
            "timeout_milliseconds": .integer(timeoutMilliseconds),
        ]
        switch source {
        case .model(let path, let compute):
            entries["path"] = .string(path)
            entries["compute"] = .string(compute.rawValue)
        case .endpoint(let url, let model, let key):
            entries["endpoint"] = .string(url)
            entries["model"] = .string(model)
            entries["api_key_variable"] = key.map { .string($0) }
        }
        return .section(entries)
    }
}
