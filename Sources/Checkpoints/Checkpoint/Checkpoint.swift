// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport
package import Tensors

/// A Hugging Face checkpoint directory of a Qwen3 model, opened for reading.
///
/// Opening reads config.json, the index and the headers of all shards, and checks them against each other and
/// against the configuration. A shard is mapped when a tensor in it is first asked for, and no byte of a tensor is
/// read before the view is used: a worker that owns some experts touches only those.
package final class Checkpoint: Sendable {
    /// How the experts of the file are laid out. Callers see no difference.
    package enum ExpertLayout: Sendable, Hashable {
        /// One tensor per expert and projection: the released form.
        case perExpert
        /// `gate_up_proj [E, 2·I, C]` and `down_proj [E, C, I]`.
        case fused
    }

    /// What has been mapped and asked for so far.
    private struct Opened {
        var files: [MappedFile?]
        var names: Set<String> = []
        var experts: Set<Int> = []
    }

    package let directory: URL
    package let configuration: Qwen3Configuration
    package let index: CheckpointIndex
    /// The type of every weight.
    package let elementType: ElementType
    package let expertLayout: ExpertLayout
    /// Whether `lm_head.weight` is stored although the head is the embedding. It is never read then.
    package let storesRedundantHead: Bool
    /// Seed of the scalar head that stands where a language model is taken as a reward model; nil: the head is stored.
    package let freshHeadSeed: UInt64?
    /// "model." in the released form, "" in dumps of the model without its head.
    private let prefix: String
    private let opened: Locked<Opened>

    /// Opens and checks `directory`.
    ///
    /// - Parameters:
    ///   - configuration: use this one instead of its config.json.
    ///   - freshHeadSeed: takes a language model as the body of a reward model; its own head is never read then. A
    ///     reward model has its head already.
    /// - Throws: ``CheckpointError`` naming file, tensor, expected and actual value.
    package init(directory: URL, configuration: Qwen3Configuration? = nil, freshHeadSeed: UInt64? = nil) throws {
        self.directory = directory
        let configuration = try configuration ?? Qwen3Configuration(directory: directory)
        let index = try CheckpointIndex(directory: directory)
        self.freshHeadSeed = configuration.isRewardModel ? nil : freshHeadSeed
        self.configuration = self.freshHeadSeed == nil ? configuration : configuration.asRewardModel
        self.index = index
        let bare = String(TensorName.embedding.rawValue.dropFirst("model.".count))
        let prefix = !index.contains(TensorName.embedding.rawValue) && index.contains(bare) ? "" : "model."
        self.prefix = prefix
        let firstMoE = (0..<configuration.layerCount).first(where: configuration.isMoELayer)
        let fusedName = firstMoE.map { Checkpoint.stored(TensorName.layer($0).fusedGateUp.rawValue, prefix) }
        let isFused = fusedName.map(index.contains) ?? false
        expertLayout = isFused ? .fused : .perExpert
        storesRedundantHead =
            self.freshHeadSeed == nil && configuration.tieWordEmbeddings && index.contains(TensorName.head.rawValue)
        opened = Locked(Opened(files: Array(repeating: nil, count: index.shards.count)))
        let expected = CheckpointExpectation(
            configuration: configuration, isFused: isFused, prefix: prefix, directory: directory)
        elementType = try expected.check(index)
    }

    /// The name in the file for a name in released form.
    static func stored(_ name: String, _ prefix: String) -> String {
        prefix.isEmpty && name.hasPrefix("model.") ? String(name.dropFirst("model.".count)) : name
    }

    /// A view of a weight. ``TensorName/head`` of a tied model is the embedding, whatever is stored.
    /// - Throws: `notFound`, or what mapping the shard throws.
    package func tensor(_ name: TensorName) throws -> TensorView {
        if name == .head, configuration.tieWordEmbeddings { return try tensor(.embedding) }
        record(name)
        return try view(name)
    }

    /// A view of one matrix of an expert, in either layout.
    /// - Throws: `notFound` when the layer has no experts or fewer; what mapping the shard throws.
    package func expert(layer: Int, expert: Int, _ projection: TensorName.Projection) throws -> TensorView {
        let names = TensorName.layer(layer)
        let name = names.expert(expert, projection)
        guard (0..<configuration.layerCount).contains(layer), configuration.isMoELayer(layer),
            (0..<configuration.expertCount).contains(expert)
        else {
            throw CheckpointError(
                .notFound,
                "the model has no such expert: \(configuration.layerCount) layers, "
                    + "\(configuration.expertCount) experts in each layer with experts",
                file: directory.path, tensor: name.rawValue)
        }
        record(name)
        _ = opened.withLock { $0.experts.insert(expert) }
        guard expertLayout == .fused else { return try view(name) }
        let rows = configuration.moeIntermediateSize
        let fused = try view(projection == .down ? names.fusedDown : names.fusedGateUp)
        let whole = fused.rows(expert..<expert + 1, name: name.rawValue)
            .reshaped(Array(fused.shape.dropFirst()))
        switch projection {
        case .gate: return whole.rows(0..<rows)
        case .up: return whole.rows(rows..<2 * rows)
        case .down: return whole
        }
    }

    /// The scalar head of ``freshHeadSeed``, `[C]`: normal with `initializer_range`, as transformers makes the heads that
    /// a checkpoint lacks, so that the first step already reaches the body (a head of zeros would leave it alone).
    package var freshHead: [Float]? {
        freshHeadSeed.map { seed in
            let weights = RandomWeights(
                seed: seed, name: TensorName.score.rawValue, standardDeviation: configuration.initializerRange)
            return [Float](unsafeUninitializedCapacity: configuration.hiddenSize) { buffer, count in
                count = configuration.hiddenSize
                weights.fill(UnsafeMutableRawBufferPointer(buffer), from: 0, as: .float32)
            }
        }
    }

    /// Names, in released form, of all tensors that have been asked for, sorted bytewise.
    package var openedTensorNames: [String] {
        opened.withLock { $0.names }.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Experts (in any layer) of which a matrix has been asked for, ascending.
    package var openedExperts: [Int] { opened.withLock { $0.experts }.sorted() }

    /// Names of the shards that have been mapped, sorted.
    package var mappedShardNames: [String] {
        let files = opened.withLock { $0.files }
        return zip(index.shards, files).filter { $0.1 != nil }.map(\.0.name)
    }

    /// Gives the memory of all mapped shards back. Views stay usable and read again from the file.
    package func dropPages() {
        for file in opened.withLock({ $0.files }) { file?.dropPages() }
    }

    private func record(_ name: TensorName) { _ = opened.withLock { $0.names.insert(name.rawValue) } }

    private func view(_ name: TensorName) throws -> TensorView {
        guard let (position, entry) = index.locate(Checkpoint.stored(name.rawValue, prefix)) else {
            throw CheckpointError(
                .notFound, "the checkpoint has no such tensor", file: directory.path, tensor: name.rawValue)
        }
        let file = try mapped(position)
        let start = index.shards[position].header.dataOffset
        return TensorView(
            name: name.rawValue, dataType: entry.dataType, shape: entry.shape, file: file,
            byteRange: start + entry.dataRange.lowerBound..<start + entry.dataRange.upperBound)
    }

    private func mapped(_ position: Int) throws -> MappedFile {
        try opened.withLock { opened in
            if let file = opened.files[position] { return file }
            let shard = index.shards[position]
            let file = try MappedFile(directory.appendingPathComponent(shard.name))
            guard file.byteCount == shard.fileByteCount else {
                throw CheckpointError(
                    .inconsistentCheckpoint,
                    "has \(file.byteCount) bytes now, \(shard.fileByteCount) when the checkpoint was opened",
                    file: file.url.path, remedy: "leave checkpoints alone while they are in use")
            }
            opened.files[position] = file
            return file
        }
    }
}
