// SPDX-License-Identifier: Apache-2.0
//
// Two dialects are read: the released one (transformers 4.51: rope_theta, rope_scaling, torch_dtype, num_experts)
// and that of transformers 5 (rope_parameters, dtype, num_local_experts). A field that is absent has the default of
// the family's class in transformers 5; the sizes that make up a model have to be there.
package import Foundation
internal import Tensors

extension Qwen3Configuration {
    /// Bounds on single sizes, checked before anything is computed from them, let alone allocated.
    package enum Limits {
        package static let hiddenSize = 1 << 17
        package static let layerCount = 1_024
        package static let headCount = 1_024
        package static let headSize = 1_024
        package static let intermediateSize = 1 << 20
        package static let vocabularySize = 1 << 22
        package static let expertCount = 4_096
        package static let maxPositionEmbeddings = 1 << 26
        /// Layers times experts, so that a table of tensor names stays small.
        package static let expertTotal = 1 << 18
        /// Elements of one tensor.
        package static let tensorElementCount = 1 << 40
        /// Bytes of config.json and generation_config.json.
        package static let fileByteCount = 1 << 20
    }

    /// Reads `config.json` and, if there is one, `generation_config.json` of `directory`, found as by
    /// ``CheckpointDirectory``.
    /// - Throws: `fileSystem`, `malformedJSON`, `invalidConfiguration`, `unsupportedConfiguration`.
    package init(directory: URL) throws {
        let directory = try CheckpointDirectory.resolve(directory)
        try self.init(
            file: directory.appendingPathComponent("config.json"),
            generationFile: directory.appendingPathComponent("generation_config.json"))
    }

    /// Reads a configuration file; `generationFile` may be nil or absent.
    package init(file: URL, generationFile: URL? = nil) throws {
        var generation: GenerationDefaults?
        if let generationFile, SystemCall.exists(generationFile.path) {
            generation = try GenerationDefaults(
                JSONValue.read(generationFile, limit: Limits.fileByteCount), file: generationFile.path)
        }
        try self.init(
            JSONValue.read(file, limit: Limits.fileByteCount), file: file.path, generation: generation)
    }

    /// Reads a parsed config.json; `file` names it in errors.
    package init(_ json: JSONValue, file: String, generation: GenerationDefaults? = nil) throws {
        let fields = try ConfigurationFields(json, file: file)
        let (modelType, isRewardModel) = try Qwen3Configuration.readModelType(fields)
        try Qwen3Configuration.refuseForeignFeatures(fields, modelType)

        let defaults = FamilyDefaults(modelType)
        let hiddenSize = try fields.requiredInteger(["hidden_size"], 1...Limits.hiddenSize)
        let layerCount = try fields.requiredInteger(["num_hidden_layers"], 1...Limits.layerCount)
        let heads = try fields.requiredInteger(["num_attention_heads"], 1...Limits.headCount)
        // null counts as absent elsewhere; here it stands for the number of query heads.
        let keyValueHeads =
            try fields.integer(["num_key_value_heads"], 1...Limits.headCount)
            ?? (fields.contains("num_key_value_heads") ? heads : defaults.keyValueHeadCount ?? heads)
        let headSize =
            try fields.integer(["head_dim"], 2...Limits.headSize) ?? defaults.headSize
            ?? Qwen3Configuration.derivedHeadSize(hiddenSize, heads, file: file)
        let maxPositions =
            try fields.integer(["max_position_embeddings"], 1...Limits.maxPositionEmbeddings)
            ?? defaults.maxPositionEmbeddings
        let rope = try Qwen3Configuration.readRope(fields, maxPositionEmbeddings: maxPositions)
        let tokenIDs = 0...Limits.vocabularySize
        let experts = modelType == .moe ? try Qwen3Configuration.readExperts(fields, layerCount) : nil
        self.init(
            hiddenSize: hiddenSize, layerCount: layerCount, attentionHeadCount: heads,
            keyValueHeadCount: keyValueHeads, headSize: headSize,
            intermediateSize: try fields.integer(["intermediate_size"], 1...Limits.intermediateSize) ?? 0,
            experts: experts, family: modelType.family,
            attentionBias: try Qwen3Configuration.readAttentionBias(fields, modelType.family),
            vocabularySize: try fields.requiredInteger(["vocab_size"], 1...Limits.vocabularySize),
            maxPositionEmbeddings: maxPositions,
            rmsNormEpsilon: try fields.real(["rms_norm_eps"], 0...1) ?? 1e-6,
            ropeTheta: rope.theta, ropeScaling: rope.scaling,
            tieWordEmbeddings: try fields.bool(["tie_word_embeddings"]) ?? false,
            initializerRange: try fields.real(["initializer_range"], 0...10) ?? 0.02,
            storageType: try Qwen3Configuration.readStorageType(fields),
            configuredEOSTokenIDs: try fields.integers(["eos_token_id"], tokenIDs)
                ?? (fields.contains("eos_token_id") ? [] : defaults.eosTokenIDs),
            bosTokenID: try fields.integer(["bos_token_id"], tokenIDs) ?? generation?.bosTokenID,
            padTokenID: try generation?.padTokenID ?? Qwen3Configuration.readPadTokenID(fields),
            generation: generation ?? GenerationDefaults())
        quantization = try Qwen3Configuration.readQuantization(fields)
        if isRewardModel { self = asRewardModel }
        try validate(file: file)
    }

    private static func readModelType(
        _ fields: ConfigurationFields
    ) throws -> (ModelType, isRewardModel: Bool) {
        guard let name = try fields.string(["model_type"]) else { throw fields.missing(["model_type"]) }
        guard let modelType = ModelType(rawValue: name) else {
            let known = ModelType.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
            throw fields.unsupported("model_type", .string(name), "Apus reads \(known)")
        }
        guard let architectures = try fields.strings(["architectures"]), !architectures.isEmpty,
            !architectures.contains(modelType.architecture), !architectures.contains(modelType.bodyArchitecture)
        else { return (modelType, false) }
        guard architectures.contains(modelType.rewardArchitecture) else {
            throw fields.unsupported(
                "architectures", .string(architectures.joined(separator: ", ")),
                "Apus reads \(modelType.architecture), \(modelType.rewardArchitecture) and "
                    + "\(modelType.bodyArchitecture) for model_type \"\(name)\"")
        }
        // transformers counts the names, and two where there are none.
        let labels = try fields.object("id2label")?.count ?? fields.integer(["num_labels"], 0...Int.max) ?? 2
        guard labels == 1 else {
            throw fields.unsupported(
                "id2label", .integer(labels), "a reward model has one label, so that its output is one scalar")
        }
        return (modelType, true)
    }

    private static func derivedHeadSize(_ hiddenSize: Int, _ heads: Int, file: String) throws -> Int {
        guard hiddenSize % heads == 0 else {
            throw CheckpointError(
                .invalidConfiguration,
                "'head_dim' is missing and 'hidden_size' \(hiddenSize) is no multiple of "
                    + "'num_attention_heads' \(heads)",
                file: file, remedy: "add 'head_dim'")
        }
        return hiddenSize / heads
    }

    /// Qwen2's classes look at no field: their projections of queries, keys and values have biases.
    private static func readAttentionBias(_ fields: ConfigurationFields, _ family: Family) throws -> AttentionBias {
        if family == .qwen2 { return family.standardAttentionBias }
        return try fields.bool(["attention_bias"]) == true ? .all : .none
    }

    /// The first Llama files write -1 for none.
    private static func readPadTokenID(_ fields: ConfigurationFields) throws -> Int? {
        let id = try fields.integer(["pad_token_id"], -1...Limits.vocabularySize)
        return id == -1 ? nil : id
    }

    private static func readExperts(_ fields: ConfigurationFields, _ layerCount: Int) throws -> Experts {
        let expertCount =
            try fields.integer(["num_experts", "num_local_experts"], 1...Limits.expertCount) ?? 128
        return Experts(
            expertCount: expertCount,
            expertsPerToken: try fields.integer(["num_experts_per_tok"], 1...expertCount) ?? 8,
            intermediateSize: try fields.integer(["moe_intermediate_size"], 1...Limits.intermediateSize) ?? 768,
            normTopKProb: try fields.bool(["norm_topk_prob"]) ?? false,
            decoderSparseStep: try fields.integer(["decoder_sparse_step"], 1...Limits.layerCount) ?? 1,
            mlpOnlyLayers: try fields.integers(["mlp_only_layers"], 0...layerCount - 1) ?? [],
            routerAuxLossCoefficient: try fields.real(["router_aux_loss_coef"], 0...1_000) ?? 0.001)
    }

    private static func readStorageType(_ fields: ConfigurationFields) throws -> ElementType? {
        guard let name = try fields.string(["torch_dtype", "dtype"]) else { return nil }
        switch name.hasPrefix("torch.") ? String(name.dropFirst(6)) : name {
        case "bfloat16": return .bfloat16
        case "float32": return .float32
        case "float16": return .float16
        default:
            throw fields.unsupported(
                fields["torch_dtype"] == nil ? "dtype" : "torch_dtype", .string(name),
                "Apus stores weights as bfloat16, float16 or float32")
        }
    }

    private static func readQuantization(_ fields: ConfigurationFields) throws -> BlockQuantization? {
        guard let quantization = try fields.object("quantization_config") else { return nil }
        let method = try quantization.string(["quant_method"])
        let block = try quantization.integers(["weight_block_size"], 1...Limits.intermediateSize) ?? []
        guard method == "fp8", block.count == 2, try quantization.string(["fmt"]) ?? "e4m3" == "e4m3" else {
            throw fields.unsupported(
                "quantization_config", .string(method ?? "not named"),
                "Apus reads \"fp8\" (e4m3) with a weight_block_size; use the unquantized checkpoint of the same model")
        }
        return BlockQuantization(blockRows: block[0], blockColumns: block[1])
    }

    private static func readRope(
        _ fields: ConfigurationFields, maxPositionEmbeddings: Int
    ) throws -> (theta: Double, scaling: RotaryScaling?) {
        let range = 1.0...1e15
        // Models with several kinds of layers have one set per kind; here all layers are of one kind.
        let written = try fields.object("rope_parameters")
        let parameters = try written?.object("full_attention") ?? written
        let outerTheta = try fields.real(["rope_theta"], range)
        let innerTheta = try parameters?.real(["rope_theta"], range)
        if let outerTheta, let innerTheta, outerTheta != innerTheta {
            throw CheckpointError(
                .invalidConfiguration,
                "fields 'rope_theta' and 'rope_parameters.rope_theta' disagree: \(outerTheta) and \(innerTheta)",
                file: fields.file, remedy: "remove the wrong one")
        }
        let theta = outerTheta ?? innerTheta ?? 10_000
        for (name, part) in [
            ("partial_rotary_factor", try fields.real(["partial_rotary_factor"], 0...1)),
            ("rope_parameters.partial_rotary_factor", try parameters?.real(["partial_rotary_factor"], 0...1)),
        ] {
            if let part, part != 1 {
                throw fields.unsupported(name, .real(part), "Apus rotates whole heads")
            }
        }
        let older = try fields.object("rope_scaling").flatMap {
            try readScaling($0, maxPositionEmbeddings: maxPositionEmbeddings)
        }
        let newer = try parameters.flatMap {
            try readScaling($0, maxPositionEmbeddings: maxPositionEmbeddings)
        }
        if fields["rope_scaling"] != nil, parameters != nil, older != newer {
            throw CheckpointError(
                .invalidConfiguration, "fields 'rope_scaling' and 'rope_parameters' disagree",
                file: fields.file, remedy: "remove the wrong one")
        }
        return (theta, newer ?? older)
    }

    private static func readScaling(
        _ fields: ConfigurationFields, maxPositionEmbeddings: Int
    ) throws -> RotaryScaling? {
        guard let type = try fields.string(["rope_type", "type"]) else {
            // transformers takes this for "default"; with a factor beside it, that is hardly what was meant.
            if fields["factor"] == nil { return nil }
            throw fields.missing(["rope_type"])
        }
        if type == "default" { return nil }
        guard type == "yarn" || type == "llama3" else {
            throw fields.unsupported(
                "rope_type", .string(type), "Apus knows \"default\", \"yarn\" and \"llama3\"")
        }
        guard let factor = try fields.real(["factor"], 1...1_000_000) else {
            throw fields.missing(["factor"])
        }
        // As transformers does; the released recipes always write the field.
        let original =
            try fields.integer(["original_max_position_embeddings"], 1...Limits.maxPositionEmbeddings)
            ?? maxPositionEmbeddings
        if type == "yarn" { return .yarn(try readYaRN(fields, factor: factor, original: original)) }
        guard let low = try fields.real(["low_freq_factor"], 1e-6...1e6) else {
            throw fields.missing(["low_freq_factor"])
        }
        guard let high = try fields.real(["high_freq_factor"], 1e-6...1e6) else {
            throw fields.missing(["high_freq_factor"])
        }
        guard high > low else {
            throw CheckpointError(
                .invalidConfiguration,
                "'\(fields.prefix)high_freq_factor' \(high) is not greater than 'low_freq_factor' \(low)",
                file: fields.file)
        }
        return .llama3(
            Llama3Scaling(
                factor: factor, lowFrequencyFactor: low, highFrequencyFactor: high,
                originalMaxPositionEmbeddings: original))
    }

    private static func readYaRN(_ fields: ConfigurationFields, factor: Double, original: Int) throws -> YaRNScaling {
        let scaling = YaRNScaling(
            factor: factor, originalMaxPositionEmbeddings: original,
            betaFast: try fields.real(["beta_fast"], 1e-6...1e6) ?? 32,
            betaSlow: try fields.real(["beta_slow"], 1e-6...1e6) ?? 1,
            attentionFactor: try fields.real(["attention_factor"], 0...1e6),
            mscale: try fields.real(["mscale"], 0...1e6),
            mscaleAllDim: try fields.real(["mscale_all_dim"], 0...1e6),
            truncate: try fields.bool(["truncate"]) ?? true)
        guard scaling.betaFast >= scaling.betaSlow else {
            throw CheckpointError(
                .invalidConfiguration,
                "'\(fields.prefix)beta_fast' \(scaling.betaFast) is less than 'beta_slow' \(scaling.betaSlow)",
                file: fields.file)
        }
        return scaling
    }
}
