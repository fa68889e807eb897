// SPDX-License-Identifier: Apache-2.0
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import JobSpecification
internal import RuntimeSupport
internal import SwiftProtobuf

/// The responses of one step, generated under virtual time: the real coordinator hands out the groups, pretended workers
/// take as long as the cost model says.
struct GenerationSimulation {
    struct Result {
        /// Seconds until the last response.
        var seconds = 0.0
        /// Of all workers together, while they had work.
        var busy = TimeParts()
        var busySeconds: [Double]
        var tokens: [Double]
        var wireBytes = 0.0
        var responseTokens = 0
    }

    private struct Sequence {
        let group: Int
        let sibling: Int
        let lease: UInt64
        let tokens: Int
        /// Progress of the worker at which it ends.
        var end = 0.0
    }

    /// A worker's engine. Progress counts decoding passes, of which every running sequence gets a token.
    private struct Station {
        var running: [Sequence] = []
        /// Granted beyond the slots.
        var waiting: [Sequence] = []
        var progress = 0.0
        var at = 0.0
        /// Prompts are read until then.
        var stalledUntil = 0.0
        var pass = (time: TimeParts(), wireBytes: 0.0)
        var firstEnd: Int? { running.indices.min { running[$0].end < running[$1].end } }

        var nextEnd: Double {
            guard let first = firstEnd else { return .infinity }
            return max(at, stalledUntil) + max(0, running[first].end - progress) * pass.time.total
        }
    }

    private let request: PlanningRequest
    private let costs: CostModel
    private let workers: [HostSpecification]
    private let slots: Int
    private var coordinator: Coordinator
    private var stations: [Station]
    /// When the next sequence of each ends.
    private var ends: [Double]
    private var result: Result
    private var lengths: [[Int]] = []
    private var runningCount = 0
    /// What `runningCount` was when all passes were last worked out.
    private var countAtRefresh = 0
    private var now = 0.0

    private static let incarnation: UInt64 = 1
    /// The coordinator hears together of what ends within this share of the time so far: a decision looks at every worker.
    private static let window = 0.005

    init(_ request: PlanningRequest, _ costs: CostModel, slots: Int) {
        self.request = request
        self.costs = costs
        self.slots = slots
        workers = request.workers
        var times = ClusterTimes()
        // Pretended workers neither die nor dawdle; only what they finish moves the clock.
        times.silence = .max >> 8
        times.stall = .max >> 8
        times.straggler = .max >> 8
        times.settle = 0
        coordinator = Coordinator(
            state: DurableState(), incarnation: Self.incarnation, expectedWorkerCount: workers.count, times: times)
        stations = [Station](repeating: Station(), count: workers.count)
        ends = [Double](repeating: .infinity, count: workers.count)
        result = Result(
            busySeconds: [Double](repeating: 0, count: workers.count),
            tokens: [Double](repeating: 0, count: workers.count))
        var random = SplitMix64(seed: request.seed)
        let (mean, spread) = (Double(request.responseTokens), request.responseSpread)
        lengths = (0..<request.promptCount).map { _ in
            (0..<request.groupSize).map { _ in max(1, Int((mean * (1 + spread * (2 * random.unit() - 1))).rounded())) }
        }
    }

    /// - Throws: ``PlanningError`` when the coordinator refuses the job or work is left undone.
    mutating func run() throws(PlanningError) -> Result {
        join()
        // Loading is no part of a step: a job of one response comes first.
        try admit(groups: 1, size: 1)
        apply(workers.indices.flatMap { [report($0), beat($0)] })
        if coordinator.state.jobs[1]?.ended == nil {
            throw PlanningError("the coordinator did not finish a job of one response")
        }
        (now, result) = (
            0,
            Result(
                busySeconds: [Double](repeating: 0, count: workers.count),
                tokens: [Double](repeating: 0, count: workers.count))
        )
        isWarm = true
        try admit(groups: request.promptCount, size: request.groupSize)
        while true {
            guard let first = ends.min(), first.isFinite else { break }
            finish(until: first * (1 + Self.window))
        }
        guard coordinator.state.jobs[2]?.ended?.status == "done" else {
            throw PlanningError("the coordinator left work undone; this is a mistake of the simulation")
        }
        result.seconds = now
        result.responseTokens = lengths.reduce(0) { $0 + $1.reduce(0, +) }
        return result
    }

    private var isWarm = false

    // MARK: - The coordinator

    private var instant: MonotonicInstant { MonotonicInstant(nanoseconds: 1_000_000_000 + UInt64(now * 1e9)) }

    private func identity(_ index: Int) -> PeerIdentity { PeerIdentity("w\(index)") }

    private mutating func apply(_ events: [Coordinator.Event]) {
        let effects = coordinator.apply(events, at: instant)
        execute(effects)
    }

    private func said(_ index: Int, _ fill: (inout WireEnvelope) -> Void) -> Coordinator.Event {
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.incarnation = UInt64(index + 1)
        envelope.epoch = coordinator.state.epoch
        fill(&envelope)
        return .message(envelope, from: identity(index), role: .worker)
    }

    private mutating func join() {
        apply([.tick])
        apply(
            workers.indices.map { index in
                said(index) {
                    $0.hello.numericsFingerprint = "equal"
                    $0.hello.memoryByteCount = UInt64(workers[index].memoryByteCount)
                }
            })
    }

    private mutating func admit(groups: Int, size: Int) throws(PlanningError) {
        let resources = request.resources
        let admitted = WireJobAdmitted.with {
            $0.job = coordinator.state.nextJob
            $0.groupCount = UInt32(groups)
            $0.groupSize = UInt32(size)
            $0.engine = .with {
                $0.cacheByteCount = UInt64(resources.kvCacheByteCount)
                $0.sequencesMax = UInt32(slots)
                $0.replicas = 1
            }
        }
        // Experts are placed and counted elsewhere; for handing out groups a worker is ready with its trunk.
        let model = WireModelDescription.with {
            $0.path = request.model
            $0.contentHash = "planned"
            $0.trunkByteCount = 1
        }
        apply([
            .jobPrepared(
                .init(admitted: admitted, policy: model, scorer: nil, client: PeerIdentity("client"), request: 1))
        ])
        if let ended = coordinator.state.jobs[admitted.job]?.ended, ended.status == "failed" {
            throw PlanningError(ended.problem)
        }
    }

    private func report(_ index: Int) -> Coordinator.Event {
        said(index) {
            $0.shardReport = .with {
                $0.model = 1
                $0.isTrunkReady = true
                $0.epoch = .max
            }
        }
    }

    private func beat(_ index: Int) -> Coordinator.Event {
        let taken = stations[index].running + stations[index].waiting
        let free = UInt32(max(0, slots - taken.count))
        return said(index) {
            $0.beat.leases = Set(taken.map(\.lease)).sorted()
            $0.beat.freeSlots = [
                .with {
                    $0.model = 1
                    $0.count = free
                }
            ]
        }
    }

    private mutating func execute(_ effects: [Coordinator.Effect]) {
        for effect in effects {
            switch effect {
            case .grant(let lease, _, _, let siblings, let peer):
                guard let index = Int(peer.rawValue.dropFirst()) else { continue }
                take(lease, siblings, at: index)
            case .finish(let job): apply([.jobWritten(job: job, problem: nil)])
            default: break
            }
        }
    }

    // MARK: - Workers

    private mutating func take(_ lease: Lease, _ siblings: [Int], at index: Int) {
        let group = lease.unit.group
        guard isWarm else {
            return apply(
                siblings.map { message(of: Sequence(group: group, sibling: $0, lease: lease.id, tokens: 1), index) })
        }
        advance(index)
        let prompt = Double(request.promptTokens)
        // All begin with prompts at once; later each reads when it gets a group.
        let readers =
            now == 0 ? min(workers.count, request.promptCount) : stations.count { $0.stalledUntil > now } + 1
        let reading = costs.pass(
            worker: index, { workers[$0] }, rows: prompt, sequences: 1, context: prompt / 2, headRows: 1, sampled: 0,
            rowsOfAll: prompt * Double(readers))
        stations[index].stalledUntil = max(stations[index].stalledUntil, now) + reading.time.total
        note(index, reading.time, seconds: reading.time.total, wireBytes: reading.wireBytes)
        stations[index].waiting += siblings.map {
            Sequence(group: group, sibling: $0, lease: lease.id, tokens: lengths[group][$0])
        }
        start(index)
    }

    /// Moves waiting sequences into free slots and works out the pass anew.
    private mutating func start(_ index: Int) {
        while stations[index].running.count < slots, !stations[index].waiting.isEmpty {
            var sequence = stations[index].waiting.removeFirst()
            sequence.end = stations[index].progress + Double(sequence.tokens)
            stations[index].running.append(sequence)
            runningCount += 1
        }
        let change = abs(runningCount - countAtRefresh) * 10
        if change > countAtRefresh {
            // The load of the experts' owners has changed for everybody.
            countAtRefresh = runningCount
            for other in stations.indices where !stations[other].running.isEmpty {
                advance(other)
                workOut(other)
            }
        }
        workOut(index)
    }

    private mutating func workOut(_ index: Int) {
        let count = Double(stations[index].running.count)
        guard count > 0 else { return ends[index] = .infinity }
        stations[index].pass = costs.pass(
            worker: index, { workers[$0] }, rows: count, sequences: count,
            context: Double(request.promptTokens) + Double(request.responseTokens) / 2, headRows: count, sampled: count,
            rowsOfAll: Double(max(runningCount, 1)))
        ends[index] = stations[index].nextEnd
    }

    private mutating func advance(_ index: Int) {
        let station = stations[index]
        let from = max(station.at, station.stalledUntil)
        stations[index].at = max(station.at, now)
        guard now > from, !station.running.isEmpty, station.pass.time.total > 0 else { return }
        let passes = (now - from) / station.pass.time.total
        stations[index].progress += passes
        note(index, station.pass.time * passes, seconds: now - from, wireBytes: station.pass.wireBytes * passes)
        result.tokens[index] += passes * Double(station.running.count)
    }

    private mutating func note(_ index: Int, _ time: TimeParts, seconds: Double, wireBytes: Double) {
        result.busy = result.busy + time
        result.busySeconds[index] += seconds
        result.wireBytes += wireBytes
    }

    private mutating func finish(until limit: Double) {
        var events: [Coordinator.Event] = []
        var touched: Set<Int> = []
        while let index = ends.indices.min(by: { ends[$0] < ends[$1] }), ends[index] <= limit {
            now = max(now, ends[index])
            advance(index)
            guard let first = stations[index].firstEnd else { break }
            let sequence = stations[index].running.remove(at: first)
            runningCount -= 1
            start(index)
            events.append(message(of: sequence, index))
            touched.insert(index)
        }
        apply(events + touched.sorted().map { beat($0) })
    }

    private func message(of sequence: Sequence, _ index: Int) -> Coordinator.Event {
        let record = WireUnitResult.with {
            $0.lease = sequence.lease
            $0.job = isWarm ? 2 : 1
            $0.incarnation = UInt64(index + 1)
            $0.numericsFingerprint = "equal"
            $0.rollout = .with {
                $0.group = UInt32(sequence.group)
                $0.sibling = UInt32(sequence.sibling)
                $0.tokens = Data(littleEndian: [7] as [Int32])
                $0.logProbs = Data(littleEndian: [0] as [Float])
                $0.entropies = $0.logProbs
                $0.forced = Data([0])
                $0.outcome = "ok"
            }
        }
        return .result(record, from: identity(index))
    }
}
