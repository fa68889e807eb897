// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import Tensors

/// Checks the tensors of an index against a configuration.
struct CheckpointExpectation {
    let configuration: Qwen3Configuration
    /// Layers whose experts lie in one tensor.
    let fusedLayers: Set<Int>
    let prefix: String
    /// Whether no head of the file is going to be read.
    let ignoresHead: Bool
    /// Whether a tied matrix is stored under the head's name alone.
    let isEmbeddingInHead: Bool
    let directory: URL

    /// A tensor that the configuration does not call for is refused, because dropping a bias or a shared expert
    /// silently would give wrong numbers. Exceptions: a head that is not read and the rotary tables that old tools saved.
    /// - Throws: `inconsistentCheckpoint`.
    func check(_ index: CheckpointIndex) throws {
        try checkPrefix(index)
        var expectedNames: Set<String> = []
        for (name, shape) in expectedTensors() {
            if ignoresHead, name == TensorName.head.rawValue { continue }
            expectedNames.insert(name)
            guard let (shard, entry) = index.locate(name) else { throw missing(name, shape) }
            let file = index.shards[shard].name
            guard entry.shape == shape else {
                throw failure(
                    name, "in \(file) has shape \(entry.shape), config.json calls for \(shape)",
                    "use the config.json that belongs to these weights")
            }
            if entry.dataType.elementType != nil { continue }
            guard entry.dataType == .float8E4M3, let quantization = configuration.quantization, shape.count == 2 else {
                throw failure(
                    name, "in \(file) has dtype \(entry.dataType.rawValue), expected F32, BF16 or F16",
                    entry.dataType == .float8E4M3
                        ? "config.json has to say how it is quantised (quantization_config with weight_block_size)"
                        : "convert the checkpoint; of quantised ones Apus reads FP8 with block scales")
            }
            expectedNames.insert(try checkScales(of: name, shape, quantization, index))
        }
        for name in index.tensorNames where !expectedNames.contains(name) && !isIgnorable(name) {
            throw failure(
                name, "is stored, but config.json does not call for it",
                "use the config.json that belongs to these weights")
        }
    }

    private func checkScales(
        of name: String, _ shape: [Int], _ quantization: Qwen3Configuration.BlockQuantization, _ index: CheckpointIndex
    ) throws -> String {
        let scaleName = name + Checkpoint.scaleSuffix
        let expected = [
            (shape[0] + quantization.blockRows - 1) / quantization.blockRows,
            (shape[1] + quantization.blockColumns - 1) / quantization.blockColumns,
        ]
        guard let (_, scales) = index.locate(scaleName) else {
            throw failure(scaleName, "is missing, expected \(expected)", "fetch the checkpoint again")
        }
        guard scales.shape == expected, scales.dataType.elementType != nil else {
            throw failure(
                scaleName, "has shape \(scales.shape) and dtype \(scales.dataType.rawValue), expected \(expected)",
                "use the config.json that belongs to these weights")
        }
        return scaleName
    }

    private func missing(_ name: String, _ shape: [Int]) -> CheckpointError {
        if name == TensorName.head.rawValue {
            return failure(
                name, "is missing, so there is nothing to predict tokens with, as in embedding models",
                "name a causal language model, or train this one as a reward model (kind: train, method: reward)")
        }
        return failure(name, "is missing, expected \(shape)", "the checkpoint is incomplete: fetch it again")
    }

    /// Names that wrappers put before those of the model.
    private func checkPrefix(_ index: CheckpointIndex) throws {
        let embedding = "embed_tokens.weight"
        let name = Checkpoint.stored(TensorName.embedding.rawValue, prefix)
        guard !index.contains(name), !isEmbeddingInHead,
            let found = index.tensorNames.first(where: { $0.hasSuffix(".\(embedding)") })
        else { return }
        var wrapper = String(found.dropLast(embedding.count))
        if wrapper.hasSuffix("model."), wrapper != "base_model.model.", wrapper != "language_model." {
            wrapper = String(wrapper.dropLast("model.".count))
        }
        let remedies = [
            ("base_model.", "PEFT wrote it: merge the adapter (merge_and_unload) and save the result"),
            ("_orig_mod.", "save the model itself, not what torch.compile returns (model._orig_mod.save_pretrained)"),
            ("module.", "save the model itself, not its parallel wrapper (model.module.save_pretrained)"),
            ("language_model.", "it is part of a larger model: save the language model alone"),
        ]
        throw failure(
            found, "has the prefix '\(wrapper)' before the name that the model has for it ('\(name)')",
            remedies.first { wrapper.contains($0.0) }?.1 ?? "save the model without what wraps it")
    }

    private func isIgnorable(_ name: String) -> Bool {
        name.hasSuffix("rotary_emb.inv_freq")
            || (ignoresHead || configuration.tieWordEmbeddings) && name == TensorName.head.rawValue
    }

    private func failure(_ tensor: String, _ message: String, _ remedy: String) -> CheckpointError {
        CheckpointError(
            .inconsistentCheckpoint, message, file: directory.path, tensor: tensor, remedy: remedy)
    }

    private func expectedTensors() -> [(name: String, shape: [Int])] {
        var list: [(name: String, shape: [Int])] = []
        for tensor in configuration.parameterTensors {
            guard tensor.kind == .expert, let layer = tensor.layer, fusedLayers.contains(layer) else {
                let isElsewhere = isEmbeddingInHead && tensor.name == .embedding
                list.append(
                    (Checkpoint.stored((isElsewhere ? .head : tensor.name).rawValue, prefix), tensor.shape))
                continue
            }
            // The first matrix of a layer stands for the two fused tensors.
            guard tensor.expert == 0, tensor.name == TensorName.layer(layer).expert(0, .gate) else {
                continue
            }
            let names = TensorName.layer(layer)
            let (experts, hidden) = (configuration.expertCount, configuration.hiddenSize)
            let size = configuration.moeIntermediateSize
            list.append((Checkpoint.stored(names.fusedGateUp.rawValue, prefix), [experts, 2 * size, hidden]))
            list.append((Checkpoint.stored(names.fusedDown.rawValue, prefix), [experts, hidden, size]))
        }
        return list
    }
}
