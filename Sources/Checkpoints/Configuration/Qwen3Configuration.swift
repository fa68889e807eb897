// SPDX-License-Identifier: Apache-2.0
package import Tensors

/// The architecture of a model: config.json joined with generation_config.json. One decoder serves all families; what
/// sets them apart are biases, the norms of queries and keys, and experts.
///
/// Head size is a field of its own: heads times head size need not be the hidden size.
package struct Qwen3Configuration: Hashable, Sendable {
    /// `model_type`.
    package enum ModelType: String, Sendable, Hashable, CaseIterable {
        case dense = "qwen3"
        case moe = "qwen3_moe"
        case qwen2
        case llama

        package var family: Family {
            switch self {
            case .dense, .moe: .qwen3
            case .qwen2: .qwen2
            case .llama: .llama
            }
        }

        /// What the names of transformers' classes begin with.
        private var className: String {
            switch self {
            case .dense: "Qwen3"
            case .moe: "Qwen3Moe"
            case .qwen2: "Qwen2"
            case .llama: "Llama"
            }
        }
        /// The name under `architectures`.
        package var architecture: String { className + "ForCausalLM" }
        /// The same of a reward model.
        package var rewardArchitecture: String { className + "ForSequenceClassification" }
        /// The same of a model without a head.
        package var bodyArchitecture: String { className + "Model" }
    }

    /// Models that differ in sizes and experts only.
    package enum Family: Sendable, Hashable, CaseIterable {
        case qwen3
        case qwen2
        case llama

        /// Where the projections of attention have biases if config.json does not say.
        package var standardAttentionBias: AttentionBias { self == .qwen2 ? .queryKeyValue : .none }
    }

    /// Which projections of attention add a bias.
    package enum AttentionBias: Sendable, Hashable {
        case none
        /// As in Qwen2, whose config.json has no field for it.
        case queryKeyValue
        /// `attention_bias: true`: also the output projection.
        case all
    }

    /// The fields that only a mixture-of-experts model has.
    package struct Experts: Hashable, Sendable {
        /// `num_experts`, E.
        package var expertCount: Int
        /// `num_experts_per_tok`, K.
        package var expertsPerToken: Int
        /// `moe_intermediate_size`.
        package var intermediateSize: Int
        /// Whether the K weights of a token are divided by their sum.
        package var normTopKProb: Bool
        /// A layer l has experts when (l + 1) is a multiple of this and l is not in `mlpOnlyLayers`.
        package var decoderSparseStep: Int
        package var mlpOnlyLayers: [Int]
        package var routerAuxLossCoefficient: Double

        package init(
            expertCount: Int, expertsPerToken: Int, intermediateSize: Int, normTopKProb: Bool = true,
            decoderSparseStep: Int = 1, mlpOnlyLayers: [Int] = [], routerAuxLossCoefficient: Double = 0.001
        ) {
            self.expertCount = expertCount
            self.expertsPerToken = expertsPerToken
            self.intermediateSize = intermediateSize
            self.normTopKProb = normTopKProb
            self.decoderSparseStep = decoderSparseStep
            self.mlpOnlyLayers = mlpOnlyLayers
            self.routerAuxLossCoefficient = routerAuxLossCoefficient
        }
    }

    package var family: Family
    package var attentionBias: AttentionBias
    /// FP8 (E4M3) with one factor per block of a matrix: the form of the released FP8 checkpoints.
    package struct BlockQuantization: Sendable, Hashable {
        package let blockRows: Int
        package let blockColumns: Int
    }

    /// C.
    package var hiddenSize: Int
    package var layerCount: Int
    /// H, query heads.
    package var attentionHeadCount: Int
    /// G, key and value heads.
    package var keyValueHeadCount: Int
    /// D.
    package var headSize: Int
    /// Of dense layers. 0 when config.json of a model without dense layers does not say.
    package var intermediateSize: Int
    /// Nil for dense models.
    package var experts: Experts?
    /// V, rows of the embedding; more than the tokenizer has tokens.
    package var vocabularySize: Int
    package var maxPositionEmbeddings: Int
    package var rmsNormEpsilon: Double
    package var ropeTheta: Double
    /// Nil: plain rotary embeddings.
    package var ropeScaling: RotaryScaling?
    /// Whether the head is the embedding.
    package var tieWordEmbeddings: Bool
    package var initializerRange: Double
    /// `torch_dtype` or `dtype`: the type of the weights, whatever the file has them in. Nil when config.json does not say.
    package var storageType: ElementType?
    /// How the file's matrices are quantised, of which none is ever written; nil: they are not.
    package var quantization: BlockQuantization?
    /// `eos_token_id` of config.json alone; see ``eosTokenIDs``.
    package var configuredEOSTokenIDs: [Int]
    /// `bos_token_id`. Qwen's tokenizers never insert it.
    package var bosTokenID: Int?
    /// Of generation_config.json, else of config.json.
    package var padTokenID: Int?
    /// Empty when there is no generation_config.json.
    package var generation: GenerationDefaults
    /// Whether the head gives one scalar instead of logits: transformers' sequence classification with one label. Its
    /// head is a matrix of its own, whatever the file says of tied embeddings.
    package var isRewardModel = false

    package init(
        hiddenSize: Int, layerCount: Int, attentionHeadCount: Int, keyValueHeadCount: Int, headSize: Int,
        intermediateSize: Int, experts: Experts? = nil, family: Family = .qwen3, attentionBias: AttentionBias? = nil,
        vocabularySize: Int, maxPositionEmbeddings: Int = 40_960,
        rmsNormEpsilon: Double = 1e-6, ropeTheta: Double = 1_000_000, ropeScaling: RotaryScaling? = nil,
        tieWordEmbeddings: Bool = false, initializerRange: Double = 0.02,
        storageType: ElementType? = .bfloat16,
        configuredEOSTokenIDs: [Int] = [], bosTokenID: Int? = nil, padTokenID: Int? = nil,
        generation: GenerationDefaults = GenerationDefaults()
    ) {
        self.family = family
        self.attentionBias = attentionBias ?? family.standardAttentionBias
        self.hiddenSize = hiddenSize
        self.layerCount = layerCount
        self.attentionHeadCount = attentionHeadCount
        self.keyValueHeadCount = keyValueHeadCount
        self.headSize = headSize
        self.intermediateSize = intermediateSize
        self.experts = experts
        self.vocabularySize = vocabularySize
        self.maxPositionEmbeddings = maxPositionEmbeddings
        self.rmsNormEpsilon = rmsNormEpsilon
        self.ropeTheta = ropeTheta
        self.ropeScaling = ropeScaling
        self.tieWordEmbeddings = tieWordEmbeddings
        self.initializerRange = initializerRange
        self.storageType = storageType
        self.configuredEOSTokenIDs = configuredEOSTokenIDs
        self.bosTokenID = bosTokenID
        self.padTokenID = padTokenID
        self.generation = generation
    }
}

extension Qwen3Configuration {
    package var modelType: ModelType {
        switch family {
        case .qwen3: experts == nil ? .dense : .moe
        case .qwen2: .qwen2
        case .llama: .llama
        }
    }
    /// Whether each head's queries and keys are normalised before rotation.
    package var normalizesQueriesAndKeys: Bool { family == .qwen3 }
    /// The name under `architectures`.
    package var architecture: String { isRewardModel ? modelType.rewardArchitecture : modelType.architecture }

    /// Numbers that the head gives for a position: logits, or one scalar.
    package var outputCount: Int { isRewardModel ? 1 : vocabularySize }
    /// The head's weight, `[outputCount, C]`.
    package var headName: TensorName { isRewardModel ? .score : tieWordEmbeddings ? .embedding : .head }

    /// The same body under a scalar head.
    package var asRewardModel: Qwen3Configuration {
        var result = self
        result.isRewardModel = true
        result.tieWordEmbeddings = false
        return result
    }
    /// 0 for dense models.
    package var expertCount: Int { experts?.expertCount ?? 0 }
    /// 0 for dense models.
    package var expertsPerToken: Int { experts?.expertsPerToken ?? 0 }
    /// 0 for dense models.
    package var moeIntermediateSize: Int { experts?.intermediateSize ?? 0 }
    package var normTopKProb: Bool { experts?.normTopKProb ?? false }
    package var decoderSparseStep: Int { experts?.decoderSparseStep ?? 1 }
    package var mlpOnlyLayers: [Int] { experts?.mlpOnlyLayers ?? [] }
    package var routerAuxLossCoefficient: Double { experts?.routerAuxLossCoefficient ?? 0 }

    /// Ids that end a sequence: those of generation_config.json, then those only config.json names.
    package var eosTokenIDs: [Int] {
        var ids: [Int] = []
        for id in generation.eosTokenIDs + configuredEOSTokenIDs where !ids.contains(id) { ids.append(id) }
        return ids
    }

    /// H·D, outputs of q_proj and inputs of o_proj.
    package var querySize: Int { attentionHeadCount * headSize }
    /// G·D, outputs of k_proj and of v_proj.
    package var keyValueSize: Int { keyValueHeadCount * headSize }

    /// Whether layer `layer` (from 0) has experts instead of one dense MLP.
    package func isMoELayer(_ layer: Int) -> Bool {
        guard let experts else { return false }
        return (layer + 1) % experts.decoderSparseStep == 0 && !experts.mlpOnlyLayers.contains(layer)
    }

    /// Bytes that one token takes in the key/value cache of all layers, K and V, with elements of `byteCount`.
    package func keyValueByteCountPerToken(elementByteCount: Int) -> Int {
        2 * layerCount * keyValueSize * elementByteCount
    }
}
