// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
internal import SwiftProtobuf

/// What a member of a training epoch has received of the step that comes next. Cells belong to one version: those of an
/// earlier step are never there when the next one begins. A step is handed over once; what comes again is dropped.
package struct StepDelivery: Sendable {
    /// A step with all of this member's cells, in order.
    package struct Whole: Sendable {
        package let step: WireTrainStep
        package let cells: [WireTrainCell]
        package let byteCount: Int
    }

    private var epoch: UInt32 = 0
    private var rank = 0
    /// The version whose step is received; steps from earlier ones were handed over.
    private var version: UInt64 = 0
    private var step: WireTrainStep?
    private var cells: [UInt32: WireTrainCell] = [:]
    private var byteCount = 0
    private var isHandedOver = false

    package init() {}

    /// An epoch begins; said again, it changes nothing.
    package mutating func begin(_ begin: WireTrainBegin) {
        guard begin.epoch > epoch else { return }
        self = StepDelivery()
        epoch = begin.epoch
        rank = Int(begin.rank)
        version = begin.version
    }

    /// Epochs up to this one are over.
    package mutating func end(epoch ended: UInt32) {
        guard epoch <= ended else { return }
        self = StepDelivery()
        epoch = ended
        // Nothing of it is awaited any more.
        version = .max
        isHandedOver = true
    }

    /// - Returns: the step, once it is whole.
    package mutating func take(_ new: WireTrainCells) -> Whole? {
        guard isAwaited(new.epoch, new.version) else { return nil }
        for cell in new.cells where cells[cell.index] == nil {
            cells[cell.index] = cell
            byteCount += cell.byteCount
        }
        return handOver()
    }

    /// - Returns: the step, once it is whole.
    package mutating func take(_ new: WireTrainStep) -> Whole? {
        guard isAwaited(new.epoch, new.version), Int(rank) < new.rangeEnds.count else { return nil }
        step = new
        return handOver()
    }

    /// The answer to whether a step is here.
    package func held(_ question: WireStepQuestion) -> WireStepHeld {
        let isPast = question.epoch == epoch && question.version < version
        let isThis = question.epoch == epoch && question.version == version
        return .with {
            $0.epoch = question.epoch
            $0.version = question.version
            $0.isWhole = isPast || (isThis && isHandedOver)
            if isThis, !isHandedOver { $0.cells = cells.keys.sorted() }
        }
    }

    /// Whether something of this step may still be missing; a later step than the last one begins here.
    private mutating func isAwaited(_ epoch: UInt32, _ version: UInt64) -> Bool {
        guard epoch == self.epoch, version >= self.version else { return false }
        if version > self.version {
            self.version = version
            step = nil
            cells = [:]
            byteCount = 0
            isHandedOver = false
        }
        return !isHandedOver
    }

    private mutating func handOver() -> Whole? {
        guard let step else { return nil }
        let first = rank == 0 ? 0 : step.rangeEnds[rank - 1]
        let end = max(first, step.rangeEnds[rank])
        guard (first..<end).allSatisfy({ cells[$0] != nil }) else { return nil }
        let whole = Whole(step: step, cells: (first..<end).map { cells[$0]! }, byteCount: byteCount)
        self.step = nil
        cells = [:]
        byteCount = 0
        isHandedOver = true
        return whole
    }
}

extension WireTrainCell {
    /// Bytes of its arrays: what it takes in memory, about.
    package var byteCount: Int {
        sequences.reduce(0) { sum, sequence in
            sum + sequence.tokens.count + sequence.scored.count + sequence.advantages.count + sequence.old.count
                + sequence.reference.count + sequence.importance.count + sequence.policyMask.count
                + sequence.crossEntropy.count + sequence.divergence.count + sequence.routes.count
        }
    }
}
