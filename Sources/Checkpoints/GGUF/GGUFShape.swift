// SPDX-License-Identifier: Apache-2.0

/// The sizes of a model, from the metadata of its GGUF file.
struct GGUFShape: Hashable, Sendable {
    struct Experts: Hashable, Sendable {
        let count: Int
        let perToken: Int
        let intermediateSize: Int
        let normTopKProb: Bool
    }

    let layerCount: Int
    let hiddenSize: Int
    let headCount: Int
    let keyValueHeadCount: Int
    let headSize: Int
    let intermediateSize: Int
    /// Rows of the embedding.
    let vocabularySize: Int
    let contextLength: Int
    let rmsNormEpsilon: Double
    let ropeTheta: Double
    let experts: Experts?

    var querySize: Int { headCount * headSize }
    var keyValueSize: Int { keyValueHeadCount * headSize }

    init(_ file: GGUFFile, _ family: GGUFModel.Family) throws {
        typealias Limits = Qwen3Configuration.Limits
        let prefix = family.rawValue + "."
        try GGUFShape.refuseForeignFeatures(file, prefix, family)
        layerCount = try file.required(prefix + "block_count", 1...Limits.layerCount)
        hiddenSize = try file.required(prefix + "embedding_length", 1...Limits.hiddenSize)
        headCount = try file.required(prefix + "attention.head_count", 1...Limits.headCount)
        keyValueHeadCount = try file.integer(prefix + "attention.head_count_kv", 1...Limits.headCount) ?? headCount
        contextLength = try file.required(prefix + "context_length", 1...Limits.maxPositionEmbeddings)
        let keyLength = try file.integer(prefix + "attention.key_length", 1...Limits.headSize)
        guard keyLength != nil || hiddenSize % headCount == 0 else {
            throw file.invalid("\(hiddenSize) elements in \(headCount) heads leave a rest")
        }
        headSize = keyLength ?? hiddenSize / headCount
        let valueLength = try file.integer(prefix + "attention.value_length", 1...Limits.headSize) ?? headSize
        guard valueLength == headSize else {
            throw file.unsupported("heads of \(headSize) for keys and \(valueLength) for values", "they must be equal")
        }
        let rotary = try file.integer(prefix + "rope.dimension_count", 1...Limits.headSize) ?? headSize
        guard rotary == headSize else {
            throw file.unsupported("'\(prefix)rope.dimension_count' \(rotary) of \(headSize)", "all must turn")
        }
        guard let epsilon = try file.real(prefix + "attention.layer_norm_rms_epsilon") else {
            throw file.invalid("the metadata lack '\(prefix)attention.layer_norm_rms_epsilon'")
        }
        rmsNormEpsilon = epsilon
        ropeTheta = try file.real(prefix + "rope.freq_base") ?? 10_000
        guard let embedding = file.tensor("token_embd.weight"), embedding.shape.count == 2 else {
            throw file.invalid("has no matrix 'token_embd.weight'", remedy: "give the first part of a split model")
        }
        vocabularySize = embedding.shape[0]
        guard vocabularySize <= Limits.vocabularySize else {
            throw file.unsupported("a vocabulary of \(vocabularySize)", "at most \(Limits.vocabularySize) are read")
        }
        let hasExperts = family == .qwen3moe
        experts = hasExperts ? try GGUFShape.experts(file, prefix) : nil
        let feedForward = prefix + "feed_forward_length"
        intermediateSize =
            hasExperts
            ? try file.integer(feedForward, 0...Limits.intermediateSize) ?? 0
            : try file.required(feedForward, 1...Limits.intermediateSize)
    }

    private static func experts(_ file: GGUFFile, _ prefix: String) throws -> Experts {
        typealias Limits = Qwen3Configuration.Limits
        let count = try file.required(prefix + "expert_count", 1...Limits.expertCount)
        return Experts(
            count: count, perToken: try file.required(prefix + "expert_used_count", 1...count),
            intermediateSize: try file.required(prefix + "expert_feed_forward_length", 1...Limits.intermediateSize),
            normTopKProb: try file.bool(prefix + "expert_weights_norm") ?? true)
    }

    /// Refuses what would change the numbers and is not computed.
    private static func refuseForeignFeatures(
        _ file: GGUFFile, _ prefix: String, _ family: GGUFModel.Family
    ) throws {
        // A number of 0 (or 1 for a factor) says that there is no such thing.
        let neutral: [(String, Double)] = [
            ("attention.sliding_window", 0), ("attention.scale", 0), ("attention.clamp_kqv", 0),
            ("attn_logit_softcapping", 0), ("final_logit_softcapping", 0), ("logit_scale", 1), ("embedding_scale", 1),
            ("residual_scale", 1), ("expert_shared_count", 0), ("expert_weights_scale", 1),
            ("leading_dense_block_count", 0), ("nextn_predict_layers", 0),
        ]
        for (name, nothing) in neutral {
            if let value = try file.real(prefix + name), value != nothing, value != 0 {
                throw file.unsupported("'\(prefix)\(name)' \(value)", "Apus does not compute it")
            }
        }
        if family != .qwen3moe, let count = try file.real(prefix + "expert_count"), count != 0 {
            throw file.unsupported("a \(family.rawValue) of \(count) experts", "Apus computes experts of qwen3moe")
        }
        if try file.bool(prefix + "attention.causal") == false {
            throw file.unsupported("attention to later tokens", "Apus computes causal attention")
        }
        // 1 is softmax.
        if let gating = try file.integer(prefix + "expert_gating_func", 0...Int.max), gating > 1 {
            throw file.unsupported("'\(prefix)expert_gating_func' \(gating)", "Apus computes softmax")
        }
    }
}
