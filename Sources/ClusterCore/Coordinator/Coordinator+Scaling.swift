// SPDX-License-Identifier: Apache-2.0
//
// What an operator asks of a running cluster: workers that are to go, experts that are to have more copies. Frozen models
// follow at once, copying first; a model in training follows at the next step's boundary.
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

extension Coordinator {
    /// Workers that new work and new shards go to.
    var stayingWorkers: [WorkerNumber] { usedWorkers.filter { members[$0]?.isDraining == false } }

    private mutating func refuse(_ peer: PeerIdentity, _ envelope: WireEnvelope, _ code: Int32, _ text: String) {
        reply(to: peer, envelope) {
            $0.requestFailed = .with {
                $0.exitCode = code; $0.text = text
            }
        }
    }

    mutating func drain(_ drain: WireDrainWorker, _ peer: PeerIdentity, _ envelope: WireEnvelope) {
        guard let member = members[drain.worker] else {
            return refuse(peer, envelope, 2, "there is no worker \(drain.worker); see apus workers")
        }
        if !member.isDraining {
            let others = stayingWorkers.filter { $0 != drain.worker }
            if let job = current.flatMap({ state.jobs[$0.id] }) {
                guard !others.isEmpty else {
                    return refuse(
                        peer, envelope, 4,
                        "worker \(drain.worker) is the last one and job \(job.id) runs: start another first")
                }
                let models = Array(deployments.keys).sorted()
                if let text = shortfall(models, job.admitted.engine, on: others) {
                    return refuse(peer, envelope, 4, "without worker \(drain.worker) the job does not fit: \(text)")
                }
            }
            record(
                .with {
                    $0.drainBegun = .with {
                        $0.identity = member.identity.rawValue; $0.incarnation = member.incarnation
                    }
                })
            members[drain.worker]?.isDraining = true
            log("\(member.name) is drained on request")
        }
        reply(to: peer, envelope) { $0.done = WireDone() }
    }

    /// Tells drained workers to end once nobody needs them.
    mutating func releaseDrained() {
        for member in members.values.sorted(by: { $0.number < $1.number }) where member.isDraining {
            guard current?.ledger.leases(of: member.number).isEmpty ?? true, member.beat.leases.isEmpty else {
                continue
            }
            // With nobody left to take its part over, or nothing to do, there is nothing to wait for.
            let isNeeded =
                current?.training?.members.contains(member.number) == true
                || !deployments.values.allSatisfy { $0.placement.canLeave(member.number) }
            if isNeeded, current != nil, !stayingWorkers.isEmpty { continue }
            log("\(member.name) is drained")
            send(to: member.identity) { $0.stop.reason = "drained" }
            bury(member.number, "drained")
        }
    }

    mutating func scale(_ scale: WireScaleModel, _ peer: PeerIdentity, _ envelope: WireEnvelope) {
        let known = state.models.values.sorted { $0.id < $1.id }
        guard
            let model = known.last(where: { deployments[$0.id] != nil && $0.matches(scale.model) })
                ?? known.last(where: { $0.matches(scale.model) })
        else {
            let names = known.map { "\($0.id) (\($0.path))" }.joined(separator: ", ")
            return refuse(
                peer, envelope, 2, "there is no model '\(scale.model)'; models: \(names.isEmpty ? "none" : names)")
        }
        guard model.expertCount > 0 else {
            return refuse(peer, envelope, 2, "\(model.path) has no experts: every worker has all of it")
        }
        guard !model.isTrained else {
            return refuse(peer, envelope, 2, "\(model.path) is in training: each expert has one owner")
        }
        guard scale.replicas > 0 else { return refuse(peer, envelope, 2, "an expert has one holder at least") }
        let earlier = state.replicas[model.id]
        record(
            .with {
                $0.modelScaled = .with {
                    $0.model = model.id; $0.replicas = scale.replicas
                }
            })
        if let engine = deployments[model.id]?.engine,
            let text = shortfall(deployments.keys.sorted(), engine, on: stayingWorkers)
        {
            record(
                .with {
                    $0.modelScaled = .with {
                        $0.model = model.id; $0.replicas = earlier ?? engine.replicas
                    }
                })
            return refuse(peer, envelope, 4, "no room for the copies: \(text)")
        }
        log(
            "\(model.path): \(scale.replicas == .max ? "all workers hold" : "\(scale.replicas) workers hold") each expert"
        )
        reply(to: peer, envelope) { $0.done = WireDone() }
    }
}

extension WireModelDescription {
    /// Whether an operator means this model: its number, its path or the path's last part.
    fileprivate func matches(_ text: String) -> Bool {
        text == String(id) || text == path || path.hasSuffix("/" + text)
    }
}
