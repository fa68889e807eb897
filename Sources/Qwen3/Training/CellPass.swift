// SPDX-License-Identifier: Apache-2.0
//
// One cell through model, objective and back. The forward pass is the one that generation runs, on the same weights, so
// a score here has the bits of the score that the rollout recorded.
internal import CKernels
internal import Checkpoints
package import RuntimeSupport
package import Tensors

/// A micro-batch: whole sequences that one pass takes together. Cut by a rule that sees only the data.
package struct TrainingCell: Sendable, Equatable {
    /// Place in its step.
    package let index: Int
    package let sequences: [[Int32]]
    /// Per sequence the positions of the tokens that are scored, ascending, each at least 1. A reward model scores one
    /// past the last token: the scalar at the last one.
    package let scored: [[Int32]]
    /// Per sequence the tokens at its start that it shares with the one before it, a multiple of ``sharedUnit``: siblings
    /// of a group share their prompt, which then is computed once. Every scored token is predicted by a row of its own.
    package let shared: [Int]
    /// Per sequence the experts that its generation chose, `[tokens - 1, sparse layers, k]`, one byte each: routers take
    /// them over instead of choosing (Zheng et al. 2025, routing replay). Empty: they choose.
    package private(set) var routes: [[UInt8]]

    /// Tokens of a key/value page of a cell.
    package static let sharedUnit = 16

    /// - Parameter sharesPrompts: compute equal beginnings of neighbours once.
    package init(
        index: Int, sequences: [[Int32]], scored: [[Int32]], routes: [[UInt8]] = [], sharesPrompts: Bool = false
    ) {
        precondition(sequences.count == scored.count && (routes.isEmpty || routes.count == sequences.count))
        self.routes = routes
        self.index = index
        self.sequences = sequences
        self.scored = scored
        shared = sequences.indices.map { place in
            guard sharesPrompts, place > 0 else { return 0 }
            return Self.sharedCount(sequences[place - 1], scored[place - 1], sequences[place], scored[place])
        }
    }

    /// The same for another model, whose routers choose for themselves.
    package var withoutRoutes: TrainingCell {
        var cell = self
        cell.routes = []
        return cell
    }

    /// Tokens that `b` may share with the sequence before it.
    package static func sharedCount(_ a: [Int32], _ scoredA: [Int32], _ b: [Int32], _ scoredB: [Int32]) -> Int {
        // The row before the first scored token belongs to each sequence alone.
        let most = min(Int(scoredA.first ?? Int32(a.count)), Int(scoredB.first ?? Int32(b.count)), a.count, b.count) - 1
        var common = 0
        while common < most, a[common] == b[common] { common += 1 }
        return common / sharedUnit * sharedUnit
    }

    /// Rows of a pass over the cell: shared tokens count once.
    package var rowCount: Int { sequences.reduce(0) { $0 + $1.count } - shared.reduce(0, +) }

    package var tokenCount: Int { sequences.reduce(0) { $0 + $1.count } }

    /// Rows that predict the scored tokens, sequence after sequence.
    package var scoredRows: [ScoredRow] {
        var rows: [ScoredRow] = []
        var first = 0
        for (place, (tokens, positions)) in zip(sequences, scored).enumerated() {
            for position in positions.map(Int.init) {
                rows.append(
                    ScoredRow(
                        row: first + position - 1 - shared[place],
                        target: position < tokens.count ? tokens[position] : ScoredRow.noTarget))
            }
            first += tokens.count - shared[place]
        }
        return rows
    }
}

/// Runs cells of one model. One cell at a time: forward, then backward.
package final class CellPass {
    package let model: Qwen3Model
    package let layout: ParameterLayout
    private let backwardPass: BackwardPass
    private let head: HeadPass
    private let tape = ActivationTape()
    private var cache: KVCache?
    private var stream = ScratchBuffer()
    private var rows: [ScoredRow] = []
    private var cell: TrainingCell?
    private var spans: [ForwardSpan] = []
    private var temperature: Float = 1

    private static let pageSize = TrainingCell.sharedUnit

    /// See ``ActivationTape``; for the next cell.
    package var recomputes: Bool {
        get { tape.recomputes }
        set { tape.recomputes = newValue }
    }

    package init(_ model: Qwen3Model, layout: ParameterLayout) {
        self.model = model
        self.layout = layout
        backwardPass = BackwardPass(model, layout: layout)
        head = HeadPass(backwardPass)
    }

    /// Scores of the cell's scored tokens, sequence after sequence.
    /// - Throws: ``MemoryError``, ``NotFiniteError``, and what the expert exchange throws.
    package func forward(_ cell: TrainingCell, temperature: Float) throws -> [TokenScore] {
        try record(cell)
        self.temperature = temperature
        let scores = try head.scores(tape, rows, temperature: temperature)
        guard scores.allSatisfy(\.isFinite) else { throw model.notFinite(spans, cache: cache!) }
        return scores
    }

    /// Only what the decoder leaves: of a teacher, whose logits are made when they are needed, or to count its routes.
    package func record(_ cell: TrainingCell) throws {
        spans = try spans(of: cell)
        self.cell = cell
        rows = cell.scoredRows
        tape.routes = try RouteReplay(cell, model.configuration)
        try model.record(spans, cache: cache!, on: tape)
    }

    /// The rows of the last ``record(_:)``, for a student.
    package func teacherRows(_ divergence: TeacherDivergence) -> TeacherRows {
        TeacherRows(model: model, tape: tape, divergence: divergence)
    }

    /// How often each expert was chosen in the last forward pass, over all layers.
    package var expertCounts: [Int] {
        var counts = [Int](repeating: 0, count: model.configuration.expertCount)
        for layer in tape.chosen { for expert in layer { counts[Int(expert)] += 1 } }
        return counts
    }

    /// Sum over layers and rows of each expert's router probability, in the last forward pass.
    package var routerProbabilitySums: [Double] {
        let count = model.configuration.expertCount
        var sums = [Double](repeating: 0, count: count)
        for (layer, kept) in tape.layers.enumerated() where !tape.chosen[layer].isEmpty {
            for row in 0..<tape.rowCount {
                for expert in 0..<count { sums[expert] += Double(kept.probabilities[row * count + expert]) }
            }
        }
        return sums
    }

    /// The backward pass of the last ``forward(_:temperature:)``.
    ///
    /// - Parameters:
    ///   - gradients: one per scored token.
    ///   - auxiliary: see ``BackwardPass``.
    ///   - gradient: the trunk's gradient of this cell, written.
    /// - Returns: per scored token the divergence from the teacher; empty without one.
    /// - Throws: ``MemoryError``, ``NotFiniteError`` of the teacher, and what the expert exchange throws.
    package func backward(
        _ gradients: [RowGradient], teacher: TeacherRows?, auxiliary: [Float]?,
        into gradient: UnsafeMutablePointer<Float>
    ) throws -> [Double] {
        guard let cell else { preconditionFailure("backward follows forward") }
        self.cell = nil
        let width = model.configuration.hiddenSize
        let stream = try stream.reserve(max(1, tape.rowCount * width * 4)).assumingMemoryBound(to: Float.self)
        // Embedding and head are added to; everything else is written, but for a cell without rows.
        gradient.update(repeating: 0, count: layout.count)
        if tape.rowCount == 0 { return [] }
        let divergences = try head.backward(
            tape, rows, gradients, temperature: temperature, teacher: teacher, stream: stream, into: gradient)
        // The student's scores are finite, or forward had thrown.
        if let teacher, !divergences.allSatisfy(\.isFinite) {
            throw NotFiniteError(model: teacher.model.name, place: "the head's output")
        }
        try backwardPass.run(
            tape, cache: cache!, cell: cell.index, gradientOfOutput: stream, auxiliary: auxiliary, into: gradient)
        return divergences
    }

    /// Pages for every sequence of the cell.
    private func spans(of cell: TrainingCell) throws(MemoryError) -> [ForwardSpan] {
        var next: Int32 = 0
        var spans: [ForwardSpan] = []
        for (place, tokens) in cell.sequences.enumerated() {
            let shared = cell.shared[place]
            let count = Int32((tokens.count - shared + Self.pageSize - 1) / Self.pageSize)
            let borrowed = shared == 0 ? [] : Array(spans[place - 1].pages.prefix(shared / Self.pageSize))
            spans.append(
                ForwardSpan(
                    tokens: Array(tokens[shared...]), start: shared, pages: borrowed + (next..<next + count).map { $0 },
                    logits: .none))
            next += count
        }
        if (cache?.pageCount ?? 0) < Int(next) {
            cache = nil
            cache = try model.makeCache(pageCount: max(1, Int(next) + Int(next) / 4), pageSize: Self.pageSize)
        }
        return spans
    }
}
