// SPDX-License-Identifier: Apache-2.0
//
// The decoder backward, layer by layer from the last, over one cell: the rows that one forward pass put on a tape.
// The gradient of the residual stream is fp32; gradients of products' outputs are rounded to the compute type as their
// inputs are in the forward pass. Every sum over rows runs in row order, so a cell's gradient is a pure function of it.
internal import CKernels
internal import Checkpoints
internal import Glibc
internal import RuntimeSupport
internal import Tensors

/// Gradients of the trunk for one cell. One pass at a time.
package final class BackwardPass {
    let model: Qwen3Model
    package let layout: ParameterLayout
    let products: GradientProducts
    private var scratch = ScratchBuffer()
    private var attentionScratch = ScratchBuffer()
    private let configuration: Qwen3Configuration
    private let experts: (any TrainableExpertExchange)?

    /// - Parameter layout: of the trunk's gradient vector.
    package init(_ model: Qwen3Model, layout: ParameterLayout) {
        self.model = model
        self.layout = layout
        configuration = model.configuration
        products = GradientProducts(compute: model.compute, pool: model.pool)
        experts = model.experts as? any TrainableExpertExchange
    }

    /// Buffers of one pass.
    private struct Buffers {
        let normed: UnsafeMutableRawPointer  // [R, C], compute type
        let input: UnsafeMutablePointer<Float>  // [R, C]: gradient of a block's input
        let query: UnsafeMutablePointer<Float>  // [R, H, D]
        let attended: UnsafeMutablePointer<Float>  // [R, H, D]
        let key: UnsafeMutablePointer<Float>  // [R, G, D]
        let value: UnsafeMutablePointer<Float>  // [R, G, D]
        let gate: UnsafeMutablePointer<Float>  // [R, I]
        let up: UnsafeMutablePointer<Float>  // [R, I]
        let activation: UnsafeMutablePointer<Float>  // [R, I]: its gradient
        let activated: UnsafeMutableRawPointer  // [R, I], compute type
        let scales: UnsafeMutablePointer<Float>  // [R, H]
        let narrow: UnsafeMutableRawPointer  // [R, C], compute type
        let routerWeights: UnsafeMutablePointer<Float>  // one per assignment entry
    }

    /// Bytes of each of ``Buffers`` for a cell of `rows` tokens.
    static func bufferSizes(rows: Int, _ c: Qwen3Configuration, _ compute: ComputeType) -> [Int] {
        let bytes = compute.byteCount
        let inner = c.isDenseAnywhere ? c.intermediateSize : 0
        return [
            rows * c.hiddenSize * bytes, rows * c.hiddenSize * 4, rows * c.querySize * 4, rows * c.querySize * 4,
            rows * c.keyValueSize * 4, rows * c.keyValueSize * 4, rows * inner * 4, rows * inner * 4, rows * inner * 4,
            rows * inner * bytes, rows * c.attentionHeadCount * 4, rows * c.hiddenSize * bytes,
            rows * c.expertsPerToken * 4,
        ].map { ($0 + 63) / 64 * 64 }
    }

    private func reserve(_ rows: Int) throws(MemoryError) -> Buffers {
        let sizes = Self.bufferSizes(rows: rows, configuration, model.compute)
        let base = try scratch.reserve(sizes.reduce(0, +))
        var starts: [UnsafeMutableRawPointer] = []
        var offset = 0
        for size in sizes {
            starts.append(base + offset)
            offset += size
        }
        func floats(_ index: Int) -> UnsafeMutablePointer<Float> { starts[index].assumingMemoryBound(to: Float.self) }
        return Buffers(
            normed: starts[0], input: floats(1), query: floats(2), attended: floats(3), key: floats(4),
            value: floats(5), gate: floats(6), up: floats(7), activation: floats(8), activated: starts[9],
            scales: floats(10), narrow: starts[11], routerWeights: floats(12))
    }

    /// Runs backward from the residual stream behind the last layer.
    ///
    /// - Parameters:
    ///   - tape: of the forward pass; its probabilities are overwritten.
    ///   - cache: holds the keys and values of the same pass.
    ///   - cell: number of the cell in its step: what expert gradients are ordered by.
    ///   - gradientOfOutput: `[R, C]`, gradient of the residual stream behind the last layer; overwritten.
    ///   - auxiliary: see ``MoERouter``; nil without an auxiliary loss.
    ///   - gradient: the flat vector of `layout`; layers' parts are written, the embedding's is added to.
    /// - Throws: ``MemoryError``, and what the expert exchange throws.
    package func run(
        _ tape: ActivationTape, cache: KVCache, cell: Int, gradientOfOutput: UnsafeMutablePointer<Float>,
        auxiliary: [Float]?, into gradient: UnsafeMutablePointer<Float>
    ) throws {
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        if tape.rowCount == 0 { return }
        let buffers = try reserve(tape.rowCount)
        for index in model.trunk.layers.indices.reversed() {
            // The last layer's is still there.
            if tape.recomputes, index + 1 < model.trunk.layers.count {
                try model.recomputeAttention(index, cache: cache, on: tape)
            }
            try feedForward(index, tape, cell, gradientOfOutput, auxiliary, buffers, gradient)
            try attention(index, tape, cache, gradientOfOutput, buffers, gradient)
        }
        embedding(tape, gradientOfOutput, gradient + layout[.embedding].offset)
    }

    // MARK: - Feed-forward

    private func feedForward(
        _ index: Int, _ tape: ActivationTape, _ cell: Int, _ stream: UnsafeMutablePointer<Float>, _ auxiliary: [Float]?,
        _ b: Buffers, _ gradient: UnsafeMutablePointer<Float>
    ) throws {
        let layer = model.trunk.layers[index]
        let names = TensorName.layer(index)
        let kept = tape.layers[index]
        let rows = tape.rowCount
        model.norm(layer.postAttentionNorm, kept.middle, rows: rows, into: b.normed, as: model.compute)
        switch layer.feedForward {
        case .dense(let weights): try dense(weights, names, stream, rows, b, gradient)
        case .mixtureOfExperts(let router):
            try mixture(router, index, tape, cell, stream, auxiliary, b, gradient)
        }
        normBackward(
            kept.middle, layer.postAttentionNorm, b.input, stream, rows, b,
            gradient + layout[names.postAttentionNorm].offset)
    }

    private func dense(
        _ weights: SwiGLUWeights, _ names: TensorName.Layer, _ stream: UnsafePointer<Float>, _ rows: Int, _ b: Buffers,
        _ gradient: UnsafeMutablePointer<Float>
    ) throws {
        let (width, inner) = (configuration.hiddenSize, configuration.intermediateSize)
        weights.gate.multiply(b.normed, rowCount: rows, into: b.gate, on: model.pool)
        weights.up.multiply(b.normed, rowCount: rows, into: b.up, on: model.pool)
        try products.inputGradient(stream, weights.down, rows: rows, into: b.activation)
        let compute = model.compute
        model.pool.parallel((rows + 3) / 4) { block in
            let first = block * 4 * inner
            let count = min(4, rows - block * 4) * inner
            ck_swiglu_backward(
                compute.kernelValue, b.gate + first, b.up + first, b.activation + first, Int64(count),
                b.activated + first * compute.byteCount)
        }
        func weightGradient(
            _ dy: UnsafePointer<Float>, _ outputs: Int, _ x: UnsafeRawPointer, _ inputs: Int, _ name: TensorName
        ) throws {
            try products.weightGradient(
                dy, outputs: outputs, x, inputs: inputs, rows: rows, into: gradient + layout[name].offset, adds: false)
        }
        try weightGradient(stream, width, b.activated, inner, names.downProj)
        try weightGradient(b.gate, inner, b.normed, width, names.gateProj)
        try weightGradient(b.up, inner, b.normed, width, names.upProj)
        try products.inputGradient(b.gate, weights.gate, rows: rows, into: b.input)
        try products.inputGradient(b.up, weights.up, rows: rows, into: b.input, adds: true)
    }

    private func mixture(
        _ router: PackedMatrix, _ index: Int, _ tape: ActivationTape, _ cell: Int, _ stream: UnsafePointer<Float>,
        _ auxiliary: [Float]?, _ b: Buffers, _ gradient: UnsafeMutablePointer<Float>
    ) throws {
        guard let experts else { preconditionFailure("this model's experts cannot be trained") }
        let (width, count, rows) = (configuration.hiddenSize, configuration.expertCount, tape.rowCount)
        let assignment = tape.assignments[index]
        narrow(stream, rows * width, b.narrow)
        try experts.exchangeBackward(
            layer: index, cell: cell, tokens: b.normed, outputGradients: b.narrow, assignment: assignment,
            weightGradients: b.routerWeights, inputGradients: b.input)
        let probabilities = tape.layers[index].probabilities
        let normalize = configuration.normTopKProb
        model.pool.parallel((rows + 15) / 16) { block in
            for row in block * 16..<min(rows, block * 16 + 16) {
                MoERouter.backward(
                    probabilities, expertCount: count, assignment: assignment, weightGradients: b.routerWeights,
                    normalize: normalize, auxiliary: auxiliary, row: row)
            }
        }
        let name = TensorName.layer(index).router
        try products.weightGradient(
            probabilities, outputs: count, b.normed, inputs: width, rows: rows, into: gradient + layout[name].offset,
            adds: false)
        try products.inputGradient(probabilities, router, rows: rows, into: b.input, adds: true)
    }

    // MARK: - Attention

    private func attention(
        _ index: Int, _ tape: ActivationTape, _ cache: KVCache, _ stream: UnsafeMutablePointer<Float>, _ b: Buffers,
        _ gradient: UnsafeMutablePointer<Float>
    ) throws {
        let layer = model.trunk.layers[index]
        let names = TensorName.layer(index)
        let kept = tape.layers[index]
        let (rows, width) = (tape.rowCount, configuration.hiddenSize)
        let (querySize, keySize) = (configuration.querySize, configuration.keyValueSize)
        try products.inputGradient(stream, layer.output, rows: rows, into: b.attended)
        try products.weightGradient(
            stream, outputs: width, kept.attended, inputs: querySize, rows: rows,
            into: gradient + layout[names.oProj].offset, adds: false)
        biasGradient(layer.biases.output, stream, width, rows, names.oProj, gradient)
        try attend(index, tape, cache, b)
        unrotate(b.query, configuration.attentionHeadCount, tape)
        unrotate(b.key, configuration.keyValueHeadCount, tape)
        if let norms = layer.headNorms {
            // The weight's gradient needs dy, which the norm's backward overwrites: first the scales, then both.
            try normWeightAndInput(
                kept.rawQuery, norms.query, b.query, rows * configuration.attentionHeadCount, b,
                gradient + layout[names.qNorm].offset)
            try normWeightAndInput(
                kept.rawKey, norms.key, b.key, rows * configuration.keyValueHeadCount, b,
                gradient + layout[names.kNorm].offset)
        }
        biasGradient(layer.biases.query, b.query, querySize, rows, names.qProj, gradient)
        biasGradient(layer.biases.key, b.key, keySize, rows, names.kProj, gradient)
        biasGradient(layer.biases.value, b.value, keySize, rows, names.vProj, gradient)
        model.norm(layer.inputNorm, kept.input, rows: rows, into: b.normed, as: model.compute)
        for (dy, matrix, name, size, adds) in [
            (b.query, layer.query, names.qProj, querySize, false), (b.key, layer.key, names.kProj, keySize, true),
            (b.value, layer.value, names.vProj, keySize, true),
        ] {
            try products.weightGradient(
                dy, outputs: size, b.normed, inputs: width, rows: rows, into: gradient + layout[name].offset,
                adds: false)
            try products.inputGradient(dy, matrix, rows: rows, into: b.input, adds: adds)
        }
        normBackward(
            kept.input, layer.inputNorm, b.input, stream, rows, b, gradient + layout[names.inputNorm].offset)
    }

    /// Gradients of the rotated queries and keys and of the values; one task per key/value head and run of sequences that
    /// share a beginning, which adds up what all of them ask of the shared rows in their order.
    private func attend(_ index: Int, _ tape: ActivationTape, _ cache: KVCache, _ b: Buffers) throws {
        let (size, heads) = (configuration.headSize, configuration.attentionHeadCount)
        let keyHeads = configuration.keyValueHeadCount
        let keyWidth = keyHeads * size
        let scale = Float(1 / Double(size).squareRoot())
        let spans = tape.batch.spans
        memset(b.key, 0, tape.rowCount * keyWidth * 4)
        memset(b.value, 0, tape.rowCount * keyWidth * 4)
        let runs = SharedRuns(spans)
        let longest = spans.reduce(0) { max($0, $1.start + $1.tokens.count) }
        let padded = (longest + 15) / 16 * 16
        // Scores of four heads twice, then gradients of all keys and values where some are shared.
        let workCount = 8 * padded + (runs.isShared ? 2 * longest * keyWidth : 0)
        let work = try attentionScratch.reserve(runs.runs.count * keyHeads * workCount * 4)
            .assumingMemoryBound(to: Float.self)
        let query = tape.layers[index].query
        let compute = model.compute
        model.pool.parallel(runs.runs.count * keyHeads) { task in
            let (run, head) = (runs.runs[task / keyHeads], task % keyHeads)
            let scores = work + task * workCount
            for which in run {
                let span = spans[which]
                let keys = span.pages.map {
                    UnsafeRawPointer(cache.keys(layer: index, page: Int($0))) as UnsafeRawPointer?
                }
                let values = span.pages.map {
                    UnsafeRawPointer(cache.values(layer: index, page: Int($0))) as UnsafeRawPointer?
                }
                let row = runs.firstRow[which]
                var (dKey, dValue) = (b.key + row * keyWidth, b.value + row * keyWidth)
                let whole = span.start + span.tokens.count
                if span.start > 0 {
                    dKey = scores + 8 * padded
                    dValue = dKey + longest * keyWidth
                    for place in 0..<whole {
                        let offset = place * keyWidth + head * size
                        memset(dKey + offset, 0, size * 4)
                        memset(dValue + offset, 0, size * 4)
                    }
                }
                ck_attention_backward(
                    compute.kernelValue, query + row * heads * size, keys, values, Int64(cache.pageSize),
                    Int64(span.start), Int64(span.tokens.count), Int64(heads), Int64(keyHeads), Int64(size), scale,
                    Int64(head), b.attended + row * heads * size, b.query + row * heads * size, dKey, dValue, scores)
                if span.start == 0 { continue }
                for place in 0..<whole {
                    let target = runs.row(which, place) * keyWidth + head * size
                    let offset = place * keyWidth + head * size
                    ck_add(b.key + target, dKey + offset, Int64(size), b.key + target)
                    ck_add(b.value + target, dValue + offset, Int64(size), b.value + target)
                }
            }
        }
    }

    /// The gradient of a product's bias: the sum of its outputs' gradients over rows, in row order. Nothing where there is
    /// no bias.
    private func biasGradient(
        _ bias: [Float], _ dy: UnsafePointer<Float>, _ width: Int, _ rows: Int, _ product: TensorName,
        _ gradient: UnsafeMutablePointer<Float>
    ) {
        if bias.isEmpty { return }
        let target = gradient + layout[product.bias].offset
        memset(target, 0, width * 4)
        model.pool.parallel((width + 63) / 64) { block in
            let first = block * 64
            let count = Int64(min(64, width - first))
            for row in 0..<rows { ck_add(target + first, dy + row * width + first, count, target + first) }
        }
    }

    /// From the gradient of rotated heads to that of the same before rotation, in place.
    private func unrotate(_ dy: UnsafeMutablePointer<Float>, _ heads: Int, _ tape: ActivationTape) {
        let (size, rows) = (configuration.headSize, tape.rowCount)
        let half = size / 2
        model.pool.parallel((rows + 7) / 8) { block in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: max(1, half)) { sine in
                for row in block * 8..<min(rows, block * 8 + 8) {
                    // The transposed rotation turns back.
                    ck_scale(tape.sine + row * half, -1, Int64(half), sine.baseAddress)
                    ck_rope(
                        dy + row * heads * size, Int64(size), Int64(heads), Int64(size), tape.cosine + row * half,
                        sine.baseAddress)
                }
            }
        }
    }

    /// From the gradient of normalised heads to that of the projection, in place.
    private func normWeightAndInput(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ dy: UnsafeMutablePointer<Float>, _ rows: Int, _ b: Buffers,
        _ weightGradient: UnsafeMutablePointer<Float>
    ) throws {
        let (width, epsilon) = (configuration.headSize, Float(configuration.rmsNormEpsilon))
        let target = try products.reserveSum(rows * width)
        normKernel(x, weight, dy, target, rows, width, epsilon, adds: false, b.scales)
        normWeight(x, dy, rows, width, b.scales, weightGradient)
        memcpy(dy, target, rows * width * 4)
    }

    // MARK: - Norms

    /// Adds the gradient of a norm's input to the stream; writes that of its weight.
    private func normBackward(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ dy: UnsafePointer<Float>,
        _ stream: UnsafeMutablePointer<Float>, _ rows: Int, _ b: Buffers, _ weightGradient: UnsafeMutablePointer<Float>
    ) {
        let width = configuration.hiddenSize
        normKernel(x, weight, dy, stream, rows, width, Float(configuration.rmsNormEpsilon), adds: true, b.scales)
        normWeight(x, dy, rows, width, b.scales, weightGradient)
    }

    private func normKernel(
        _ x: UnsafePointer<Float>, _ weight: [Float], _ dy: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>,
        _ rows: Int, _ width: Int, _ epsilon: Float, adds: Bool, _ scales: UnsafeMutablePointer<Float>
    ) {
        let blockRows = max(1, 4096 / max(width, 1))
        model.pool.parallel((rows + blockRows - 1) / blockRows) { block in
            let first = block * blockRows
            ck_rms_norm_backward(
                x + first * width, Int64(width), weight, epsilon, Int64(width), Int64(min(blockRows, rows - first)),
                dy + first * width, Int64(width), dx + first * width, Int64(width), adds ? 1 : 0, scales + first)
        }
    }

    private func normWeight(
        _ x: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ rows: Int, _ width: Int,
        _ scales: UnsafePointer<Float>, _ weightGradient: UnsafeMutablePointer<Float>
    ) {
        memset(weightGradient, 0, width * 4)
        model.pool.parallel((width + 63) / 64) { block in
            ck_rms_norm_weight_gradient(
                x, Int64(width), scales, dy, Int64(width), Int64(rows), Int64(block * 64),
                Int64(min(width, block * 64 + 64)), weightGradient)
        }
    }

    func narrow(_ values: UnsafePointer<Float>, _ count: Int, _ target: UnsafeMutableRawPointer) {
        switch model.compute {
        case .fp32: memcpy(target, values, count * 4)
        case .bf16: ck_f32_to_bf16(values, Int64(count), target.assumingMemoryBound(to: UInt16.self))
        }
    }

    // MARK: - Embedding

    /// Rows in order; each task has a range of columns.
    private func embedding(
        _ tape: ActivationTape, _ stream: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>
    ) {
        let width = configuration.hiddenSize
        let tokens = tape.batch.tokens
        let piece = max(64, (width + model.pool.threadCount - 1) / model.pool.threadCount / 16 * 16)
        model.pool.parallel((width + piece - 1) / piece) { task in
            let first = task * piece
            let count = Int64(min(piece, width - first))
            for (row, token) in tokens.enumerated() {
                let target = gradient + Int(token) * width + first
                ck_add(target, stream + row * width + first, count, target)
            }
        }
    }
}

extension Qwen3Configuration {
    /// Whether some layer has no experts.
    var isDenseAnywhere: Bool { (0..<layerCount).contains { !isMoELayer($0) } }
}

/// Which sequences of a cell share rows, and where each position's row is.
private struct SharedRuns {
    /// Neighbours of which each but the first shares with the one before.
    let runs: [Range<Int>]
    let firstRow: [Int]
    let isShared: Bool
    private let starts: [Int]

    init(_ spans: [ForwardSpan]) {
        var rows = 0
        var firstRow: [Int] = []
        var begins: [Int] = []
        for (index, span) in spans.enumerated() {
            firstRow.append(rows)
            rows += span.tokens.count
            if span.start == 0 { begins.append(index) }
        }
        self.firstRow = firstRow
        starts = spans.map(\.start)
        runs = zip(begins, begins.dropFirst() + [spans.count]).map { $0..<$1 }
        isShared = starts.contains { $0 > 0 }
    }

    /// The row of a position of a sequence: its own, or that of the nearest one before it that computed it.
    func row(_ sequence: Int, _ position: Int) -> Int {
        var owner = sequence
        while position < starts[owner] { owner -= 1 }
        return firstRow[owner] + position - starts[owner]
    }
}
