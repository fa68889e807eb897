// SPDX-License-Identifier: Apache-2.0
internal import Dispatch
package import Foundation
package import Tensors

/// Writes checkpoints with random weights in the released form: norms 1, biases 0, everything else normal with the
/// configuration's `initializer_range`. The same options give the same bytes on any machine.
package struct CheckpointInitializer: Sendable {
    package var configuration: Qwen3Configuration
    package var seed: UInt64
    /// Whether a tied model gets an `lm_head.weight` equal to its embedding.
    package var storesRedundantHead: Bool
    package var shardByteCountMax: Int
    /// See ``ModelPreset/scalesResidualOutputs``.
    package var scalesResidualOutputs = false
    /// Where tokenizer files are copied from; nil: none are.
    package var tokenizerDirectory: URL?

    package init(
        configuration: Qwen3Configuration, seed: UInt64 = 0, storesRedundantHead: Bool = false,
        shardByteCountMax: Int = ShardPlan.standardByteCountMax, tokenizerDirectory: URL? = nil
    ) {
        self.configuration = configuration
        self.seed = seed
        self.storesRedundantHead = storesRedundantHead
        self.shardByteCountMax = shardByteCountMax
        self.tokenizerDirectory = tokenizerDirectory
    }

    /// A preset with the tokenizer of `tokenizerDirectory`; without one, the ids of the released tokenizer.
    /// - Throws: `invalidOption`, and what reading the tokenizer throws.
    package init(
        preset: ModelPreset, layerCount: Int? = nil, seed: UInt64 = 0, storageType: ElementType = .bfloat16,
        shardByteCountMax: Int = ShardPlan.standardByteCountMax, tokenizerDirectory: URL? = nil
    ) throws {
        let tokenizer = try tokenizerDirectory.map { try TokenizerFacts(directory: $0) }
        self.init(
            configuration: try preset.configuration(
                layerCount: layerCount, tokenizer: tokenizer, storageType: storageType),
            seed: seed, storesRedundantHead: preset.storesRedundantHead, shardByteCountMax: shardByteCountMax,
            tokenizerDirectory: tokenizerDirectory)
        scalesResidualOutputs = preset.scalesResidualOutputs
    }

    /// Elements that one thread makes at a time.
    private static let chunkElementCount = 1 << 18
    /// Chunks that are made before they are written: 8 MiB of bf16 at most.
    private static let chunksPerBatch = 16

    /// Writes the checkpoint to `target`, on all cores.
    /// - Parameter progress: told the bytes written so far and in all, after each tensor.
    /// - Throws: `targetExists`, `diskFull`, `fileSystem`, `invalidConfiguration`; nothing remains then.
    package func write(to target: URL, progress: (_ written: Int, _ total: Int) -> Void = { _, _ in }) throws {
        let writer = try CheckpointWriter(
            target, configuration: configuration, storesRedundantHead: storesRedundantHead,
            shardByteCountMax: shardByteCountMax)
        do {
            if let tokenizerDirectory { try writer.copyTokenizer(from: tokenizerDirectory) }
            var written = 0
            for tensor in writer.tensors {
                try write(tensor, to: writer)
                written += tensor.byteCount
                progress(written, writer.plan.totalByteCount)
            }
            try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    private func write(_ tensor: TensorDescription, to writer: CheckpointWriter) throws {
        // `!`: the writer declares weights only, and those have one of the three types.
        let elementType = tensor.dataType.elementType!
        if tensor.name.hasSuffix("norm.weight") {
            let ones = RandomWeights.ones(tensor.elementCount, elementType)
            return try ones.withUnsafeBytes { try writer.append(tensor.name, $0) }
        }
        if tensor.name.hasSuffix(".bias") {
            let zeros = [UInt8](repeating: 0, count: tensor.byteCount)
            return try zeros.withUnsafeBytes { try writer.append(tensor.name, $0) }
        }
        // A redundant head has the embedding's values.
        let isResidualOutput =
            scalesResidualOutputs
            && (tensor.name.hasSuffix("o_proj.weight") || tensor.name.hasSuffix("down_proj.weight"))
        let isTiedHead = configuration.tieWordEmbeddings && tensor.name == TensorName.head.rawValue
        let weights = RandomWeights(
            seed: seed, name: isTiedHead ? TensorName.embedding.rawValue : tensor.name,
            standardDeviation: isResidualOutput
                ? configuration.initializerRange / Double(2 * configuration.layerCount).squareRoot()
                : configuration.initializerRange)
        let chunk = CheckpointInitializer.chunkElementCount
        let batch = chunk * CheckpointInitializer.chunksPerBatch
        let count = tensor.elementCount
        let size = elementType.byteCount
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: min(batch, count) * size, alignment: 64)
        defer { buffer.deallocate() }
        // @unchecked: each iteration below writes a part of its own.
        nonisolated(unsafe) let parts = buffer
        var first = 0
        while first < count {
            let batchStart = first
            let batchCount = min(batch, count - batchStart)
            DispatchQueue.concurrentPerform(iterations: (batchCount + chunk - 1) / chunk) { index in
                let start = index * chunk
                let end = min(start + chunk, batchCount)
                weights.fill(
                    UnsafeMutableRawBufferPointer(rebasing: parts[start * size..<end * size]),
                    from: batchStart + start, as: elementType)
            }
            try writer.append(
                tensor.name, UnsafeRawBufferPointer(rebasing: buffer[..<(batchCount * size)]))
            first += batchCount
        }
    }
}

extension RandomWeights {
    /// `count` times 1, as bytes.
    static func ones(_ count: Int, _ elementType: ElementType) -> [UInt8] {
        let one: [UInt8] =
            switch elementType {
            case .float32: [0x00, 0x00, 0x80, 0x3F]
            case .bfloat16: [0x80, 0x3F]
            case .float16: [0x00, 0x3C]
            }
        return Array(repeatElement(one, count: count).joined())
    }
}
