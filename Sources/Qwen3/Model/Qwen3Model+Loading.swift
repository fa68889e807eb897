// SPDX-License-Identifier: Apache-2.0
package import Checkpoints
internal import Foundation
package import RuntimeSupport
package import Tensors

extension Qwen3Model {
    /// Loads a whole model, all experts included, into this process.
    ///
    /// - Parameter configuration: overrides the checkpoint's own (YaRN for long contexts); shapes must agree.
    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package convenience init(
        _ checkpoint: Checkpoint, configuration: Qwen3Configuration? = nil, compute: ComputeType, pool: ComputePool
    ) throws {
        let configuration = configuration ?? checkpoint.configuration
        let loader = WeightLoader(checkpoint, compute: compute, pool: pool)
        let sparse = (0..<configuration.layerCount).filter(configuration.isMoELayer)
        var layers: [Int: ExpertWeights] = [:]
        for layer in sparse { layers[layer] = try loader.experts(layer: layer, owned: 0..<configuration.expertCount) }
        let exchange =
            sparse.isEmpty
            ? nil
            : LocalExpertExchange(
                layers: layers, compute: compute, hiddenSize: configuration.hiddenSize,
                intermediateSize: configuration.moeIntermediateSize, pool: pool)
        self.init(
            configuration: configuration, name: checkpoint.directory.path, compute: compute,
            trunk: try loader.trunk(), experts: exchange, pool: pool)
    }
}
