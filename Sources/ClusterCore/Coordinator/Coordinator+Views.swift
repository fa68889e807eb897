// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
package import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

extension Coordinator {
    /// The workers that are told when the coordinator stops.
    package var workerIdentities: [PeerIdentity] { members.values.map(\.identity).sorted() }

    /// The job at the head of the queue, once it has started.
    package var runningJob: UInt64? { current?.id }

    /// The key of a member; nil when it is none.
    package func identity(of worker: WorkerNumber) -> PeerIdentity? { members[worker]?.identity }

    /// The incarnation of a member; nil when it is none.
    package func incarnation(of worker: WorkerNumber) -> UInt64? { members[worker]?.incarnation }

    /// The incarnation of the member with this key; 0 when there is none.
    package func incarnation(of peer: PeerIdentity) -> UInt64 {
        members.values.first { $0.identity == peer }?.incarnation ?? 0
    }

    func jobList(_ request: WireListJobs, _ now: MonotonicInstant) -> WireJobList {
        .with {
            $0.jobs = state.jobs.values.filter { request.job == 0 || $0.id == request.job }.sorted { $0.id < $1.id }
                .map { view($0, now) }
        }
    }

    func view(_ job: JobRecord, _ now: MonotonicInstant) -> WireJobView {
        if let summary = job.summary { return summary }
        return .with {
            $0.id = job.id
            $0.name = job.admitted.name
            $0.kind = job.admitted.kind
            $0.problem = job.ended?.problem ?? ""
            $0.output = job.admitted.output
            $0.groupCount = job.admitted.groupCount
            $0.groupsDone = UInt32(job.doneGroupCount)
            $0.groupsFailed = UInt32(job.failedGroups.count)
            $0.sequencesDone = UInt64(job.rollouts.count)
            $0.sequenceCount = job.hasRollouts ? UInt64(job.groupCount * job.groupSize) : 0
            $0.scoresDone = UInt64(job.scores.count)
            $0.scoreCount = job.hasScores ? UInt64(job.groupCount * job.groupSize) : 0
            $0.tokenCount = job.tokenCount
            $0.sequencesGranted = grantedCounts[job.id] ?? 0
            $0.rewardSum = job.rewardSum
            $0.rewardCount = job.rewardCount
            if job.isTraining {
                $0.step = UInt32(job.committed.count)
                $0.stepCount = job.admitted.stepCount
                if let last = job.prepared[UInt64(max(0, job.committed.count - 1))] { $0.lastStep = last }
            }
            guard job.ended == nil else { return $0.status = job.ended!.status }
            $0.notes = job.lostSnapshots.map {
                "the checkpoint of step \($0.version) could not be used, training went on from the one before: "
                    + $0.reason
            }
            if current?.id == job.id { $0.notes += notes() }
            guard let current, current.id == job.id else {
                $0.status = "queued"
                $0.waitingFor = queueReason(job)
                $0.waitingMilliseconds = self.current?.waiting.map { now.milliseconds(since: $0.since) } ?? 0
                return
            }
            $0.status = current.isFinishing ? "finishing" : "running"
            guard let waiting = current.waiting else { return }
            $0.waitingFor = waiting.text
            $0.waitingMilliseconds = now.milliseconds(since: waiting.since)
        }
    }

    /// What a queued job waits for: the job that runs, and what that one itself waits for.
    private func queueReason(_ job: JobRecord) -> String {
        guard let current else { return "the coordinator to start it" }
        let between = queue.count { $0.id < job.id && $0.id != current.id }
        let others = between == 0 ? "" : " and \(between) more job\(between == 1 ? "" : "s") before it"
        let reason = current.waiting.map { "; job \(current.id) waits for \($0.text)" } ?? ""
        return "job \(current.id)\(others) to end\(reason)"
    }

    /// What a person should know of the workers while a job runs, beside what it waits for.
    private func notes() -> [String] {
        apart.sorted().prefix(5).map(text)
            + members.values.sorted { $0.number < $1.number }.flatMap { member in
                [
                    member.cutOff,
                    loadProblem(member.number).map { "\(member.name) is left aside and tries again: it \($0)" },
                ]
                .compactMap(\.self)
            }
    }

    private func problem(of member: Member) -> String {
        let pairs = apart.sorted().filter { $0.contains(member.number) }.map(text)
        return (pairs + [loadProblem(member.number).map { "it " + $0 }].compactMap(\.self)).joined(separator: "; ")
    }

    func workerList(_ now: MonotonicInstant) -> WireWorkerList {
        .with {
            $0.epoch = state.epoch
            let loads = expertLoads()
            $0.expertLoads = loads.sorted { $0.key < $1.key }.map { model, rows in
                .with {
                    $0.model = model; $0.rows = rows
                }
            }
            $0.workers = members.values.sorted { $0.number < $1.number }.map { view($0, loads, now) }
        }
    }

    /// Rows routed to each expert, by model, as the workers have counted them.
    private func expertLoads() -> [UInt32: [UInt64]] {
        var loads: [UInt32: [UInt64]] = [:]
        for load in members.values.flatMap(\.beat.expertLoads) {
            guard let deployment = deployments[load.model], load.rows.count == Int(deployment.model.expertCount) else {
                continue
            }
            let sums = loads[load.model] ?? [UInt64](repeating: 0, count: load.rows.count)
            loads[load.model] = zip(sums, load.rows).map { $0 &+ $1 }
        }
        return loads
    }

    /// The part of a model's rows that go to what `worker` holds; copies of an expert share its rows.
    private func loadShare(_ deployment: Deployment, _ worker: WorkerNumber, _ rows: [UInt64]) -> Double {
        let total = rows.reduce(0.0) { $0 + Double($1) }
        guard total > 0 else { return 0 }
        let routes = deployment.placement.routes
        let mine = rows.indices.reduce(0.0) { sum, expert in
            routes[expert].contains(worker) ? sum + Double(rows[expert]) / Double(routes[expert].count) : sum
        }
        return mine / total
    }

    private func view(_ member: Member, _ loads: [UInt32: [UInt64]], _ now: MonotonicInstant) -> WireWorkerView {
        .with {
            $0.id = member.number
            $0.host = member.hello.host
            $0.processID = member.hello.processID
            $0.identity = member.identity.rawValue
            $0.status =
                member.lostUntil != nil
                ? "lost" : member.isDraining ? "draining" : member.isLeftOut ? "left out" : "live"
            $0.problem = problem(of: member)
            $0.activity = member.beat.activity
            $0.waitingFor = member.beat.waitingFor
            $0.waitingMilliseconds = member.beat.waitingMilliseconds
            $0.counters = member.beat.counters
            $0.memoryByteCount = member.hello.memoryByteCount
            $0.leaseCount = UInt32(current?.ledger.leases(of: member.number).count ?? 0)
            $0.silentMilliseconds = now.milliseconds(since: member.lastHeard)
            $0.shards = deployments.values.sorted { $0.model.id < $1.model.id }.map { deployment in
                .with {
                    $0.model = deployment.model.id
                    $0.name = deployment.model.path
                    $0.isTrunkReady = deployment.trunkReady.contains(member.number)
                    $0.openedExperts = rangeText(deployment.opened[member.number] ?? [])
                    $0.loadShare = loads[deployment.model.id].map { loadShare(deployment, member.number, $0) } ?? 0
                    $0.experts = rangeText(deployment.placement.held[member.number, default: []].sorted())
                }
            }
        }
    }
}
