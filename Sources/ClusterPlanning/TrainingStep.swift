// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Foundation
internal import JobSpecification
internal import PostTraining
internal import Qwen3

/// The update of one step: cells packed and shared as a training job does, timed by the cost model.
struct TrainingStep {
    var time = TimeParts()
    /// Seconds by worker, before it waits for the others.
    var seconds: [Double] = []
    var wireBytes = 0.0
    var cellCount = 0
    var tokenCount = 0

    init(_ request: PlanningRequest, _ job: TrainJob, _ costs: CostModel) {
        let workers = request.workers
        // Responses of a group follow each other and share their prompt within a cell.
        let length = request.promptTokens + (request.generates ? request.responseTokens : 0)
        let groupSize = request.generates ? request.groupSize : 1
        let updates = request.generates ? job.updatesPerBatch : 1
        let lengths = [Int](repeating: length, count: request.promptCount * groupSize)
        let shared = lengths.indices.map { $0 % groupSize == 0 ? 0 : request.promptTokens }
        let cells = CellPacking.pack(tokenCounts: lengths, shared: shared, budget: max(job.cellTokens, length))
        let counts = cells.map { cell in
            cell.enumerated().reduce(0) { $0 + lengths[$1.element] - ($1.offset == 0 ? 0 : shared[$1.element]) }
        }
        cellCount = cells.count
        tokenCount = counts.reduce(0, +)
        let shares = CellPacking.share(cellTokenCounts: counts, members: workers.count)
        var slowest = TimeParts()
        for (index, share) in shares.enumerated() {
            let part = Part(cells: Double(share.count), tokens: Double(share.reduce(0) { $0 + counts[$1] }))
            let (parts, bytes) = Self.member(
                index, part, all: Double(tokenCount), updates: Double(updates), length: Double(length), request, job,
                costs)
            seconds.append(parts.total)
            wireBytes += bytes
            if parts.total > slowest.total { slowest = parts }
        }
        time = slowest
    }

    private struct Part {
        let cells: Double
        let tokens: Double
    }

    private static func member(
        _ index: Int, _ part: Part, all: Double, updates: Double, length: Double, _ request: PlanningRequest,
        _ job: TrainJob, _ costs: CostModel
    ) -> (TimeParts, Double) {
        let workers = request.workers
        let host = workers[index]
        let c = request.configuration
        let element = Double(costs.compute.byteCount)
        let count = Double(workers.count)
        // Forward once, backward twice, and forward again where activations are not kept.
        let passes = 3.0 + (job.recomputesActivations ? 1 : 0)
        let trunk = costs.layerParameters + costs.headParameters
        // Cells of narrow models run one per thread over the same weights: a machine reads them once for all threads.
        let lanes = c.hiddenSize <= TrainingMemory.lanesWidthMax ? min(Double(host.cores), max(1, part.cells)) : 1
        var time = costs.roofline(
            host, bytes: passes * trunk * element * part.cells / lanes,
            operations: passes
                * (2 * trunk * part.tokens + 2 * Double(c.layerCount * c.querySize) * length * part.tokens),
            efficiency: host.trainingEfficiency)
        time = time + TimeParts(overhead: passes * Double(c.layerCount) * host.layerOverhead * part.cells / lanes)
        // Each cell's gradient of the trunk is written, read and added.
        time = time + TimeParts(memory: 3 * 4 * costs.trunkParameters * part.cells / host.readBandwidth)
        var out = 0.0
        if c.expertCount > 0 {
            let (there, back) = costs.exchanged(tokens: part.tokens, by: index)
            // Forward, and backward with the gradient of the output beside the input.
            out += (3 * there + 2 * back) * costs.sparseLayers
            if let owner = costs.routing.ownerOfWorker[index].map({ costs.routing.owners[$0] }) {
                let held = Double(owner.choices.first?.count ?? 0)
                let waves = max(1, (all / Double(max(job.cellTokens, Int(length)) * job.waveCells)).rounded(.up))
                time =
                    time
                    + costs.roofline(
                        host,
                        bytes: costs.sparseLayers * held * costs.expertParameters * waves
                            * (passes * element * Double(job.waveCells) + 8),
                        operations: passes * 2 * costs.expertParameters * all * owner.entriesAtWorst
                            * costs.sparseLayers, efficiency: host.trainingEfficiency)
                // Owners' optimizer: master and both moments read and written, the gradient read.
                time =
                    time
                    + TimeParts(
                        memory: updates * 28 * held * costs.expertParameters * costs.sparseLayers / host.readBandwidth)
            }
            let remote = costs.routing.owners.contains { $0.worker != index }
            if remote {
                time = time + TimeParts(wire: 4 * host.latency * costs.sparseLayers * max(1, part.cells / lanes))
            }
        }
        // A tree over cells: a member sends one partial sum per subtree that it alone has, and gets the new weights.
        let sums = part.cells > 0 ? max(1, log2(part.cells)) : 0
        let away = (count - 1) / count
        out += away * 4 * costs.trunkParameters * sums + updates * away * element * costs.trunkParameters
        let owned = 28 * costs.trunkParameters / count
        time = time + TimeParts(memory: updates * owned / host.readBandwidth)
        time = time + TimeParts(wire: out / host.networkBandwidth)
        // Sealed, prepared, applied, committed: the coordinator syncs its journal at two of them.
        time = time + TimeParts(wire: updates * 4 * host.latency, overhead: updates * 2 * commitSeconds)
        return (time, out)
    }

    /// A durable commit of the journal on an ordinary disk.
    private static let commitSeconds = 5e-3
}
