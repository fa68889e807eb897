// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Exported checkpoints") struct CheckpointExportTests {
    private func weights(_ checkpoint: Checkpoint) throws -> [Data] {
        try checkpoint.configuration.parameterTensors.map { tensor in
            let projection = tensor.expert.flatMap { expert in
                TensorName.Projection.allCases.first {
                    TensorName.layer(tensor.layer!).expert(expert, $0) == tensor.name
                }
            }
            let view =
                try projection.map { try checkpoint.expert(layer: tensor.layer!, expert: tensor.expert!, $0) }
                ?? checkpoint.tensor(tensor.name)
            return view.withBytes { Data($0) }
        }
    }

    @Test(
        "the same weights in the released layout, whatever the source's",
        arguments: ["moe_norm_bf16", "dense_tied_bf16", "moe_nonorm_sparse2_fp32", "dense_untied_fp32"])
    func sameWeights(_ name: String) throws {
        let url = Fixtures.url("models/\(name)")
        try withTemporaryDirectory { directory in
            let source = try Checkpoint(directory: url)
            let target = directory.appendingPathComponent("copy")
            try CheckpointExport(source).write(to: target)
            let copy = try Checkpoint(directory: target)
            #expect(copy.expertLayout == .perExpert && copy.elementType == source.elementType)
            #expect(try weights(copy) == weights(source))
            let lineage = try String(contentsOf: target.appendingPathComponent("lineage.json"), encoding: .utf8)
            #expect(lineage.contains(try source.identity().hexadecimal))
            #expect(throws: CheckpointError.self) { try CheckpointExport(source).write(to: target) }
        }
    }

    @Test("fp32 to bf16 rounds to nearest even, and bf16 to fp32 and back loses nothing")
    func conversion() throws {
        try withTemporaryDirectory { directory in
            let first = directory.appendingPathComponent("fp32")
            try CheckpointInitializer(preset: .tinyMoE, seed: 3, storageType: .float32).write(to: first)
            func export(_ source: URL, _ type: ElementType, _ name: String) throws -> Checkpoint {
                var export = CheckpointExport(try Checkpoint(directory: source))
                export.elementType = type
                let target = directory.appendingPathComponent(name)
                try export.write(to: target)
                return try Checkpoint(directory: target)
            }
            let narrow = try export(first, .bfloat16, "bf16")
            let wide = try export(narrow.directory, .float32, "wide")
            let again = try export(wide.directory, .bfloat16, "again")
            #expect(try weights(narrow) == weights(again))
            let exact = try Checkpoint(directory: first).tensor(.embedding).withBytes {
                Array($0.bindMemory(to: Float.self))
            }
            let rounded = try wide.tensor(.embedding).withBytes { Array($0.bindMemory(to: Float.self)) }
            // Half a unit in the last place of eight bits.
            #expect(zip(exact, rounded).allSatisfy { abs($0 - $1) <= abs($0) / 256 })
            #expect(zip(exact, rounded).contains { $0 != $1 })
        }
    }
}
