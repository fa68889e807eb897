// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ClusterTransport
internal import SwiftProtobuf

extension Coordinator {
    /// Makes the deployments those of `models`: starts, follows members, stops, and tells the workers.
    mutating func deploy(_ models: [UInt32], _ engine: WireEngineSettings) {
        for id in deployments.keys.sorted() where !models.contains(id) {
            deployments[id] = nil
            for worker in liveWorkers {
                members[worker]?.reports[id] = nil
                send(to: members[worker]!.identity) { $0.undeploy.model = id }
            }
        }
        for id in models {
            guard let model = state.models[id] else { continue }
            var deployment = deployments[id] ?? begin(model, engine)
            let able = liveWorkers.filter { deployment.problems[$0] == nil }
            deployment.placement.routesFollowTargets = fault == .routesFollowTargets
            deployment.placement.setMembers(able, assigns: fits(models, engine, on: able))
            for worker in able {
                let news = deployment.news(for: worker)
                if let deploy = news.deploy { send(to: members[worker]!.identity) { $0.deploy = deploy } }
                if let routes = news.routes { send(to: members[worker]!.identity) { $0.routes = routes } }
            }
            deployments[id] = deployment
        }
    }

    /// A deployment that starts from what the workers hold already, as after a restart of the coordinator.
    private func begin(_ model: WireModelDescription, _ engine: WireEngineSettings) -> Deployment {
        var deployment = Deployment(model, engine, coordinatorEpoch: state.epoch)
        for worker in liveWorkers {
            if let report = members[worker]?.reports[model.id] { deployment.note(report, of: worker) }
        }
        return deployment
    }

    /// Whether every one of `workers` has the memory for its part of `models`.
    func fits(_ models: [UInt32], _ engine: WireEngineSettings, on workers: [WorkerNumber]) -> Bool {
        shortfall(models, engine, on: workers) == nil
    }

    /// The first worker whose memory is too small, in words.
    func shortfall(_ models: [UInt32], _ engine: WireEngineSettings, on workers: [WorkerNumber]) -> String? {
        let descriptions = models.compactMap { state.models[$0] }
        for worker in workers {
            guard let member = members[worker] else { continue }
            let plan = MemoryPlan(
                descriptions, engine, workerCount: workers.count, threadCount: Int(member.hello.threadCount))
            if member.hello.memoryByteCount >= plan.byteCount { continue }
            let isTraining = descriptions.contains(where: \.hasTraining)
            return "\(member.name) has \(gibibytes(member.hello.memoryByteCount)), its part needs "
                + "\(gibibytes(plan.byteCount)) with \(workers.count) worker\(workers.count == 1 ? "" : "s"): add "
                + "workers, lower resources.kv_cache_bytes\(isTraining ? ", cell_tokens or wave_cells" : " or replicas")"
                + ", or raise the worker's --memory (apus plan shows the parts)"
        }
        return nil
    }

    mutating func note(_ report: WireShardReport, of number: WorkerNumber) {
        members[number]?.reports[report.model] = report
        guard deployments[report.model] != nil else { return }
        if !report.problem.isEmpty {
            log("\(members[number]?.name ?? "a worker") cannot load model \(report.model): \(report.problem)")
        }
        deployments[report.model]?.note(report, of: number)
        guard let deployment = deployments[report.model], let current,
            !liveWorkers.isEmpty, liveWorkers.allSatisfy({ deployment.problems[$0] != nil })
        else { return }
        end(current.id, "failed", "no worker can load \(deployment.model.path): \(report.problem)")
    }
}
