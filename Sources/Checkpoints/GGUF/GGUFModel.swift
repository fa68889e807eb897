// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// What a GGUF file is as a Hugging Face checkpoint: its config.json, and where each weight comes from.
package struct GGUFModel: Sendable {
    /// `general.architecture` of the families that are read; the names are those of `model_type` but for one.
    package enum Family: String, Sendable, CaseIterable {
        case llama, qwen2, qwen3, qwen3moe

        package var modelType: String { self == .qwen3moe ? "qwen3_moe" : rawValue }
        var architecture: String {
            switch self {
            case .llama: "LlamaForCausalLM"
            case .qwen2: "Qwen2ForCausalLM"
            case .qwen3: "Qwen3ForCausalLM"
            case .qwen3moe: "Qwen3MoeForCausalLM"
            }
        }
        var hasAttentionBias: Bool { self == .qwen2 }
        var hasAttentionNorm: Bool { self == .qwen3 || self == .qwen3moe }
    }

    /// A weight of the checkpoint and where it comes from.
    struct Weight: Sendable {
        let name: String
        /// Row-major.
        let shape: [Int]
        let source: GGUFFile.Tensor
        /// The first row of the source; only experts begin elsewhere.
        var firstRow = 0
        /// Heads whose rows GGUF stores in pairs (2j and 2j + 1 turn together), where the checkpoint has them in halves
        /// (j and j + D/2); nil: rows are as they are.
        var pairedHeadCount: Int?
    }

    package let family: Family
    let file: GGUFFile
    let shape: GGUFShape
    /// In transformers' order.
    let weights: [Weight]
    let rotaryScaling: JSONValue
    /// Whether the head is the embedding.
    package var isTied: Bool { file.tensor("output.weight") == nil }

    /// - Throws: `unsupportedConfiguration` naming what Apus does not read, `invalidConfiguration`,
    ///   `inconsistentCheckpoint`.
    package init(_ file: GGUFFile) throws {
        self.file = file
        family = try GGUFModel.family(of: file)
        shape = try GGUFShape(file, family)
        rotaryScaling = try GGUFRotary.scaling(file, family, shape)
        weights = try GGUFModel.weights(file, family, shape)
        try GGUFModel.refuseUnused(file, weights)
        try GGUFModel.refuseUnreadable(file)
    }

    static func family(of file: GGUFFile) throws -> Family {
        guard let name = try file.text("general.architecture") else {
            throw file.invalid("the metadata lack 'general.architecture'", remedy: "convert the model to GGUF again")
        }
        guard let family = Family(rawValue: name) else {
            let known = Family.allCases.map(\.rawValue).joined(separator: ", ")
            throw file.unsupported("the architecture \"\(name)\"", "Apus reads \(known)")
        }
        return family
    }

    private static func refuseUnreadable(_ file: GGUFFile) throws {
        for tensor in file.tensors where !tensor.type.isReadable {
            let known = GGUFTensorType.readable.map(\.name).joined(separator: ", ")
            throw CheckpointError(
                .unsupportedConfiguration, "is stored as \(tensor.type.name)", file: tensor.file.url.path,
                tensor: tensor.name, remedy: "take a file of the same model with \(known)")
        }
    }

    private static func refuseUnused(_ file: GGUFFile, _ weights: [Weight]) throws {
        let used = Set(weights.map(\.source.name)).union([GGUFRotary.tensorName])
        guard let other = file.tensors.first(where: { !used.contains($0.name) }) else { return }
        throw CheckpointError(
            .unsupportedConfiguration, "is no weight of this architecture as Apus computes it",
            file: other.file.url.path, tensor: other.name,
            remedy: "the model is a variant with further parts, or the file has more layers than it says")
    }
}

extension GGUFFile {
    func unsupported(_ what: String, _ remedy: String) -> CheckpointError {
        CheckpointError(.unsupportedConfiguration, what + " is not read", file: url.path, remedy: remedy)
    }
}

// MARK: - Weights

extension GGUFModel {
    private static func weights(_ file: GGUFFile, _ family: Family, _ shape: GGUFShape) throws -> [Weight] {
        var list: [Weight] = []
        func add(_ name: String, _ source: String, _ extents: [Int], heads: Int? = nil) throws {
            let tensor = try find(source, file)
            try require(tensor, extents)
            list.append(Weight(name: name, shape: extents, source: tensor, pairedHeadCount: heads))
        }
        let (hidden, query, keyValue) = (shape.hiddenSize, shape.querySize, shape.keyValueSize)
        try add(TensorName.embedding.rawValue, "token_embd.weight", [shape.vocabularySize, hidden])
        for layer in 0..<shape.layerCount {
            let (target, source) = ("model.layers.\(layer).", "blk.\(layer).")
            // Only files of the llama architecture have rows in pairs.
            let isPaired = family == .llama
            for (name, short, size, heads) in [
                ("q_proj", "attn_q", query, shape.headCount), ("k_proj", "attn_k", keyValue, shape.keyValueHeadCount),
                ("v_proj", "attn_v", keyValue, 0),
            ] {
                let paired = isPaired && heads > 0 ? heads : nil
                try add("\(target)self_attn.\(name).weight", "\(source)\(short).weight", [size, hidden], heads: paired)
                if family.hasAttentionBias {
                    try add("\(target)self_attn.\(name).bias", "\(source)\(short).bias", [size])
                }
            }
            try add("\(target)self_attn.o_proj.weight", "\(source)attn_output.weight", [hidden, query])
            if family.hasAttentionNorm {
                try add("\(target)self_attn.q_norm.weight", "\(source)attn_q_norm.weight", [shape.headSize])
                try add("\(target)self_attn.k_norm.weight", "\(source)attn_k_norm.weight", [shape.headSize])
            }
            if let experts = shape.experts {
                try add("\(target)mlp.gate.weight", "\(source)ffn_gate_inp.weight", [experts.count, hidden])
                list += try expertWeights(file, shape, experts, target, source)
            } else {
                let inner = shape.intermediateSize
                try add("\(target)mlp.gate_proj.weight", "\(source)ffn_gate.weight", [inner, hidden])
                try add("\(target)mlp.up_proj.weight", "\(source)ffn_up.weight", [inner, hidden])
                try add("\(target)mlp.down_proj.weight", "\(source)ffn_down.weight", [hidden, inner])
            }
            try add("\(target)input_layernorm.weight", "\(source)attn_norm.weight", [hidden])
            try add("\(target)post_attention_layernorm.weight", "\(source)ffn_norm.weight", [hidden])
        }
        try add(TensorName.finalNorm.rawValue, "output_norm.weight", [hidden])
        if file.tensor("output.weight") != nil {
            try add(TensorName.head.rawValue, "output.weight", [shape.vocabularySize, hidden])
        }
        return list
    }

    /// GGUF stores the experts of a layer one below the other.
    private static func expertWeights(
        _ file: GGUFFile, _ shape: GGUFShape, _ experts: GGUFShape.Experts, _ target: String, _ source: String
    ) throws -> [Weight] {
        let (inner, hidden) = (experts.intermediateSize, shape.hiddenSize)
        let parts = try [
            ("gate_proj", "ffn_gate_exps", [inner, hidden]), ("up_proj", "ffn_up_exps", [inner, hidden]),
            ("down_proj", "ffn_down_exps", [hidden, inner]),
        ].map { name, short, extents in
            let tensor = try find("\(source)\(short).weight", file)
            try require(tensor, [experts.count] + extents)
            return (name, extents, tensor)
        }
        return (0..<experts.count).flatMap { expert in
            parts.map { name, extents, tensor in
                Weight(
                    name: "\(target)mlp.experts.\(expert).\(name).weight", shape: extents, source: tensor,
                    firstRow: expert * extents[0])
            }
        }
    }

    private static func find(_ name: String, _ file: GGUFFile) throws -> GGUFFile.Tensor {
        guard let tensor = file.tensor(name) else {
            throw CheckpointError(
                .inconsistentCheckpoint, "is missing", file: file.url.path, tensor: name,
                remedy: "the file is incomplete, or the model is a variant that Apus does not compute")
        }
        return tensor
    }

    private static func require(_ tensor: GGUFFile.Tensor, _ extents: [Int]) throws {
        guard tensor.shape == extents else {
            throw CheckpointError(
                .inconsistentCheckpoint, "has the shape \(tensor.shape), the metadata call for \(extents)",
                file: tensor.file.url.path, tensor: tensor.name, remedy: GGUFCursor.damaged)
        }
    }
}
