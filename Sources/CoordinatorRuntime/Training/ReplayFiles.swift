// SPDX-License-Identifier: Apache-2.0
//
// For `apus verify`: of every step whose starting state is still at hand (the job's own model and the checkpoints that
// were kept), what its members were told and what came of it.
internal import Checkpoints
internal import ClusterCore
package import ClusterProtocol
package import Foundation
internal import JobSpecification
internal import SwiftProtobuf

/// Recorded steps of a training run.
package enum ReplayFiles {
    /// Below the run's directory.
    package static let directoryName = "replay"

    /// The recorded steps of a run, in order.
    /// - Throws: one line about the file.
    package static func read(_ run: URL) throws -> [WireStepReplay] {
        let directory = run.appendingPathComponent(directoryName, isDirectory: true)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return try names.filter { $0.hasSuffix(".pb") }.sorted().map { name in
            let url = directory.appendingPathComponent(name)
            do {
                return try WireStepReplay(serializedBytes: Data(contentsOf: url))
            } catch { throw JournalError(description: "\(url.path): is no recorded step: \(error)") }
        }
    }

    static func write(
        _ journal: Journal, _ job: JobRecord, _ specification: TrainJob, _ models: [UInt32: WireModelDescription],
        to run: URL
    ) throws {
        let directory = run.appendingPathComponent(directoryName, isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        for (version, checkpoint) in starts(run) where version < job.stepCount {
            guard let prepared = job.prepared[version], let digest = job.committed[version + 1] else { continue }
            let built = try StepBuilder(
                journal: journal, job: job, specification: specification, epoch: 1, version: version, memberCount: 1
            ).build()
            let replay = WireStepReplay.with {
                $0.checkpoint = checkpoint
                $0.messages = built.messages[0]
                $0.prepared = prepared
                $0.digest = digest
                $0.guides = job.models.filter { $0 != job.admitted.policyModel }.compactMap { models[$0] }
                $0.apply = .with {
                    $0.epoch = 1
                    $0.version = version
                    $0.number = built.plan.number
                    $0.learningRate = prepared.learningRate
                    $0.gradientScale = prepared.gradientScale
                    $0.beta1 = built.plan.beta1
                    $0.beta2 = built.plan.beta2
                    $0.adamEpsilon = built.plan.epsilon
                    $0.weightDecay = built.plan.weightDecay
                }
            }
            let digits = String(version + 1)
            let name = "step-\(String(repeating: "0", count: max(0, 6 - digits.count)))\(digits).pb"
            try DurableFile.write([UInt8](replay.serializedData()), to: directory.appendingPathComponent(name))
        }
    }

    /// Versions whose state is at hand, with the checkpoint's place in the run.
    private static func starts(_ run: URL) -> [(version: UInt64, checkpoint: String)] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: run.path + "/checkpoints")) ?? []
        let kept = names.sorted().compactMap { name in
            name.hasPrefix("step-") ? UInt64(name.dropFirst(5)).map { ($0, "checkpoints/\(name)") } : nil
        }
        return [(0, "")] + kept
    }
}
