// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Model configuration")
struct Qwen3ConfigurationTests {
    /// Parses a config.json given as text.
    private func parse(_ text: String) throws -> Qwen3Configuration {
        let json = try Array(text.utf8).withUnsafeBytes { try JSONValue.parse($0, file: "config.json") }
        return try Qwen3Configuration(json, file: "config.json")
    }

    private func text(_ model: String) throws -> String {
        try String(contentsOf: Fixtures.url("models/\(model)/config.json"), encoding: .utf8)
    }

    @Test(
        "every truncation of a configuration is refused, and no changed byte crashes the reader",
        arguments: ["dense_tied_bf16", "moe_nonorm_sparse2_fp32"])
    func everyDamage(_ model: String) throws {
        let whole = Array(try text(model).utf8)
        let end = try #require(whole.lastIndex(of: UInt8(ascii: "}")))
        var (refused, taken) = (0, 0)
        func read(_ bytes: [UInt8]) throws {
            do {
                let json = try bytes.withUnsafeBytes { try JSONValue.parse($0, file: "config.json") }
                // Whatever it says now, its sizes are within the limits, so nothing overflows.
                _ = try Qwen3Configuration(json, file: "config.json").parameterCounts
                taken += 1
            } catch is CheckpointError { refused += 1 }
        }
        for bytes in Damage.truncations(Array(whole[...end])) { try read(bytes) }
        #expect(refused == end + 1 && taken == 0)
        for bytes in Damage.flips(whole, masks: Damage.bits) { try read(bytes) }
        #expect(taken > 100 && refused > whole.count * 4, "\(taken) taken, \(refused) refused")
    }

    @Test("reads the released dialect")
    func released() throws {
        let moe = try Qwen3Configuration(directory: Fixtures.url("models/moe_nonorm_sparse2_fp32"))
        #expect(moe.modelType == .moe && moe.storageType == .float32)
        #expect(moe.hiddenSize == 48 && moe.layerCount == 4 && moe.vocabularySize == 464)
        #expect(moe.attentionHeadCount == 4 && moe.keyValueHeadCount == 2 && moe.headSize == 16)
        #expect(moe.querySize == 64 && moe.keyValueSize == 32 && moe.intermediateSize == 112)
        #expect(moe.expertCount == 6 && moe.expertsPerToken == 3 && moe.moeIntermediateSize == 24)
        #expect(!moe.normTopKProb && moe.decoderSparseStep == 2 && moe.mlpOnlyLayers == [1])
        #expect(moe.routerAuxLossCoefficient == 0.02)
        // Step 2 would give layers 1 and 3, and layer 1 is excepted.
        #expect((0..<4).map(moe.isMoELayer) == [false, false, false, true])
        #expect(moe.eosTokenIDs == [422, 420] && moe.configuredEOSTokenIDs == [422])
        #expect(moe.bosTokenID == 420 && moe.padTokenID == 420)
        #expect(moe.generation.temperature == 0.6 && moe.generation.topK == 20 && moe.generation.topP == 0.95)

        let tied = try Qwen3Configuration(directory: Fixtures.url("models/dense_tied_bf16"))
        #expect(tied.modelType == .dense && tied.tieWordEmbeddings && tied.storageType == .bfloat16)
        #expect(tied.headSize == 24 && tied.ropeTheta == 1_000_000 && tied.ropeScaling == nil)
        #expect(tied.rmsNormEpsilon == 1e-6 && tied.initializerRange == 0.02)
    }

    @Test("reads the dialect of transformers 5, and both give the same configuration")
    func newer() throws {
        let newer = try Qwen3Configuration(directory: Fixtures.url("models/dense_untied_fp32"))
        #expect(newer.storageType == .float32 && newer.ropeTheta == 1_000_000 && newer.ropeScaling == nil)
        let moe = try text("moe_norm_bf16")
        let translated = moe.replacingOccurrences(of: "\"num_experts\"", with: "\"num_local_experts\"")
            .replacingOccurrences(of: "\"torch_dtype\"", with: "\"dtype\"")
            .replacingOccurrences(of: "\"rope_scaling\": null,", with: "")
            .replacingOccurrences(
                of: "\"rope_theta\": 1000000",
                with: "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1000000.0}")
        #expect(translated.contains("num_local_experts") && translated.contains("rope_parameters"))
        #expect(try parse(translated) == parse(moe))
    }

    @Test(
        "reads YaRN in both dialects",
        arguments: [
            ("dense_untied_fp32", 40), ("dense_untied_fp32", 128), ("moe_norm_bf16", 40),
            ("moe_norm_bf16", 128),
        ])
    func yarn(_ model: String, _ positions: Int) throws {
        let file = Fixtures.url("models/\(model)/config_yarn_maxpos\(positions).json")
        let configuration = try Qwen3Configuration(file: file)
        guard case .yarn(let scaling)? = configuration.ropeScaling else {
            Issue.record("\(String(describing: configuration.ropeScaling))")
            return
        }
        #expect(scaling.factor == 4 && scaling.originalMaxPositionEmbeddings == 32)
        #expect(scaling.betaFast == 32 && scaling.betaSlow == 1 && scaling.truncate)
        #expect(scaling.attentionFactor == nil && configuration.maxPositionEmbeddings == positions)
    }

    @Test("reads every field of YaRN, also under the name \"type\"")
    func yarnFields() throws {
        let scaling = #"""
            "rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 64, "beta_fast": 16,
            "beta_slow": 2, "attention_factor": 1.5, "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": false}
            """#
        let configuration = try parse(
            text("moe_norm_bf16").replacingOccurrences(of: "\"rope_scaling\": null", with: scaling))
        let expected = YaRNScaling(
            factor: 2, originalMaxPositionEmbeddings: 64, betaFast: 16, betaSlow: 2, attentionFactor: 1.5,
            mscale: 0.7, mscaleAllDim: 0.9, truncate: false)
        #expect(configuration.ropeScaling == .yarn(expected))
        let again = try parse(configuration.fileText)
        #expect(again == configuration)
    }

    @Test(
        "what is written is read back",
        arguments: [
            "dense_tied_bf16", "dense_untied_fp32", "moe_norm_bf16", "moe_nonorm_sparse2_fp32", "llama_plain_fp32",
            "llama_tied_llama3_bf16", "qwen2_tied_fp32", "qwen2_untied_bf16",
        ])
    func roundTrip(_ model: String) throws {
        let directory = Fixtures.url("models/\(model)")
        let configuration = try Qwen3Configuration(directory: directory)
        try withTemporaryDirectory { target in
            let file = target.appendingPathComponent("config.json")
            let generation = target.appendingPathComponent("generation_config.json")
            try DurableFile.write(configuration.fileText, to: file)
            try DurableFile.write(configuration.generation.fileText, to: generation)
            #expect(try Qwen3Configuration(directory: target) == configuration)
            // The fixtures' file is indented by 2 and ends with a newline, the released ones' by 4 without.
            #expect(
                try configuration.generation.json.prettyPrinted() + "\n"
                    == String(
                        contentsOf: directory.appendingPathComponent("generation_config.json"),
                        encoding: .utf8))
        }
    }

    @Test(
        "refuses what it cannot compute, naming the field",
        arguments: [
            ("\"attention_bias\": false", "\"mlp_bias\": true", "mlp_bias"),
            ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act"),
            ("\"model_type\": \"qwen3_moe\"", "\"model_type\": \"qwen2_moe\"", "model_type"),
            ("Qwen3MoeForCausalLM", "Qwen3MoeForTokenClassification", "architectures"),
            // Two labels, where the file names none.
            ("Qwen3MoeForCausalLM", "Qwen3MoeForSequenceClassification", "id2label"),
            ("\"torch_dtype\": \"bfloat16\"", "\"torch_dtype\": \"float8_e4m3fn\"", "torch_dtype"),
            (
                "\"sliding_window\": null",
                "\"sliding_window\": 64, \"layer_types\": [\"sliding_attention\"]",
                "layer_types"
            ),
            (
                "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 8}",
                "rope_type"
            ),
            ("\"rope_scaling\": null", "\"quantization_config\": {\"bits\": 4}", "quantization_config"),
            ("\"rope_scaling\": null", "\"shared_expert_intermediate_size\": 8", "shared_expert"),
            ("\"rope_scaling\": null", "\"use_qk_norm\": false", "use_qk_norm"),
        ])
    func unsupported(_ old: String, _ new: String, _ field: String) throws {
        let original = try text("moe_norm_bf16")
        try #require(original.contains(old))
        let error = try #require(
            checkpointError { _ = try parse(original.replacingOccurrences(of: old, with: new)) })
        #expect(error.code == .unsupportedConfiguration)
        #expect(error.message.contains(field) && error.remedy != nil && error.file == "config.json")
    }

    @Test("a classifier with one label is a reward model, whose head is a matrix of its own; it is written as such")
    func rewardModel() throws {
        let original = try text("moe_norm_bf16")
            .replacingOccurrences(of: "Qwen3MoeForCausalLM", with: "Qwen3MoeForSequenceClassification")
            .replacingOccurrences(of: "\"tie_word_embeddings\": false", with: "\"tie_word_embeddings\": true")
        for label in ["\"id2label\": {\"0\": \"LABEL_0\"}", "\"num_labels\": 1"] {
            let read = try parse(original.replacingOccurrences(of: "\"rope_scaling\": null", with: label))
            #expect(read.isRewardModel && !read.tieWordEmbeddings && read.outputCount == 1)
            let head = try #require(read.parameterTensors.last)
            #expect(head.name.rawValue == "score.weight" && head.shape == [1, read.hiddenSize])
            let written = try parse(read.fileText)
            #expect(written.isRewardModel && written.architecture == "Qwen3MoeForSequenceClassification")
            #expect(written.padTokenID == read.padTokenID)
        }
    }

    @Test("a sliding window counts only when it is used")
    func slidingWindow() throws {
        let original = try text("moe_norm_bf16")
        let idle = original.replacingOccurrences(
            of: "\"sliding_window\": null", with: "\"sliding_window\": 64")
        #expect(try parse(idle) == parse(original))
        let used = idle.replacingOccurrences(
            of: "\"use_sliding_window\": false", with: "\"use_sliding_window\": true")
        #expect(checkpointError { _ = try parse(used) }?.code == .unsupportedConfiguration)
    }

    @Test(
        "refuses impossible values, naming the field",
        arguments: [
            ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "num_attention_heads"),
            ("\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", "num_key_value_heads"),
            ("\"head_dim\": 32", "\"head_dim\": 31", "head_dim"),
            ("\"hidden_size\": 64", "\"hidden_size\": 9999999999", "hidden_size"),
            ("\"hidden_size\": 64", "\"hidden_size\": -64", "hidden_size"),
            ("\"hidden_size\": 64", "\"hidden_size\": 64.5", "hidden_size"),
            ("\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size"),
            ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 100000", "num_hidden_layers"),
            ("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9", "num_experts_per_tok"),
            ("\"num_experts\": 8", "\"num_experts\": 8, \"num_local_experts\": 4", "num_local_experts"),
            ("\"vocab_size\": 464", "\"vocab_size\": 100", "token id 422"),
            ("\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 0", "decoder_sparse_step"),
            ("\"mlp_only_layers\": []", "\"mlp_only_layers\": [3]", "mlp_only_layers"),
            ("\"norm_topk_prob\": true", "\"norm_topk_prob\": 1", "norm_topk_prob"),
            ("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1e-06", "rms_norm_eps"),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"yarn\"}", "factor"),
            ("\"rope_scaling\": null", "\"rope_scaling\": 4", "rope_scaling"),
            (
                "\"rope_scaling\": null",
                "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000}",
                "rope_theta"
            ),
        ])
    func invalid(_ old: String, _ new: String, _ field: String) throws {
        let original = try text("moe_norm_bf16")
        try #require(original.contains(old))
        let error = try #require(
            checkpointError { _ = try parse(original.replacingOccurrences(of: old, with: new)) })
        #expect(error.code == .invalidConfiguration && error.message.contains(field), "\(error)")
    }

    @Test(
        "a missing field is named",
        arguments: [
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
        ])
    func missing(_ field: String) throws {
        let without = try text("moe_norm_bf16").replacingOccurrences(
            of: "\"\(field)\":", with: "\"x_\(field)\":")
        let error = try #require(checkpointError { _ = try parse(without) })
        #expect(error.code == .invalidConfiguration)
        #expect(error.message.contains("'\(field)'") && error.message.contains("missing"), "\(error)")
    }

    @Test("defaults: head size, intermediate size without dense layers")
    func defaults() throws {
        let original = try text("moe_norm_bf16")
        let without = original.replacingOccurrences(of: "\"head_dim\":", with: "\"x\":")
        #expect(try parse(without).headSize == 16)
        let noDense = original.replacingOccurrences(of: "\"intermediate_size\":", with: "\"x\":")
        let configuration = try parse(noDense)
        #expect(configuration.intermediateSize == 0)
        #expect(try parse(configuration.fileText) == configuration)
        let dense = try text("dense_tied_bf16").replacingOccurrences(
            of: "\"intermediate_size\":", with: "\"x\":")
        #expect(checkpointError { _ = try parse(dense) }?.message.contains("intermediate_size") == true)
    }

    @Test(
        "broken JSON is an error with a place",
        arguments: ["", "{", "{\"a\":1,\"a\":2}", "[1,2", "{\"a\":NaN}"])
    func brokenJSON(_ text: String) throws {
        let error = try #require(checkpointError { _ = try parse(text) })
        #expect(error.code == .malformedJSON && error.byteOffset != nil)
    }
}
