// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import ClusterProtocol
internal import ExpertParallel
internal import Foundation
internal import Qwen3
internal import RuntimeSupport
internal import Tensors
internal import Tokenization

/// A model that this worker runs: the whole trunk, some experts, a cache and an engine.
final class ModelHost: @unchecked Sendable {
    // @unchecked: the engine belongs to the engine thread; everything else is constant or safe by itself.
    let description: WireModelDescription
    let checkpoint: Checkpoint
    let tokenizer: Tokenizer?
    let engine: GenerationEngine
    let model: Qwen3Model
    /// Nil for a dense model.
    let exchange: ClusterExpertExchange?
    let settings: WireEngineSettings

    /// Loads the trunk; experts come and go in the shard store.
    /// - Throws: one line about the checkpoint or the memory.
    init(_ deploy: WireDeploy, checkpoint: Checkpoint, environment: WorkerEnvironment) throws {
        description = deploy.model
        settings = deploy.engine
        self.checkpoint = checkpoint
        let configuration = checkpoint.configuration
        guard let compute = ComputeType(rawValue: deploy.model.compute) else {
            throw WorkerError("compute type '\(deploy.model.compute)' is unknown to this version")
        }
        tokenizer = try? Tokenizer(directory: checkpoint.directory)
        let loader = WeightLoader(checkpoint, compute: compute, pool: environment.pool)
        let trunk = try loader.trunk()
        exchange =
            configuration.expertCount == 0
            ? nil
            : ClusterExpertExchange(
                model: deploy.model.id, shape: ExpertShape(configuration, compute),
                policyVersion: deploy.model.policyVersion, port: environment.port, store: environment.shards,
                routing: environment.routing, pool: environment.pool)
        model = Qwen3Model(
            configuration: configuration, name: checkpoint.directory.path, compute: compute, trunk: trunk,
            experts: exchange, pool: environment.pool)
        let pageSize = Int(deploy.engine.pageSize)
        let bytesPerPage = pageSize * configuration.keyValueByteCountPerToken(elementByteCount: compute.byteCount)
        let pageCount = max(1, Int(deploy.engine.cacheByteCount) / bytesPerPage)
        let decoder = try CachedDecoder(model, pageCount: pageCount, pageSize: pageSize)
        engine = GenerationEngine(
            decoder, pageCount: pageCount, pageSize: pageSize,
            limits: EngineLimits(
                batchTokensMax: Int(deploy.engine.batchTokensMax), sequencesMax: Int(deploy.engine.sequencesMax)))
    }
}

extension ModelHost {
    /// Forgets what was computed with former weights. Nothing may be running.
    func weightsChanged() { engine.dropPrefixes() }
}

extension ExpertShape {
    init(_ configuration: Qwen3Configuration, _ compute: ComputeType) {
        self.init(
            compute: compute, expertCount: configuration.expertCount, hiddenSize: configuration.hiddenSize,
            intermediateSize: configuration.moeIntermediateSize)
    }
}

/// Something that went wrong in a worker, in one line.
package struct WorkerError: Error, CustomStringConvertible {
    package let description: String
    init(_ description: String) { self.description = description }
}

/// What the threads of a worker share.
struct WorkerEnvironment: Sendable {
    let pool: ComputePool
    let port: ExchangePort
    let shards: ExpertShardStore
    let routing: ExpertRouting
    let training = ExpertTraining()
}
