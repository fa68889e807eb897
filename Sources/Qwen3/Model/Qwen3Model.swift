// SPDX-License-Identifier: Apache-2.0
//
// The decoder, dense and mixture-of-experts, over a batch of spans of several sequences.
//
//   x = embed[ids]; per layer: h = RMSNorm(x); q, k, v = h·Wᵀ + b; per-head RMSNorm of q and k; RoPE; attention over the
//   paged cache; x += o·Wₒᵀ + b; h = RMSNorm(x); x += SwiGLU(h) or experts(h); at the end RMSNorm and the head.
//
// Qwen3 has no biases, Qwen2 and Llama no norms of q and k; Qwen2 has biases of q, k and v.
//
// The residual stream, router logits and everything between kernels is fp32; inputs of products are rounded to the
// compute type. Every operation treats a row alone, so a token's numbers never depend on what it was batched with.
// Source: `modeling_qwen3_moe.py`, `modeling_qwen2.py` and `modeling_llama.py` of transformers; Qwen3 Technical Report section 2.
internal import CKernels
package import Checkpoints
internal import Glibc
package import RuntimeSupport
package import Tensors

/// A loaded model. One forward pass at a time; the calling thread takes part in the computation.
package final class Qwen3Model {
    package let configuration: Qwen3Configuration
    /// What messages call it: its directory.
    package let name: String
    package let compute: ComputeType
    package let pool: ComputePool
    package private(set) var trunk: TrunkWeights
    let experts: (any ExpertExchange)?
    private let rotary: RotaryEmbedding
    private var arena: ForwardArena
    /// Called with `[rows, width]` at each stage when set. Parity checks only.
    package var observer: ((ForwardStage, UnsafePointer<Float>, _ rows: Int, _ width: Int) -> Void)?

    /// - Parameter experts: where the experts live; nil for a dense model.
    package init(
        configuration: Qwen3Configuration, name: String = "", compute: ComputeType, trunk: TrunkWeights,
        experts: (any ExpertExchange)?, pool: ComputePool
    ) {
        precondition(trunk.layers.count == configuration.layerCount)
        self.configuration = configuration
        self.name = name
        self.compute = compute
        self.trunk = trunk
        self.experts = experts
        self.pool = pool
        rotary = RotaryEmbedding(configuration)
        arena = ForwardArena()
    }

    /// A cache of `pageCount` pages for this model.
    /// - Throws: ``MemoryError``.
    package func makeCache(pageCount: Int, pageSize: Int) throws(MemoryError) -> KVCache {
        try KVCache(
            compute: compute, layerCount: configuration.layerCount,
            keyValueHeadCount: configuration.keyValueHeadCount, headSize: configuration.headSize,
            pageCount: pageCount, pageSize: pageSize)
    }

    /// Runs the decoder over `spans`, writing their keys and values into `cache`.
    ///
    /// - Parameters:
    ///   - onLogits: called once for each wanted row with the row's index among the batch's tokens and its logits
    ///     `[V]` (of a reward model its scalar), valid during the call; possibly on several threads at once. Rows pass
    ///     through the head in blocks, so `[rows, V]` is never stored.
    ///   - onRouting: called per mixture-of-experts layer with the chosen experts, `[rows, k]`.
    /// - Throws: ``MemoryError``, ``NotFiniteError`` where a router cannot choose, and what the expert exchange throws.
    ///   Logits are the caller's to check.
    package func forward(
        _ spans: [ForwardSpan], cache: KVCache, onRouting: ((_ layer: Int, [UInt16]) -> Void)? = nil,
        onLogits: (_ row: Int, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        do { try pass(spans, cache: cache, onRouting: onRouting, onLogits: onLogits) } catch let error as NotFiniteError
        {
            throw notFinite(spans, cache: cache, seen: error.place)
        }
    }

    /// ``forward(_:cache:onRouting:onLogits:)`` without a look for causes.
    func pass(
        _ spans: [ForwardSpan], cache: KVCache, onRouting: ((_ layer: Int, [UInt16]) -> Void)? = nil,
        onLogits: (_ row: Int, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        // Kernels also run on this thread between parallel loops (the router); the caller's mode comes back.
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        let batch = BatchLayout(spans)
        if batch.rowCount == 0 { return }
        let buffers = try decode(batch, cache, tape: nil, onRouting)
        try head(batch, buffers, onLogits)
    }

    /// Runs the decoder without the head over `spans` and keeps on `tape` what the backward pass needs: the same kernels
    /// in the same order, so the same bits as ``forward(_:cache:onRouting:onLogits:)``.
    /// - Throws: ``MemoryError``, and what the expert exchange throws.
    package func record(_ spans: [ForwardSpan], cache: KVCache, on tape: ActivationTape) throws {
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        let batch = BatchLayout(spans)
        try tape.begin(batch, configuration, compute)
        if batch.rowCount == 0 { return }
        let buffers: ForwardBuffers
        do { buffers = try decode(batch, cache, tape: tape, nil) } catch let error as NotFiniteError {
            throw notFinite(spans, cache: cache, seen: error.place)
        }
        tape.keep(buffers.residual, batch.rowCount * configuration.hiddenSize, in: tape.output)
    }

    /// Attention of one layer again, from the input that the tape has kept: the same bits as before.
    /// - Throws: ``MemoryError``.
    func recomputeAttention(_ index: Int, cache: KVCache, on tape: ActivationTape) throws(MemoryError) {
        let (rows, width) = (tape.rowCount, configuration.hiddenSize)
        let buffers = try arena.reserve(for: rows, configuration, compute)
        let half = rows * configuration.headSize / 2
        memcpy(buffers.cosine, tape.cosine, half * 4)
        memcpy(buffers.sine, tape.sine, half * 4)
        memcpy(buffers.residual, tape.layers[index].input, rows * width * 4)
        attention(trunk.layers[index], index, tape.batch, buffers, cache, tape)
        tape.keep(buffers.residual, rows * width, in: tape.layers[index].middle)
    }

    /// The layers; the residual stream after the last one is in the result's `residual`.
    private func decode(
        _ batch: BatchLayout, _ cache: KVCache, tape: ActivationTape?, _ onRouting: ((Int, [UInt16]) -> Void)?
    ) throws -> ForwardBuffers {
        let buffers = try arena.reserve(for: batch.rowCount, configuration, compute)
        embed(batch, buffers)
        fillRotaryTables(batch, buffers)
        if let tape {
            let count = batch.rowCount * configuration.headSize / 2
            tape.keep(buffers.cosine, count, in: tape.cosine)
            tape.keep(buffers.sine, count, in: tape.sine)
        }
        for (index, layer) in trunk.layers.enumerated() {
            attention(layer, index, batch, buffers, cache, tape)
            try feedForward(layer, index, batch, buffers, tape, onRouting)
            observer?(.layerOutput(layer: index), buffers.residual, batch.rowCount, configuration.hiddenSize)
        }
        return buffers
    }

    /// Another model over the same weights with working memory of its own, for a thread of its own.
    package func lane(experts: (any ExpertExchange)?, pool: ComputePool) -> Qwen3Model {
        Qwen3Model(
            configuration: configuration, name: name, compute: compute, trunk: trunk, experts: experts, pool: pool)
    }

    /// The experts, when all of them are in this process.
    package var localExperts: LocalExpertExchange? { experts as? LocalExpertExchange }

    /// Puts other weights in place of the present ones; shapes must agree.
    package func replaceTrunk(_ trunk: TrunkWeights) { self.trunk = trunk }

    // MARK: - Stages

    private func embed(_ batch: BatchLayout, _ buffers: ForwardBuffers) {
        let width = configuration.hiddenSize
        let rowBytes = width * compute.byteCount
        for (row, token) in batch.tokens.enumerated() {
            precondition((0..<configuration.vocabularySize).contains(Int(token)), "token id \(token) out of range")
            let source = trunk.embedding.base + Int(token) * rowBytes
            let target = buffers.residual + row * width
            switch compute {
            case .fp32: memcpy(target, source, rowBytes)
            case .bf16: ck_bf16_to_f32(source.assumingMemoryBound(to: UInt16.self), Int64(width), target)
            }
        }
        observer?(.embedding, buffers.residual, batch.rowCount, width)
    }

    private func fillRotaryTables(_ batch: BatchLayout, _ buffers: ForwardBuffers) {
        let half = configuration.headSize / 2
        pool.parallel((batch.rowCount + 15) / 16) { block in
            for row in block * 16..<min(batch.rowCount, block * 16 + 16) {
                let position = batch.positions[row] + batch.spans[batch.spanOfRow[row]].rotaryOffset
                rotary.table(
                    position: position, cosine: buffers.cosine + row * half, sine: buffers.sine + row * half)
            }
        }
    }

    func norm(
        _ weight: [Float], _ x: UnsafePointer<Float>, rows: Int, into out: UnsafeMutableRawPointer, as type: ComputeType
    ) {
        let width = configuration.hiddenSize
        let epsilon = Float(configuration.rmsNormEpsilon)
        pool.parallel((rows + 15) / 16) { block in
            let first = block * 16
            ck_rms_norm(
                type.kernelValue, x + first * width, Int64(width), weight, epsilon, Int64(width),
                Int64(min(16, rows - first)), out + first * width * type.byteCount, Int64(width))
        }
    }

    private func attention(
        _ layer: DecoderLayerWeights, _ index: Int, _ batch: BatchLayout, _ buffers: ForwardBuffers, _ cache: KVCache,
        _ tape: ActivationTape?
    ) {
        let rows = batch.rowCount
        let kept = tape?.layers[index]
        if let kept { tape?.keep(buffers.residual, rows * configuration.hiddenSize, in: kept.input) }
        norm(layer.inputNorm, buffers.residual, rows: rows, into: buffers.normed, as: compute)
        multiplyTogether(
            [
                (layer.query, layer.biases.query, buffers.query), (layer.key, layer.biases.key, buffers.key),
                (layer.value, layer.biases.value, buffers.value),
            ], buffers.normed, rows)
        if let kept, configuration.normalizesQueriesAndKeys {
            tape?.keep(buffers.query, rows * configuration.querySize, in: kept.rawQuery)
            tape?.keep(buffers.key, rows * configuration.keyValueSize, in: kept.rawKey)
        }
        pool.parallel((rows + 7) / 8) { block in
            for row in block * 8..<min(rows, block * 8 + 8) { store(row, layer, index, batch, buffers, cache) }
        }
        attend(index, batch, buffers, cache)
        if let kept {
            tape?.keep(buffers.query, rows * configuration.querySize, in: kept.query)
            memcpy(kept.attended, buffers.attended, rows * configuration.querySize * compute.byteCount)
        }
        multiplyTogether([(layer.output, layer.biases.output, buffers.projected)], buffers.attended, rows)
        observer?(.attentionOutput(layer: index), buffers.projected, rows, configuration.hiddenSize)
        addToResidual(buffers, rows)
    }

    /// Several products of one input as one parallel loop; a bias is added to the finished sum, unless it is empty.
    private func multiplyTogether(
        _ products: [(matrix: PackedMatrix, bias: [Float], y: UnsafeMutablePointer<Float>)], _ x: UnsafeRawPointer,
        _ rows: Int
    ) {
        var firstTask: [Int] = [0]
        for product in products { firstTask.append(firstTask.last! + product.matrix.slabCount) }
        pool.parallel(firstTask.last!) { task in
            let which = firstTask.lastIndex { $0 <= task }!
            let (matrix, bias, y) = products[which]
            let outputs = matrix.slab(task - firstTask[which])
            matrix.multiply(
                x, xStride: matrix.inputCount, rowCount: rows, into: y, yStride: matrix.outputCount, outputs: outputs)
            if bias.isEmpty { return }
            bias.withUnsafeBufferPointer { bias in
                for row in 0..<rows {
                    let target = y + row * matrix.outputCount + outputs.lowerBound
                    ck_add(target, bias.baseAddress! + outputs.lowerBound, Int64(outputs.count), target)
                }
            }
        }
    }

    /// Normalises and rotates one row's queries and keys and writes its keys and values to the cache.
    private func store(
        _ row: Int, _ layer: DecoderLayerWeights, _ index: Int, _ batch: BatchLayout, _ buffers: ForwardBuffers,
        _ cache: KVCache
    ) {
        let size = configuration.headSize
        let (queryHeads, keyHeads) = (configuration.attentionHeadCount, configuration.keyValueHeadCount)
        let half = size / 2
        let query = buffers.query + row * queryHeads * size
        let key = buffers.key + row * keyHeads * size
        let value = buffers.value + row * keyHeads * size
        let (cosine, sine) = (buffers.cosine + row * half, buffers.sine + row * half)
        for (x, heads, weight) in [
            (query, queryHeads, layer.headNorms?.query), (key, keyHeads, layer.headNorms?.key),
        ] {
            if let weight {
                ck_rms_norm(
                    CK_FP32, x, Int64(size), weight, Float(configuration.rmsNormEpsilon), Int64(size), Int64(heads), x,
                    Int64(size))
            }
            ck_rope(x, Int64(size), Int64(heads), Int64(size), cosine, sine)
        }
        let position = batch.positions[row]
        let page = Int(batch.spans[batch.spanOfRow[row]].pages[position / cache.pageSize])
        let offset = position % cache.pageSize * cache.tokenByteCount
        for (source, page) in [
            (key, cache.keys(layer: index, page: page)), (value, cache.values(layer: index, page: page)),
        ] {
            switch compute {
            case .fp32: memcpy(page + offset, source, cache.tokenByteCount)
            case .bf16:
                ck_f32_to_bf16(
                    source, Int64(keyHeads * size), (page + offset).assumingMemoryBound(to: UInt16.self))
            }
        }
    }

    private func attend(_ index: Int, _ batch: BatchLayout, _ buffers: ForwardBuffers, _ cache: KVCache) {
        let size = configuration.headSize
        let (queryHeads, keyHeads) = (configuration.attentionHeadCount, configuration.keyValueHeadCount)
        let group = queryHeads / keyHeads
        let scale = Float(1 / Double(size).squareRoot())
        let pages = batch.spans.map { span in
            (
                keys: span.pages.map { UnsafeRawPointer(cache.keys(layer: index, page: Int($0))) as UnsafeRawPointer? },
                values: span.pages.map {
                    UnsafeRawPointer(cache.values(layer: index, page: Int($0))) as UnsafeRawPointer?
                }
            )
        }
        // Few rows: one task per key/value head, so that a long context is shared by the threads.
        let headsPerTask = batch.rowCount >= 4 * pool.threadCount ? keyHeads : 1
        let tasksPerRow = (keyHeads + headsPerTask - 1) / headsPerTask
        if ck_planted_fault() == CK_FAULT_CHUNK_RELATIVE_SEGMENTS {
            ck_plant_segment_shift(Int64(batch.spans[0].start))
        }
        pool.parallel(batch.rowCount * tasksPerRow) { task in
            let row = task / tasksPerRow
            let firstHead = task % tasksPerRow * headsPerTask * group
            let span = pages[batch.spanOfRow[row]]
            ck_attention(
                compute.kernelValue, buffers.query + row * queryHeads * size, span.keys, span.values,
                Int64(cache.pageSize), Int64(batch.positions[row] + 1), Int64(queryHeads), Int64(keyHeads), Int64(size),
                scale, Int64(firstHead), Int64(min(queryHeads, firstHead + headsPerTask * group)),
                buffers.attended + row * queryHeads * size * compute.byteCount)
        }
    }

    private func feedForward(
        _ layer: DecoderLayerWeights, _ index: Int, _ batch: BatchLayout, _ buffers: ForwardBuffers,
        _ tape: ActivationTape?, _ onRouting: ((Int, [UInt16]) -> Void)?
    ) throws {
        let rows = batch.rowCount
        if let tape { tape.keep(buffers.residual, rows * configuration.hiddenSize, in: tape.layers[index].middle) }
        norm(layer.postAttentionNorm, buffers.residual, rows: rows, into: buffers.normed, as: compute)
        switch layer.feedForward {
        case .dense(let weights):
            let gate = weights.gate
            let half = max(16, gate.slabRowCount / 2 / 16 * 16)
            pool.parallel((gate.outputCount + half - 1) / half) { task in
                ck_swiglu(
                    compute.kernelValue, gate.pointer, weights.up.pointer, Int64(gate.outputCount),
                    Int64(gate.inputCount), buffers.normed, Int64(gate.inputCount), Int64(rows), buffers.intermediate,
                    Int64(gate.outputCount), Int64(task * half), Int64(min(gate.outputCount, task * half + half)))
            }
            weights.down.multiply(buffers.intermediate, rowCount: rows, into: buffers.projected, on: pool)
        case .mixtureOfExperts(let router):
            guard let experts else { preconditionFailure("a mixture-of-experts model needs an expert exchange") }
            router.multiply(buffers.normed, rowCount: rows, into: buffers.routerLogits, on: pool)
            observer?(.routerLogits(layer: index), buffers.routerLogits, rows, configuration.expertCount)
            let routing = MoERouter.route(
                logits: buffers.routerLogits, rowCount: rows, expertCount: configuration.expertCount,
                expertsPerToken: configuration.expertsPerToken, normalize: configuration.normTopKProb,
                replay: { tape?.routes?.experts(row: $0, layer: index) })
            // Owners of experts would refuse such weights; the cause is here.
            guard routing.assignment.weights.allSatisfy(\.isFinite) else {
                throw NotFiniteError(model: name, place: ForwardStage.routerLogits(layer: index).place)
            }
            onRouting?(index, routing.chosen)
            if let tape {
                // Routing has overwritten the logits with probabilities.
                tape.keep(
                    buffers.routerLogits, rows * configuration.expertCount, in: tape.layers[index].probabilities)
                tape.assignments[index] = routing.assignment
                tape.chosen[index] = routing.chosen
            }
            try experts.exchange(
                layer: index, tokens: buffers.normed, assignment: routing.assignment, combined: buffers.projected)
        }
        observer?(.feedForwardOutput(layer: index), buffers.projected, rows, configuration.hiddenSize)
        addToResidual(buffers, rows)
    }

    private func addToResidual(_ buffers: ForwardBuffers, _ rows: Int) {
        let width = configuration.hiddenSize
        pool.parallel((rows + 15) / 16) { block in
            let offset = block * 16 * width
            let count = min(16, rows - block * 16) * width
            ck_add(buffers.residual + offset, buffers.projected + offset, Int64(count), buffers.residual + offset)
        }
    }

    private func head(
        _ batch: BatchLayout, _ buffers: ForwardBuffers, _ onLogits: (Int, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        let width = configuration.hiddenSize
        if let observer {
            let all = UnsafeMutableRawPointer.allocate(byteCount: batch.rowCount * width * 4, alignment: 64)
            defer { all.deallocate() }
            norm(trunk.finalNorm, buffers.residual, rows: batch.rowCount, into: all, as: .fp32)
            observer(.finalNorm, all.assumingMemoryBound(to: Float.self), batch.rowCount, width)
        }
        let wanted = batch.wantedRows
        let outputs = configuration.outputCount
        let blockRows = ForwardArena.headBlockRows
        for first in stride(from: 0, to: wanted.count, by: blockRows) {
            let block = wanted[first..<min(wanted.count, first + blockRows)]
            for (slot, row) in block.enumerated() {
                (buffers.headInput + slot * width).update(from: buffers.residual + row * width, count: width)
            }
            norm(trunk.finalNorm, buffers.headInput, rows: block.count, into: buffers.normed, as: compute)
            let logits = try arena.logits(block.count * outputs)
            trunk.head.multiply(buffers.normed, rowCount: block.count, into: logits, on: pool)
            pool.parallel(block.count) { slot in onLogits(block[first + slot], logits + slot * outputs) }
        }
    }
}

/// A batch with its rows laid out.
struct BatchLayout {
    let spans: [ForwardSpan]
    private(set) var tokens: [Int32] = []
    private(set) var positions: [Int] = []
    private(set) var spanOfRow: [Int] = []
    /// Rows whose logits are wanted, ascending.
    private(set) var wantedRows: [Int] = []

    var rowCount: Int { tokens.count }

    init(_ spans: [ForwardSpan]) {
        self.spans = spans
        for (index, span) in spans.enumerated() {
            for (offset, token) in span.tokens.enumerated() {
                let isLast = offset == span.tokens.count - 1
                if span.logits == .all || (span.logits == .last && isLast) { wantedRows.append(tokens.count) }
                tokens.append(token)
                positions.append(span.start + offset)
                spanOfRow.append(index)
            }
        }
    }
}
