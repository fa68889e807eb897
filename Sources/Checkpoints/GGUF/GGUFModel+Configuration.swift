// SPDX-License-Identifier: Apache-2.0
package import Tensors

extension GGUFModel {
    /// config.json of the checkpoint, whose weights are `elementType`.
    func configuration(_ elementType: ElementType, _ tokenizer: GGUFTokenizer.SpecialIDs) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("architectures", .array([.string(family.architecture)])),
            .init("attention_dropout", .real(0)),
            .init("hidden_act", .string("silu")),
            .init("hidden_size", .integer(shape.hiddenSize)),
            .init("initializer_range", .real(0.02)),
            .init("intermediate_size", .integer(shape.intermediateSize)),
            .init("max_position_embeddings", .integer(shape.contextLength)),
            .init("model_type", .string(family.modelType)),
            .init("num_attention_heads", .integer(shape.headCount)),
            .init("num_hidden_layers", .integer(shape.layerCount)),
            .init("num_key_value_heads", .integer(shape.keyValueHeadCount)),
            .init("rms_norm_eps", .real(shape.rmsNormEpsilon)),
            .init("rope_scaling", rotaryScaling),
            .init("rope_theta", .real(shape.ropeTheta)),
            .init("tie_word_embeddings", .bool(isTied)),
            .init("torch_dtype", .string(elementType.torchName)),
            .init("transformers_version", .string(Qwen3Configuration.writtenVersion)),
            .init("use_cache", .bool(true)),
            .init("vocab_size", .integer(shape.vocabularySize)),
        ]
        // Released Qwen2 files have no head_dim: it is always the quotient there.
        if family != .qwen2 || shape.headCount * shape.headSize != shape.hiddenSize {
            members.append(.init("head_dim", .integer(shape.headSize)))
        }
        if family != .qwen2 { members.append(.init("attention_bias", .bool(false))) }
        if family == .llama { members.append(.init("mlp_bias", .bool(false))) }
        if family != .llama {
            members += [
                .init("max_window_layers", .integer(shape.layerCount)), .init("sliding_window", .null),
                .init("use_sliding_window", .bool(false)),
            ]
        }
        if let id = tokenizer.beginning { members.append(.init("bos_token_id", .integer(id))) }
        if let id = tokenizer.padding { members.append(.init("pad_token_id", .integer(id))) }
        if let ends = GGUFModel.idList(tokenizer.ends) { members.append(.init("eos_token_id", ends)) }
        if let experts = shape.experts {
            members += [
                .init("decoder_sparse_step", .integer(1)),
                .init("mlp_only_layers", .array([])),
                .init("moe_intermediate_size", .integer(experts.intermediateSize)),
                .init("norm_topk_prob", .bool(experts.normTopKProb)),
                .init("num_experts", .integer(experts.count)),
                .init("num_experts_per_tok", .integer(experts.perToken)),
                .init("output_router_logits", .bool(false)),
                .init("router_aux_loss_coef", .real(0.001)),
            ]
        }
        return .object(members)
    }

    /// generation_config.json: what ends a text, and how to sample where the file recommends it.
    func generationConfiguration(_ tokenizer: GGUFTokenizer.SpecialIDs) throws -> JSONValue {
        var members: [JSONValue.Member] = []
        if let id = tokenizer.beginning { members.append(.init("bos_token_id", .integer(id))) }
        if let ends = GGUFModel.idList(tokenizer.ends) { members.append(.init("eos_token_id", ends)) }
        if let id = tokenizer.padding { members.append(.init("pad_token_id", .integer(id))) }
        for (key, name) in [("temp", "temperature"), ("top_p", "top_p")] {
            guard let value = try file.real("general.sampling.\(key)") else { continue }
            members += [.init(name, .real(value))]
        }
        if let count = try file.integer("general.sampling.top_k", 0...Qwen3Configuration.Limits.vocabularySize) {
            members.append(.init("top_k", .integer(count)))
        }
        if members.contains(where: { ["temperature", "top_p", "top_k"].contains($0.key) }) {
            members.append(.init("do_sample", .bool(true)))
        }
        members.append(.init("transformers_version", .string(Qwen3Configuration.writtenVersion)))
        return .object(members)
    }

    /// One id as a number, several as a list.
    private static func idList(_ ids: [Int]) -> JSONValue? {
        switch ids.count {
        case 0: nil
        case 1: .integer(ids[0])
        default: .array(ids.map { .integer($0) })
        }
    }
}
