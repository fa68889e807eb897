// SPDX-License-Identifier: Apache-2.0
package import Checkpoints
package import Tensors

/// What training a model takes beside its weights in compute type, the cache of generation and frozen models. From shapes
/// and the job alone; the routing of experts is taken as even.
package struct TrainingMemory: Sendable, Hashable {
    /// What a job says about its steps.
    package struct Load: Sendable, Hashable {
        /// Tokens of a cell: the job's budget, or the longest sequence.
        package let cellTokens: Int
        package let waveCells: Int
        /// Tokens of a step, at most.
        package let stepTokens: Int

        package init(cellTokens: Int, waveCells: Int, stepTokens: Int) {
            self.cellTokens = cellTokens
            self.waveCells = waveCells
            self.stepTokens = stepTokens
        }

        fileprivate var cells: Int { max(1, (stepTokens + cellTokens - 1) / cellTokens) }
        fileprivate var waveTokens: Int { min(stepTokens, waveCells * cellTokens) }
    }

    /// Master weights and both moments, fp32, of the whole trunk.
    package let trunkState: Int
    package let trunkGradient: Int
    /// The same of one expert over all layers.
    package let expertState: Int
    package let expertGradient: Int
    /// What waits for the fold of a wave, for one expert.
    package let expertRows: Int
    /// Partial sums of the trunk's gradient that one member keeps, and new weights on their way to it.
    package let partialSums: Int
    /// A cell under way: its vector, activations, working memory.
    package let liveCell: Int
    /// Cells under way at once; nil: one per compute thread.
    package let lanesMax: Int?

    /// - Parameters:
    ///   - recomputes: see ``ActivationTape``.
    ///   - teacher: a frozen model that runs over the same cells.
    package init(
        _ c: Qwen3Configuration, _ compute: ComputeType, _ load: Load, recomputes: Bool = false,
        teacher: Qwen3Configuration? = nil
    ) {
        let trunk = ParameterLayout.trunk(of: c).count
        let sparse = (0..<c.layerCount).count(where: c.isMoELayer)
        let expert = 3 * c.hiddenSize * c.moeIntermediateSize * sparse
        trunkState = 12 * trunk
        trunkGradient = 4 * trunk
        expertState = 12 * expert
        expertGradient = 4 * expert
        // See ExpertContribution; its buffers are a quarter larger.
        let row =
            2 * c.hiddenSize * compute.byteCount + 4 * c.hiddenSize + 8 * c.moeIntermediateSize
            + c.moeIntermediateSize * compute.byteCount + 4
        expertRows =
            c.expertCount == 0 ? 0 : load.waveTokens * c.expertsPerToken * sparse * row / c.expertCount * 5 / 4
        // The pairwise sum keeps one vector per level of its tree.
        var levels = 1
        while 1 << levels < load.cells { levels += 1 }
        partialSums = 4 * trunk * levels + trunk * compute.byteCount
        var cell = 4 * trunk + Self.pass(c, compute, rows: load.cellTokens, recomputes: recomputes)
        if let teacher { cell += Self.pass(teacher, compute, rows: load.cellTokens, recomputes: true) }
        liveCell = cell
        lanesMax = c.hiddenSize <= Self.lanesWidthMax ? nil : 1
    }

    /// Models up to this width run a cell per thread, wider ones fill all threads with one cell.
    package static let lanesWidthMax = 1024

    /// Activations, cache and working memory of one pass forward and back.
    private static func pass(_ c: Qwen3Configuration, _ compute: ComputeType, rows: Int, recomputes: Bool) -> Int {
        let bytes = compute.byteCount
        let head = HeadPass.blockRows(outputCount: c.outputCount) * (8 * c.outputCount + 12 * c.hiddenSize)
        let routed =
            rows * c.expertsPerToken * (2 * c.hiddenSize * bytes + 8 * c.hiddenSize + 2 * c.moeIntermediateSize * 4)
        let widest = max(c.querySize, c.isDenseAnywhere ? c.intermediateSize : 0, c.hiddenSize)
        // The head's weights are the largest that are packed the other way round; a reward model's are the smallest.
        let largest = c.isRewardModel ? widest : c.vocabularySize
        let products = largest * c.hiddenSize * bytes + rows * (2 * widest * bytes + 4 * widest)
        return ActivationTape.byteCount(rows: rows, c, compute, recomputes: recomputes)
            + rows * c.keyValueByteCountPerToken(elementByteCount: bytes) * 5 / 4
            + rows * c.keyValueSize * 8 + rows * c.hiddenSize * 4
            + BackwardPass.bufferSizes(rows: rows, c, compute).reduce(0, +)
            + ForwardArena.bufferSizes(rows: rows, c, compute).reduce(0, +)
            + head + routed + products
    }
}
