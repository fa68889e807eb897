internal import CKernels
// SPDX-License-Identifier: Apache-2.0
//
// Loading copies each weight once: from the mapped checkpoint into packed form on huge pages, matrix by matrix, in
// parallel over output slabs; the mapped pages are dropped afterwards. A worker asks only for what it owns, so
// nothing else is ever mapped.
package import Checkpoints
internal import Foundation
internal import Glibc
package import RuntimeSupport
package import Tensors

/// Turns checkpoint tensors into the weights that the kernels read.
package struct WeightLoader {
    let checkpoint: Checkpoint
    private let configuration: Qwen3Configuration
    private let compute: ComputeType
    private let pool: ComputePool

    package init(_ checkpoint: Checkpoint, compute: ComputeType, pool: ComputePool) {
        self.checkpoint = checkpoint
        configuration = checkpoint.configuration
        self.compute = compute
        self.pool = pool
    }

    /// Everything but experts.
    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package func trunk() throws -> TrunkWeights {
        let c = configuration
        let embedding = try rows(.embedding, [c.vocabularySize, c.hiddenSize])
        let layers = try (0..<c.layerCount).map(layer)
        return TrunkWeights(
            embedding: embedding, layers: layers, finalNorm: try vector(.finalNorm, c.hiddenSize),
            head: try matrix(c.headName, c.outputCount, c.hiddenSize))
    }

    /// The given experts of one layer.
    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package func experts(layer: Int, owned: some Sequence<Int>) throws -> ExpertWeights {
        var experts = [SwiGLUWeights?](repeating: nil, count: configuration.expertCount)
        for index in owned {
            experts[index] = try swiGLU(intermediateSize: configuration.moeIntermediateSize) { projection in
                try checkpoint.expert(layer: layer, expert: index, projection)
            }
        }
        return ExpertWeights(experts: experts)
    }

    private func layer(_ index: Int) throws -> DecoderLayerWeights {
        let c = configuration
        let names = TensorName.layer(index)
        let queryWidth = c.attentionHeadCount * c.headSize
        let keyWidth = c.keyValueHeadCount * c.headSize
        let feedForward: DecoderLayerWeights.FeedForward =
            c.isMoELayer(index)
            ? .mixtureOfExperts(router: try matrix(names.router, c.expertCount, c.hiddenSize))
            : .dense(
                try swiGLU(intermediateSize: c.intermediateSize) { projection in
                    try checkpoint.tensor(names.mlp(projection))
                })
        return DecoderLayerWeights(
            inputNorm: try vector(names.inputNorm, c.hiddenSize),
            query: try matrix(names.qProj, queryWidth, c.hiddenSize),
            key: try matrix(names.kProj, keyWidth, c.hiddenSize),
            value: try matrix(names.vProj, keyWidth, c.hiddenSize),
            output: try matrix(names.oProj, c.hiddenSize, queryWidth),
            biases: try biases(names),
            headNorms: c.normalizesQueriesAndKeys
                ? .init(query: try vector(names.qNorm, c.headSize), key: try vector(names.kNorm, c.headSize)) : nil,
            postAttentionNorm: try vector(names.postAttentionNorm, c.hiddenSize),
            feedForward: feedForward)
    }

    private func biases(_ names: TensorName.Layer) throws -> DecoderLayerWeights.AttentionBiases {
        let c = configuration
        if c.attentionBias == .none { return .init() }
        return .init(
            query: try vector(names.qProj.bias, c.querySize), key: try vector(names.kProj.bias, c.keyValueSize),
            value: try vector(names.vProj.bias, c.keyValueSize),
            output: c.attentionBias == .all ? try vector(names.oProj.bias, c.hiddenSize) : [])
    }

    /// The three matrices of a block side by side in one allocation.
    private func swiGLU(
        intermediateSize: Int, _ tensor: (TensorName.Projection) throws -> TensorView
    ) throws -> SwiGLUWeights {
        let width = configuration.hiddenSize
        let up = PackedMatrix.byteCount(compute, outputs: intermediateSize, inputs: width)
        let down = PackedMatrix.byteCount(compute, outputs: width, inputs: intermediateSize)
        let storage = try PageBuffer(byteCount: 2 * up + down)
        func load(_ projection: TensorName.Projection, _ outputs: Int, _ inputs: Int, at offset: Int) throws
            -> PackedMatrix
        {
            let matrix = PackedMatrix(compute, outputs: outputs, inputs: inputs, in: storage, at: offset)
            try pack(try tensor(projection), into: matrix)
            return matrix
        }
        return SwiGLUWeights(
            gate: try load(.gate, intermediateSize, width, at: 0),
            up: try load(.up, intermediateSize, width, at: up),
            down: try load(.down, width, intermediateSize, at: 2 * up))
    }

    private func matrix(_ name: TensorName, _ outputs: Int, _ inputs: Int) throws -> PackedMatrix {
        let storage = try PageBuffer(byteCount: PackedMatrix.byteCount(compute, outputs: outputs, inputs: inputs))
        let matrix = PackedMatrix(compute, outputs: outputs, inputs: inputs, in: storage, at: 0)
        if name == .score, let values = checkpoint.freshHead {
            values.withUnsafeBytes { matrix.pack(from: $0.baseAddress!, stored: .float32, rows: 0..<outputs) }
        } else {
            try pack(try checkpoint.tensor(name), into: matrix)
        }
        return matrix
    }

    private func pack(_ view: TensorView, into matrix: PackedMatrix) throws {
        let slab = max(16, matrix.slabRowCount)
        try inPieces(view, [matrix.outputCount, matrix.inputCount], rowsPerPiece: slab) { source, stored, rows in
            let first = source - rows.lowerBound * matrix.inputCount * stored.byteCount
            matrix.pack(from: first, stored: stored, rows: rows)
        }
    }

    /// Lends a matrix some rows at a time on all threads, so that one that has to be converted takes little memory.
    private func inPieces(
        _ view: TensorView, _ shape: [Int], rowsPerPiece: Int,
        _ body: (UnsafeRawPointer, ElementType, Range<Int>) -> Void
    ) throws {
        try view.requireShape(shape)
        let problem = Locked<(any Error)?>(nil)
        pool.parallel((shape[0] + rowsPerPiece - 1) / rowsPerPiece) { piece in
            let rows = piece * rowsPerPiece..<min(shape[0], (piece + 1) * rowsPerPiece)
            do {
                try view.rows(rows).withFloatBytes(shape: [rows.count, shape[1]]) { source, stored in
                    guard isFinite(source, stored, rows.count * shape[1]) else { throw damaged(view.name) }
                    body(source, stored, rows)
                }
            } catch { problem.withLock { $0 = $0 ?? error } }
        }
        if let error = problem.withLock({ $0 }) { throw error }
    }

    /// One such value makes every answer of the model wrong, and is found here for the price of a look.
    private func damaged(_ tensor: String) -> CheckpointError {
        CheckpointError(
            .corrupted, "holds a value that is not finite", file: checkpoint.directory.path, tensor: tensor,
            remedy: "apus model verify finds all of them; the checkpoint is damaged or its training diverged")
    }

    /// A row-major copy in the compute type.
    private func rows(_ name: TensorName, _ shape: [Int]) throws -> PageBuffer {
        let count = shape.reduce(1, *)
        let buffer = try PageBuffer(byteCount: count * compute.byteCount)
        let width = shape[1]
        try inPieces(try checkpoint.tensor(name), shape, rowsPerPiece: max(1, 65_536 / width)) { source, stored, rows in
            let target = buffer.base + rows.lowerBound * width * compute.byteCount
            convert(source, stored, rows.count * width, to: target)
        }
        return buffer
    }

    private func convert(
        _ source: UnsafeRawPointer, _ stored: ElementType, _ count: Int, to target: UnsafeMutableRawPointer
    ) {
        switch (stored, compute) {
        case (.float32, .fp32), (.bfloat16, .bf16): memcpy(target, source, count * compute.byteCount)
        case (.float32, .bf16):
            ck_f32_to_bf16(
                source.assumingMemoryBound(to: Float.self), Int64(count), target.assumingMemoryBound(to: UInt16.self))
        case (.bfloat16, .fp32):
            ck_bf16_to_f32(
                source.assumingMemoryBound(to: UInt16.self), Int64(count), target.assumingMemoryBound(to: Float.self))
        case (.float16, .fp32):
            ck_f16_to_f32(
                source.assumingMemoryBound(to: UInt16.self), Int64(count), target.assumingMemoryBound(to: Float.self))
        case (.float16, .bf16):
            withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { wide in
                ck_f16_to_f32(source.assumingMemoryBound(to: UInt16.self), Int64(count), wide.baseAddress)
                ck_f32_to_bf16(wide.baseAddress, Int64(count), target.assumingMemoryBound(to: UInt16.self))
            }
        }
    }

    /// A norm's weight or a bias: always fp32, whatever the compute type.
    private func vector(_ name: TensorName, _ count: Int) throws -> [Float] {
        try checkpoint.tensor(name).withFloatBytes(shape: [count]) { source, stored in
            guard isFinite(source, stored, count) else { throw damaged(name.rawValue) }
            return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
                switch stored {
                case .float32: memcpy(buffer.baseAddress!, source, count * 4)
                case .bfloat16:
                    ck_bf16_to_f32(source.assumingMemoryBound(to: UInt16.self), Int64(count), buffer.baseAddress)
                case .float16:
                    ck_f16_to_f32(source.assumingMemoryBound(to: UInt16.self), Int64(count), buffer.baseAddress)
                }
                initialized = count
            }
        }
    }
}
