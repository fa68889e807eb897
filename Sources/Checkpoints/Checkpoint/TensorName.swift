// SPDX-License-Identifier: Apache-2.0

/// The name of a weight as the released checkpoints write it.
package struct TensorName: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: String

    package init(_ rawValue: String) { self.rawValue = rawValue }

    package var description: String { rawValue }

    /// The bias `[outputs]` that belongs to a matrix.
    package var bias: TensorName {
        precondition(rawValue.hasSuffix(".weight"))
        return TensorName(rawValue.dropLast("weight".count) + "bias")
    }

    /// `[V, C]`.
    package static let embedding = TensorName("model.embed_tokens.weight")
    /// `[C]`.
    package static let finalNorm = TensorName("model.norm.weight")
    /// `[V, C]`.
    package static let head = TensorName("lm_head.weight")
    /// `[1, C]`, the head of a reward model.
    package static let score = TensorName("score.weight")

    /// The names of layer `index`, from 0.
    package static func layer(_ index: Int) -> Layer { Layer(index: index) }

    /// One of the three matrices of a gated MLP.
    package enum Projection: String, Sendable, Hashable, CaseIterable {
        /// `[I, C]`.
        case gate = "gate_proj"
        /// `[I, C]`.
        case up = "up_proj"
        /// `[C, I]`.
        case down = "down_proj"
    }

    /// Names within one layer.
    package struct Layer: Sendable, Hashable {
        package let index: Int

        private func name(_ suffix: String) -> TensorName {
            TensorName("model.layers.\(index).\(suffix).weight")
        }

        /// `[C]`, before attention.
        package var inputNorm: TensorName { name("input_layernorm") }
        /// `[H·D, C]`.
        package var qProj: TensorName { name("self_attn.q_proj") }
        /// `[G·D, C]`.
        package var kProj: TensorName { name("self_attn.k_proj") }
        /// `[G·D, C]`.
        package var vProj: TensorName { name("self_attn.v_proj") }
        /// `[C, H·D]`.
        package var oProj: TensorName { name("self_attn.o_proj") }
        /// `[D]`, shared by all query heads.
        package var qNorm: TensorName { name("self_attn.q_norm") }
        /// `[D]`, shared by all key heads.
        package var kNorm: TensorName { name("self_attn.k_norm") }
        /// `[C]`, before the MLP.
        package var postAttentionNorm: TensorName { name("post_attention_layernorm") }
        /// Of a dense layer.
        package func mlp(_ projection: Projection) -> TensorName { name("mlp.\(projection.rawValue)") }
        package var gateProj: TensorName { mlp(.gate) }
        package var upProj: TensorName { mlp(.up) }
        package var downProj: TensorName { mlp(.down) }
        /// `[E, C]`, of a layer with experts.
        package var router: TensorName { name("mlp.gate") }
        /// Of expert `expert`, from 0.
        package func expert(_ expert: Int, _ projection: Projection) -> TensorName {
            name("mlp.experts.\(expert).\(projection.rawValue)")
        }
        /// `[E, 2·I, C]`, gate rows then up rows per expert; only in dumps of transformers 5 (no `.weight`).
        package var fusedGateUp: TensorName { TensorName("model.layers.\(index).mlp.experts.gate_up_proj") }
        /// `[E, C, I]`; only in dumps of transformers 5 (no `.weight`).
        package var fusedDown: TensorName { TensorName("model.layers.\(index).mlp.experts.down_proj") }
    }
}
