internal import CKernels
// SPDX-License-Identifier: Apache-2.0
//
// A member's part of a checkpoint: the files whose contents it owns, each atomic, cut by the model's shapes alone. The
// first member writes the trunk's weights, an expert's owner its weights, and everybody the state of what it owns. The
// coordinator adds configuration, index, tokenizer and manifest and gives the directory its name.
internal import Checkpoints
internal import ExpertParallel
internal import Foundation
internal import Glibc
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

struct SnapshotWriter {
    private let member: TrainingMember
    private let store: ExpertShardStore
    private let modelID: UInt32

    init(_ member: TrainingMember, _ store: ExpertShardStore, model: UInt32) {
        self.member = member
        self.store = store
        modelID = model
    }

    /// - Throws: one line about the disk.
    func write(to directory: URL) throws {
        let training = directory.appendingPathComponent(TrainingSnapshot.directoryName, isDirectory: true)
        try FileManager.default.createDirectory(at: training, withIntermediateDirectories: true)
        let configuration = member.model.configuration
        if member.exchange.rank == 0 {
            let tensors = configuration.parameterTensors.filter { $0.kind != .expert }
            try write(tensors, to: directory.appendingPathComponent(SnapshotFiles.trunk)) { tensor, target in
                member.model.values(of: tensor, into: target)
            }
        }
        for (index, state) in member.ownSegments {
            let file = training.appendingPathComponent(TrainingSnapshot.segmentFile(index))
            try write(state.tensors(prefix: ""), count: state.count, to: file)
        }
        let held = store.experts(model: modelID, policyVersion: member.version)
        let byExpert = Dictionary(grouping: member.ownExperts) { $0.id.expert }
        for expert in byExpert.keys.sorted() {
            let states = byExpert[expert]!
            let tensors = configuration.parameterTensors.filter { $0.kind == .expert && $0.expert == expert }
            try write(tensors, to: directory.appendingPathComponent(SnapshotFiles.expert(expert))) { tensor, target in
                let weights = held!.layers[tensor.layer!]!.experts[expert]!
                let names = TensorName.layer(tensor.layer!)
                let projection = TensorName.Projection.allCases.first { names.expert(expert, $0) == tensor.name }!
                weights.values(of: projection, into: target)
            }
            try write(
                states.flatMap { $0.state.tensors(prefix: "layers.\($0.id.layer).") }, count: states[0].state.count,
                to: training.appendingPathComponent(TrainingSnapshot.expertFile(expert)))
        }
    }

    private func write(
        _ tensors: [(name: String, bytes: UnsafeRawBufferPointer)], count: Int, to url: URL
    ) throws {
        let writer = try SafetensorsWriter(
            url,
            tensors: tensors.map { TensorDescription(name: $0.name, elementType: .float32, shape: [count]) })
        do {
            for tensor in tensors {
                try writer.append(tensor.name, tensor.bytes)
                WorkProgress.note()
            }
            try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Weights in the checkpoint's storage type.
    private func write(
        _ tensors: [ParameterTensor], to url: URL, values: (ParameterTensor, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        let type = member.model.configuration.storageType ?? .bfloat16
        let writer = try SafetensorsWriter(
            url, tensors: tensors.map { TensorDescription(name: $0.name.rawValue, elementType: type, shape: $0.shape) })
        do {
            for tensor in tensors {
                WorkProgress.note()
                let count = tensor.elementCount
                let wide = try PageBuffer(byteCount: count * 4)
                values(tensor, wide.floats())
                switch type {
                case .float32:
                    try writer.append(tensor.name.rawValue, UnsafeRawBufferPointer(start: wide.base, count: count * 4))
                case .bfloat16, .float16:
                    let narrow = try PageBuffer(byteCount: count * 2)
                    let target = narrow.base.assumingMemoryBound(to: UInt16.self)
                    if type == .bfloat16 {
                        ck_f32_to_bf16(wide.floats(), Int64(count), target)
                    } else {
                        ck_f32_to_f16(wide.floats(), Int64(count), target)
                    }
                    try writer.append(
                        tensor.name.rawValue, UnsafeRawBufferPointer(start: narrow.base, count: count * 2))
                }
            }
            try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }
}
