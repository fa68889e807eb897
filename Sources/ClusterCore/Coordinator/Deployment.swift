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
    /// Placement epochs of a later coordinator are larger than all of an earlier one.
    private let epochBase: UInt64
    private var epoch: UInt64 = 0
    /// Deploys that a worker has not answered yet, oldest first.
    private var unanswered: [WorkerNumber: [(epoch: UInt64, experts: Set<Int>)]] = [:]
    private var sentExperts: [WorkerNumber: [Int]] = [:]
    private var sentRoutes: [WorkerNumber: UInt64] = [:]

    init(_ model: WireModelDescription, _ engine: WireEngineSettings, coordinatorEpoch: UInt64) {
        epochBase = coordinatorEpoch << 32
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
    mutating func retry(_ worker: WorkerNumber, _ times: ClusterTimes, _ now: MonotonicInstant) -> WireDeploy? {
        guard let problem = problems[worker], now >= problem.retryAt else { return nil }
        // The order or its answer may be lost.
        problems[worker]?.retryAt = now.advanced(byMilliseconds: times.reloadMax)
        forgetSent(worker)
        return wish(worker, [])
    }

    /// Whether `worker` can run the model now.
    func isReady(_ worker: WorkerNumber) -> Bool {
        trunkReady.contains(worker) && (model.expertCount == 0 || placement.isComplete)
    }

    /// What `worker` must be told: a deploy when its wanted experts changed, routes when they did.
    mutating func news(for worker: WorkerNumber) -> (deploy: WireDeploy?, routes: WireRoutes?) {
        var news: (deploy: WireDeploy?, routes: WireRoutes?) = (nil, nil)
        let wanted = placement.wanted(worker)
        if sentExperts[worker] != wanted { news.deploy = wish(worker, wanted) }
        if model.expertCount > 0, sentRoutes[worker] != placement.epoch {
            sentRoutes[worker] = placement.epoch
            news.routes = .with {
                $0.model = model.id
                $0.epoch = epochBase + placement.epoch
                $0.holders = placement.routes.map { workers in .with { $0.workers = workers } }
            }
        }
        return news
    }

    private mutating func wish(_ worker: WorkerNumber, _ wanted: [Int]) -> WireDeploy {
        sentExperts[worker] = wanted
        epoch += 1
        unanswered[worker, default: []].append((epochBase + epoch, Set(wanted)))
        // From here on it may have dropped the rest.
        placement.report(worker, holds: placement.held[worker, default: []].intersection(wanted))
        return .with {
            $0.model = model
            $0.engine = engine
            $0.epoch = epochBase + epoch
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
