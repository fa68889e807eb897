// SPDX-License-Identifier: Apache-2.0
//
// The output head of a cell, twice: forward to score the tokens, and, once the objective has said what it wants of each
// score, again block by block with the gradient of the logits written over them. `[T, V]` is never stored.
internal import CKernels
internal import Checkpoints
internal import Glibc
package import RuntimeSupport
package import Tensors

/// A row of a cell that predicts a token, or whose scalar a reward model gives.
package struct ScoredRow: Sendable, Hashable {
    /// Row of the cell, the position before the token's.
    package let row: Int
    /// The token that came; ``noTarget`` after the last one.
    package let target: Int32

    package static let noTarget: Int32 = -1

    package init(row: Int, target: Int32) {
        self.row = row
        self.target = target
    }
}

/// What the objective wants of one scored row.
package struct RowGradient: Sendable, Hashable {
    /// dL / d log p(target); of a reward model's row dL / d scalar.
    package var logProb: Float
    /// dL / d entropy.
    package var entropy: Float
    /// Factor of the divergence from the teacher.
    package var divergence: Float

    package init(logProb: Float = 0, entropy: Float = 0, divergence: Float = 0) {
        self.logProb = logProb
        self.entropy = entropy
        self.divergence = divergence
    }
}

/// A divergence from a teacher over the whole vocabulary; the weights of its three forms, see ``ck_divergence``.
package struct TeacherDivergence: Sendable, Hashable {
    package var forward: Float
    package var reverse: Float
    package var symmetric: Float
    package var beta: Float
    package var temperature: Float
    /// Over the teacher's most likely tokens only; nil: over the whole vocabulary.
    package var topK: TopKDivergence?

    package init(
        forward: Float, reverse: Float, symmetric: Float, beta: Float, temperature: Float, topK: TopKDivergence? = nil
    ) {
        self.topK = topK
        self.forward = forward
        self.reverse = reverse
        self.symmetric = symmetric
        self.beta = beta
        self.temperature = temperature
    }

    var kernelValue: ck_divergence_kind {
        ck_divergence_kind(
            forward: forward, reverse: reverse, symmetric: symmetric, beta: beta,
            inverse_temperature: 1 / temperature)
    }
}

/// A teacher's residual rows for the scored rows of a cell: its logits are made again block by block.
package struct TeacherRows {
    package let model: Qwen3Model
    /// The teacher's tape over the same cell, so with the same rows.
    package let tape: ActivationTape
    package let divergence: TeacherDivergence

    package init(model: Qwen3Model, tape: ActivationTape, divergence: TeacherDivergence) {
        self.model = model
        self.tape = tape
        self.divergence = divergence
    }
}

/// Scores and gradients at the head. One pass at a time.
package final class HeadPass {
    private let model: Qwen3Model
    private let layout: ParameterLayout
    private let products: GradientProducts
    private var residualScratch = ScratchBuffer()
    private var normedScratch = ScratchBuffer()
    private var logitScratch = ScratchBuffer()
    private var gradientScratch = ScratchBuffer()
    private var teacherScratch = ScratchBuffer()
    private var rowScratch = ScratchBuffer()

    package init(_ backward: BackwardPass) {
        model = backward.model
        layout = backward.layout
        products = backward.products
    }

    /// Rows that go through the head together: logits of 64 MiB at most, by shape alone.
    package static func blockRows(outputCount: Int) -> Int {
        max(16, min(1024, (64 << 20) / (outputCount * 4)))
    }

    /// Log-probability of each row's target and entropy, the bits that generation recorded for the same weights; of a
    /// reward model the scalar in place of the log-probability, whatever the temperature, and no entropy.
    /// - Throws: ``MemoryError``.
    package func scores(
        _ tape: ActivationTape, _ rows: [ScoredRow], temperature: Float
    ) throws(MemoryError) -> [TokenScore] {
        let vocabulary = model.configuration.outputCount
        var result = [TokenScore](repeating: TokenScore(logProb: 0, entropy: 0), count: rows.count)
        try eachBlock(rows) { (block) throws(MemoryError) in
            let (logits, _) = try logits(of: model, tape, rows[block], &logitScratch)
            if model.configuration.isRewardModel {
                for slot in 0..<block.count { result[block.lowerBound + slot].logProb = logits[slot] }
                return
            }
            let target = UnsafeMutableBufferPointer<TokenScore>.allocate(capacity: block.count)
            defer { target.deallocate() }
            model.pool.parallel(block.count) { slot in
                target[slot] = Sampler.score(
                    logits + slot * vocabulary, count: vocabulary, token: rows[block.lowerBound + slot].target,
                    temperature: temperature)
            }
            for slot in 0..<block.count { result[block.lowerBound + slot] = target[slot] }
        }
        return result
    }

    /// Gradients of head and final norm, added to `gradient`, and of the residual stream, written to `stream` (zero in
    /// rows that are not scored).
    ///
    /// - Parameters:
    ///   - gradients: one per scored row.
    ///   - stream: `[R, C]`.
    /// - Returns: the divergence of each row from the teacher; empty without one.
    /// - Throws: ``MemoryError``.
    package func backward(
        _ tape: ActivationTape, _ rows: [ScoredRow], _ gradients: [RowGradient], temperature: Float,
        teacher: TeacherRows?, stream: UnsafeMutablePointer<Float>, into gradient: UnsafeMutablePointer<Float>
    ) throws(MemoryError) -> [Double] {
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        let (width, vocabulary) = (model.configuration.hiddenSize, model.configuration.outputCount)
        let head = layout[model.configuration.headName]
        let isScalar = model.configuration.isRewardModel
        let normGradient = gradient + layout[.finalNorm].offset
        memset(stream, 0, tape.rowCount * width * 4)
        memset(normGradient, 0, width * 4)
        var divergences = [Double](repeating: 0, count: teacher == nil ? 0 : rows.count)
        try eachBlock(rows) { (block) throws(MemoryError) in
            let count = block.count
            let (logits, normed) = try logits(of: model, tape, rows[block], &logitScratch)
            var target = logits
            var teacherLogits: UnsafeMutablePointer<Float>?
            if let teacher {
                target = try gradientScratch.reserve(count * vocabulary * 4).assumingMemoryBound(to: Float.self)
                precondition(teacher.model.configuration.outputCount == vocabulary, "teacher of another vocabulary")
                // The student's normed rows are needed after this: the teacher's go elsewhere.
                teacherLogits = try teacherRowLogits(teacher, rows[block])
            }
            let losses = UnsafeMutableBufferPointer<Double>.allocate(capacity: count)
            defer { losses.deallocate() }
            if isScalar {
                for slot in 0..<count { target[slot] = gradients[block.lowerBound + slot].logProb }
            }
            model.pool.parallel(isScalar ? 0 : count) { slot in
                losses[slot] = Self.rowGradient(
                    logits + slot * vocabulary, vocabulary, rows[block.lowerBound + slot].target,
                    gradients[block.lowerBound + slot], temperature, teacherLogits.map { $0 + slot * vocabulary },
                    teacher?.divergence, into: target + slot * vocabulary)
            }
            if teacher != nil { for slot in 0..<count { divergences[block.lowerBound + slot] = losses[slot] } }
            try products.weightGradient(
                target, outputs: vocabulary, normed, inputs: width, rows: count, into: gradient + head.offset,
                adds: true)
            try finalNorm(tape, rows[block], dLogits: target, stream: stream, into: normGradient)
        }
        return divergences
    }

    private static func rowGradient(
        _ logits: UnsafePointer<Float>, _ count: Int, _ target: Int32, _ wanted: RowGradient, _ temperature: Float,
        _ teacher: UnsafePointer<Float>?, _ divergence: TeacherDivergence?, into out: UnsafeMutablePointer<Float>
    ) -> Double {
        let statistics = Statistics(logits, count: count, temperature: temperature)
        var loss = 0.0
        if let teacher, let divergence {
            let student = Statistics(logits, count: count, temperature: divergence.temperature)
            let reference = Statistics(teacher, count: count, temperature: divergence.temperature)
            var kind = divergence.kernelValue
            ck_log_prob_gradient(
                logits, Int64(count), statistics.inverseTemperature, statistics.maximum, statistics.logSum,
                Int64(target), wanted.logProb, wanted.entropy, statistics.entropy, out)
            if let topK = divergence.topK {
                return topK.evaluate(
                    divergence, student: logits, teacher: teacher, count: count, scale: wanted.divergence, into: out)
            }
            loss = ck_divergence(
                &kind, logits, student.maximum, student.logSum, teacher, reference.maximum, reference.logSum,
                Int64(count), wanted.divergence, out)
        } else {
            ck_log_prob_gradient(
                logits, Int64(count), statistics.inverseTemperature, statistics.maximum, statistics.logSum,
                Int64(target), wanted.logProb, wanted.entropy, statistics.entropy, out)
        }
        return loss
    }

    private func eachBlock(
        _ rows: [ScoredRow], _ body: (Range<Int>) throws(MemoryError) -> Void
    ) throws(MemoryError) {
        let size = Self.blockRows(outputCount: model.configuration.outputCount)
        for first in stride(from: 0, to: rows.count, by: size) {
            try body(first..<min(rows.count, first + size))
        }
    }

    /// Residual rows gathered, normalised and through the head.
    private func logits(
        of model: Qwen3Model, _ tape: ActivationTape, _ rows: ArraySlice<ScoredRow>, _ scratch: inout ScratchBuffer
    ) throws(MemoryError) -> (UnsafeMutablePointer<Float>, normed: UnsafeMutableRawPointer) {
        let (width, vocabulary) = (model.configuration.hiddenSize, model.configuration.outputCount)
        let residual = try residualScratch.reserve(rows.count * width * 4).assumingMemoryBound(to: Float.self)
        for (slot, row) in rows.enumerated() {
            memcpy(residual + slot * width, tape.output + row.row * width, width * 4)
        }
        let normed = try normedScratch.reserve(rows.count * width * model.compute.byteCount)
        model.norm(model.trunk.finalNorm, residual, rows: rows.count, into: normed, as: model.compute)
        let logits = try scratch.reserve(rows.count * vocabulary * 4).assumingMemoryBound(to: Float.self)
        model.trunk.head.multiply(normed, rowCount: rows.count, into: logits, on: model.pool)
        return (logits, normed)
    }

    private func teacherRowLogits(
        _ teacher: TeacherRows, _ rows: ArraySlice<ScoredRow>
    ) throws(MemoryError) -> UnsafeMutablePointer<Float> {
        let (model, tape) = (teacher.model, teacher.tape)
        let (width, vocabulary) = (model.configuration.hiddenSize, model.configuration.outputCount)
        let bytes = rows.count * width * 4
        let residual = try rowScratch.reserve(2 * bytes).assumingMemoryBound(to: Float.self)
        for (slot, row) in rows.enumerated() {
            memcpy(residual + slot * width, tape.output + row.row * width, width * 4)
        }
        let normed = UnsafeMutableRawPointer(residual) + bytes
        model.norm(model.trunk.finalNorm, residual, rows: rows.count, into: normed, as: model.compute)
        let logits = try teacherScratch.reserve(rows.count * vocabulary * 4).assumingMemoryBound(to: Float.self)
        model.trunk.head.multiply(normed, rowCount: rows.count, into: logits, on: model.pool)
        return logits
    }

    private func finalNorm(
        _ tape: ActivationTape, _ rows: ArraySlice<ScoredRow>, dLogits: UnsafePointer<Float>,
        stream: UnsafeMutablePointer<Float>, into weightGradient: UnsafeMutablePointer<Float>
    ) throws(MemoryError) {
        let width = model.configuration.hiddenSize
        let count = rows.count
        let residual = try residualScratch.reserve(count * width * 4).assumingMemoryBound(to: Float.self)
        let scratch = try rowScratch.reserve(count * (2 * width + 1) * 4).assumingMemoryBound(to: Float.self)
        let (dy, dx, scales) = (scratch, scratch + count * width, scratch + 2 * count * width)
        try products.inputGradient(dLogits, model.trunk.head, rows: count, into: dy)
        ck_rms_norm_backward(
            residual, Int64(width), model.trunk.finalNorm, Float(model.configuration.rmsNormEpsilon), Int64(width),
            Int64(count), dy, Int64(width), dx, Int64(width), 0, scales)
        ck_rms_norm_weight_gradient(
            residual, Int64(width), scales, dy, Int64(width), Int64(count), 0, Int64(width), weightGradient)
        for (slot, row) in rows.enumerated() {
            let target = stream + row.row * width
            // A row may be scored once only, but adding keeps this true if that ever changes.
            ck_add(target, dx + slot * width, Int64(width), target)
        }
    }
}
