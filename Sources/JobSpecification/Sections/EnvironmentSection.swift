// SPDX-License-Identifier: Apache-2.0

/// `environment:` tools that the model may call. A response is then a trajectory: turns of the model, each followed by
/// what its calls came to, until a turn without a call. Observations carry no loss.
package struct EnvironmentSection: Equatable, Sendable {
    /// By their names in the registry.
    package let tools: [String]
    /// JSON lines of documents for `search`.
    package let corpus: String?
    /// Turns of the model at most; calls of the last one are not run.
    package let turnsMax: Int
    /// Tokens of one turn at most; nil is what `sampling.max_new_tokens` leaves.
    package let turnTokensMax: Int?
    package let callMilliseconds: Int
    /// Bytes of one observation; the rest is cut.
    package let observationByteCount: Int
    /// Whether the prompt describes the tools, as the chat template does.
    package let describesTools: Bool

    init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.environment)
        var tools: [String] = []
        for item in try fields.required("tools").items() { tools.append(try item.string()) }
        guard !tools.isEmpty, Set(tools).count == tools.count else {
            throw fields.error("tools", "name each tool once, and one at least")
        }
        self.tools = tools
        corpus = try fields["corpus"]?.filePath()
        if tools.contains("search") != (corpus != nil) {
            throw fields.error(
                "corpus", corpus == nil ? "the tool 'search' needs one" : "is for the tool 'search'; remove it")
        }
        turnsMax = try fields.integer("turns")
        turnTokensMax = try fields["turn_tokens"]?.integer()
        callMilliseconds = try fields.integer("call_milliseconds")
        observationByteCount = try fields.integer("observation_bytes")
        describesTools = try fields.boolean("describe")
    }

    var resolved: ResolvedValue {
        .section([
            "tools": .list(tools.map { .string($0) }), "corpus": corpus.map { .string($0) },
            "turns": .integer(turnsMax), "turn_tokens": turnTokensMax.map { .integer($0) },
            "call_milliseconds": .integer(callMilliseconds), "observation_bytes": .integer(observationByteCount),
            "describe": .boolean(describesTools),
        ])
    }
}
