// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import CoordinatorRuntime
internal import Foundation
internal import JobSpecification
internal import SwiftProtobuf

/// What a step of a job would cost on a cluster that is not there yet.
///
/// Memory is the coordinator's own plan, groups are handed out by its reducer, experts placed by its placement and cells
/// packed by the trainer's rule; only the time of a pass and of a gradient is a model (``CostModel``).
package struct ClusterPlan: Sendable, Codable {
    package struct Memory: Sendable, Codable {
        package let name: String
        package let byteCount: UInt64
    }

    package struct Phase: Sendable, Codable {
        package let name: String
        package let seconds: Double
        /// Of the workers' time, on average.
        package let parts: TimeParts
        /// Share of the phase in which a worker has something to do, on average.
        package let busyShare: Double
        package let tokens: Int
        /// Of all workers together.
        package let wireByteCount: Double
    }

    package struct HotSpot: Sendable, Codable {
        package let what: String
        /// Times the average.
        package let factor: Double
    }

    package let model: String
    package let workerCount: Int
    package let promptCount: Int
    package let groupSize: Int
    /// What the worker with the largest part of the experts needs.
    package let memory: [Memory]
    package let memoryByteCount: UInt64
    package let phases: [Phase]
    package let hotSpots: [HotSpot]
    /// Sequences under way at once on a worker.
    package let slots: Int
    /// What the times do not hold.
    package let leftOut: [String]

    package var seconds: Double { phases.reduce(0) { $0 + $1.seconds } }
    package var wireByteCount: Double { phases.reduce(0) { $0 + $1.wireByteCount } }

    /// - Throws: ``PlanningError`` where the cluster cannot do the job, with what is missing.
    package init(_ request: PlanningRequest) throws(PlanningError) {
        let workers = request.workers
        model = request.model
        workerCount = workers.count
        promptCount = request.promptCount
        groupSize = request.groupSize
        slots = try Self.slots(request)
        leftOut = request.leftOut
        let plan = try Self.fit(request)
        memory = plan.items.map { Memory(name: $0.name, byteCount: $0.byteCount) }
        memoryByteCount = plan.byteCount

        let holders = Self.place(request)
        let routing = RoutingSample(request.configuration, holders: holders, skew: request.skew, seed: request.seed)
        let costs = CostModel(c: request.configuration, compute: request.section.compute, routing: routing)
        var phases: [Phase] = []
        var hotSpots = Self.hotExperts(request, routing)
        if request.generates {
            var simulation = GenerationSimulation(request, costs, slots: slots)
            let result = try simulation.run()
            let count = Double(workers.count)
            phases.append(
                Phase(
                    name: "generate", seconds: result.seconds, parts: result.busy * (1 / count),
                    busyShare: result.busySeconds.reduce(0, +) / count / result.seconds, tokens: result.responseTokens,
                    wireByteCount: result.wireBytes))
            hotSpots += Self.hottest(result.busySeconds, "generating")
        }
        if case .train(let job) = request.job {
            let step = TrainingStep(request, job, costs)
            let average = step.seconds.reduce(0, +) / Double(workers.count)
            phases.append(
                Phase(
                    name: "train", seconds: step.time.total, parts: step.time,
                    busyShare: average / step.time.total, tokens: step.tokenCount, wireByteCount: step.wireBytes))
            hotSpots += Self.hottest(step.seconds, "training")
        }
        self.phases = phases
        self.hotSpots = hotSpots
    }

    // MARK: - Memory

    /// Sequences that the cache of a worker holds at once, at most what the job allows.
    private static func slots(_ request: PlanningRequest) throws(PlanningError) -> Int {
        let (c, resources) = (request.configuration, request.resources)
        let cache = KVCacheShape(
            layerCount: c.layerCount, keyValueHeadCount: c.keyValueHeadCount, headSize: c.headSize,
            compute: request.section.compute)
        // What most sequences need; the engine sends the longest back to the queue where they do not fit.
        let tokens = request.promptTokens + (request.generates ? request.responseTokens : 0)
        let pages = (tokens + resources.pageSize - 1) / resources.pageSize
        let needed = pages * resources.pageSize * cache.byteCountPerToken
        let count = min(resources.maxSequences, resources.kvCacheByteCount / needed)
        guard count > 0 else {
            throw PlanningError(
                "one sequence of \(tokens) tokens needs \(gibibytes(UInt64(needed))) of key/value cache, "
                    + "resources.kv_cache_bytes is \(gibibytes(UInt64(resources.kvCacheByteCount))): "
                    + "\(gibibytes(UInt64(needed - resources.kvCacheByteCount))) short")
        }
        return count
    }

    private static func fit(_ request: PlanningRequest) throws(PlanningError) -> MemoryPlan {
        var description = WireModelDescription()
        description.setSizes(of: request.configuration, compute: request.section.compute)
        if case .train(let job) = request.job {
            let longest = request.promptTokens + (request.generates ? job.sampling.maxNewTokens : 0)
            description.setTraining(request.configuration, job, longest: longest, teachers: [])
        }
        let engine = WireEngineSettings(request.resources, replicas: request.section.replicas)
        let workers = request.workers
        var largest: MemoryPlan?
        for host in request.hosts {
            let plan = MemoryPlan([description], engine, workerCount: workers.count, threadCount: host.cores)
            let memory = UInt64(min(host.memoryByteCount, request.resources.memoryByteCountPerWorker ?? .max))
            guard plan.byteCount <= memory else {
                let parts = plan.items.sorted { $0.byteCount > $1.byteCount }.prefix(3).map {
                    "\($0.name) \(gibibytes($0.byteCount))"
                }
                throw PlanningError(
                    "\(request.model) on \(workers.count) worker\(workers.count == 1 ? "" : "s"): each needs "
                        + "\(gibibytes(plan.byteCount)), "
                        + (memory < host.memoryByteCount ? "resources.memory_per_worker is" : "a host has")
                        + " \(gibibytes(memory)): \(gibibytes(plan.byteCount - memory)) short "
                        + "(\(parts.joined(separator: ", ")))")
            }
            if plan.byteCount > largest?.byteCount ?? 0 { largest = plan }
        }
        guard let largest else { throw PlanningError("no hosts") }
        return largest
    }

    private static func gibibytes(_ count: UInt64) -> String {
        count < 1 << 30
            ? String(format: "%.1f MiB", Double(count) / 1_048_576)
            : String(format: "%.1f GiB", Double(count) / 1_073_741_824)
    }

    // MARK: - Experts

    /// The holders of each expert as the coordinator would choose them.
    private static func place(_ request: PlanningRequest) -> [[Int]] {
        let count = request.workers.count
        guard request.configuration.expertCount > 0 else { return [] }
        var placement = ExpertPlacement(
            expertCount: request.configuration.expertCount, replicas: request.section.replicas)
        placement.setMembers((1...UInt32(count)).map { $0 })
        var holders = [[Int]](repeating: [], count: request.configuration.expertCount)
        for (worker, experts) in placement.targets.sorted(by: { $0.key < $1.key }) {
            for expert in experts { holders[expert].append(Int(worker) - 1) }
        }
        return holders
    }

    // MARK: - Hot spots

    private static func hotExperts(_ request: PlanningRequest, _ routing: RoutingSample) -> [HotSpot] {
        guard !routing.owners.isEmpty else { return [] }
        let average = Double(request.configuration.expertsPerToken) / Double(request.workers.count)
        var spots: [HotSpot] = []
        if let busiest = routing.owners.max(by: { $0.entriesAtWorst < $1.entriesAtWorst }) {
            spots.append(
                HotSpot(
                    what: "worker \(busiest.worker + 1) serves the most expert rows of a layer",
                    factor: busiest.entriesAtWorst / average))
            let traffic = routing.owners.max { $0.sums < $1.sums } ?? busiest
            let mean = routing.owners.reduce(0) { $0 + $1.sums } / Double(request.workers.count)
            spots.append(
                HotSpot(what: "worker \(traffic.worker + 1) sends the most sum rows", factor: traffic.sums / mean))
        }
        spots.append(
            HotSpot(
                what: "expert \(routing.busiestExpert.expert) is chosen most in a sampled layer",
                factor: routing.busiestExpert.share))
        let (workers, experts) = (request.workers.count, request.configuration.expertCount)
        let idle = workers - routing.owners.count
        if idle > 0 {
            let remedy: String
            if case .train = request.job {
                remedy = "a model in training has one copy of each of \(experts)"
            } else {
                remedy = "raise model.replicas to \((workers + experts - 1) / experts)"
            }
            spots.append(
                HotSpot(
                    what: "\(idle) workers hold no expert; \(remedy)",
                    factor: Double(workers) / Double(routing.owners.count)))
        }
        return spots
    }

    private static func hottest(_ seconds: [Double], _ what: String) -> [HotSpot] {
        let average = seconds.reduce(0, +) / Double(seconds.count)
        guard seconds.count > 1, average > 0, let most = seconds.indices.max(by: { seconds[$0] < seconds[$1] }) else {
            return []
        }
        return [HotSpot(what: "worker \(most + 1) is \(what) longest", factor: seconds[most] / average)]
    }
}
