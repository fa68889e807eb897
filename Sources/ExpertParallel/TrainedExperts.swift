// SPDX-License-Identifier: Apache-2.0
package import Qwen3
internal import RuntimeSupport
package import Tensors

/// The gradients of this process's experts of one model, as dispatches of all members of a training epoch deliver them.
///
/// Deliveries come from the server's thread and from the thread that trains; both may repeat. A dispatch that was delivered
/// once is not kept again, so that a repeat recomputes input gradients only; overlaps of other shapes are left out when
/// rows are folded.
package final class TrainedExperts: @unchecked Sendable {
    // @unchecked: everything mutable is used under `lock`.
    private struct Place: Hashable {
        let layer: Int
        let cell: Int
        let firstRow: Int32
        let rowCount: Int
        /// Another dispatch of the same rows may be about other experts.
        let experts: [Int]
    }

    private let lock = ConditionLock()
    /// What waits in it is used under `lock`, its accumulators by the thread that trains alone.
    private let gradients: ExpertGradients
    private var delivered: Set<Place> = []
    private var epoch: UInt32 = 0
    private var version: UInt64 = 0

    package init(_ gradients: ExpertGradients) { self.gradients = gradients }

    /// Begins a step: gradients zero. Dispatches of other epochs or versions are refused from here on.
    package func begin(epoch: UInt32, version: UInt64) {
        lock.withLock {
            self.epoch = epoch
            self.version = version
            delivered.removeAll()
            gradients.reset()
        }
    }

    /// Whether a dispatch belongs to the step under way.
    package func accepts(epoch: UInt32, version: UInt64) -> Bool {
        lock.withLock { self.epoch == epoch && self.version == version }
    }

    package func deliver(
        epoch: UInt32, version: UInt64, layer: Int, cell: Int, rows: [Int32], _ contribution: ExpertContribution
    ) {
        lock.withLock {
            guard self.epoch == epoch, self.version == version, let first = rows.first,
                delivered.insert(
                    Place(
                        layer: layer, cell: cell, firstRow: first, rowCount: rows.count, experts: contribution.experts)
                ).inserted
            else { return }
            gradients.deliver(layer: layer, cell: cell, rows: rows, contribution)
        }
    }

    /// Folds what cells below `end` delivered for `layer`; the server goes on meanwhile.
    /// - Throws: ``MemoryError``.
    package func fold(layer: Int, cellsBelow end: Int) throws(MemoryError) {
        let deliveries = lock.withLock { gradients.take(layer: layer, cellsBelow: end) }
        try gradients.fold(layer: layer, deliveries)
    }

    /// Lends the gradients, for the optimizer.
    package func withGradients<R>(_ body: (ExpertGradients) throws -> R) rethrows -> R {
        try lock.withLock { try body(gradients) }
    }
}

/// Which models this process trains experts of.
package final class ExpertTraining: Sendable {
    private let models = Locked<[UInt32: TrainedExperts]>([:])

    package init() {}

    package func set(model: UInt32, _ experts: TrainedExperts?) { models.withLock { $0[model] = experts } }
    package func experts(model: UInt32) -> TrainedExperts? { models.withLock { $0[model] } }
}
