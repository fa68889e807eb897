// SPDX-License-Identifier: Apache-2.0
//
// Brings what the coordinator wants here, on a thread of its own: generation goes on meanwhile. Only the newest wish
// per model counts; between two layers the loader looks whether there is a newer one.
internal import Checkpoints
internal import ClusterProtocol
internal import ExpertParallel
internal import Foundation
internal import Qwen3
internal import RuntimeSupport
internal import SwiftProtobuf
internal import Tensors

/// Loads and drops trunks and experts.
final class ShardLoader: Sendable {
    /// What the rest of the worker hears.
    struct Handlers: Sendable {
        var onHost: @Sendable (ModelHost) -> Void
        var onDrop: @Sendable (UInt32) -> Void
        var onReport: @Sendable (WireShardReport) -> Void
        var onLog: @Sendable (String) -> Void
    }

    private enum Wish: Sendable {
        case hold(WireDeploy)
        case drop(UInt32)
    }

    private struct Model {
        var checkpoint: Checkpoint
        var hasTrunk = false
        var experts: Set<Int> = []
        var version: UInt64
    }

    private let environment: WorkerEnvironment
    private let handlers: Handlers
    private let wishes = BoundedQueue<Wish>(itemCountMax: 1 << 20, byteCountMax: 1 << 40)
    /// Epoch of the newest deploy of each model.
    private let newest = Locked<[UInt32: UInt64]>([:])
    /// What is being loaded, for the beat; nil when nothing is.
    let activity = Locked<String?>(nil)

    init(_ environment: WorkerEnvironment, _ handlers: Handlers) {
        self.environment = environment
        self.handlers = handlers
        _ = DedicatedThread.start(name: "shard-loader") { [self] in run() }
    }

    func hold(_ deploy: WireDeploy) {
        newest.withLock { $0[deploy.model.id] = deploy.epoch }
        _ = wishes.tryPush(.hold(deploy))
    }

    func drop(_ model: UInt32) {
        newest.withLock { $0[model] = .max }
        _ = wishes.tryPush(.drop(model))
    }

    private func isOutdated(_ deploy: WireDeploy) -> Bool { newest.withLock { $0[deploy.model.id] != deploy.epoch } }

    private func run() {
        var models: [UInt32: Model] = [:]
        while let wish = wishes.pop() {
            switch wish {
            case .drop(let id):
                if models.removeValue(forKey: id) != nil {
                    handlers.onDrop(id)
                    environment.shards.remove(model: id)
                }
            case .hold(let deploy):
                if isOutdated(deploy) { continue }
                do { try fulfil(deploy, &models) } catch {
                    report(deploy, models[deploy.model.id], problem: String(describing: error))
                }
                activity.withLock { $0 = nil }
            }
        }
    }

    private func fulfil(_ deploy: WireDeploy, _ models: inout [UInt32: Model]) throws {
        let id = deploy.model.id
        var model = try models[id] ?? open(deploy)
        models[id] = model
        let wanted = Set(deploy.experts.map(Int.init))
        let surplus = model.experts.subtracting(wanted)
        if !surplus.isEmpty {
            // Training gives versions of its own to what was loaded.
            environment.shards.remove(model: id, experts: surplus.sorted())
            model.experts.subtract(surplus)
            models[id] = model
        }
        let missing = wanted.subtracting(model.experts).sorted()
        // Experts first: peers may be waiting for them, while a trunk only serves this worker.
        if !missing.isEmpty, try load(missing, of: deploy, model.checkpoint) {
            model.experts.formUnion(missing)
            models[id] = model
            report(deploy, model)
        }
        if !model.hasTrunk, !isOutdated(deploy) {
            activity.withLock { $0 = "loading the trunk of \(deploy.model.path)" }
            let host = try ModelHost(deploy, checkpoint: model.checkpoint, environment: environment)
            model.checkpoint.dropPages()
            model.hasTrunk = true
            models[id] = model
            handlers.onHost(host)
        }
        report(deploy, model)
    }

    /// Whether this is the directory that the coordinator made for a job, not an empty namesake.
    static func seesOutput(_ path: String) -> Bool {
        RunDirectory(URL(fileURLWithPath: path, isDirectory: true)).status != nil
    }

    private func open(_ deploy: WireDeploy) throws -> Model {
        let output = deploy.model.output
        guard output.isEmpty || Self.seesOutput(output) else {
            throw WorkerError("the job's output \(output) is not seen here; it must be on a file system of all hosts")
        }
        let directory = URL(fileURLWithPath: deploy.model.path, isDirectory: true)
        let original = deploy.model.originalContext == 0 ? nil : Int(deploy.model.originalContext)
        let configuration =
            deploy.model.yarnFactor == 0
            ? nil
            : try Qwen3Configuration(directory: directory).extended(
                yarnFactor: deploy.model.yarnFactor, original: original)
        let checkpoint = try Checkpoint(
            directory: directory, configuration: configuration,
            freshHeadSeed: deploy.model.hasFreshHeadSeed ? deploy.model.freshHeadSeed : nil)
        let identity = try checkpoint.identity(withTrainingState: deploy.model.isTrained).hexadecimal
        guard identity == deploy.model.contentHash else {
            throw WorkerError(
                "\(deploy.model.path) is another checkpoint here than at the coordinator; copy the same files to every host"
            )
        }
        return Model(checkpoint: checkpoint, version: deploy.model.policyVersion)
    }

    /// - Returns: false when a newer wish came in between; what was loaded is dropped again.
    private func load(_ experts: [Int], of deploy: WireDeploy, _ checkpoint: Checkpoint) throws -> Bool {
        guard let compute = ComputeType(rawValue: deploy.model.compute) else {
            throw WorkerError("compute type '\(deploy.model.compute)' is unknown to this version")
        }
        let configuration = checkpoint.configuration
        let loader = WeightLoader(checkpoint, compute: compute, pool: environment.pool)
        let layers = (0..<configuration.layerCount).filter(configuration.isMoELayer)
        for layer in layers {
            if isOutdated(deploy) {
                environment.shards.remove(
                    model: deploy.model.id, policyVersion: deploy.model.policyVersion, experts: experts)
                return false
            }
            activity.withLock { $0 = "loading \(experts.count) experts of layer \(layer)" }
            FailPoint.pass("worker.shard-loading")
            WorkProgress.note()
            let weights = try loader.experts(layer: layer, owned: experts)
            environment.shards.add(
                model: deploy.model.id, policyVersion: deploy.model.policyVersion,
                shape: ExpertShape(configuration, compute), layers: [layer: weights.experts])
        }
        checkpoint.dropPages()
        return true
    }

    private func report(_ deploy: WireDeploy, _ model: Model?, problem: String = "") {
        handlers.onReport(
            .with {
                $0.model = deploy.model.id
                $0.epoch = deploy.epoch
                $0.isTrunkReady = model?.hasTrunk ?? false
                $0.experts = (model?.experts ?? []).sorted().map(UInt32.init)
                $0.problem = problem
                $0.openedExperts = (model?.checkpoint.openedExperts ?? []).map(UInt32.init)
            })
    }
}
