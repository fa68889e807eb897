// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// What a checkpoint's training state says of itself beside the arrays: `training/state.json`.
package struct TrainingStateRecord: Codable, Equatable, Sendable {
    /// Updates that the optimizer has made: AdamW's bias corrections count on from here.
    package let updates: UInt64

    package init(updates: UInt64) { self.updates = updates }

    /// Below a checkpoint.
    package static let path = "\(Checkpoint.trainingDirectoryName)/state.json"

    package var text: String { "{\"updates\": \(updates)}" }

    /// - Throws: ``CheckpointError`` when the checkpoint has no training state, or none that says how far it is.
    package init(of checkpoint: Checkpoint) throws(CheckpointError) {
        let url = checkpoint.directory.appendingPathComponent(Self.path)
        guard checkpoint.hasTrainingState else {
            throw CheckpointError(
                .notFound, "has no training state, only weights", file: checkpoint.directory.path,
                remedy: "name a checkpoint of a training run")
        }
        guard let data = try? Data(contentsOf: url),
            let record = try? JSONDecoder().decode(TrainingStateRecord.self, from: data)
        else {
            throw CheckpointError(
                .notFound, "does not say how many updates its training state has seen", file: url.path,
                remedy: "an earlier version of apus made it; start without its moments")
        }
        self = record
    }
}

extension Checkpoint {
    /// Below a checkpoint: master weights and moments in full precision.
    package static let trainingDirectoryName = "training"

    /// Whether master weights and moments lie beside the weights and belong to this model: a head that is made anew is
    /// not among them.
    package var hasTrainingState: Bool {
        freshHeadSeed == nil
            && FileManager.default.fileExists(
                atPath: directory.appendingPathComponent(Self.trainingDirectoryName, isDirectory: true).path)
    }
}
