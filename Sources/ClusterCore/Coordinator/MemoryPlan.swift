// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol

/// What one worker needs for its part of some models. A pure function of shapes, so that `apus plan` and the coordinator
/// say the same.
package struct MemoryPlan: Sendable, Equatable {
    /// A part, in words, and its bytes.
    package struct Item: Sendable, Equatable {
        package let name: String
        package let byteCount: UInt64
    }

    package private(set) var items: [Item] = []
    /// Cells of training at once; 0 without training.
    package private(set) var laneCount = 0
    package var byteCount: UInt64 { items.reduce(0) { $0 + $1.byteCount } }

    /// Largest part of trunk and experts that one of `workerCount` workers has.
    /// - Parameters:
    ///   - replicas: copies of a model's experts, where they are not the engine's.
    ///   - share: of the even share of experts, from 0 to 1.
    ///   - memory: as many cells are under way at once as it has room for, one at least; nil: one per thread.
    package init(
        _ models: [WireModelDescription], _ engine: WireEngineSettings, workerCount: Int, threadCount: Int,
        replicas: [UInt32: Int] = [:], share expertShare: Double = 1, memory: UInt64? = nil
    ) {
        var liveCell: UInt64 = 0
        let workers = max(1, workerCount)
        for model in models {
            let name = model.isTrained ? "" : models.count > 1 ? " of the frozen model" : ""
            let copies = min(max(1, replicas[model.id] ?? Int(engine.replicas)), workers)
            let even = (Int(model.expertCount) * copies + workers - 1) / workers
            let experts = UInt64((Double(even) * expertShare).rounded(.down))
            add("trunk" + name, model.trunkByteCount)
            add("\(experts) experts" + name, experts * model.expertByteCount)
            add("key/value cache" + name, engine.cacheByteCount)
            guard model.hasTraining else { continue }
            let training = model.training
            // A trunk has about 48 segments, which have one owner each.
            let segments = UInt64((48 + workers - 1) / workers)
            func share(_ bytes: UInt64) -> UInt64 { bytes / 48 * segments }
            add("master weights and moments", share(training.trunkState) + experts * training.expertState)
            add("gradients", share(training.trunkGradient) + experts * training.expertGradient)
            add("rows that wait for a wave's fold", experts * training.expertRows)
            add("partial sums of the trunk's gradient", training.partialSums)
            laneCount = training.lanesMax == 0 ? max(1, threadCount) : Int(training.lanesMax)
            liveCell = training.liveCell
        }
        guard laneCount > 0 else { return }
        if let memory {
            let used = byteCount
            let room = memory > used && liveCell > 0 ? Int((memory - used) / liveCell) : 0
            laneCount = min(laneCount, max(1, room))
        }
        add("\(laneCount) cell\(laneCount == 1 ? "" : "s") under way", UInt64(laneCount) * liveCell)
    }

    private mutating func add(_ name: String, _ byteCount: UInt64) {
        if byteCount > 0 { items.append(Item(name: name, byteCount: byteCount)) }
    }
}
