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

    package var inputNorm: [Float]  // [C]
    package let query: PackedMatrix  // [H * D, C]
    package let key: PackedMatrix  // [G * D, C]
    package let value: PackedMatrix  // [G * D, C]
    package let output: PackedMatrix  // [C, H * D]
    /// Of the four projections; empty where the family has none.
    package var biases: AttentionBiases
    /// Nil in families that rotate queries and keys as they are.
    package var headNorms: HeadNorms?
    package var postAttentionNorm: [Float]  // [C]
    package let feedForward: FeedForward

    package struct AttentionBiases: Sendable {
        package var query: [Float] = []  // [H * D]
        package var key: [Float] = []  // [G * D]
        package var value: [Float] = []  // [G * D]
        package var output: [Float] = []  // [C]
    }

    package struct HeadNorms: Sendable {
        package var query: [Float]  // [D]
        package var key: [Float]  // [D]
    }
}

/// Every weight that a worker needs of a model besides experts.
package struct TrunkWeights: Sendable {
    /// Rows of the embedding, `[V, C]`, row-major, in the compute type.
    package let embedding: PageBuffer
    package var layers: [DecoderLayerWeights]
    package var finalNorm: [Float]
    /// The output head, `[V, C]`, the embedding again when the two are tied; `[1, C]` of a reward model.
    package let head: PackedMatrix
}
