// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Tensors

/// The buffers of one forward pass, carved out of one reused allocation.
struct ForwardBuffers {
    let residual: UnsafeMutablePointer<Float>  // [R, C]
    let normed: UnsafeMutableRawPointer  // [max(R, head block), C], compute type
    let query: UnsafeMutablePointer<Float>  // [R, H, D]
    let key: UnsafeMutablePointer<Float>  // [R, G, D]
    let value: UnsafeMutablePointer<Float>  // [R, G, D]
    let attended: UnsafeMutableRawPointer  // [R, H, D], compute type
    let projected: UnsafeMutablePointer<Float>  // [R, C]
    let intermediate: UnsafeMutableRawPointer  // [R, I], compute type
    let routerLogits: UnsafeMutablePointer<Float>  // [R, E]
    let cosine: UnsafeMutablePointer<Float>  // [R, D / 2]
    let sine: UnsafeMutablePointer<Float>  // [R, D / 2]
    let headInput: UnsafeMutablePointer<Float>  // [head block, C]
}

/// Working memory that lives from pass to pass.
struct ForwardArena {
    /// Rows that pass through the output head together.
    static let headBlockRows = 64

    private var scratch = ScratchBuffer()
    private var logitScratch = ScratchBuffer()

    /// Bytes of each of ``ForwardBuffers`` for `rows` rows.
    static func bufferSizes(rows: Int, _ configuration: Qwen3Configuration, _ compute: ComputeType) -> [Int] {
        let width = configuration.hiddenSize
        let size = configuration.headSize
        let queryWidth = configuration.attentionHeadCount * size
        let keyWidth = configuration.keyValueHeadCount * size
        let half = size / 2
        return [
            rows * width * 4, max(rows, Self.headBlockRows) * width * compute.byteCount, rows * queryWidth * 4,
            rows * keyWidth * 4, rows * keyWidth * 4, rows * queryWidth * compute.byteCount, rows * width * 4,
            rows * configuration.intermediateSize * compute.byteCount, rows * max(configuration.expertCount, 1) * 4,
            rows * half * 4, rows * half * 4, Self.headBlockRows * width * 4,
        ]
    }

    mutating func reserve(
        for rows: Int, _ configuration: Qwen3Configuration, _ compute: ComputeType
    ) throws(MemoryError) -> ForwardBuffers {
        let sizes = Self.bufferSizes(rows: rows, configuration, compute)
        var offsets: [Int] = []
        var total = 0
        for size in sizes {
            offsets.append(total)
            total += (size + 63) / 64 * 64
        }
        let base = try scratch.reserve(total)
        func floats(_ index: Int) -> UnsafeMutablePointer<Float> {
            (base + offsets[index]).assumingMemoryBound(to: Float.self)
        }
        return ForwardBuffers(
            residual: floats(0), normed: base + offsets[1], query: floats(2), key: floats(3), value: floats(4),
            attended: base + offsets[5], projected: floats(6), intermediate: base + offsets[7],
            routerLogits: floats(8), cosine: floats(9), sine: floats(10), headInput: floats(11))
    }

    mutating func logits(_ count: Int) throws(MemoryError) -> UnsafeMutablePointer<Float> {
        try logitScratch.reserve(count * 4).assumingMemoryBound(to: Float.self)
    }
}
