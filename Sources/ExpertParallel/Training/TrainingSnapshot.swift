// SPDX-License-Identifier: Apache-2.0
//
// What training continues from: a checkpoint directory that transformers loads and, beside its weights, the exact state
//
//   training/segment-00000.safetensors     master, first, second: [elements], fp32, of a trunk segment
//   training/expert-00000.safetensors      layers.N.master, .first, .second of one expert
//
// Files are cut by the model's shapes alone, so any number of members writes and reads the same bytes. Without the
// training directory (a checkpoint from elsewhere) masters come from the weights and moments are zero. A job that starts
// from another's checkpoint takes its masters; moments belong to the job that made them and to its count of updates.
package import Checkpoints
package import Foundation
package import Qwen3
package import RuntimeSupport
package import Tensors

/// A checkpoint to train from.
package struct TrainingSnapshot {
    package let checkpoint: Checkpoint
    private let loader: WeightLoader
    private let state: URL?
    private let diskDirectory: String?
    private let resumes: Bool

    /// - Parameters:
    ///   - diskDirectory: where optimizer state is kept; nil: in memory.
    ///   - resumes: whether moments go on too; otherwise they begin at zero.
    package init(
        _ checkpoint: Checkpoint, compute: ComputeType, pool: ComputePool, diskDirectory: String? = nil,
        resumes: Bool = true
    ) {
        self.checkpoint = checkpoint
        self.resumes = resumes
        self.diskDirectory = diskDirectory
        loader = WeightLoader(checkpoint, compute: compute, pool: pool)
        state =
            checkpoint.hasTrainingState
            ? checkpoint.directory.appendingPathComponent(Self.directoryName, isDirectory: true) : nil
    }

    package static let directoryName = Checkpoint.trainingDirectoryName
    package static func segmentFile(_ index: Int) -> String { "segment-\(padded(index)).safetensors" }
    package static func expertFile(_ index: Int) -> String { "expert-\(padded(index)).safetensors" }

    private static func padded(_ index: Int) -> String {
        let digits = String(index)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }

    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package func segment(_ index: Int, _ segments: TrunkSegments) throws -> OptimizerState {
        let segment = segments.segments[index]
        let result = try OptimizerState(count: segment.elements.count, onDisk: diskDirectory)
        if let state {
            try read(state.appendingPathComponent(Self.segmentFile(index)), prefix: "", into: result)
            return result
        }
        for block in segments.layout.blocks[segment.blocks] {
            let entry = segments.layout.entries[block.entry]
            try loader.masterRows(
                entry.tensor, rows: block.rows, into: result.master + block.offset - segment.elements.lowerBound)
        }
        return result
    }

    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package func expert(_ id: ExpertGradients.ExpertID, _ layout: ParameterLayout) throws -> OptimizerState {
        let result = try OptimizerState(count: layout.count, onDisk: diskDirectory)
        if let state {
            try read(
                state.appendingPathComponent(Self.expertFile(id.expert)), prefix: "layers.\(id.layer).", into: result)
            return result
        }
        for entry in layout.entries {
            try loader.masterRows(entry.tensor, rows: 0..<entry.rows, into: result.master + entry.offset)
        }
        return result
    }

    /// The master weights alone of a segment, for who does not own it: a third of what its owner reads.
    /// - Throws: ``CheckpointError``, ``MemoryError``.
    package func master(ofSegment index: Int, _ segments: TrunkSegments) throws -> PageBuffer {
        let segment = segments.segments[index]
        let result = try PageBuffer(byteCount: segment.elements.count * 4)
        if let state {
            let file = try SafetensorsFile(state.appendingPathComponent(Self.segmentFile(index)))
            try file.tensor("master").withFloatBytes(shape: [segment.elements.count]) { source, _ in
                result.floats().update(from: source.assumingMemoryBound(to: Float.self), count: segment.elements.count)
            }
            return result
        }
        for block in segments.layout.blocks[segment.blocks] {
            let entry = segments.layout.entries[block.entry]
            try loader.masterRows(
                entry.tensor, rows: block.rows, into: result.floats() + block.offset - segment.elements.lowerBound)
        }
        return result
    }

    private func read(_ url: URL, prefix: String, into state: OptimizerState) throws {
        let file = try SafetensorsFile(url)
        let moments = [("first", state.first), ("second", state.second)]
        for (name, target) in [("master", state.master)] + (resumes ? moments : []) {
            try file.tensor(prefix + name).withFloatBytes(shape: [state.count]) { source, _ in
                target.update(from: source.assumingMemoryBound(to: Float.self), count: state.count)
            }
        }
    }
}

extension OptimizerState {
    /// CRC-32C over master weights and moments.
    package var checksum: UInt32 {
        var checksum = CRC32C()
        for values in [master, first, second] {
            checksum.update(UnsafeRawBufferPointer(start: values, count: count * 4))
        }
        return checksum.value
    }

    /// The three tensors as a safetensors file has them.
    package func tensors(prefix: String) -> [(name: String, bytes: UnsafeRawBufferPointer)] {
        [("master", master), ("first", first), ("second", second)].map {
            (prefix + $0.0, UnsafeRawBufferPointer(start: $0.1, count: count * 4))
        }
    }
}
