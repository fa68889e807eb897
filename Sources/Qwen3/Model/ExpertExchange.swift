// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport
package import Tensors

/// The seam between the model and wherever its experts live.
///
/// A mixture-of-experts block hands over its rows and gets back, for each, the weighted sum of its experts' outputs
/// along the expert tree. Nothing else in the model knows of a cluster.
package protocol ExpertExchange: AnyObject {
    /// combined[r] = Σ over the row's experts of weight × expert(tokens[r]), added along the expert tree.
    ///
    /// - Parameters:
    ///   - layer: index of the decoder layer.
    ///   - tokens: `[rows, C]` of the compute type, contiguous.
    ///   - assignment: experts and weights of each row.
    ///   - combined: `[rows, C]`, fp32, every row written.
    func exchange(
        layer: Int, tokens: UnsafeRawPointer, assignment: ExpertAssignment, combined: UnsafeMutablePointer<Float>
    ) throws
}

/// An exchange whose experts can be trained.
package protocol TrainableExpertExchange: ExpertExchange {
    /// The backward pass of ``ExpertExchange/exchange(layer:tokens:assignment:combined:)`` for one cell. Gradients of
    /// the experts' weights stay with the experts' owners.
    ///
    /// - Parameters:
    ///   - cell: number of the cell in its step.
    ///   - tokens: `[rows, C]` of the compute type, as in the forward pass.
    ///   - outputGradients: `[rows, C]` of the compute type: gradient of `combined`.
    ///   - weightGradients: one per entry of the assignment, written.
    ///   - inputGradients: `[rows, C]`, fp32, every row written: summed over a row's experts along the expert tree.
    func exchangeBackward(
        layer: Int, cell: Int, tokens: UnsafeRawPointer, outputGradients: UnsafeRawPointer,
        assignment: ExpertAssignment, weightGradients: UnsafeMutablePointer<Float>,
        inputGradients: UnsafeMutablePointer<Float>
    ) throws
}

/// All experts in this process.
package final class LocalExpertExchange: TrainableExpertExchange {
    package let layers: [Int: ExpertWeights]
    private let computation: ExpertComputation
    private let backward: ExpertBackward
    private let compute: ComputeType
    private let hiddenSize: Int
    /// Where the experts' gradients go; nothing is trained without it.
    package var gradients: ExpertGradients?

    /// - Parameter layers: the experts of each mixture-of-experts layer, all of them.
    package init(
        layers: [Int: ExpertWeights], compute: ComputeType, hiddenSize: Int, intermediateSize: Int, pool: ComputePool
    ) {
        self.layers = layers
        self.compute = compute
        self.hiddenSize = hiddenSize
        computation = ExpertComputation(
            compute: compute, hiddenSize: hiddenSize, intermediateSize: intermediateSize, pool: pool)
        backward = ExpertBackward(
            compute: compute, hiddenSize: hiddenSize, intermediateSize: intermediateSize, pool: pool)
    }

    package func exchange(
        layer: Int, tokens: UnsafeRawPointer, assignment: ExpertAssignment, combined: UnsafeMutablePointer<Float>
    ) throws {
        guard let weights = layers[layer] else { preconditionFailure("layer \(layer) has no experts here") }
        let rowBytes = hiddenSize * compute.byteCount
        let width = hiddenSize
        let rows = (0..<assignment.rowCount).map { tokens + $0 * rowBytes }
        try computation.run(
            weights: weights, rows: rows, assignment: assignment, subtrees: { _ in weights.subtrees }, priority: .local
        ) {
            row, _, sum in
            (combined + row * width).update(from: sum, count: width)
        }
    }

    package func exchangeBackward(
        layer: Int, cell: Int, tokens: UnsafeRawPointer, outputGradients: UnsafeRawPointer,
        assignment: ExpertAssignment, weightGradients: UnsafeMutablePointer<Float>,
        inputGradients: UnsafeMutablePointer<Float>
    ) throws {
        guard let weights = layers[layer] else { preconditionFailure("layer \(layer) has no experts here") }
        let (width, rowBytes) = (hiddenSize, hiddenSize * compute.byteCount)
        let contribution = try backward.run(
            weights: weights, rows: (0..<assignment.rowCount).map { tokens + $0 * rowBytes },
            outputGradients: (0..<assignment.rowCount).map { outputGradients + $0 * rowBytes },
            assignment: assignment, subtrees: { _ in weights.subtrees }, weightGradients: weightGradients
        ) { row, _, sum in
            (inputGradients + row * width).update(from: sum, count: width)
        }
        gradients?.deliver(
            layer: layer, cell: cell, rows: (0..<Int32(assignment.rowCount)).map { $0 }, contribution)
    }
}
