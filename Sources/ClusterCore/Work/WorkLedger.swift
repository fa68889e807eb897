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

    private(set) var open: Set<WorkUnit> = []
    private(set) var leases: [UInt64: Lease] = [:]
    private var history: [WorkUnit: History] = [:]

    mutating func add(_ unit: WorkUnit) { open.insert(unit) }

    /// Removes a unit for good, with its leases.
    /// - Returns: the leases that it had.
    mutating func close(_ unit: WorkUnit) -> [Lease] {
        open.remove(unit)
        history[unit] = nil
        let ended = leases.values.filter { $0.unit == unit }.sorted { $0.id < $1.id }
        for lease in ended { leases[lease.id] = nil }
        return ended
    }

    /// Progress on a unit clears its suspicion.
    mutating func noteProgress(_ unit: WorkUnit) {
        history[unit]?.deaths = 0
        history[unit]?.loneDeaths = 0
        history[unit]?.failures = 0
    }

    func leases(of worker: WorkerNumber) -> [Lease] {
        leases.values.filter { $0.worker == worker }.sorted { $0.id < $1.id }
    }

    func leases(on unit: WorkUnit) -> [Lease] { leases.values.filter { $0.unit == unit } }

    func isSuspect(_ unit: WorkUnit) -> Bool { history[unit]?.deaths ?? 0 >= Self.suspicionCount }

    mutating func grant(_ unit: WorkUnit, to worker: WorkerNumber, lease id: UInt64, now: MonotonicInstant) -> Lease {
        let isAlone = leases(of: worker).isEmpty
        open.remove(unit)
        history[unit, default: History()].attempts += 1
        let lease = Lease(
            id: id, unit: unit, worker: worker, attempt: history[unit]!.attempts, granted: now, isAlone: isAlone)
        leases[id] = lease
        return lease
    }

    /// Takes over a lease that an earlier coordinator granted, when its unit is still open.
    mutating func adopt(
        _ unit: WorkUnit, by worker: WorkerNumber, lease id: UInt64, attempt: UInt32, now: MonotonicInstant
    ) {
        guard open.remove(unit) != nil else { return }
        history[unit, default: History()].attempts = attempt
        leases[id] = Lease(id: id, unit: unit, worker: worker, attempt: attempt, granted: now, isAlone: false)
    }

    /// The worker of these leases died.
    /// - Returns: units that killed too many workers.
    mutating func workerDied(_ worker: WorkerNumber) -> [WorkUnit] {
        var poisoned: [WorkUnit] = []
        for lease in leases(of: worker) {
            leases[lease.id] = nil
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
        guard let lease = leases.removeValue(forKey: id) else { return false }
        if countsAgainstUnit { history[lease.unit, default: History()].failures += 1 }
        reopen(lease.unit)
        return history[lease.unit]?.failures ?? 0 >= Self.failureCount
    }

    mutating func drop(_ id: UInt64) {
        guard let lease = leases.removeValue(forKey: id) else { return }
        reopen(lease.unit)
    }

    private mutating func reopen(_ unit: WorkUnit) {
        if leases(on: unit).isEmpty { open.insert(unit) }
    }
}
