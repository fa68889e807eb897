// SPDX-License-Identifier: Apache-2.0
//
// Which units of the running job are open, who works on them, and what went wrong with them so far. Volatile: after a
// restart everything that is not recorded is open again.
package import RuntimeSupport

/// Something a worker is given to do.
package enum WorkUnit: Hashable, Sendable, Comparable {
    /// All missing siblings of a group.
    case rollout(group: Int)
    case score(SequenceID)

    package static func < (a: Self, b: Self) -> Bool { a.order < b.order }
    private var order: (Int, Int, Int) {
        switch self {
        case .rollout(let group): (group, 0, 0)
        case .score(let id): (id.group, 1, id.sibling)
        }
    }

    package var group: Int {
        switch self {
        case .rollout(let group): group
        case .score(let id): id.group
        }
    }
}

/// One attempt at a unit by one worker.
package struct Lease: Sendable {
    package let id: UInt64
    package let unit: WorkUnit
    package let worker: WorkerNumber
    package let attempt: UInt32
    package let granted: MonotonicInstant
    /// Whether the worker had nothing else when it was granted: then a death is this unit's fault or bad luck.
    package let isAlone: Bool
}

/// Open units and leases of one job.
struct WorkLedger {
    /// Deaths after which a unit is only given out alone, and lone deaths after which it is given up.
    static let suspicionCount = 2
    static let poisonCount = 3
    /// Failures reported by workers after which a unit is given up.
    static let failureCount = 3

    private struct History {
        var attempts: UInt32 = 0
        var deaths = 0
        var loneDeaths = 0
        var failures = 0
    }

    /// Open units, the first to be given out last: taking it from there moves nothing.
    private var open: [WorkUnit] = []
    private(set) var leases: [UInt64: Lease] = [:]
    private var leasesOfWorker: [WorkerNumber: Set<UInt64>] = [:]
    private var leasesOnUnit: [WorkUnit: Set<UInt64>] = [:]
    private var history: [WorkUnit: History] = [:]

    var isOpenEmpty: Bool { open.isEmpty }

    /// The first open unit, in order of groups, that may be given out.
    func firstOpen(where isWanted: (WorkUnit) -> Bool) -> WorkUnit? { open.last(where: isWanted) }

    mutating func add(_ unit: WorkUnit) {
        let place = place(of: unit)
        if place < open.count, open[place] == unit { return }
        open.insert(unit, at: place)
    }

    /// Where `unit` is, or belongs, in the descending order.
    private func place(of unit: WorkUnit) -> Int {
        var (low, high) = (0, open.count)
        while low < high {
            let middle = (low + high) / 2
            if unit < open[middle] { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// - Returns: whether it was open.
    @discardableResult
    private mutating func removeOpen(_ unit: WorkUnit) -> Bool {
        let place = place(of: unit)
        guard place < open.count, open[place] == unit else { return false }
        open.remove(at: place)
        return true
    }

    private mutating func insert(_ lease: Lease) {
        leases[lease.id] = lease
        leasesOfWorker[lease.worker, default: []].insert(lease.id)
        leasesOnUnit[lease.unit, default: []].insert(lease.id)
    }

    @discardableResult
    private mutating func remove(_ id: UInt64) -> Lease? {
        guard let lease = leases.removeValue(forKey: id) else { return nil }
        leasesOfWorker[lease.worker]?.remove(id)
        leasesOnUnit[lease.unit]?.remove(id)
        if leasesOnUnit[lease.unit]?.isEmpty == true { leasesOnUnit[lease.unit] = nil }
        return lease
    }

    /// Removes a unit for good, with its leases.
    /// - Returns: the leases that it had.
    mutating func close(_ unit: WorkUnit) -> [Lease] {
        removeOpen(unit)
        history[unit] = nil
        return (leasesOnUnit[unit] ?? []).sorted().compactMap { remove($0) }
    }

    /// Progress on a unit clears its suspicion.
    mutating func noteProgress(_ unit: WorkUnit) {
        history[unit]?.deaths = 0
        history[unit]?.loneDeaths = 0
        history[unit]?.failures = 0
    }

    func leases(of worker: WorkerNumber) -> [Lease] {
        (leasesOfWorker[worker] ?? []).sorted().compactMap { leases[$0] }
    }

    func leaseCount(on unit: WorkUnit) -> Int { leasesOnUnit[unit]?.count ?? 0 }

    func isSuspect(_ unit: WorkUnit) -> Bool { history[unit]?.deaths ?? 0 >= Self.suspicionCount }

    mutating func grant(_ unit: WorkUnit, to worker: WorkerNumber, lease id: UInt64, now: MonotonicInstant) -> Lease {
        let isAlone = leasesOfWorker[worker]?.isEmpty ?? true
        removeOpen(unit)
        history[unit, default: History()].attempts += 1
        let lease = Lease(
            id: id, unit: unit, worker: worker, attempt: history[unit]!.attempts, granted: now, isAlone: isAlone)
        insert(lease)
        return lease
    }

    /// Takes over a lease that an earlier coordinator granted, when its unit is still open.
    mutating func adopt(
        _ unit: WorkUnit, by worker: WorkerNumber, lease id: UInt64, attempt: UInt32, now: MonotonicInstant
    ) {
        guard removeOpen(unit) else { return }
        history[unit, default: History()].attempts = attempt
        insert(Lease(id: id, unit: unit, worker: worker, attempt: attempt, granted: now, isAlone: false))
    }

    /// The worker of these leases died.
    /// - Returns: units that killed too many workers.
    mutating func workerDied(_ worker: WorkerNumber) -> [WorkUnit] {
        var poisoned: [WorkUnit] = []
        for lease in leases(of: worker) {
            remove(lease.id)
            history[lease.unit, default: History()].deaths += 1
            if lease.isAlone, isSuspect(lease.unit) { history[lease.unit]!.loneDeaths += 1 }
            if history[lease.unit]!.loneDeaths >= Self.poisonCount { poisoned.append(lease.unit) }
            reopen(lease.unit)
        }
        return poisoned
    }

    /// A worker gave a lease back.
    /// - Returns: whether the unit has failed too often.
    mutating func failed(_ id: UInt64, countsAgainstUnit: Bool) -> Bool {
        guard let lease = remove(id) else { return false }
        if countsAgainstUnit { history[lease.unit, default: History()].failures += 1 }
        reopen(lease.unit)
        return history[lease.unit]?.failures ?? 0 >= Self.failureCount
    }

    mutating func drop(_ id: UInt64) {
        guard let lease = remove(id) else { return }
        reopen(lease.unit)
    }

    private mutating func reopen(_ unit: WorkUnit) {
        if leaseCount(on: unit) == 0 { add(unit) }
    }
}
