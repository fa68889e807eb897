// SPDX-License-Identifier: Apache-2.0
package import Tensors

/// The shapes that `apus model init` knows: released models and tiny ones for trying things out.
package enum ModelPreset: String, Sendable, Hashable, CaseIterable {
    /// 4 layers, 16 experts, about 2 M weights plus the vocabulary.
    case tinyMoE = "tiny-moe"
    /// 4 layers, about 1 M weights plus the vocabulary.
    case tinyDense = "tiny-dense"
    /// The tiny world's models: what the quickstart trains.
    case tinyWorldMoE = "tiny-world-moe"
    case tinyWorldDense = "tiny-world-dense"
    case tinyWorldStudent = "tiny-world-student"
    case qwen3_0_6B = "qwen3-0.6b"
    case qwen3_1_7B = "qwen3-1.7b"
    case qwen3_4B = "qwen3-4b"
    case qwen3_8B = "qwen3-8b"
    case qwen3_14B = "qwen3-14b"
    case qwen3_32B = "qwen3-32b"
    case qwen3_30B_A3B = "qwen3-30b-a3b"
    case qwen3_235B_A22B = "qwen3-235b-a22b"
    /// As ``tinyDense``, of the other families.
    case tinyQwen2 = "tiny-qwen2"
    case tinyLlama = "tiny-llama"
    case qwen2_5_0_5B = "qwen2.5-0.5b"
    case qwen2_5_1_5B = "qwen2.5-1.5b"
    case qwen2_5_3B = "qwen2.5-3b"
    case qwen2_5_7B = "qwen2.5-7b"
    case qwen2_5_14B = "qwen2.5-14b"
    /// Also QwQ-32B's and DeepSeek-R1-Distill-Qwen-32B's.
    case qwen2_5_32B = "qwen2.5-32b"
    case qwen2_5_72B = "qwen2.5-72b"
    case smolLM2_135M = "smollm2-135m"
    case smolLM2_360M = "smollm2-360m"
    case llama3_2_1B = "llama-3.2-1b"
    case llama3_1_8B = "llama-3.1-8b"

    /// The released tokenizer: 151,669 tokens, `<|endoftext|>` and `<|im_end|>`.
    package static let releasedTokenizer = TokenizerFacts(
        idCount: 151_669, endOfTextID: 151_643, endOfTurnID: 151_645)
    /// The tokenizer that the preset's model was released with; only its ids count here.
    var releasedTokenizer: TokenizerFacts {
        switch self {
        case .smolLM2_135M, .smolLM2_360M: TokenizerFacts(idCount: 49_152, endOfTextID: 0, endOfTurnID: 2)
        case .llama3_2_1B, .llama3_1_8B: TokenizerFacts(idCount: 128_256, endOfTextID: 128_001, endOfTurnID: 128_009)
        default: Self.releasedTokenizer
        }
    }
    /// Rows of the embedding of the released models of Qwen3.
    package static let releasedVocabularySize = 151_936

    /// Finds a preset by name, in any case, with or without "qwen3-".
    /// - Throws: `invalidOption` listing all names.
    package init(named name: String) throws {
        let lower = name.lowercased()
        guard let preset = ModelPreset(rawValue: lower) ?? ModelPreset(rawValue: "qwen3-" + lower) else {
            let all = ModelPreset.allCases.map(\.rawValue).joined(separator: " ")
            throw CheckpointError(
                .invalidOption, "there is no preset \"\(name)\"", remedy: "choose one of \(all)")
        }
        self = preset
    }

    package var isTiny: Bool { rawValue.hasPrefix("tiny-") }

    /// Whether outputs of attention and feed-forward start smaller with depth (1 / sqrt(2 * layers), Radford et al. 2019):
    /// for models that are trained from nothing.
    package var scalesResidualOutputs: Bool { rawValue.hasPrefix("tiny-world") }

    /// Whether the released checkpoint stores `lm_head.weight` although the head is the embedding.
    package var storesRedundantHead: Bool { self == .qwen3_0_6B || self == .qwen3_1_7B }

    /// The configuration of the preset.
    /// - Parameters:
    ///   - layerCount: nil: as released.
    ///   - tokenizer: gives the special ids, and for the tiny presets the vocabulary (rounded up to a multiple of
    ///     64, at least one padding row, as the released vocabulary has padding rows).
    ///   - storageType: how weights are stored.
    /// - Throws: `invalidOption` when the tokenizer does not fit.
    package func configuration(
        layerCount: Int? = nil, tokenizer: TokenizerFacts? = nil, storageType: ElementType = .bfloat16
    ) throws -> Qwen3Configuration {
        let tokenizer = tokenizer ?? releasedTokenizer
        var configuration = shape
        if let layerCount {
            guard (1...Qwen3Configuration.Limits.layerCount).contains(layerCount) else {
                throw CheckpointError(
                    .invalidOption,
                    "\(layerCount) layers, expected 1 to \(Qwen3Configuration.Limits.layerCount)")
            }
            configuration.layerCount = layerCount
        }
        if isTiny {
            configuration.vocabularySize = tokenizer.idCount / 64 * 64 + 64
        } else if tokenizer.idCount > configuration.vocabularySize {
            throw CheckpointError(
                .invalidOption,
                "the tokenizer has \(tokenizer.idCount) ids, the preset \(configuration.vocabularySize) rows",
                remedy: "use the tokenizer of the preset's family")
        }
        let endings = [tokenizer.endOfTurnID, tokenizer.endOfTextID].compactMap { $0 }
        configuration.storageType = storageType
        configuration.bosTokenID = tokenizer.endOfTextID
        configuration.padTokenID = tokenizer.endOfTextID
        configuration.configuredEOSTokenIDs = Array(endings.prefix(1))
        configuration.generation = GenerationDefaults(
            eosTokenIDs: endings, bosTokenID: tokenizer.endOfTextID, padTokenID: tokenizer.endOfTextID,
            isSampling: true, temperature: 0.6, topK: 20, topP: 0.95)
        return configuration
    }

    private var shape: Qwen3Configuration {
        switch self {
        case .tinyMoE:
            return Qwen3Configuration(
                hiddenSize: 128, layerCount: 4, attentionHeadCount: 8, keyValueHeadCount: 2, headSize: 32,
                intermediateSize: 384,
                experts: .init(expertCount: 16, expertsPerToken: 4, intermediateSize: 64),
                vocabularySize: 64, maxPositionEmbeddings: 4_096)
        case .tinyDense:
            return Qwen3Configuration(
                hiddenSize: 128, layerCount: 4, attentionHeadCount: 8, keyValueHeadCount: 2, headSize: 32,
                intermediateSize: 512, vocabularySize: 64, maxPositionEmbeddings: 4_096,
                tieWordEmbeddings: true)
        case .tinyWorldMoE:
            return Self.tinyWorld(
                hiddenSize: 128, intermediate: 384,
                experts: .init(expertCount: 8, expertsPerToken: 2, intermediateSize: 128))
        case .tinyWorldDense: return Self.tinyWorld(hiddenSize: 128, intermediate: 256, experts: nil)
        case .tinyWorldStudent: return Self.tinyWorld(hiddenSize: 96, intermediate: 192, experts: nil)
        case .qwen3_0_6B: return Self.dense(1_024, layers: 28, heads: 16, intermediate: 3_072, tied: true)
        case .qwen3_1_7B: return Self.dense(2_048, layers: 28, heads: 16, intermediate: 6_144, tied: true)
        case .qwen3_4B: return Self.dense(2_560, layers: 36, heads: 32, intermediate: 9_728, tied: true)
        case .qwen3_8B: return Self.dense(4_096, layers: 36, heads: 32, intermediate: 12_288, tied: false)
        case .qwen3_14B: return Self.dense(5_120, layers: 40, heads: 40, intermediate: 17_408, tied: false)
        case .qwen3_32B: return Self.dense(5_120, layers: 64, heads: 64, intermediate: 25_600, tied: false)
        case .qwen3_30B_A3B:
            return Self.moe(2_048, layers: 48, heads: 32, intermediate: 6_144, expertIntermediate: 768)
        case .qwen3_235B_A22B:
            return Self.moe(4_096, layers: 94, heads: 64, intermediate: 12_288, expertIntermediate: 1_536)
        case .tinyQwen2:
            return Qwen3Configuration(
                hiddenSize: 128, layerCount: 4, attentionHeadCount: 8, keyValueHeadCount: 2, headSize: 16,
                intermediateSize: 512, family: .qwen2, vocabularySize: 64, maxPositionEmbeddings: 4_096,
                tieWordEmbeddings: true)
        case .tinyLlama:
            return Qwen3Configuration(
                hiddenSize: 128, layerCount: 4, attentionHeadCount: 8, keyValueHeadCount: 2, headSize: 16,
                intermediateSize: 512, family: .llama, vocabularySize: 64, maxPositionEmbeddings: 4_096,
                rmsNormEpsilon: 1e-5, ropeTheta: 10_000)
        case .qwen2_5_0_5B: return Self.qwen2(896, layers: 24, heads: 14, groups: 2, intermediate: 4_864)
        case .qwen2_5_1_5B: return Self.qwen2(1_536, layers: 28, heads: 12, groups: 2, intermediate: 8_960)
        case .qwen2_5_3B: return Self.qwen2(2_048, layers: 36, heads: 16, groups: 2, intermediate: 11_008)
        case .qwen2_5_7B: return Self.qwen2(3_584, layers: 28, heads: 28, groups: 4, intermediate: 18_944)
        case .qwen2_5_14B: return Self.qwen2(5_120, layers: 48, heads: 40, groups: 8, intermediate: 13_824)
        case .qwen2_5_32B: return Self.qwen2(5_120, layers: 64, heads: 40, groups: 8, intermediate: 27_648)
        case .qwen2_5_72B: return Self.qwen2(8_192, layers: 80, heads: 64, groups: 8, intermediate: 29_568)
        case .smolLM2_135M: return Self.smolLM2(576, layers: 30, heads: 9, groups: 3, intermediate: 1_536)
        case .smolLM2_360M: return Self.smolLM2(960, layers: 32, heads: 15, groups: 5, intermediate: 2_560)
        case .llama3_2_1B:
            return Self.llama3(2_048, layers: 16, headSize: 64, intermediate: 8_192, factor: 32, tied: true)
        case .llama3_1_8B:
            return Self.llama3(4_096, layers: 32, headSize: 128, intermediate: 14_336, factor: 8, tied: false)
        }
    }

    /// Up to 3B tied with the smaller vocabulary, above that neither.
    private static func qwen2(
        _ hiddenSize: Int, layers: Int, heads: Int, groups: Int, intermediate: Int
    ) -> Qwen3Configuration {
        let isSmall = hiddenSize <= 2_048
        return Qwen3Configuration(
            hiddenSize: hiddenSize, layerCount: layers, attentionHeadCount: heads, keyValueHeadCount: groups,
            headSize: hiddenSize / heads, intermediateSize: intermediate, family: .qwen2,
            vocabularySize: isSmall ? 151_936 : 152_064, maxPositionEmbeddings: 32_768, tieWordEmbeddings: isSmall)
    }

    private static func smolLM2(
        _ hiddenSize: Int, layers: Int, heads: Int, groups: Int, intermediate: Int
    ) -> Qwen3Configuration {
        Qwen3Configuration(
            hiddenSize: hiddenSize, layerCount: layers, attentionHeadCount: heads, keyValueHeadCount: groups,
            headSize: 64, intermediateSize: intermediate, family: .llama, vocabularySize: 49_152,
            maxPositionEmbeddings: 8_192, rmsNormEpsilon: 1e-5, ropeTheta: 100_000, tieWordEmbeddings: true)
    }

    private static func llama3(
        _ hiddenSize: Int, layers: Int, headSize: Int, intermediate: Int, factor: Double, tied: Bool
    ) -> Qwen3Configuration {
        Qwen3Configuration(
            hiddenSize: hiddenSize, layerCount: layers, attentionHeadCount: 32, keyValueHeadCount: 8,
            headSize: headSize, intermediateSize: intermediate, family: .llama, vocabularySize: 128_256,
            maxPositionEmbeddings: 131_072, rmsNormEpsilon: 1e-5, ropeTheta: 500_000,
            ropeScaling: .llama3(
                Llama3Scaling(
                    factor: factor, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositionEmbeddings: 8_192)
            ),
            tieWordEmbeddings: tied)
    }

    private static func tinyWorld(
        hiddenSize: Int, intermediate: Int, experts: Qwen3Configuration.Experts?
    ) -> Qwen3Configuration {
        Qwen3Configuration(
            hiddenSize: hiddenSize, layerCount: 3, attentionHeadCount: 4, keyValueHeadCount: 2, headSize: 32,
            intermediateSize: intermediate, experts: experts, vocabularySize: 64, maxPositionEmbeddings: 1_024,
            ropeTheta: 10_000, tieWordEmbeddings: true)
    }

    private static func dense(
        _ hiddenSize: Int, layers: Int, heads: Int, intermediate: Int, tied: Bool
    ) -> Qwen3Configuration {
        Qwen3Configuration(
            hiddenSize: hiddenSize, layerCount: layers, attentionHeadCount: heads, keyValueHeadCount: 8,
            headSize: 128, intermediateSize: intermediate, vocabularySize: releasedVocabularySize,
            tieWordEmbeddings: tied)
    }

    private static func moe(
        _ hiddenSize: Int, layers: Int, heads: Int, intermediate: Int, expertIntermediate: Int
    ) -> Qwen3Configuration {
        Qwen3Configuration(
            hiddenSize: hiddenSize, layerCount: layers, attentionHeadCount: heads, keyValueHeadCount: 4,
            headSize: 128, intermediateSize: intermediate,
            experts: .init(expertCount: 128, expertsPerToken: 8, intermediateSize: expertIntermediate),
            vocabularySize: releasedVocabularySize)
    }
}
