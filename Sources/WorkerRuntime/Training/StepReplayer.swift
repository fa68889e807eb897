// SPDX-License-Identifier: Apache-2.0
//
// Takes a recorded training step again: the worker's own code, as the only member of an epoch, with every expert here.
package import Checkpoints
internal import ClusterCore
package import ClusterProtocol
internal import ClusterTransport
internal import ExpertParallel
package import Foundation
internal import Qwen3
package import RuntimeSupport
internal import SwiftProtobuf
package import Tensors

/// A training run's step in this process alone.
package final class StepReplayer {
    /// A model of the step and the compute type it runs in.
    package struct Model {
        package let checkpoint: Checkpoint
        package let compute: ComputeType

        package init(_ checkpoint: Checkpoint, _ compute: ComputeType) {
            self.checkpoint = checkpoint
            self.compute = compute
        }
    }

    /// What the step came to here.
    package struct Outcome {
        package let prepared: WireStepPrepared
        package let digest: Data
    }

    /// No number that a coordinator gives.
    private static let policyID = UInt32.max
    private let pool: ComputePool

    package init(threads: Int) { pool = ComputePool(threadCount: threads) }

    /// - Parameters:
    ///   - guides: teachers or reference of the step, by the number that its cells know them by.
    ///   - resumes: whether the moments of `policy` are those that the step started from.
    /// - Throws: one line about a checkpoint, the memory or the step.
    package func run(
        _ replay: WireStepReplay, policy: Model, guides: [UInt32: Model], resumes: Bool
    ) throws -> Outcome {
        let port = ExchangePort()
        let network = InMemoryNetwork()
        let transport = InMemoryTransport(
            identity: PeerIdentity("verify"), network: network,
            deliveries: ChannelDeliveries(
                control: .direct { _ in }, exchange: port.delivery, bulk: .direct { _ in }))
        port.attach(transport)
        defer {
            transport.close()
            port.detach()
            network.close()
        }
        let environment = WorkerEnvironment(
            pool: pool, port: port, shards: ExpertShardStore(), routing: ExpertRouting())
        let answers = Locked<[WireEnvelope]>([])
        let host = TrainingHost(environment) { answer in answers.withLock { $0.append(answer) } }
        func answer() throws -> WireEnvelope {
            guard let last = answers.withLock({ $0.popLast() }) else { throw WorkerError("the step gave no answer") }
            if case .trainFailed(let failed)? = last.body { throw WorkerError(failed.reason) }
            return last
        }
        let model = try load(policy, Self.policyID, environment, transport.identity)
        let frozen = try guides.reduce(into: [UInt32: ModelHost]()) {
            $0[$1.key] = try load($1.value, $1.key, environment, transport.identity)
        }
        let experts = Array(0..<policy.checkpoint.configuration.expertCount)
        host.begin(
            .with {
                $0.model = Self.policyID
                $0.epoch = 1
                $0.version = replay.prepared.version
                $0.snapshot = policy.checkpoint.directory.path
                $0.members = [transport.identity.rawValue]
                $0.experts = experts.map(UInt32.init)
                $0.resumes = resumes
            }, model)
        _ = try answer()
        var cells: [WireTrainCell] = []
        for message in replay.messages {
            switch message.body {
            case .trainCells(let some): cells += some.cells
            case .trainStep(let step): host.step(step, cells) { frozen[$0] }
            default: break
            }
        }
        let sealed = try answer().stepSealed
        if !sealed.notFinite.isEmpty { throw WorkerError("the gradient of \(sealed.notFinite) is not finite") }
        host.apply(replay.apply)
        let applied = try answer().stepApplied
        let recorded = replay.prepared
        var prepared = StepReduction.prepared(
            [sealed], clipNorm: nil, learningRate: recorded.learningRate, report: recorded.report,
            isSkipped: recorded.skipped, job: recorded.job, version: recorded.version)
        // The clip factor is a function of the norm, which is compared.
        prepared.gradientScale = recorded.gradientScale
        return Outcome(prepared: prepared, digest: StepReduction.digest([(applied, experts)]))
    }

    private func load(
        _ model: Model, _ id: UInt32, _ environment: WorkerEnvironment, _ identity: PeerIdentity
    ) throws -> ModelHost {
        let configuration = model.checkpoint.configuration
        let deploy = WireDeploy.with {
            $0.model = .with {
                $0.id = id
                $0.path = model.checkpoint.directory.path
                $0.compute = model.compute.rawValue
            }
            // Nothing is generated.
            $0.engine = .with {
                $0.pageSize = 16
                $0.cacheByteCount = 1
                $0.batchTokensMax = 16
                $0.sequencesMax = 1
            }
        }
        let loader = WeightLoader(model.checkpoint, compute: model.compute, pool: environment.pool)
        for layer in 0..<configuration.layerCount where configuration.isMoELayer(layer) {
            environment.shards.add(
                model: id, policyVersion: 0, shape: ExpertShape(configuration, model.compute),
                layers: [layer: try loader.experts(layer: layer, owned: 0..<configuration.expertCount).experts])
        }
        environment.routing.update(
            model: id,
            ExpertRouteTable(
                epoch: 1, holders: Array(repeating: [identity], count: configuration.expertCount), requester: identity,
                requesterIndex: 0))
        return try ModelHost(deploy, checkpoint: model.checkpoint, environment: environment)
    }
}
