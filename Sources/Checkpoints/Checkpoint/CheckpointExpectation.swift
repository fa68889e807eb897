// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import Tensors

/// Checks the tensors of an index against a configuration.
struct CheckpointExpectation {
    let configuration: Qwen3Configuration
    let isFused: Bool
    let prefix: String
    let directory: URL

    /// Returns the one element type of all weights.
    ///
    /// A tensor that the configuration does not call for is refused, because dropping a bias or a shared expert
    /// silently would give wrong numbers. Exceptions: a redundant head and the rotary tables that old tools saved.
    /// - Throws: `inconsistentCheckpoint`.
    func check(_ index: CheckpointIndex) throws -> ElementType {
        var elementType = configuration.storageType
        var expectedNames: Set<String> = []
        for (name, shape) in expectedTensors() {
            expectedNames.insert(name)
            guard let (shard, entry) = index.locate(name) else {
                throw failure(
                    name, "is missing, expected \(shape)", "the checkpoint is incomplete: fetch it again")
            }
            let file = index.shards[shard].name
            guard entry.shape == shape else {
                throw failure(
                    name, "in \(file) has shape \(entry.shape), config.json calls for \(shape)",
                    "use the config.json that belongs to these weights")
            }
            guard let stored = entry.dataType.elementType else {
                throw failure(
                    name, "in \(file) has dtype \(entry.dataType.rawValue), expected F32, BF16 or F16",
                    "convert the checkpoint; quantized checkpoints are not read")
            }
            if let elementType, stored != elementType {
                throw failure(
                    name,
                    "in \(file) has dtype \(stored.rawValue), expected \(elementType.rawValue) as in "
                        + (configuration.storageType == nil
                            ? "the other tensors" : "config.json's torch_dtype"),
                    "store all weights in one type and name it in config.json")
            }
            elementType = stored
        }
        for name in index.tensorNames where !expectedNames.contains(name) && !isIgnorable(name) {
            throw failure(
                name, "is stored, but config.json does not call for it",
                "use the config.json that belongs to these weights; Apus reads Qwen3 only")
        }
        return elementType ?? .bfloat16
    }

    private func isIgnorable(_ name: String) -> Bool {
        name.hasSuffix("rotary_emb.inv_freq")
            || configuration.tieWordEmbeddings && name == TensorName.head.rawValue
    }

    private func failure(_ tensor: String, _ message: String, _ remedy: String) -> CheckpointError {
        CheckpointError(
            .inconsistentCheckpoint, message, file: directory.path, tensor: tensor, remedy: remedy)
    }

    private func expectedTensors() -> [(name: String, shape: [Int])] {
        var list: [(name: String, shape: [Int])] = []
        for tensor in configuration.parameterTensors {
            guard isFused, tensor.kind == .expert, let layer = tensor.layer else {
                list.append((Checkpoint.stored(tensor.name.rawValue, prefix), tensor.shape))
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
