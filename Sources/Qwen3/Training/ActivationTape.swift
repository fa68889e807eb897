// SPDX-License-Identifier: Apache-2.0
//
// What a forward pass leaves for the backward pass of the same rows. Inputs of products that one row operation gives
// again (norms, activations of experts) are computed again instead of kept.
package import Checkpoints
internal import Glibc
package import Tensors

/// The activations of one cell. Reused from cell to cell.
///
/// With ``recomputes`` each layer keeps its input and its router's probabilities only; the rest has one place for all
/// layers, which the backward pass fills again before it needs a layer (Chen et al. 2016).
package final class ActivationTape {
    struct Layer {
        let input: UnsafeMutablePointer<Float>  // [R, C], the residual stream
        let middle: UnsafeMutablePointer<Float>  // [R, C], after attention
        let rawQuery: UnsafeMutablePointer<Float>  // [R, H, D], before norm and rotation; empty without such norms
        let rawKey: UnsafeMutablePointer<Float>  // [R, G, D]
        let query: UnsafeMutablePointer<Float>  // [R, H, D], as attention used it
        let attended: UnsafeMutableRawPointer  // [R, H, D], compute type
        let probabilities: UnsafeMutablePointer<Float>  // [R, E]
    }

    /// Whether attention is computed again on the way back; for the next pass.
    package var recomputes = false
    private var scratch = ScratchBuffer()
    private(set) var layers: [Layer] = []
    /// The residual stream after the last layer, `[R, C]`.
    private(set) var output = UnsafeMutablePointer<Float>(bitPattern: 64)!
    private(set) var cosine = UnsafeMutablePointer<Float>(bitPattern: 64)!  // [R, D / 2]
    private(set) var sine = UnsafeMutablePointer<Float>(bitPattern: 64)!
    /// By layer; empty in dense layers.
    var assignments: [ExpertAssignment] = []
    /// By layer: the chosen experts, `[R, k]`, in order of falling probability.
    package internal(set) var chosen: [[UInt16]] = []
    /// Choices that routers take over in the next pass.
    var routes: RouteReplay?
    private(set) var batch = BatchLayout([])

    package init() {}

    package var rowCount: Int { batch.rowCount }

    /// Bytes that a cell of `rows` tokens takes here.
    package static func byteCount(
        rows: Int, _ configuration: Qwen3Configuration, _ compute: ComputeType, recomputes: Bool
    ) -> Int {
        let sizes = layerSizes(rows, configuration, compute).map(aligned)
        let kept = recomputes ? sizes[0] + sizes[6] : sizes.reduce(0, +)
        return kept * configuration.layerCount + (recomputes ? sizes[1...5].reduce(0, +) : 0)
            + aligned(rows * configuration.hiddenSize * 4) + 2 * aligned(rows * configuration.headSize / 2 * 4)
    }

    private static func aligned(_ size: Int) -> Int { (size + 63) / 64 * 64 }

    private static func layerSizes(_ rows: Int, _ c: Qwen3Configuration, _ compute: ComputeType) -> [Int] {
        let raw = c.normalizesQueriesAndKeys ? rows * 4 : 0
        return [
            rows * c.hiddenSize * 4, rows * c.hiddenSize * 4, raw * c.querySize, raw * c.keyValueSize,
            rows * c.querySize * 4, rows * c.querySize * compute.byteCount, rows * c.expertCount * 4,
        ]
    }

    /// Makes room for a batch.
    /// - Throws: ``MemoryError``.
    func begin(_ batch: BatchLayout, _ c: Qwen3Configuration, _ compute: ComputeType) throws(MemoryError) {
        let rows = batch.rowCount
        self.batch = batch
        let base = try scratch.reserve(Self.byteCount(rows: rows, c, compute, recomputes: recomputes))
        var offset = 0
        func take(_ size: Int) -> UnsafeMutableRawPointer {
            defer { offset += Self.aligned(size) }
            return base + offset
        }
        func floats(_ size: Int) -> UnsafeMutablePointer<Float> { take(size).assumingMemoryBound(to: Float.self) }
        let sizes = Self.layerSizes(rows, c, compute)
        func layer() -> Layer {
            Layer(
                input: floats(sizes[0]), middle: floats(sizes[1]), rawQuery: floats(sizes[2]),
                rawKey: floats(sizes[3]), query: floats(sizes[4]), attended: take(sizes[5]),
                probabilities: floats(sizes[6]))
        }
        if recomputes, c.layerCount > 0 {
            let first = layer()
            layers =
                [first]
                + (1..<c.layerCount).map { _ in
                    Layer(
                        input: floats(sizes[0]), middle: first.middle, rawQuery: first.rawQuery, rawKey: first.rawKey,
                        query: first.query, attended: first.attended, probabilities: floats(sizes[6]))
                }
        } else {
            layers = (0..<c.layerCount).map { _ in layer() }
        }
        output = floats(rows * c.hiddenSize * 4)
        cosine = floats(rows * c.headSize / 2 * 4)
        sine = floats(rows * c.headSize / 2 * 4)
        assignments = [ExpertAssignment](repeating: ExpertAssignment(), count: c.layerCount)
        chosen = [[UInt16]](repeating: [], count: c.layerCount)
    }

    func keep(_ values: UnsafePointer<Float>, _ count: Int, in target: UnsafeMutablePointer<Float>) {
        memcpy(target, values, count * 4)
    }
}
