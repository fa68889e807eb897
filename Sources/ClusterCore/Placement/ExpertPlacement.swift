// SPDX-License-Identifier: Apache-2.0

/// Number of a worker process: a new one for each incarnation.
package typealias WorkerNumber = UInt32

/// Which worker should hold, and which does hold, each expert of one model (in every layer alike).
///
/// Workers are told a target; they report what they hold. Routes follow what is held, so a move copies first and
/// switches when the copy is there; what is no longer wanted goes once every expert has its wanted holders.
package struct ExpertPlacement: Equatable, Sendable {
    package let expertCount: Int
    /// Copies of each expert, on as many workers.
    package var replicas: Int
    /// Grows whenever the routes change.
    package private(set) var epoch: UInt64 = 0
    /// Experts that each worker should hold in the end, ascending.
    package private(set) var targets: [WorkerNumber: [Int]] = [:]
    /// Experts that each worker said it holds.
    package private(set) var held: [WorkerNumber: Set<Int>] = [:]
    private var published: [[WorkerNumber]] = []
    /// A planted fault; false in every process.
    var routesFollowTargets = false

    package init(expertCount: Int, replicas: Int) {
        self.expertCount = expertCount
        self.replicas = max(1, replicas)
    }

    /// Sets who takes part and keeps what is where as far as balance allows.
    /// - Parameters:
    ///   - leaving: members that give up what they hold, once others hold it.
    ///   - rooms: experts that a worker has memory for at most; no entry: any number.
    ///   - assigns: whether experts of workers that left go to the others; without it they wait for a replacement.
    package mutating func setMembers(
        _ members: [WorkerNumber], leaving: Set<WorkerNumber> = [], rooms: [WorkerNumber: Int] = [:],
        assigns: Bool = true
    ) {
        let workers = members.sorted()
        let staying = workers.filter { !leaving.contains($0) }
        targets = targets.filter { workers.contains($0.key) }
        held = held.filter { workers.contains($0.key) }
        if !staying.isEmpty, assigns {
            assign(to: staying, rooms)
            for worker in workers where leaving.contains(worker) { targets[worker] = [] }
        }
        refresh()
    }

    /// Whether `worker` is free to go: nobody needs what it holds.
    package func canLeave(_ worker: WorkerNumber) -> Bool {
        expertCount == 0 || ((targets[worker] ?? []).isEmpty && isSettled)
    }

    /// Notes what a worker holds; it counts once the worker is a member.
    package mutating func report(_ worker: WorkerNumber, holds experts: some Sequence<Int>) {
        held[worker] = Set(experts.filter { (0..<expertCount).contains($0) })
        refresh()
    }

    /// Holders of each expert; those meant to hold it come first.
    package var routes: [[WorkerNumber]] { published }

    /// Whether every expert has a holder.
    package var isComplete: Bool { !targets.isEmpty && published.allSatisfy { !$0.isEmpty } }

    /// Whether every worker holds all that it should.
    package var isSettled: Bool {
        isComplete && targets.allSatisfy { held[$0.key, default: []].isSuperset(of: $0.value) }
    }

    /// What `worker` should hold now: its target and, until everything has settled, what it already has.
    package func wanted(_ worker: WorkerNumber) -> [Int] {
        let target = targets[worker] ?? []
        if isSettled { return target }
        return Set(target).union(held[worker] ?? []).sorted()
    }

    /// Even shares, which differ by one at most; who has no room for its share leaves the rest to the others.
    private func quotas(_ workers: [WorkerNumber], _ total: Int, _ rooms: [WorkerNumber: Int]) -> [WorkerNumber: Int] {
        var quotas: [WorkerNumber: Int] = [:]
        var (open, left) = (workers, total)
        while let full = open.first(where: { (rooms[$0] ?? expertCount) * open.count < left }) {
            quotas[full] = rooms[full]
            left -= rooms[full] ?? 0
            open.removeAll { $0 == full }
        }
        for (index, worker) in open.enumerated() {
            quotas[worker] = left * (index + 1) / open.count - left * index / open.count
        }
        return quotas
    }

    private mutating func assign(to workers: [WorkerNumber], _ rooms: [WorkerNumber: Int]) {
        let copies = min(replicas, workers.count)
        let quota = quotas(workers, expertCount * copies, rooms)
        var sets: [WorkerNumber: Set<Int>] = [:]
        var copiesOf = [Int](repeating: 0, count: expertCount)
        for worker in workers {
            let present = Set(targets[worker] ?? []).union(held[worker] ?? []).sorted()
            let kept = present.filter { copiesOf[$0] < copies }.prefix(quota[worker] ?? 0)
            sets[worker] = Set(kept)
            for expert in kept { copiesOf[expert] += 1 }
        }
        // Experts without enough copies go, in order, to the worker at hand while it has room: runs stay together, so
        // a token's experts at one owner fall into few subtrees.
        for _ in 0..<copies {
            var at = 0
            for expert in 0..<expertCount where copiesOf[expert] < copies {
                let open = workers.indices.map { (at + $0) % workers.count }.first {
                    sets[workers[$0], default: []].count < quota[workers[$0]] ?? 0
                        && !sets[workers[$0], default: []].contains(expert)
                }
                // A worker may have room only for experts it already has; then any other takes one more.
                let chosen =
                    open
                    ?? workers.indices.filter { !sets[workers[$0], default: []].contains(expert) }
                    .min { sets[workers[$0], default: []].count < sets[workers[$1], default: []].count }
                guard let chosen else { continue }
                sets[workers[chosen], default: []].insert(expert)
                copiesOf[expert] += 1
                at = chosen
            }
        }
        targets = sets.mapValues { $0.sorted() }
    }

    private mutating func refresh() {
        let workers = targets.keys.sorted()
        let isSettled = targets.allSatisfy { held[$0.key, default: []].isSuperset(of: $0.value) }
        let now = (0..<expertCount).map { expert -> [WorkerNumber] in
            let meantTo = workers.filter { (targets[$0] ?? []).contains(expert) }
            if routesFollowTargets { return meantTo }
            let holders = workers.filter { held[$0, default: []].contains(expert) }
            let meant = holders.filter(meantTo.contains)
            // Once all is where it should be, nobody asks for what is about to be dropped.
            return isSettled ? meant : meant + holders.filter { !meant.contains($0) }
        }
        if now != published {
            published = now
            epoch += 1
        }
    }
}

/// Writes ascending numbers as ranges: `0-31,64-95`.
package func rangeText(_ numbers: some Sequence<Int>) -> String {
    var parts: [(Int, Int)] = []
    for number in numbers {
        if let last = parts.last, last.1 + 1 == number {
            parts[parts.count - 1].1 = number
        } else {
            parts.append((number, number))
        }
    }
    return parts.map { $0 == $1 ? "\($0)" : "\($0)-\($1)" }.joined(separator: ",")
}
