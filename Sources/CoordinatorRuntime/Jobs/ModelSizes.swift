// SPDX-License-Identifier: Apache-2.0
//
// What workers and memory plans are told of a model's size: shapes and the job alone, so that a plan for a model that is
// not here says what a coordinator would.
package import Checkpoints
package import ClusterProtocol
package import JobSpecification
internal import Qwen3
internal import SwiftProtobuf
internal import Tensors

extension WireModelDescription {
    /// Sets compute type, expert counts and bytes.
    package mutating func setSizes(of configuration: Qwen3Configuration, compute: JobSpecification.ComputeType) {
        let summary = CheckpointSummary(configuration: configuration)
        let sparse = (0..<configuration.layerCount).count(where: configuration.isMoELayer)
        let experts = summary.parametersPerExpert * sparse * configuration.expertCount
        // The embedding is kept row by row for look-ups and packed for the head, also where both are one tensor.
        let head = configuration.tieWordEmbeddings ? configuration.vocabularySize * configuration.hiddenSize : 0
        self.compute = compute.rawValue
        expertCount = UInt32(configuration.expertCount)
        sparseLayerCount = UInt32(sparse)
        expertByteCount = UInt64(summary.parametersPerExpert * sparse * compute.byteCount)
        trunkByteCount = UInt64((summary.parameters.total - experts + head) * compute.byteCount)
    }

    /// Makes it the trained model of `job`.
    ///
    /// - Parameters:
    ///   - longest: tokens of the longest sequence.
    ///   - teachers: frozen models of a distillation.
    package mutating func setTraining(
        _ configuration: Qwen3Configuration, _ job: TrainJob, longest: Int, teachers: [Qwen3Configuration]
    ) {
        isTrained = true
        let sequences = job.rowsPerStep * (job.generates ? job.groupSize : 1) / job.updatesPerBatch
        let load = TrainingMemory.Load(
            cellTokens: max(job.cellTokens, longest), waveCells: job.waveCells, stepTokens: sequences * longest)
        let memory = TrainingMemory(
            configuration, Tensors.ComputeType(rawValue: job.model.compute.rawValue)!, load,
            recomputes: job.recomputesActivations,
            teacher: job.teacher?.divergence == .sampled
                ? nil : teachers.max { $0.hiddenSize < $1.hiddenSize })
        training = .with {
            // What lies on a disk is in memory only while it is stepped.
            let isOnDisk = job.optimizer.store == .disk
            $0.trunkState = isOnDisk ? 0 : UInt64(memory.trunkState)
            $0.trunkGradient = UInt64(memory.trunkGradient)
            $0.expertState = isOnDisk ? 0 : UInt64(memory.expertState)
            $0.expertGradient = UInt64(memory.expertGradient)
            $0.expertRows = UInt64(memory.expertRows)
            $0.partialSums = UInt64(memory.partialSums)
            $0.liveCell = UInt64(memory.liveCell)
            $0.lanesMax = UInt32(memory.lanesMax ?? 0)
        }
    }
}

extension WireEngineSettings {
    /// What `resources` and `model.replicas` ask of every worker.
    package init(_ resources: ResourcesSection, replicas: Int) {
        self = .with {
            $0.cacheByteCount = UInt64(resources.kvCacheByteCount)
            $0.pageSize = UInt32(resources.pageSize)
            $0.batchTokensMax = UInt32(resources.maxBatchTokens)
            $0.sequencesMax = UInt32(resources.maxSequences)
            $0.replicas = UInt32(replicas)
        }
    }
}
