// SPDX-License-Identifier: Apache-2.0

extension Qwen3Configuration {
    /// Refuses what would change the numbers and is not implemented. Derivatives of the released models carry many
    /// further keys; only those that matter are looked at.
    static func refuseForeignFeatures(_ fields: ConfigurationFields, _ modelType: ModelType) throws {
        if try fields.bool(["mlp_bias"]) == true {
            throw fields.unsupported("mlp_bias", .bool(true), "Apus adds biases to the projections of attention only")
        }
        if modelType.family == .qwen3 {
            if try fields.bool(["qkv_bias"]) == true {
                throw fields.unsupported("qkv_bias", .bool(true), "Qwen3 has no biases, or 'attention_bias'")
            }
            if try fields.bool(["use_qk_norm"]) == false {
                throw fields.unsupported("use_qk_norm", .bool(false), "Qwen3 always normalises queries and keys")
            }
        }
        if let activation = try fields.string(["hidden_act"]), activation != "silu", activation != "swish" {
            throw fields.unsupported("hidden_act", .string(activation), "Apus computes \"silu\"")
        }
        if let dropout = try fields.real(["attention_dropout"], 0...1), dropout != 0 {
            throw fields.unsupported("attention_dropout", .real(dropout), "set it to 0.0")
        }
        let shared = try fields.integer(["shared_expert_intermediate_size"], 0...Limits.intermediateSize) ?? 0
        if shared > 0 {
            throw fields.unsupported("shared_expert_intermediate_size", .integer(shared), "Qwen3 has none")
        }
        try refuseSlidingWindow(fields, modelType)
    }

    private static func refuseSlidingWindow(_ fields: ConfigurationFields, _ modelType: ModelType) throws {
        if let types = try fields.strings(["layer_types"]),
            let other = types.first(where: { $0 != "full_attention" })
        {
            throw fields.unsupported("layer_types", .string(other), "Apus computes \"full_attention\"")
        }
        // Llama's classes have no window, whatever the file says.
        guard modelType != .llama, try fields.bool(["use_sliding_window"]) == true else { return }
        // null is no window, an absent field transformers' default.
        let window =
            try fields.integer(["sliding_window"], 1...Int.max) ?? (fields.contains("sliding_window") ? nil : 4_096)
        guard let window else { return }
        // In dense models the first max_window_layers layers attend to everything all the same.
        if modelType != .moe {
            if fields["layer_types"] != nil { return }
            let full = try fields.integer(["max_window_layers"], 0...Int.max) ?? 28
            if let layers = try fields.integer(["num_hidden_layers"], 0...Int.max), full >= layers { return }
        }
        throw fields.unsupported(
            "sliding_window", .integer(window),
            "Apus has no sliding window; set 'use_sliding_window' to false")
    }

    /// Checks what the fields must be to each other. `file` names them in errors.
    /// - Throws: `invalidConfiguration`.
    package func validate(file: String) throws {
        func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
            guard condition else { throw CheckpointError(.invalidConfiguration, message(), file: file) }
        }
        let sizes = [
            ("hidden_size", hiddenSize, Limits.hiddenSize),
            ("num_hidden_layers", layerCount, Limits.layerCount),
            ("num_attention_heads", attentionHeadCount, Limits.headCount),
            ("num_key_value_heads", keyValueHeadCount, Limits.headCount),
            ("head_dim", headSize, Limits.headSize),
            ("vocab_size", vocabularySize, Limits.vocabularySize),
            ("max_position_embeddings", maxPositionEmbeddings, Limits.maxPositionEmbeddings),
        ]
        for (name, value, limit) in sizes {
            try require((1...limit).contains(value), "'\(name)' is \(value), expected 1 to \(limit)")
        }
        try require(
            attentionHeadCount % keyValueHeadCount == 0,
            "'num_attention_heads' \(attentionHeadCount) is no multiple of 'num_key_value_heads' "
                + "\(keyValueHeadCount)")
        try require(headSize % 2 == 0, "'head_dim' \(headSize) is odd; rotary embeddings need pairs")
        try require(
            (0..<layerCount).allSatisfy(isMoELayer)
                || (1...Limits.intermediateSize).contains(intermediateSize),
            "field 'intermediate_size' is missing or out of range, and the model has dense layers")
        if let experts {
            try require(
                (1...Limits.expertCount).contains(experts.expertCount)
                    && (1...experts.expertCount).contains(experts.expertsPerToken),
                "'num_experts_per_tok' \(experts.expertsPerToken) of 'num_experts' \(experts.expertCount)")
            try require(
                layerCount * experts.expertCount <= Limits.expertTotal,
                "\(layerCount) layers of \(experts.expertCount) experts, at most \(Limits.expertTotal) experts "
                    + "in all are supported")
            try require(experts.decoderSparseStep >= 1, "'decoder_sparse_step' must be at least 1")
        }
        for id in eosTokenIDs + [bosTokenID, padTokenID].compactMap({ $0 }) {
            try require(
                (0..<vocabularySize).contains(id),
                "token id \(id) is outside the vocabulary of \(vocabularySize)")
        }
        let widest = max(
            vocabularySize, querySize, intermediateSize, 2 * moeIntermediateSize * max(1, expertCount))
        try require(
            widest * hiddenSize <= Limits.tensorElementCount,
            "a tensor of \(widest) x \(hiddenSize) elements, at most \(Limits.tensorElementCount) are supported"
        )
    }
}
