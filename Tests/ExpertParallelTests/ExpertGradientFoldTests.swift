// SPDX-License-Identifier: Apache-2.0
import ExpertParallel
import Qwen3
import RuntimeSupport
import Tensors
import Testing

@Suite("Folding of expert gradients")
struct ExpertGradientFoldTests {
    private static func shape(_ compute: ComputeType) -> ExpertShape {
        ExpertShape(compute: compute, expertCount: 4, hiddenSize: 32, intermediateSize: 16)
    }

    /// One delivery per cell, 3 cells a wave.
    private struct Delivery {
        let cell: Int
        let rows: [Int32]
        let contribution: ExpertContribution
    }

    private func deliveries(_ shape: ExpertShape, cells: Int, pool: ComputePool) throws -> [Delivery] {
        let weights = ExpertWeights(experts: try RandomExperts(shape, seed: 3).layers[0]!)
        let backward = ExpertBackward(
            compute: shape.compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize, pool: pool)
        return try (0..<cells).map { cell in
            let routed = RoutedRows(shape, rowCount: 50 + cell % 3, topK: 2, seed: UInt64(cell + 1))
            var routerGradients = [Float](repeating: 0, count: routed.assignment.experts.count)
            let contribution = try routed.tokens.withUnsafeBytes { tokens in
                let rows = (0..<routed.assignment.rowCount).map {
                    tokens.baseAddress! + $0 * shape.hiddenSize * shape.compute.byteCount
                }
                return try backward.run(
                    weights: weights, rows: rows, outputGradients: rows.reversed(), assignment: routed.assignment,
                    subtrees: { _ in [ExpertSubtree(first: 0, size: 4)] }, weightGradients: &routerGradients
                ) { _, _, _ in }
            }
            return Delivery(
                cell: cell, rows: (0..<Int32(routed.assignment.rowCount)).map { $0 }, contribution: contribution)
        }
    }

    /// The gradients' bits after two waves; `arrivals` tells which cells have come before each wave's fold.
    private func bits(_ shape: ExpertShape, _ all: [Delivery], arrivals: [[Int]], pool: ComputePool) throws
        -> [[UInt32]]
    {
        let gradients = ExpertGradients(
            compute: shape.compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize, pool: pool)
        for expert in 0..<shape.expertCount { try gradients.own(.init(layer: 0, expert: expert)) }
        for (wave, arrived) in arrivals.enumerated() {
            for cell in arrived {
                gradients.deliver(layer: 0, cell: all[cell].cell, rows: all[cell].rows, all[cell].contribution)
            }
            try gradients.fold(layer: 0, cellsBelow: 3 * (wave + 1))
        }
        return gradients.owned.map { id in
            (0..<gradients.elementCount).map { gradients.gradient(id)![$0].bitPattern }
        }
    }

    @Test(
        "what a faster member delivers for the next wave waits for that wave, in whatever order it comes",
        arguments: ComputeType.allCases)
    func nextWaveWaits(compute: ComputeType) throws {
        let pool = ComputePool(threadCount: 2)
        let shape = Self.shape(compute)
        let all = try deliveries(shape, cells: 6, pool: pool)
        let expected = try bits(shape, all, arrivals: [[0, 1, 2], [3, 4, 5]], pool: pool)
        #expect(expected.joined().contains { $0 != 0 })
        for arrivals in [[[2, 0, 1], [5, 4, 3]], [[0, 3, 1, 5, 2], [4]], [[5, 4, 3, 2, 1, 0], []]] {
            let isEqual = try bits(shape, all, arrivals: arrivals, pool: pool) == expected
            #expect(isEqual, "\(arrivals)")
        }
        // The grouping shows in the bits, or the test could not fail.
        let oneWave = all.enumerated().map { index, delivery in
            Delivery(
                cell: 0, rows: delivery.rows.map { Int32(100 * index) + $0 }, contribution: delivery.contribution)
        }
        let together = try bits(shape, oneWave, arrivals: [[0, 1, 2, 3, 4, 5], []], pool: pool)
        let isOther = together != expected
        #expect(isOther)
    }
}

extension ExpertGradientFoldTests {
    @Test(
        "attempts that overlap: every row of an expert counts once, and none is lost to another attempt's experts",
        arguments: ComputeType.allCases)
    func overlaps(compute: ComputeType) throws {
        let pool = ComputePool(threadCount: 1)
        let shape = Self.shape(compute)
        let weights = ExpertWeights(experts: try RandomExperts(shape, seed: 3).layers[0]!)
        let routed = RoutedRows(shape, rowCount: 40, topK: 3, seed: 8)
        /// What one dispatch of some rows and experts of the cell leaves.
        func part(_ rows: Range<Int>, _ experts: Set<Int32>) throws -> (rows: [Int32], ExpertContribution) {
            var assignment = ExpertAssignment()
            assignment.rowStarts = [0]
            var numbers: [Int32] = []
            for row in rows {
                let entries = routed.assignment.entries(of: row).filter {
                    experts.contains(routed.assignment.experts[$0])
                }
                if entries.isEmpty { continue }
                numbers.append(Int32(row))
                assignment.experts += entries.map { routed.assignment.experts[$0] }
                assignment.weights += entries.map { routed.assignment.weights[$0] }
                assignment.rowStarts.append(Int32(assignment.experts.count))
            }
            let backward = ExpertBackward(
                compute: compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize, pool: pool)
            var router = [Float](repeating: 0, count: assignment.experts.count)
            let contribution = try routed.tokens.withUnsafeBytes { tokens in
                let inputs = numbers.map {
                    UnsafeRawPointer(tokens.baseAddress! + Int($0) * shape.hiddenSize * compute.byteCount)
                }
                return try backward.run(
                    weights: weights, rows: inputs, outputGradients: inputs, assignment: assignment,
                    subtrees: { _ in [ExpertSubtree(first: 0, size: 4)] }, weightGradients: &router
                ) { _, _, _ in }
            }
            return (numbers, contribution)
        }
        func bits(_ parts: [(rows: Range<Int>, experts: Set<Int32>)]) throws -> [[UInt32]] {
            let gradients = ExpertGradients(
                compute: compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize, pool: pool)
            for expert in 0..<shape.expertCount { try gradients.own(.init(layer: 0, expert: expert)) }
            let trained = TrainedExperts(gradients)
            trained.begin(epoch: 1, version: 2)
            func deliver() throws {
                for (rows, experts) in parts {
                    let (numbers, contribution) = try part(rows, experts)
                    trained.deliver(epoch: 1, version: 2, layer: 0, cell: 5, rows: numbers, contribution)
                }
            }
            try deliver()
            try trained.fold(layer: 0, cellsBelow: 6)
            // Repeats that come after their wave was folded.
            try deliver()
            try trained.fold(layer: 0, cellsBelow: 12)
            return gradients.owned.map { id in
                (0..<gradients.elementCount).map { gradients.gradient(id)![$0].bitPattern }
            }
        }
        let whole = try bits([(0..<40, [0, 1, 2, 3])])
        #expect(whole.allSatisfy { $0.contains { $0 != 0 } })
        // The same first row with other experts is another dispatch.
        #expect(try bits([(0..<40, [0, 1]), (0..<40, [2, 3])]) == whole)
        // Cut in other ways on a second attempt.
        #expect(try bits([(0..<40, [0, 1]), (0..<25, [1, 2]), (10..<40, [0, 2, 3]), (0..<40, [3])]) == whole)
    }
}
