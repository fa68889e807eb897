// SPDX-License-Identifier: Apache-2.0
package import Tensors

/// One SwiGLU block: an expert, or the feed-forward block of a dense layer.
package struct SwiGLUWeights: Sendable {
    package let gate: PackedMatrix
    package let up: PackedMatrix
    package let down: PackedMatrix

    package init(gate: PackedMatrix, up: PackedMatrix, down: PackedMatrix) {
        self.gate = gate
        self.up = up
        self.down = down
    }
}

/// The experts of one layer that live in this process, by expert index.
package struct ExpertWeights: Sendable {
    package var experts: [SwiGLUWeights?]
    /// The maximal aligned subtrees of what is owned, ascending.
    package let subtrees: [ExpertSubtree]

    package init(experts: [SwiGLUWeights?]) {
        self.experts = experts
        let owned = Set(experts.indices.filter { experts[$0] != nil })
        subtrees = ExpertSubtree.maximal(owned: owned, expertCount: experts.count)
    }
}
