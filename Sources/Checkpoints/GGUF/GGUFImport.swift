// SPDX-License-Identifier: Apache-2.0
internal import Dispatch
package import Foundation
package import Tensors

/// Makes a Hugging Face checkpoint of a model in GGUF, in memory of some rows.
package struct GGUFImport: Sendable {
    package let model: GGUFModel
    /// Of all weights of the checkpoint. fp32 keeps every bit of what the file stands for.
    package var elementType = ElementType.bfloat16
    package var shardByteCountMax = ShardPlan.standardByteCountMax
    /// Where tokenizer files are copied from; nil: they are made from the file's metadata.
    package var tokenizerDirectory: URL?

    package init(_ file: GGUFFile) throws { model = try GGUFModel(file) }

    /// Elements that one thread decodes at a time.
    private static let chunkElementCount = 1 << 18
    private static let chunksPerBatch = 16

    /// Writes the checkpoint to `target`, on all cores.
    /// - Parameter progress: told the bytes written so far and in all, after each tensor.
    /// - Throws: ``CheckpointError``; nothing remains then.
    package func write(to target: URL, progress: (_ written: Int, _ total: Int) -> Void = { _, _ in }) throws {
        let file = model.file
        // Before the disk is touched: a tokenizer that is not read is known at once.
        let tokenizer =
            tokenizerDirectory == nil
            ? try GGUFTokenizer(
                file, rowCount: model.shape.vocabularySize, contextLength: model.shape.contextLength)
            : nil
        let special = tokenizer?.special ?? GGUFTokenizer.SpecialIDs()
        let tensors = model.weights.map {
            TensorDescription(name: $0.name, elementType: elementType, shape: $0.shape)
        }
        let writer = try ShardedWriter(target, tensors: tensors, shardByteCountMax: shardByteCountMax)
        do {
            if let tokenizer {
                try writer.add(TokenizerFacts.mainFileName, tokenizer.fileText + "\n")
                try writer.add("tokenizer_config.json", tokenizer.configurationText + "\n")
                try writer.add(
                    "generation_config.json", model.generationConfiguration(special).prettyPrinted() + "\n")
            } else if let tokenizerDirectory {
                try writer.copyTokenizer(from: tokenizerDirectory)
            }
            try writer.add("config.json", model.configuration(elementType, special).prettyPrinted() + "\n")
            var written = 0
            for (weight, tensor) in zip(model.weights, tensors) {
                try copy(weight, to: writer)
                written += tensor.byteCount
                progress(written, writer.plan.totalByteCount)
            }
            try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    private func copy(_ weight: GGUFModel.Weight, to writer: ShardedWriter) throws {
        let (rowCount, rowSize) = weight.rows
        let source = weight.source
        let size = elementType.byteCount
        let rowsPerChunk = max(1, GGUFImport.chunkElementCount / rowSize)
        let rowsPerBatch = rowsPerChunk * GGUFImport.chunksPerBatch
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: min(rowsPerBatch, rowCount) * rowSize * size, alignment: 64)
        defer { buffer.deallocate() }
        // @unchecked: each iteration below writes a part of its own.
        nonisolated(unsafe) let parts = buffer
        for first in stride(from: 0, to: rowCount, by: rowsPerBatch) {
            let count = min(rowsPerBatch, rowCount - first)
            DispatchQueue.concurrentPerform(iterations: (count + rowsPerChunk - 1) / rowsPerChunk) { index in
                let start = index * rowsPerChunk
                let end = min(start + rowsPerChunk, count)
                let part = UnsafeMutableRawBufferPointer(
                    rebasing: parts[start * rowSize * size..<end * rowSize * size])
                source.file.withBytes(source.header.dataRange) { bytes in
                    weight.decode(first + start..<first + end, bytes, as: elementType, into: part)
                }
            }
            try writer.append(
                weight.name, UnsafeRawBufferPointer(rebasing: buffer[..<(count * rowSize * size)]))
        }
        source.file.dropPages(source.header.dataRange)
    }
}

extension GGUFModel.Weight {
    /// Rows and elements of a row; a vector is one row.
    var rows: (count: Int, size: Int) {
        shape.count == 1 ? (1, shape[0]) : (shape.dropLast().reduce(1, *), shape[shape.count - 1])
    }

    /// The row of the source that becomes row `row`.
    func sourceRow(_ row: Int) -> Int {
        guard let pairedHeadCount else { return firstRow + row }
        let headSize = rows.count / pairedHeadCount
        let (head, index) = (row / headSize, row % headSize)
        let half = headSize / 2
        return head * headSize + index % half * 2 + index / half
    }

    /// Decodes `range` of the weight's rows.
    /// - Parameters:
    ///   - bytes: all of the source's.
    ///   - target: takes exactly the elements of these rows.
    func decode(
        _ range: Range<Int>, _ bytes: UnsafeRawBufferPointer, as elementType: ElementType,
        into target: UnsafeMutableRawBufferPointer
    ) {
        let size = rows.size
        let rowByteCount = size / source.type.blockElementCount * source.type.blockByteCount
        withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { values in
            for (position, row) in range.enumerated() {
                let start = sourceRow(row) * rowByteCount
                GGUFBlocks.decode(
                    source.type, UnsafeRawBufferPointer(rebasing: bytes[start..<start + rowByteCount]), into: values)
                GGUFBlocks.store(
                    values, as: elementType,
                    UnsafeMutableRawBufferPointer(
                        rebasing: target[
                            position * size * elementType.byteCount..<(position + 1) * size
                                * elementType.byteCount]))
            }
        }
    }
}

extension GGUFBlocks {
    /// Writes `values` as `elementType`, rounded to nearest even.
    static func store(
        _ values: UnsafeMutableBufferPointer<Float>, as elementType: ElementType,
        _ target: UnsafeMutableRawBufferPointer
    ) {
        switch elementType {
        case .float32: target.copyMemory(from: UnsafeRawBufferPointer(values))
        case .float16:
            for (index, value) in values.enumerated() {
                target.storeBytes(of: Float16(value).bitPattern, toByteOffset: index * 2, as: UInt16.self)
            }
        case .bfloat16:
            for (index, value) in values.enumerated() {
                // Rounding could carry a NaN over into zero.
                let bits = value.isNaN ? 0x7FC0 : RandomWeights.bfloat16Bits(value)
                target.storeBytes(of: bits, toByteOffset: index * 2, as: UInt16.self)
            }
        }
    }
}
