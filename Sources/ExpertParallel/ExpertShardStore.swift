// SPDX-License-Identifier: Apache-2.0
package import Qwen3
internal import RuntimeSupport
package import Tensors

/// The sizes that all experts of a model share.
package struct ExpertShape: Hashable, Sendable {
    package let compute: ComputeType
    package let expertCount: Int
    /// C: width of a token row.
    package let hiddenSize: Int
    package let intermediateSize: Int

    package init(compute: ComputeType, expertCount: Int, hiddenSize: Int, intermediateSize: Int) {
        self.compute = compute
        self.expertCount = expertCount
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
    }
}

/// What a process holds of one version of a model's experts. Never changes: the store swaps whole values, so
/// who computes with one is not disturbed by additions and removals.
package struct HeldExperts: Sendable {
    package let shape: ExpertShape
    package fileprivate(set) var layers: [Int: ExpertWeights] = [:]

    /// Bytes of all matrices.
    package var byteCount: Int {
        layers.values.reduce(0) { total, layer in
            layer.experts.reduce(total) { sum, expert in
                guard let expert else { return sum }
                return sum + expert.gate.byteCount + expert.up.byteCount + expert.down.byteCount
            }
        }
    }
}

/// The experts that live in this process, by model and policy version. Experts come and go while others are
/// used.
package final class ExpertShardStore: Sendable {
    private struct Key: Hashable {
        let model: UInt32
        let policyVersion: UInt64
    }

    private let held = Locked<[Key: HeldExperts]>([:])

    package init() {}

    /// Adds experts to what is held of `model`; an expert that is already there is replaced.
    ///
    /// - Parameter layers: for each layer index a list of `shape.expertCount`, nil where there is nothing to
    ///   add.
    package func add(
        model: UInt32, policyVersion: UInt64, shape: ExpertShape, layers: [Int: [SwiGLUWeights?]]
    ) {
        let key = Key(model: model, policyVersion: policyVersion)
        held.withLock { held in
            var entry = held[key] ?? HeldExperts(shape: shape)
            precondition(entry.shape == shape, "model \(model) has other sizes: \(entry.shape), not \(shape)")
            for (layer, added) in layers {
                precondition(
                    added.count == shape.expertCount, "\(added.count) experts, not \(shape.expertCount)")
                var experts =
                    entry.layers[layer]?.experts ?? [SwiGLUWeights?](repeating: nil, count: added.count)
                for (index, expert) in added.enumerated() where expert != nil { experts[index] = expert }
                entry.layers[layer] = ExpertWeights(experts: experts)
            }
            held[key] = entry
        }
    }

    /// Lets go of some experts in all layers. Their memory is free once nobody computes with them.
    package func remove(model: UInt32, policyVersion: UInt64, experts removed: some Sequence<Int>) {
        let key = Key(model: model, policyVersion: policyVersion)
        let removed = Array(removed)
        held.withLock { held in
            guard var entry = held[key] else { return }
            for (layer, weights) in entry.layers {
                var experts = weights.experts
                for index in removed { experts[index] = nil }
                entry.layers[layer] = ExpertWeights(experts: experts)
            }
            held[key] = entry
        }
    }

    /// Lets go of some experts in all layers and versions.
    package func remove(model: UInt32, experts removed: some Sequence<Int>) {
        let versions = held.withLock { $0.keys.filter { $0.model == model }.map(\.policyVersion) }
        for version in versions { remove(model: model, policyVersion: version, experts: removed) }
    }

    /// Lets go of a model.
    package func remove(model: UInt32) {
        held.withLock { held in held = held.filter { $0.key.model != model } }
    }

    /// Makes everything that is held of a model one version, whatever it was loaded as: its weights are about to be
    /// written from a training state.
    package func collect(model: UInt32, as version: UInt64) {
        held.withLock { held in
            let entries = held.filter { $0.key.model == model }.sorted { $0.key.policyVersion < $1.key.policyVersion }
            guard var merged = entries.first?.value else { return }
            for entry in entries.dropFirst() {
                for (layer, weights) in entry.value.layers {
                    var experts = merged.layers[layer]?.experts ?? weights.experts
                    for (index, expert) in weights.experts.enumerated() where expert != nil { experts[index] = expert }
                    merged.layers[layer] = ExpertWeights(experts: experts)
                }
            }
            for entry in entries { held[entry.key] = nil }
            held[Key(model: model, policyVersion: version)] = merged
        }
    }

    /// Lets go of a whole version.
    package func remove(model: UInt32, policyVersion: UInt64) {
        let key = Key(model: model, policyVersion: policyVersion)
        held.withLock { _ = $0.removeValue(forKey: key) }
    }

    /// Gives a version a new number, after its weights were refreshed in place. False when it is not held.
    @discardableResult
    package func renumber(model: UInt32, from old: UInt64, to new: UInt64) -> Bool {
        held.withLock { held in
            guard let entry = held.removeValue(forKey: Key(model: model, policyVersion: old)) else {
                return false
            }
            held[Key(model: model, policyVersion: new)] = entry
            return true
        }
    }

    /// What is held now of one version.
    package func experts(model: UInt32, policyVersion: UInt64) -> HeldExperts? {
        held.withLock { $0[Key(model: model, policyVersion: policyVersion)] }
    }

    /// Bytes of all held matrices; a matrix in two versions counts twice.
    package var residentByteCount: Int {
        held.withLock { Array($0.values) }.reduce(0) { $0 + $1.byteCount }
    }
}
