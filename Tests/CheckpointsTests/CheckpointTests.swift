// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Opening checkpoints")
struct CheckpointTests {
    static let models = [
        "dense_tied_bf16", "dense_untied_fp32", "moe_norm_bf16", "moe_nonorm_sparse2_fp32", "qwen2_untied_bf16",
        "llama_plain_fp32",
    ]

    /// Copies a fixture model, lets `change` damage it and returns the error of opening it.
    private func errorAfter(
        _ model: String, location: SourceLocation = #_sourceLocation, _ change: (URL) throws -> Void
    ) throws -> CheckpointError? {
        try withTemporaryDirectory { directory in
            let copy = directory.appendingPathComponent("model")
            try copyFiles(of: Fixtures.url("models/\(model)"), to: copy)
            _ = try Checkpoint(directory: copy)
            try change(copy)
            return checkpointError(location) { _ = try Checkpoint(directory: copy) }
        }
    }

    /// Writes `tensors` as one safetensors file; `bytes` gives their content.
    private func write(
        _ tensors: [TensorDescription], to url: URL, _ bytes: (String) throws -> [UInt8]
    ) throws {
        let writer = try SafetensorsWriter(url, tensors: tensors)
        for tensor in tensors {
            try bytes(tensor.name).withUnsafeBytes { try writer.append(tensor.name, $0) }
        }
        try writer.finish()
    }

    @Test(
        "all weights of all fixtures are there, in the shapes the configuration calls for", arguments: models)
    func allTensors(_ model: String) throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/\(model)"))
        let tensors = checkpoint.configuration.parameterTensors
        for tensor in tensors {
            let view = try checkpoint.tensor(tensor.name)
            #expect(view.shape == tensor.shape)
            #expect(try view.elementType() == checkpoint.elementType)
            let counts = view.withBytes { NonFiniteCounts($0, dataType: view.dataType) }
            #expect(
                counts.isFinite && view.byteCount == tensor.elementCount * checkpoint.elementType.byteCount)
        }
        #expect(checkpoint.openedTensorNames == tensors.map(\.name.rawValue).sorted())
        #expect(checkpoint.mappedShardNames == checkpoint.index.shards.map(\.name))
        let meta =
            try JSONSerialization.jsonObject(
                with: Data(contentsOf: Fixtures.url("models/\(model)/ref/meta.json"))) as? [String: Any]
        let count = try #require(meta?["params"] as? Int)
        #expect(checkpoint.configuration.parameterCounts.total == count)
        checkpoint.dropPages()
    }

    @Test("a tied head is the embedding, also where an equal one is stored")
    func tiedHead() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/dense_tied_bf16"))
        #expect(checkpoint.storesRedundantHead)
        let head = try checkpoint.tensor(.head)
        #expect(head.name == "model.embed_tokens.weight")
        #expect(checkpoint.openedTensorNames == ["model.embed_tokens.weight"])
        let untied = try Checkpoint(directory: Fixtures.url("models/dense_untied_fp32"))
        #expect(try untied.tensor(.head).name == "lm_head.weight" && !untied.storesRedundantHead)
    }

    @Test("a shard is mapped when a tensor in it is asked for, and what was asked for is on record")
    func laziness() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/moe_norm_bf16"))
        #expect(checkpoint.mappedShardNames.isEmpty && checkpoint.openedTensorNames.isEmpty)
        _ = try checkpoint.expert(layer: 0, expert: 5, .down)
        _ = try checkpoint.tensor(TensorName.layer(0).expert(5, .gate))
        #expect(checkpoint.mappedShardNames == ["model-00002-of-00003.safetensors"])
        #expect(
            checkpoint.openedTensorNames == [
                "model.layers.0.mlp.experts.5.down_proj.weight",
                "model.layers.0.mlp.experts.5.gate_proj.weight",
            ])
        for (layer, expert) in [(0, 8), (3, 0), (-1, 0), (0, -1)] {
            #expect(
                checkpointError { _ = try checkpoint.expert(layer: layer, expert: expert, .up) }?.code
                    == .notFound)
        }
        let sparse = try Checkpoint(directory: Fixtures.url("models/moe_nonorm_sparse2_fp32"))
        #expect(checkpointError { _ = try sparse.expert(layer: 0, expert: 0, .up) }?.code == .notFound)
    }

    @Test("fused experts give the same bytes as the released layout, also without the model prefix")
    func fused() throws {
        let original = try Checkpoint(directory: Fixtures.url("models/moe_nonorm_sparse2_fp32"))
        let configuration = original.configuration
        var contents: [String: [UInt8]] = [:]
        var tensors: [TensorDescription] = []
        for tensor in configuration.parameterTensors where tensor.kind != .expert {
            let view = try original.tensor(tensor.name)
            contents[tensor.name.rawValue] = view.withBytes { Array($0) }
            tensors.append(
                .init(name: tensor.name.rawValue, elementType: original.elementType, shape: tensor.shape))
        }
        for layer in 0..<configuration.layerCount where configuration.isMoELayer(layer) {
            var (gateUp, down): ([UInt8], [UInt8]) = ([], [])
            for expert in 0..<configuration.expertCount {
                for projection in [TensorName.Projection.gate, .up] {
                    gateUp += try original.expert(layer: layer, expert: expert, projection)
                        .withBytes { Array($0) }
                }
                down += try original.expert(layer: layer, expert: expert, .down).withBytes { Array($0) }
            }
            let names = TensorName.layer(layer)
            contents[names.fusedGateUp.rawValue] = gateUp
            contents[names.fusedDown.rawValue] = down
            tensors.append(
                .init(name: names.fusedGateUp.rawValue, elementType: .float32, shape: [6, 48, 48]))
            tensors.append(.init(name: names.fusedDown.rawValue, elementType: .float32, shape: [6, 48, 24]))
        }
        try withTemporaryDirectory { directory in
            try FileManager.default.copyItem(
                at: original.directory.appendingPathComponent("config.json"),
                to: directory.appendingPathComponent("config.json"))
            for dropsPrefix in [false, true] {
                func stored(_ name: String) -> String {
                    dropsPrefix && name.hasPrefix("model.") ? String(name.dropFirst(6)) : name
                }
                let file = directory.appendingPathComponent("model.safetensors")
                let renamed = tensors.map {
                    TensorDescription(name: stored($0.name), dataType: $0.dataType, shape: $0.shape)
                }
                let byStoredName = Dictionary(
                    uniqueKeysWithValues: contents.map { (stored($0.key), $0.value) })
                try write(renamed, to: file) { try #require(byStoredName[$0]) }
                let fused = try Checkpoint(directory: directory)
                #expect(fused.expertLayout == .fused && original.expertLayout == .perExpert)
                for tensor in configuration.parameterTensors {
                    let expected = try original.tensor(tensor.name).withBytes { Array($0) }
                    let view: TensorView
                    if let expert = tensor.expert, let layer = tensor.layer {
                        let projection = try #require(
                            TensorName.Projection.allCases.first {
                                tensor.name.rawValue.contains($0.rawValue)
                            })
                        view = try fused.expert(layer: layer, expert: expert, projection)
                    } else {
                        view = try fused.tensor(tensor.name)
                    }
                    #expect(view.shape == tensor.shape && view.name == tensor.name.rawValue)
                    #expect(view.withBytes { Array($0) } == expected, "\(tensor.name)")
                }
                #expect(
                    fused.openedTensorNames == configuration.parameterTensors.map(\.name.rawValue).sorted())
            }
        }
    }

    @Test("a missing or truncated shard is named")
    func brokenShards() throws {
        let name = "model-00002-of-00003.safetensors"
        let missing = try errorAfter("moe_norm_bf16") {
            try FileManager.default.removeItem(at: $0.appendingPathComponent(name))
        }
        #expect(missing?.code == .inconsistentCheckpoint && missing?.file?.hasSuffix(name) == true)
        let truncated = try errorAfter("moe_norm_bf16") {
            let url = $0.appendingPathComponent(name)
            let data = try Data(contentsOf: url)
            try data.dropLast().write(to: url)
        }
        #expect(truncated?.code == .malformedFile && truncated?.file?.hasSuffix(name) == true)
        #expect(truncated?.description.contains("truncated") == true)
        let none = try errorAfter("moe_norm_bf16") {
            try FileManager.default.removeItem(at: $0.appendingPathComponent("model.safetensors.index.json"))
        }
        #expect(none?.code == .notFound)
    }

    @Test("an index that names no file or what is none is refused")
    func brokenIndex() throws {
        let index = "model.safetensors.index.json"
        let outside = try errorAfter("moe_norm_bf16") {
            try edit(
                $0.appendingPathComponent(index),
                "\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"../model-00003")
        }
        #expect(outside?.code == .malformedJSON && outside?.tensor == "model.norm.weight")
        let odd = try errorAfter("moe_norm_bf16") {
            try edit($0.appendingPathComponent(index), "\"weight_map\": {", "\"weight_map\": {\n\"x\": 1,")
        }
        #expect(odd?.code == .malformedJSON)
    }

    @Test("a tensor in two files is the one that the index names, if it names one")
    func twice() throws {
        let shard = "model-00003-of-00003.safetensors"
        func copied(_ change: (URL) throws -> Void) throws -> CheckpointError? {
            try withTemporaryDirectory { directory in
                let copy = directory.appendingPathComponent("model")
                try copyFiles(of: Fixtures.url("models/moe_norm_bf16"), to: copy)
                try FileManager.default.copyItem(
                    at: copy.appendingPathComponent(shard), to: copy.appendingPathComponent("model-00004.safetensors"))
                // The index names the fourth file for a tensor that is in none.
                try edit(
                    copy.appendingPathComponent("model.safetensors.index.json"), "\"weight_map\": {",
                    "\"weight_map\": {\"x\": \"model-00004.safetensors\",")
                try change(copy)
                do { _ = try Checkpoint(directory: copy) } catch let error as CheckpointError { return error }
                return nil
            }
        }
        #expect(try copied { _ in } == nil)
        let error = try copied {
            try edit($0.appendingPathComponent("model.safetensors.index.json"), "\"model.norm.weight\"", "\"other\"")
        }
        #expect(error?.tensor == "model.norm.weight" && error?.code == .inconsistentCheckpoint)
    }

    @Test("weights must be what config.json calls for")
    func configurationMismatch() throws {
        func config(_ old: String, _ new: String) throws -> CheckpointError? {
            try errorAfter("moe_norm_bf16") { try edit($0.appendingPathComponent("config.json"), old, new) }
        }
        let shape = try config("\"head_dim\": 32", "\"head_dim\": 16")
        #expect(shape?.code == .inconsistentCheckpoint && shape?.tensor?.contains("q_proj") == true)
        #expect(shape?.message.contains("[128, 64]") == true && shape?.message.contains("[64, 64]") == true)
        let missing = try config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4")
        #expect(missing?.tensor?.contains("layers.3") == true && missing?.message.contains("missing") == true)
        let surplus = try config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2")
        #expect(surplus?.tensor?.contains("layers.2") == true)
        let experts = try config("\"num_experts\": 8", "\"num_experts\": 7")
        #expect(experts?.code == .inconsistentCheckpoint)
        let dense = try config("\"mlp_only_layers\": []", "\"mlp_only_layers\": [1]")
        #expect(dense?.tensor == "model.layers.1.mlp.gate_proj.weight")
    }

    @Test("a shard that is replaced under an open checkpoint is noticed")
    func replaced() throws {
        try withTemporaryDirectory { directory in
            let copy = directory.appendingPathComponent("model")
            try copyFiles(of: Fixtures.url("models/moe_norm_bf16"), to: copy)
            let checkpoint = try Checkpoint(directory: copy)
            let shard = copy.appendingPathComponent(try #require(checkpoint.index.shards.first?.name))
            try DurableFile.write([1, 2, 3], to: shard)
            let error = checkpointError { _ = try checkpoint.tensor(.embedding) }
            #expect(error?.code == .inconsistentCheckpoint && error?.file == shard.path)
        }
    }
}
