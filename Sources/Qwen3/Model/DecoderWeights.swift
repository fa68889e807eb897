// SPDX-License-Identifier: Apache-2.0
package import Tensors

/// The weights of one decoder layer, without its experts (those belong to an ``ExpertExchange``).
package struct DecoderLayerWeights: Sendable {
    /// What follows attention.
    package enum FeedForward: Sendable {
        case dense(SwiGLUWeights)
        /// The router, `[E, C]`.
        case mixtureOfExperts(router: PackedMatrix)
    }

    package let inputNorm: [Float]  // [C]
    package let query: PackedMatrix  // [H * D, C]
    package let key: PackedMatrix  // [G * D, C]
    package let value: PackedMatrix  // [G * D, C]
    package let output: PackedMatrix  // [C, H * D]
    package let queryNorm: [Float]  // [D]
    package let keyNorm: [Float]  // [D]
    package let postAttentionNorm: [Float]  // [C]
    package let feedForward: FeedForward
}

/// Every weight that a worker needs of a model besides experts.
package struct TrunkWeights: Sendable {
    /// Rows of the embedding, `[V, C]`, row-major, in the compute type.
    package let embedding: PageBuffer
    package let layers: [DecoderLayerWeights]
    package let finalNorm: [Float]
    /// The output head, `[V, C]`, the embedding again when the two are tied; `[1, C]` of a reward model.
    package let head: PackedMatrix
}
