// SPDX-License-Identifier: Apache-2.0
internal import Tensors

extension Qwen3Configuration {
    /// The version of transformers whose file form is written; newer versions read it too.
    package static let writtenVersion = "4.51.0"

    /// The text of config.json, byte for byte that of the released files for their configurations.
    package var fileText: String { json.prettyPrinted() }

    /// config.json in the form of the released files (transformers 4.51): every field written, since a reader's
    /// defaults differ from the released values. Qwen2's files have no head size, and no other reader may expect one
    /// there: it is written only where it differs from what they derive.
    package var json: JSONValue {
        var members: [JSONValue.Member] = [
            .init("architectures", .array([.string(architecture)])),
            .init("attention_dropout", .real(0)),
            .init("hidden_act", .string("silu")),
            .init("hidden_size", .integer(hiddenSize)),
            .init("initializer_range", .real(initializerRange)),
            .init("max_position_embeddings", .integer(maxPositionEmbeddings)),
            .init("model_type", .string(modelType.rawValue)),
            .init("num_attention_heads", .integer(attentionHeadCount)),
            .init("num_hidden_layers", .integer(layerCount)),
            .init("num_key_value_heads", .integer(keyValueHeadCount)),
            .init("rms_norm_eps", .real(rmsNormEpsilon)),
            .init("rope_scaling", ropeScaling?.json ?? .null),
            .init("rope_theta", ropeThetaJSON),
            .init("tie_word_embeddings", .bool(tieWordEmbeddings)),
            .init("transformers_version", .string(Qwen3Configuration.writtenVersion)),
            .init("use_cache", .bool(true)),
            .init("vocab_size", .integer(vocabularySize)),
        ]
        if family != .qwen2 {
            members.append(.init("attention_bias", .bool(attentionBias == .all)))
        }
        if family != .qwen2 || headSize * attentionHeadCount != hiddenSize {
            members.append(.init("head_dim", .integer(headSize)))
        }
        if family == .llama {
            members.append(.init("mlp_bias", .bool(false)))
        } else {
            members += [
                .init("max_window_layers", .integer(layerCount)), .init("sliding_window", .null),
                .init("use_sliding_window", .bool(false)),
            ]
        }
        // 0 stands for "not in the file", which is possible only without dense layers.
        if intermediateSize > 0 { members.append(.init("intermediate_size", .integer(intermediateSize))) }
        if let bosTokenID { members.append(.init("bos_token_id", .integer(bosTokenID))) }
        switch configuredEOSTokenIDs.count {
        case 0: break
        case 1: members.append(.init("eos_token_id", .integer(configuredEOSTokenIDs[0])))
        default:
            members.append(.init("eos_token_id", .array(configuredEOSTokenIDs.map { .integer($0) })))
        }
        if isRewardModel {
            members += [
                .init("id2label", .object([.init("0", .string("LABEL_0"))])),
                .init("label2id", .object([.init("LABEL_0", .integer(0))])),
            ]
            // transformers looks here for what a batch is filled up with, and pools at the last token before it.
            if let padTokenID { members.append(.init("pad_token_id", .integer(padTokenID))) }
        }
        if let storageType { members.append(.init("torch_dtype", .string(storageType.torchName))) }
        if let experts {
            members += [
                .init("decoder_sparse_step", .integer(experts.decoderSparseStep)),
                .init("mlp_only_layers", .array(experts.mlpOnlyLayers.map { .integer($0) })),
                .init("moe_intermediate_size", .integer(experts.intermediateSize)),
                .init("norm_topk_prob", .bool(experts.normTopKProb)),
                .init("num_experts", .integer(experts.expertCount)),
                .init("num_experts_per_tok", .integer(experts.expertsPerToken)),
                .init("output_router_logits", .bool(false)),
                .init("router_aux_loss_coef", .real(experts.routerAuxLossCoefficient)),
            ]
        }
        return .object(members)
    }

    /// The released dense files of Qwen3 write 1000000 and the others 1000000.0.
    private var ropeThetaJSON: JSONValue {
        if modelType == .dense, let integer = Int(exactly: ropeTheta) { return .integer(integer) }
        return .real(ropeTheta)
    }
}

extension RotaryScaling {
    /// The value of `rope_scaling`.
    var json: JSONValue {
        switch self {
        case .yarn(let yarn): yarn.json
        case .llama3(let llama3): llama3.json
        }
    }
}

extension Llama3Scaling {
    var json: JSONValue {
        .object([
            .init("factor", .real(factor)), .init("high_freq_factor", .real(highFrequencyFactor)),
            .init("low_freq_factor", .real(lowFrequencyFactor)),
            .init("original_max_position_embeddings", .integer(originalMaxPositionEmbeddings)),
            .init("rope_type", .string("llama3")),
        ])
    }
}

extension YaRNScaling {
    /// Fields that hold their default are left out, as the documentation does.
    var json: JSONValue {
        var members: [JSONValue.Member] = [
            .init("factor", .real(factor)),
            .init("original_max_position_embeddings", .integer(originalMaxPositionEmbeddings)),
            .init("rope_type", .string("yarn")),
        ]
        func add(_ key: String, _ value: Double?, unless standard: Double? = nil) {
            if let value, value != standard { members.append(.init(key, .real(value))) }
        }
        add("beta_fast", betaFast, unless: 32)
        add("beta_slow", betaSlow, unless: 1)
        add("attention_factor", attentionFactor)
        add("mscale", mscale)
        add("mscale_all_dim", mscaleAllDim)
        if !truncate { members.append(.init("truncate", .bool(false))) }
        return .object(members)
    }
}

extension ElementType {
    /// The name in config.json.
    var torchName: String {
        switch self {
        case .float32: "float32"
        case .bfloat16: "bfloat16"
        case .float16: "float16"
        }
    }
}
