// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

extension Coordinator {
    /// Makes the deployments those of `models`: starts, follows members, stops, and tells the workers.
    mutating func deploy(_ models: [UInt32], _ engine: WireEngineSettings, _ now: MonotonicInstant) {
        for id in deployments.keys.sorted() where !models.contains(id) { undeploy(id) }
        // What somebody missed while its connection was broken.
        for worker in liveWorkers {
            for id in members[worker]!.reports.keys.sorted() where !models.contains(id) { undeploy(id, on: worker) }
        }
        for id in models {
            guard let model = state.models[id] else { continue }
            var deployment = deployments[id] ?? begin(model, engine, now)
            var able = usedWorkers.filter { deployment.problems[$0] == nil }
            // What is in training stays where it is until the epoch's end: newcomers wait for that, leavers too.
            if let run = current?.training, run.model == id { able = run.members.filter { members[$0] != nil } }
            deployment.placement.routesFollowTargets = fault == .routesFollowTargets
            deployment.placement.replicas = replicas(id, engine)
            let isFrozen = current?.training?.model == id
            let leaving = isFrozen ? [] : Set(able.filter { members[$0]?.isDraining == true })
            let staying = able.filter { !leaving.contains($0) }
            deployment.placement.setMembers(
                able, leaving: leaving, rooms: rooms(model, models, engine, staying),
                assigns: !isFrozen && fits(models, engine, on: staying))
            for worker in able {
                let news = deployment.news(for: worker, &placementEpochs)
                if let deploy = news.deploy { send(to: members[worker]!.identity) { $0.deploy = deploy } }
                if let routes = news.routes { send(to: members[worker]!.identity) { $0.routes = routes } }
            }
            for worker in usedWorkers where deployment.problems[worker] != nil {
                guard let deploy = deployment.retry(worker, times, now, &placementEpochs) else { continue }
                send(to: members[worker]!.identity) { $0.deploy = deploy }
            }
            deployments[id] = deployment
        }
    }

    /// Why a worker takes no part in what runs: a model that it cannot load.
    func loadProblem(_ worker: WorkerNumber) -> String? {
        for (_, deployment) in deployments.sorted(by: { $0.key < $1.key }) {
            if let problem = deployment.problems[worker] {
                return "cannot load \(deployment.model.path): \(problem.reason)"
            }
        }
        return nil
    }

    /// Ends a deployment on every worker.
    mutating func undeploy(_ model: UInt32) {
        deployments[model] = nil
        undeployedEpochs[model] = placementEpochs.last
        for worker in liveWorkers { undeploy(model, on: worker) }
    }

    private mutating func undeploy(_ model: UInt32, on worker: WorkerNumber) {
        members[worker]?.reports[model] = nil
        send(to: members[worker]!.identity) { $0.undeploy.model = model }
    }

    /// A deployment that starts from what the workers hold already, as after a restart of the coordinator.
    private func begin(
        _ model: WireModelDescription, _ engine: WireEngineSettings, _ now: MonotonicInstant
    ) -> Deployment {
        var deployment = Deployment(model, engine, after: placementEpochs)
        for worker in liveWorkers {
            if let report = members[worker]?.reports[model.id] { deployment.note(report, of: worker, times, now) }
        }
        return deployment
    }

    /// Copies of a model's experts: what the operator last asked for, or the job.
    private func replicas(_ model: UInt32, _ engine: WireEngineSettings) -> Int {
        max(1, Int(state.replicas[model] ?? engine.replicas))
    }

    /// Whether `workers` together have the memory for `models`.
    func fits(_ models: [UInt32], _ engine: WireEngineSettings, on workers: [WorkerNumber]) -> Bool {
        shortfall(models, engine, on: workers) == nil
    }

    /// What a worker has for the job that runs: its own memory, or what the job may take of it.
    private func memory(of member: Member) -> UInt64 {
        let most = current.flatMap { state.jobs[$0.id] }?.admitted.memoryByteCountPerWorker ?? 0
        return most == 0 ? member.hello.memoryByteCount : min(most, member.hello.memoryByteCount)
    }

    /// A worker's least needs with a share of its even part of the experts; more cells of training at once where
    /// `memory` has room for them.
    private func plan(
        _ descriptions: [WireModelDescription], _ engine: WireEngineSettings, _ member: Member, of workerCount: Int,
        share: Double = 1, memory: UInt64 = 0
    ) -> MemoryPlan {
        MemoryPlan(
            descriptions, engine, workerCount: workerCount, threadCount: Int(member.hello.threadCount),
            replicas: state.replicas.mapValues(Int.init), share: share, memory: memory)
    }

    /// Cells of training that a member computes at once: as many as it has threads and, beside everything else, memory for.
    func laneCount(_ models: [UInt32], _ engine: WireEngineSettings, _ member: Member, of workerCount: Int) -> Int {
        plan(
            models.compactMap { state.models[$0] }, engine, member, of: workerCount, memory: memory(of: member)
        ).laneCount
    }

    /// Of the even share of experts, how much more or less `member` has memory for: 0 and up.
    private func capacity(
        _ descriptions: [WireModelDescription], _ engine: WireEngineSettings, _ member: Member, of workerCount: Int
    ) -> Double? {
        let fixed = plan(descriptions, engine, member, of: workerCount, share: 0).byteCount
        let even = plan(descriptions, engine, member, of: workerCount).byteCount
        guard memory(of: member) >= fixed else { return nil }
        return even == fixed ? .infinity : Double(memory(of: member) - fixed) / Double(even - fixed)
    }

    /// Nothing is placed on workers without memory for trunk and cache, as long as others have it: a small host that joins
    /// must not hold up what runs.
    /// - Returns: the workers that are used.
    mutating func leaveOutSmallWorkers(
        _ models: [UInt32], _ engine: WireEngineSettings, minimum: Int
    ) -> [WorkerNumber] {
        let workers = liveWorkers.filter { members[$0]?.cutOff == nil }
        let descriptions = models.compactMap { state.models[$0] }
        let roomy = workers.filter { worker in
            members[worker].map { capacity(descriptions, engine, $0, of: workers.count) != nil } ?? false
        }
        // With too few of them the job waits, and says for what.
        let used = roomy.count < minimum ? workers : roomy
        let isUsed = Set(used)
        for worker in workers where members[worker]?.hasNoRoom == isUsed.contains(worker) {
            members[worker]!.hasNoRoom.toggle()
            let name = members[worker]!.name
            log(
                members[worker]!.hasNoRoom
                    ? "\(name) is left out: \(shortfall(models, engine, on: [worker]) ?? "it has no room")"
                    : "\(name) is used again")
        }
        return used
    }

    /// Experts of `model` that each worker has memory for beside everything else; only where an even share is too much
    /// for somebody.
    private func rooms(
        _ model: WireModelDescription, _ models: [UInt32], _ engine: WireEngineSettings, _ workers: [WorkerNumber]
    ) -> [WorkerNumber: Int] {
        let descriptions = models.compactMap { state.models[$0] }
        let copies = min(replicas(model.id, engine), workers.count)
        let even = Double((Int(model.expertCount) * copies + workers.count - 1) / max(1, workers.count))
        var rooms: [WorkerNumber: Int] = [:]
        var isTight = false
        for worker in workers {
            guard let member = members[worker] else { continue }
            let capacity = capacity(descriptions, engine, member, of: workers.count) ?? 0
            if capacity < 1 { isTight = true }
            rooms[worker] = capacity * even < Double(model.expertCount) ? Int(capacity * even) : Int(model.expertCount)
        }
        return isTight ? rooms : [:]
    }

    /// What is missing, in words: a worker without room for its trunk and cache, or all of them for the experts.
    func shortfall(_ models: [UInt32], _ engine: WireEngineSettings, on workers: [WorkerNumber]) -> String? {
        let descriptions = models.compactMap { state.models[$0] }
        // A worker with much memory takes experts of one with little.
        let isShared = descriptions.allSatisfy { model in
            guard model.expertCount > 0 else { return true }
            let rooms = rooms(model, models, engine, workers)
            let copies = min(replicas(model.id, engine), workers.count)
            return rooms.isEmpty || rooms.values.reduce(0, +) >= Int(model.expertCount) * copies
        }
        for worker in workers {
            guard let member = members[worker] else { continue }
            let plan = plan(descriptions, engine, member, of: workers.count)
            if memory(of: member) >= plan.byteCount { continue }
            let hasRoom = capacity(descriptions, engine, member, of: workers.count) != nil
            if isShared, hasRoom, descriptions.contains(where: { $0.expertCount > 0 }) { continue }
            let isTraining = descriptions.contains(where: \.hasTraining)
            let limit = memory(of: member)
            let has = limit < member.hello.memoryByteCount ? "may give the job" : "has"
            return "\(member.name) \(has) \(gibibytes(limit)), its part needs "
                + "\(gibibytes(plan.byteCount)) with \(workers.count) worker\(workers.count == 1 ? "" : "s"): add "
                + "workers, lower resources.kv_cache_bytes\(isTraining ? ", cell_tokens or wave_cells" : " or replicas")"
                + ", or raise \(limit < member.hello.memoryByteCount ? "resources.memory_per_worker" : "the worker's --memory") "
                + "(apus plan shows the parts)"
        }
        return nil
    }

    /// Takes a report that came on its own. One that was on its way while its model was undeployed tells of what is gone.
    mutating func hear(_ report: WireShardReport, of number: WorkerNumber, _ now: MonotonicInstant) {
        if let deployment = deployments[report.model] {
            if deployment.isOwn(report) { note(report, of: number, now) }
        } else if report.epoch <= undeployedEpochs[report.model] ?? 0 {
            undeploy(report.model, on: number)
        } else {
            note(report, of: number, now)
        }
    }

    mutating func note(_ report: WireShardReport, of number: WorkerNumber, _ now: MonotonicInstant) {
        members[number]?.reports[report.model] = report
        guard deployments[report.model] != nil else { return }
        if !report.problem.isEmpty {
            log("\(members[number]?.name ?? "a worker") cannot load model \(report.model): \(report.problem)")
        }
        deployments[report.model]?.note(report, of: number, times, now)
        guard let deployment = deployments[report.model], let current, !report.problem.isEmpty,
            usedWorkers.allSatisfy({ deployment.problems[$0]?.count ?? 0 >= LoadProblem.countMax })
        else { return }
        end(current.id, "failed", "no worker can load \(deployment.model.path): \(report.problem)")
    }
}
