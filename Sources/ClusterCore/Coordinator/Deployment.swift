// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import RuntimeSupport
internal import SwiftProtobuf

/// A model on the workers: what each was told to hold and does hold.
struct Deployment: Sendable {
    let model: WireModelDescription
    let engine: WireEngineSettings
    var placement: ExpertPlacement
    /// Workers whose trunk is loaded: they can generate or score.
    private(set) var trunkReady: Set<WorkerNumber> = []
    /// Experts of which each worker's process has opened a tensor.
    private(set) var opened: [WorkerNumber: [Int]] = [:]
    /// Workers that cannot load the model, and why.
    private(set) var problems: [WorkerNumber: LoadProblem] = [:]
    /// Failures of each worker so far; those that load at last can fail again.
    private var failureCounts: [WorkerNumber: Int] = [:]
    /// Numbers before it belong to earlier deployments of the model: reports that answer those say nothing of this one.
    private let firstEpoch: UInt64
    /// The number under which the present routes go out, and the placement's own count of them.
    private var routesEpoch: (number: UInt64, placement: UInt64)?
    /// Deploys that a worker has not answered yet, oldest first.
    private var unanswered: [WorkerNumber: [(epoch: UInt64, experts: Set<Int>)]] = [:]
    private var sentExperts: [WorkerNumber: [Int]] = [:]
    private var sentRoutes: [WorkerNumber: UInt64] = [:]

    init(_ model: WireModelDescription, _ engine: WireEngineSettings, after epochs: PlacementEpochs) {
        firstEpoch = epochs.last + 1
        self.model = model
        self.engine = engine
        placement = ExpertPlacement(expertCount: Int(model.expertCount), replicas: Int(engine.replicas))
    }

    mutating func forgetSent(_ worker: WorkerNumber) {
        sentExperts[worker] = nil
        sentRoutes[worker] = nil
    }

    mutating func remove(_ worker: WorkerNumber) {
        forgetSent(worker)
        trunkReady.remove(worker)
        problems[worker] = nil
        failureCounts[worker] = nil
        unanswered[worker] = nil
        opened[worker] = nil
    }

    /// Whether a report that came on its own answers a deploy of this deployment. What a hello lists is what the worker
    /// has at that moment and counts in any case.
    func isOwn(_ report: WireShardReport) -> Bool { report.epoch >= firstEpoch }

    mutating func note(
        _ report: WireShardReport, of worker: WorkerNumber, _ times: ClusterTimes, _ now: MonotonicInstant
    ) {
        if !report.problem.isEmpty {
            fail(worker, report.problem, times, now)
        } else if report.isTrunkReady {
            problems[worker] = nil
        }
        if report.isTrunkReady { trunkReady.insert(worker) } else { trunkReady.remove(worker) }
        opened[worker] = report.openedExperts.map(Int.init)
        var experts = report.experts.map(Int.init)
        // It may answer an older wish: what any later one does not name may be gone by now.
        unanswered[worker]?.removeAll { $0.epoch <= report.epoch }
        for later in unanswered[worker] ?? [] { experts = experts.filter(later.experts.contains) }
        placement.report(worker, holds: experts)
    }

    /// The worker is left aside; after a while, longer after each failure, it is asked to try again.
    /// - Parameter weight: failures that this one counts for.
    mutating func fail(
        _ worker: WorkerNumber, _ reason: String, weight: Int = 1, _ times: ClusterTimes, _ now: MonotonicInstant
    ) {
        let count = failureCounts[worker, default: 0] + weight
        failureCounts[worker] = count
        problems[worker] = LoadProblem(
            reason: reason, count: count,
            retryAt: now.advanced(byMilliseconds: ClusterTimes.delay(times.reload, times.reloadMax, count: count)))
    }

    /// Lets a worker try again at once.
    mutating func forgive(_ worker: WorkerNumber) {
        problems[worker] = nil
        forgetSent(worker)
    }

    /// Asks a worker that failed to load the trunk again, once its time has come. Nothing is placed on it before it has.
    mutating func retry(
        _ worker: WorkerNumber, _ times: ClusterTimes, _ now: MonotonicInstant, _ epochs: inout PlacementEpochs
    ) -> WireDeploy? {
        guard let problem = problems[worker], now >= problem.retryAt else { return nil }
        // The order or its answer may be lost.
        problems[worker]?.retryAt = now.advanced(byMilliseconds: times.reloadMax)
        forgetSent(worker)
        return wish(worker, [], &epochs)
    }

    /// Whether `worker` has been asked for something and has not answered yet.
    func isLoading(_ worker: WorkerNumber) -> Bool {
        unanswered[worker]?.isEmpty == false && problems[worker] == nil
    }

    /// Whether `worker` can run the model now.
    func isReady(_ worker: WorkerNumber) -> Bool {
        trunkReady.contains(worker) && (model.expertCount == 0 || placement.isComplete)
    }

    /// What `worker` must be told: a deploy when its wanted experts changed, routes when they did.
    mutating func news(
        for worker: WorkerNumber, _ epochs: inout PlacementEpochs
    ) -> (deploy: WireDeploy?, routes: WireRoutes?) {
        var news: (deploy: WireDeploy?, routes: WireRoutes?) = (nil, nil)
        let wanted = placement.wanted(worker)
        if sentExperts[worker] != wanted { news.deploy = wish(worker, wanted, &epochs) }
        if model.expertCount > 0, sentRoutes[worker] != placement.epoch {
            sentRoutes[worker] = placement.epoch
            let number = routesEpoch.flatMap { $0.placement == placement.epoch ? $0.number : nil } ?? epochs.next()
            routesEpoch = (number, placement.epoch)
            news.routes = .with {
                $0.model = model.id
                $0.epoch = number
                $0.holders = placement.routes.map { workers in .with { $0.workers = workers } }
            }
        }
        return news
    }

    private mutating func wish(
        _ worker: WorkerNumber, _ wanted: [Int], _ epochs: inout PlacementEpochs
    ) -> WireDeploy {
        sentExperts[worker] = wanted
        let epoch = epochs.next()
        unanswered[worker, default: []].append((epoch, Set(wanted)))
        // From here on it may have dropped the rest.
        placement.report(worker, holds: placement.held[worker, default: []].intersection(wanted))
        return .with {
            $0.model = model
            $0.engine = engine
            $0.epoch = epoch
            $0.experts = wanted.map(UInt32.init)
        }
    }
}

/// Why a worker cannot load a model.
struct LoadProblem: Sendable, Equatable {
    /// Failures after which nobody expects the next try to go better.
    static let countMax = 3

    let reason: String
    let count: Int
    /// When it is asked to try again.
    var retryAt: MonotonicInstant
}
