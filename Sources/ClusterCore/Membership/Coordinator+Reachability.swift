// SPDX-License-Identifier: Apache-2.0
//
// Workers that the coordinator hears and that do not hear each other, and waits of one worker for another that do not end.
// Both are said, and somebody acts: where workers need each other, the job goes on without one of them.
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

/// Two workers, the one that joined first before the other.
struct WorkerPair: Hashable, Comparable, Sendable {
    let first: WorkerNumber
    let second: WorkerNumber

    init(_ a: WorkerNumber, _ b: WorkerNumber) {
        first = min(a, b)
        second = max(a, b)
    }

    func contains(_ worker: WorkerNumber) -> Bool { first == worker || second == worker }

    static func < (a: Self, b: Self) -> Bool { (a.first, a.second) < (b.first, b.second) }
}

extension Coordinator {
    /// In words, with what a person has to look at.
    func text(_ pair: WorkerPair) -> String {
        guard let a = members[pair.first], let b = members[pair.second] else { return "" }
        return "\(a.name) and \(b.name) cannot reach each other: is there a firewall between "
            + "\(a.hello.endpoints.exchange) and \(b.hello.endpoints.exchange)?"
    }

    /// Names workers that have no connection to each other and, after a while, leaves some of them out of a job that needs
    /// all connections.
    mutating func checkReachability(_ now: MonotonicInstant) {
        var since: [WorkerPair: UInt64] = [:]
        for member in members.values {
            for peer in member.beat.unreachable where peer.milliseconds >= times.unreachable {
                guard let other = number(of: PeerIdentity(peer.peer)), other != member.number else { continue }
                let pair = WorkerPair(member.number, other)
                since[pair] = max(since[pair] ?? 0, peer.milliseconds)
            }
        }
        let nowApart = Set(since.keys)
        for pair in nowApart.subtracting(apart).sorted().prefix(5) { log(text(pair)) }
        for pair in apart.subtracting(nowApart).sorted() where members[pair.first] != nil && members[pair.second] != nil
        {
            log("worker \(pair.first) and worker \(pair.second) reach each other again")
        }
        apart = nowApart
        leaveOut(Set(since.filter { $0.value >= times.cutOff }.keys), now)
    }

    /// Whether the workers of the job that runs send each other experts or gradients.
    private var needsConnections: Bool {
        guard let job = current.flatMap({ state.jobs[$0.id] }) else { return false }
        return job.isTraining || job.models.contains { state.models[$0]?.expertCount ?? 0 > 0 }
    }

    /// Leaves workers out until no two of the others are apart: who is out already, then whoever lacks most, then the one
    /// that joined last.
    private mutating func leaveOut(_ pairs: Set<WorkerPair>, _ now: MonotonicInstant) {
        var open = needsConnections ? pairs : []
        let before = members.values.filter { $0.cutOff != nil }.map(\.number).sorted()
        var left: [WorkerNumber: String] = [:]
        func leave(_ worker: WorkerNumber) {
            let others = open.filter { $0.contains(worker) }.map { $0.first == worker ? $0.second : $0.first }.sorted()
            left[worker] = "\(members[worker]!.name) is left out: it cannot reach \(names(others))"
            open = open.filter { !$0.contains(worker) }
        }
        for worker in before where open.contains(where: { $0.contains(worker) }) { leave(worker) }
        while !open.isEmpty {
            var counts: [WorkerNumber: Int] = [:]
            for pair in open {
                counts[pair.first, default: 0] += 1
                counts[pair.second, default: 0] += 1
            }
            leave(counts.max { ($0.value, $0.key) < ($1.value, $1.key) }!.key)
        }
        for number in members.keys.sorted() where members[number]?.cutOff != left[number] {
            let isNew = members[number]?.cutOff == nil
            members[number]?.cutOff = left[number]
            guard let reason = left[number] else {
                log("\(members[number]!.name) is used again")
                continue
            }
            guard isNew else { continue }
            log(reason)
            for lease in current?.ledger.leases(of: number) ?? [] {
                current?.ledger.drop(lease.id)
                send(to: members[number]!.identity) { $0.withdraw.lease = lease.id }
            }
            if current?.training?.members.contains(number) == true { endEpoch(reason, now) }
        }
    }

    /// Ends waits that cannot end by themselves: an answer that does not come, members of a training epoch that all wait.
    mutating func endLongWaits(_ now: MonotonicInstant) {
        // What somebody was ended for may show in beats for a while.
        if let waitsCheckedAt, now.milliseconds(since: waitsCheckedAt) < times.answer { return }
        var waiters: [WorkerNumber: [WorkerNumber]] = [:]
        var reasons: [WorkerNumber: String] = [:]
        for member in members.values.sorted(by: { $0.number < $1.number }) where !member.isLeftOut {
            for wait in member.beat.waits where wait.isAnswer && wait.milliseconds > times.answer {
                guard let peer = number(of: PeerIdentity(wait.peer)), peer != member.number,
                    !apart.contains(WorkerPair(peer, member.number))
                else { continue }
                waiters[peer, default: []].append(member.number)
                reasons[peer] = wait.reason
            }
        }
        // The one that most others wait for; of two, who waits for nobody itself, or who joined last.
        let fault = waiters.max {
            ($0.value.count, waiters.values.flatMap(\.self).contains($0.key) ? 0 : 1, $0.key)
                < ($1.value.count, waiters.values.flatMap(\.self).contains($1.key) ? 0 : 1, $1.key)
        }
        if let fault {
            waitsCheckedAt = now
            return bury(
                fault.key,
                "\(names(fault.value)) waited more than \(times.answer / 1000) s for it (\(reasons[fault.key] ?? ""))")
        }
        guard let run = current?.training, !run.owing.isEmpty else { return }
        let waits = run.owing.map { worker in
            members[worker]?.beat.waits.filter { $0.milliseconds > times.answer } ?? []
        }
        guard waits.allSatisfy({ !$0.isEmpty }) else { return }
        let texts = zip(run.owing, waits).map { worker, waits in
            let peers = waits.compactMap { number(of: PeerIdentity($0.peer)) }
            return "worker \(worker) waits for \(names(peers)) \(waits[0].reason)"
        }
        waitsCheckedAt = now
        restartTraining("nobody gets on: \(texts.joined(separator: "; "))", now)
    }
}
