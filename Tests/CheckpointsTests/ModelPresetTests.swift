// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("Model presets")
struct ModelPresetTests {
    /// Facts of a released model (QWEN3.md 2.1 and 2.2, from the published files).
    struct Released: Sendable, CustomTestStringConvertible {
        let preset: ModelPreset
        let parameters: Int
        let active: Int
        let nonEmbedding: Int
        let storedBytes: Int
        let shards: Int
        let tensors: Int
        let keyValueBytes: Int
        let configBytes: Int
        let configHash: String
        var testDescription: String { preset.rawValue }
    }

    static let released = [
        Released(
            preset: .qwen3_0_6B, parameters: 596_049_920, active: 596_049_920, nonEmbedding: 440_467_456,
            storedBytes: 1_503_264_768, shards: 1, tensors: 311, keyValueBytes: 114_688, configBytes: 726,
            configHash: "660db3b7"),
        Released(
            preset: .qwen3_1_7B, parameters: 1_720_574_976, active: 1_720_574_976,
            nonEmbedding: 1_409_410_048,
            storedBytes: 4_063_479_808, shards: 2, tensors: 311, keyValueBytes: 114_688, configBytes: 726,
            configHash: "1ddb5b89"),
        Released(
            preset: .qwen3_4B, parameters: 4_022_468_096, active: 4_022_468_096, nonEmbedding: 3_633_511_936,
            storedBytes: 8_044_936_192, shards: 3, tensors: 398, keyValueBytes: 147_456, configBytes: 726,
            configHash: "8ba006f7"),
        Released(
            preset: .qwen3_8B, parameters: 8_190_735_360, active: 8_190_735_360, nonEmbedding: 6_946_075_648,
            storedBytes: 16_381_470_720, shards: 5, tensors: 399, keyValueBytes: 147_456, configBytes: 728,
            configHash: "f7c4eadf"),
        Released(
            preset: .qwen3_14B, parameters: 14_768_307_200, active: 14_768_307_200,
            nonEmbedding: 13_212_482_560, storedBytes: 29_536_614_400, shards: 8, tensors: 443,
            keyValueBytes: 163_840, configBytes: 728, configHash: "e73c3664"),
        Released(
            preset: .qwen3_32B, parameters: 32_762_123_264, active: 32_762_123_264,
            nonEmbedding: 31_206_298_624, storedBytes: 65_524_246_528, shards: 17, tensors: 707,
            keyValueBytes: 262_144, configBytes: 728, configHash: "97e295b6"),
        Released(
            preset: .qwen3_30B_A3B, parameters: 30_532_122_624, active: 3_353_032_704,
            nonEmbedding: 29_909_792_768, storedBytes: 61_064_245_248, shards: 16, tensors: 18_867,
            keyValueBytes: 98_304, configBytes: 963, configHash: "2850ddb3"),
        Released(
            preset: .qwen3_235B_A22B, parameters: 235_093_634_560, active: 22_190_763_520,
            nonEmbedding: 233_848_974_848, storedBytes: 470_187_269_120, shards: 118, tensors: 36_945,
            keyValueBytes: 192_512, configBytes: 965, configHash: "0ecd5d6f"),
    ]

    /// Weights of the released models of other families (their model cards and index files).
    static let others: [(preset: ModelPreset, parameters: Int)] = [
        (.qwen2_5_0_5B, 494_032_768), (.qwen2_5_1_5B, 1_543_714_304), (.qwen2_5_3B, 3_085_938_688),
        (.qwen2_5_7B, 7_615_616_512), (.qwen2_5_14B, 14_770_033_664), (.qwen2_5_32B, 32_763_876_352),
        (.qwen2_5_72B, 72_706_203_648), (.smolLM2_135M, 134_515_008), (.smolLM2_360M, 361_821_120),
        (.llama3_2_1B, 1_235_814_400), (.llama3_1_8B, 8_030_261_248),
    ]

    @Test("every released model is covered")
    func coverage() {
        #expect(
            Set(Self.released.map(\.preset) + Self.others.map(\.preset))
                == Set(ModelPreset.allCases.filter { !$0.isTiny }))
    }

    @Test("other families have as many weights as the released models; what is written is read back")
    func otherFamilies() throws {
        for (preset, parameters) in Self.others {
            let configuration = try preset.configuration()
            #expect(configuration.parameterCounts.total == parameters, "\(preset)")
            #expect(configuration.parameterTensors.reduce(0) { $0 + $1.elementCount } == parameters)
            let bytes = Array(configuration.fileText.utf8)
            let again = try bytes.withUnsafeBytes {
                try Qwen3Configuration(
                    JSONValue.parse($0, file: "config.json"), file: "config.json", generation: configuration.generation)
            }
            #expect(again == configuration, "\(preset)")
        }
    }

    @Test("sizes equal those of the released models", arguments: released)
    func sizes(_ model: Released) throws {
        let configuration = try model.preset.configuration()
        let counts = configuration.parameterCounts
        #expect(counts.total == model.parameters && counts.active == model.active)
        #expect(counts.nonEmbedding == model.nonEmbedding)
        let sum = configuration.parameterTensors.reduce(0) { $0 + $1.elementCount }
        #expect(sum == counts.total)
        let summary = CheckpointSummary(
            configuration: configuration, storesRedundantHead: model.preset.storesRedundantHead)
        #expect(summary.tensorCount == model.tensors && summary.storedByteCount == model.storedBytes)
        #expect(summary.keyValueByteCountPerToken == model.keyValueBytes)
        #expect(summary.rows.reduce(0) { $0 + $1.tensorCount } == model.tensors)
    }

    @Test("config.json has the bytes of the released file", arguments: released)
    func configBytes(_ model: Released) throws {
        let bytes = Array(try model.preset.configuration().fileText.utf8)
        #expect(bytes.count == model.configBytes)
        #expect(ContentHash(of: bytes).hexadecimal.hasPrefix(model.configHash))
    }

    @Test("generation_config.json has the bytes of the released file")
    func generationBytes() throws {
        let configuration = try ModelPreset.qwen3_8B.configuration()
        let bytes = Array(configuration.generation.fileText.utf8)
        #expect(bytes.count == 239 && ContentHash(of: bytes).hexadecimal.hasPrefix("2325da0f"))
        #expect(configuration.eosTokenIDs == [151_645, 151_643])
    }

    @Test("shards are cut where those of the released models are", arguments: released)
    func shards(_ model: Released) throws {
        let tensors = CheckpointWriter.tensors(
            of: try model.preset.configuration(), storesRedundantHead: model.preset.storesRedundantHead)
        let plan = try ShardPlan(tensors)
        #expect(plan.shards.count == model.shards && plan.totalByteCount == model.storedBytes)
        #expect(plan.shards.reduce(0) { $0 + $1.tensors.count } == model.tensors)
        switch model.preset {
        case .qwen3_0_6B:
            let layout = try SafetensorsLayout(plan.shards[0].tensors)
            #expect(layout.headerBytes.count == 8 + 35_552 && layout.fileByteCount == 1_503_300_328)
            #expect(plan.shards[0].name == "model.safetensors")
        case .qwen3_1_7B:
            let sizes = try plan.shards.map { try SafetensorsLayout($0.tensors).fileByteCount }
            #expect(sizes == [3_441_185_608, 622_329_984])
            #expect(plan.shards[1].tensors.map(\.name) == ["lm_head.weight"])
        case .qwen3_30B_A3B:
            let onDisk = try plan.shards.reduce(0) { try $0 + SafetensorsLayout($1.tensors).fileByteCount }
            #expect(onDisk == 61_066_575_648)
        case .qwen3_235B_A22B:
            #expect(plan.shards[0].name == "model-00001-of-00118.safetensors")
            let first = Set(plan.shards[0].tensors.map(\.name))
            #expect(first.contains("model.layers.0.mlp.experts.68.down_proj.weight"))
            #expect(!first.contains("model.layers.0.mlp.experts.69.down_proj.weight"))
        default: break
        }
    }

    @Test("presets are found by name, and others are refused with the list")
    func names() throws {
        #expect(try ModelPreset(named: "Qwen3-30B-A3B") == .qwen3_30B_A3B)
        #expect(try ModelPreset(named: "0.6b") == .qwen3_0_6B)
        #expect(try ModelPreset(named: "tiny-moe") == .tinyMoE)
        let error = checkpointError { _ = try ModelPreset(named: "gpt-5") }
        #expect(error?.description.contains("tiny-moe") == true)
    }

    @Test(
        "tiny presets are tiny and take the tokenizer's vocabulary",
        arguments: [ModelPreset.tinyMoE, .tinyDense, .tinyQwen2, .tinyLlama])
    func tiny(_ preset: ModelPreset) throws {
        let tokenizer = try TokenizerFacts(directory: Fixtures.url("models/moe_norm_bf16"))
        #expect(tokenizer.endOfTextID == 420 && tokenizer.endOfTurnID == 422 && tokenizer.idCount == 446)
        let configuration = try preset.configuration(tokenizer: tokenizer)
        #expect(configuration.vocabularySize == 448)
        #expect((1_000_000...3_000_000).contains(configuration.parameterCounts.total))
        #expect(
            configuration.eosTokenIDs == [422, 420]
                && (configuration.querySize != configuration.hiddenSize) == (configuration.family == .qwen3))
        try configuration.validate(file: "config.json")
    }

    @Test("options are checked")
    func options() throws {
        #expect(try ModelPreset.qwen3_30B_A3B.configuration(layerCount: 2).layerCount == 2)
        #expect(
            checkpointError { _ = try ModelPreset.qwen3_8B.configuration(layerCount: 0) }?.code
                == .invalidOption)
        let large = TokenizerFacts(idCount: 200_000, endOfTextID: nil, endOfTurnID: nil)
        #expect(checkpointError { _ = try ModelPreset.qwen3_8B.configuration(tokenizer: large) } != nil)
        #expect(
            checkpointError { _ = try TokenizerFacts(directory: Fixtures.url("grpo")) }?.code == .notFound)
        let tensors = [TensorDescription](
            repeating: .init(name: "a", dataType: .uint8, shape: [10]), count: ShardPlan.shardCountMax + 1)
        #expect(checkpointError { _ = try ShardPlan(tensors, byteCountMax: 10) }?.code == .invalidOption)
    }
}
