// SPDX-License-Identifier: Apache-2.0
internal import Tensors

/// What `apus model inspect` shows.
package struct CheckpointSummary: Sendable {
    /// Totals of one kind of weight.
    package struct Row: Hashable, Sendable {
        package let kind: ParameterTensor.Kind
        package let tensorCount: Int
        package let parameterCount: Int
        /// As stored.
        package let byteCount: Int
    }

    package let configuration: Qwen3Configuration
    package let parameters: ParameterCounts
    /// One row per kind that occurs, in the order of ``ParameterTensor/Kind``. A redundant head has a row.
    package let rows: [Row]
    /// Tensors in the released layout.
    package let tensorCount: Int
    /// Bytes of all tensors.
    package let storedByteCount: Int
    /// Bytes of one token in the key/value cache with bf16 elements.
    package let keyValueByteCountPerToken: Int
    /// Weights of one expert (gate, up, down); 0 for dense models.
    package let parametersPerExpert: Int

    /// Computed from shapes alone.
    package init(configuration: Qwen3Configuration, storesRedundantHead: Bool = false) {
        self.configuration = configuration
        parameters = configuration.parameterCounts
        let byteCount = (configuration.storageType ?? .bfloat16).byteCount
        let includesHead = storesRedundantHead || !configuration.tieWordEmbeddings
        let tensors = configuration.parameterTensors(includesHead: includesHead)
        rows = ParameterTensor.Kind.allCases.compactMap { kind in
            let ofKind = tensors.filter { $0.kind == kind }
            guard !ofKind.isEmpty else { return nil }
            let count = ofKind.reduce(0) { $0 + $1.elementCount }
            return Row(
                kind: kind, tensorCount: ofKind.count, parameterCount: count, byteCount: count * byteCount)
        }
        tensorCount = tensors.count
        storedByteCount = rows.reduce(0) { $0 + $1.byteCount }
        keyValueByteCountPerToken = configuration.keyValueByteCountPerToken(elementByteCount: 2)
        parametersPerExpert = 3 * configuration.hiddenSize * configuration.moeIntermediateSize
    }

    /// Of an opened checkpoint.
    package init(_ checkpoint: Checkpoint) {
        var configuration = checkpoint.configuration
        configuration.storageType = checkpoint.elementType
        self.init(configuration: configuration, storesRedundantHead: checkpoint.storesRedundantHead)
    }
}
