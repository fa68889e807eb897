// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Glibc
internal import RuntimeSupport
package import Tensors

/// A Hugging Face checkpoint directory, opened for reading.
///
/// Opening reads config.json, the index and the headers of all shards, and checks them against each other and
/// against the configuration. A shard is mapped when a tensor in it is first asked for, and no byte of a tensor is
/// read before the view is used: a worker that owns some experts touches only those. One exception: a tied head that is
/// stored as well is compared with the embedding, as transformers does.
package final class Checkpoint: Sendable {
    /// How the experts of the file are laid out. Callers see no difference.
    package enum ExpertLayout: Sendable, Hashable {
        /// One tensor per expert and projection: the released form.
        case perExpert
        /// `gate_up_proj [E, 2·I, C]` and `down_proj [E, C, I]`.
        case fused
        /// Some layers in one form, some in the other.
        case mixed
    }

    /// What has been mapped and asked for so far.
    private struct Opened {
        var files: [MappedFile?]
        var names: Set<String> = []
        var experts: Set<Int> = []
    }

    package let directory: URL
    /// As config.json has it, but for a head that is not tied after all; its `storageType` is ``elementType``.
    package let configuration: Qwen3Configuration
    package let index: CheckpointIndex
    /// The type of every weight: that of config.json. Tensors that the file has in another type are rounded to it.
    package let elementType: ElementType
    /// What was made of the files beside reading them, in sentences for people.
    package let notes: [String]
    package let expertLayout: ExpertLayout
    /// Whether `lm_head.weight` is stored although the head is the embedding; the two are equal then.
    package let storesRedundantHead: Bool
    /// Seed of the scalar head that stands where a language model is taken as a reward model; nil: the head is stored.
    package let freshHeadSeed: UInt64?
    /// "model." in the released form, "" in dumps of the model without its head.
    private let prefix: String
    private let fusedLayers: Set<Int>
    private let isEmbeddingInHead: Bool
    private let opened: Locked<Opened>

    /// Opens and checks `directory`, found as by ``CheckpointDirectory``.
    ///
    /// - Parameters:
    ///   - configuration: use this one instead of its config.json.
    ///   - freshHeadSeed: takes a language model as the body of a reward model; its own head is never read then. A
    ///     reward model has its head already.
    /// - Throws: ``CheckpointError`` naming file, tensor, expected and actual value.
    package init(directory: URL, configuration: Qwen3Configuration? = nil, freshHeadSeed: UInt64? = nil) throws {
        let directory = try CheckpointDirectory.resolve(directory)
        self.directory = directory
        let read = try configuration ?? Qwen3Configuration(directory: directory)
        let index = try CheckpointIndex(directory: directory)
        self.index = index
        self.freshHeadSeed = read.isRewardModel ? nil : freshHeadSeed
        let bare = String(TensorName.embedding.rawValue.dropFirst("model.".count))
        let prefix = !index.contains(TensorName.embedding.rawValue) && index.contains(bare) ? "" : "model."
        self.prefix = prefix
        let sparse = (0..<read.layerCount).filter(read.isMoELayer)
        let fused = sparse.filter {
            index.contains(Checkpoint.stored(TensorName.layer($0).fusedGateUp.rawValue, prefix))
        }
        fusedLayers = Set(fused)
        expertLayout = fused.isEmpty ? .perExpert : fused.count == sparse.count ? .fused : .mixed
        let storesHead = index.contains(TensorName.head.rawValue)
        let storesEmbedding = index.contains(Checkpoint.stored(TensorName.embedding.rawValue, prefix))
        isEmbeddingInHead = read.tieWordEmbeddings && storesHead && !storesEmbedding
        opened = Locked(Opened(files: Array(repeating: nil, count: index.shards.count)))
        try CheckpointExpectation(
            configuration: read, fusedLayers: fusedLayers, prefix: prefix, ignoresHead: self.freshHeadSeed != nil,
            isEmbeddingInHead: isEmbeddingInHead, directory: directory
        ).check(index)
        elementType = read.storageType ?? Checkpoint.firstType(index)
        var (resolved, notes) = (read, Checkpoint.conversionNotes(index, elementType))
        resolved.storageType = elementType
        var isRedundant = false
        if read.tieWordEmbeddings, storesHead, storesEmbedding, self.freshHeadSeed == nil {
            isRedundant = try Checkpoint.isEqual(
                index, Checkpoint.stored(TensorName.embedding.rawValue, prefix), TensorName.head.rawValue, elementType)
            if !isRedundant {
                resolved.tieWordEmbeddings = false
                notes.append(
                    "config.json ties the head to the embedding, but lm_head.weight is stored with other values: it is "
                        + "used, as transformers does")
            }
        }
        storesRedundantHead = isRedundant
        self.notes = notes
        self.configuration = self.freshHeadSeed == nil ? resolved : resolved.asRewardModel
    }

    /// What transformers takes where config.json names no type: that of the first weight by name in the first file.
    private static func firstType(_ index: CheckpointIndex) -> ElementType {
        index.shards.lazy.flatMap(\.header.entries).compactMap(\.dataType.elementType).first ?? .bfloat16
    }

    private static func conversionNotes(_ index: CheckpointIndex, _ type: ElementType) -> [String] {
        var counts: [SafetensorsDataType: Int] = [:]
        for entry in index.shards.flatMap(\.header.entries) where !entry.name.hasSuffix(scaleSuffix) {
            counts[entry.dataType, default: 0] += 1
        }
        let name = SafetensorsDataType(type).rawValue
        var notes: [String] = []
        if let count = counts.removeValue(forKey: .float8E4M3) {
            notes.append("\(count) matrices in FP8 with block scales are dequantised to \(name) as they are loaded")
        }
        for other in [SafetensorsDataType.float32, .bfloat16, .float16] where other.elementType != type {
            guard let count = counts[other] else { continue }
            notes.append(
                "\(count) tensor\(count == 1 ? " is" : "s are") stored as \(other.rawValue) and read as \(name), the type "
                    + "of the model")
        }
        return notes
    }

    /// Whether two matrices have the same values.
    private static func isEqual(
        _ index: CheckpointIndex, _ first: String, _ second: String, _ type: ElementType
    ) throws -> Bool {
        func view(_ name: String) throws -> TensorView? {
            guard let (shard, _) = index.locate(name) else { return nil }
            let file = try SafetensorsFile(index.directory.appendingPathComponent(index.shards[shard].name))
            var view = try file.tensor(name)
            view.valueType = type
            return view
        }
        guard let a = try view(first), let b = try view(second) else { return false }
        guard a.shape == b.shape else { return false }
        defer {
            a.dropPages()
            b.dropPages()
        }
        let piece = max(1, (1 << 20) / max(1, a.shape.last ?? 1))
        for start in stride(from: 0, to: a.shape[0], by: piece) {
            let rows = start..<min(a.shape[0], start + piece)
            let isSame = try a.rows(rows).withValues { left, _ in
                try b.rows(rows).withValues { right, _ in
                    left.count == right.count && memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0
                }
            }
            if !isSame { return false }
        }
        return true
    }

    /// Of the factors of a quantised matrix.
    static let scaleSuffix = "_scale_inv"

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
        guard fusedLayers.contains(layer) else { return try view(name) }
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
        let isElsewhere = isEmbeddingInHead && name == .embedding
        let storedName = Checkpoint.stored((isElsewhere ? .head : name).rawValue, prefix)
        guard let (position, entry) = index.locate(storedName) else {
            throw CheckpointError(
                .notFound, "the checkpoint has no such tensor", file: directory.path, tensor: name.rawValue)
        }
        var view = try view(position, entry, name: name.rawValue)
        view.valueType = elementType
        if entry.dataType == .float8E4M3 { view.scales = try scales(of: storedName, width: entry.shape[1]) }
        return view
    }

    private func view(_ position: Int, _ entry: SafetensorsHeader.Entry, name: String) throws -> TensorView {
        let file = try mapped(position)
        let start = index.shards[position].header.dataOffset
        return TensorView(
            name: name, dataType: entry.dataType, shape: entry.shape, file: file,
            byteRange: start + entry.dataRange.lowerBound..<start + entry.dataRange.upperBound)
    }

    private func scales(of name: String, width: Int) throws -> BlockScales {
        guard let quantization = configuration.quantization,
            let (position, entry) = index.locate(name + Checkpoint.scaleSuffix)
        else { preconditionFailure("\(name) was checked at the opening") }
        var factors = try view(position, entry, name: entry.name)
        factors.valueType = .float32
        let values = try factors.withValues { bytes, _ in
            (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
        return BlockScales(
            blockRows: quantization.blockRows, blockColumns: quantization.blockColumns, columns: entry.shape[1],
            values: values)
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
