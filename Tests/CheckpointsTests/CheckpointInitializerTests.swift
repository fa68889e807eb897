// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Random checkpoints")
struct CheckpointInitializerTests {
    static let tokenizer = Fixtures.url("models/moe_norm_bf16")

    private func values(_ view: TensorView) throws -> [Float] {
        try view.withBytes { bytes in
            switch try view.elementType() {
            case .float32:
                return stride(from: 0, to: bytes.count, by: 4).map {
                    bytes.loadUnaligned(fromByteOffset: $0, as: Float.self)
                }
            case .bfloat16:
                return stride(from: 0, to: bytes.count, by: 2).map {
                    Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: $0, as: UInt16.self)) << 16)
                }
            case .float16:
                return stride(from: 0, to: bytes.count, by: 2).map {
                    Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: $0, as: UInt16.self)))
                }
            }
        }
    }

    @Test(
        "a preset is written in the released form and opens",
        arguments: [
            (ModelPreset.tinyMoE, ElementType.bfloat16), (.tinyDense, .float32), (.tinyDense, .float16),
        ])
    func opens(_ preset: ModelPreset, _ storage: ElementType) throws {
        try withTemporaryDirectory { directory in
            let target = directory.appendingPathComponent("model")
            let initializer = try CheckpointInitializer(
                preset: preset, layerCount: 2, seed: 7, storageType: storage, shardByteCountMax: 1 << 19,
                tokenizerDirectory: Self.tokenizer)
            var last = (0, 0)
            try initializer.write(to: target) { last = ($0, $1) }
            #expect(last.0 == last.1 && last.1 > 0)
            #expect(try listing(directory) == ["model"])
            let checkpoint = try Checkpoint(directory: target)
            #expect(checkpoint.configuration == initializer.configuration)
            #expect(checkpoint.elementType == storage && checkpoint.index.shards.count > 1)
            #expect(checkpoint.index.totalByteCount == last.1)
            let names = try listing(target)
            for name in ["tokenizer.json", "tokenizer_config.json", "vocab.json", "generation_config.json"] {
                #expect(names.contains(name))
            }
            let norm = try values(checkpoint.tensor(.finalNorm))
            #expect(norm.allSatisfy { $0 == 1 })
            #expect(try values(checkpoint.tensor(TensorName.layer(1).kNorm)).allSatisfy { $0 == 1 })
            let error = checkpointError { try initializer.write(to: target) }
            #expect(error?.code == .targetExists && error?.file == target.path)
            #expect(try listing(directory) == ["model"])
        }
    }

    @Test("values have the mean, deviation and shape they should")
    func moments() throws {
        let count = 1 << 18
        let weights = RandomWeights(seed: 3, name: "x", standardDeviation: 0.02)
        var values = [Float](repeating: 0, count: count)
        values.withUnsafeMutableBytes { weights.fill($0, from: 0, as: .float32) }
        let numbers = values.map { Double($0) / 0.02 }
        let mean = numbers.reduce(0, +) / Double(count)
        let variance = numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
        let kurtosis =
            numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) * ($1 - mean) * ($1 - mean) }
            / Double(count) / variance / variance
        // Five standard errors of each estimate.
        #expect(abs(mean) < 0.01 && abs(variance - 1) < 0.013 && abs(kurtosis - 2.7) < 0.04)
        let lag = zip(numbers, numbers.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 } / Double(count)
        #expect(abs(lag) < 0.01)
        #expect(numbers.allSatisfy { abs($0) < 3.47 } && Set(values).count > 100_000)
    }

    @Test("a value depends on seed, name and index, not on how it is cut")
    func cutting() throws {
        func bytes(_ seed: UInt64, _ name: String, from first: Int, _ count: Int, _ type: ElementType)
            -> [UInt8]
        {
            var bytes = [UInt8](repeating: 0, count: count * type.byteCount)
            let weights = RandomWeights(seed: seed, name: name, standardDeviation: 1)
            bytes.withUnsafeMutableBytes { weights.fill($0, from: first, as: type) }
            return bytes
        }
        for type in ElementType.allCases {
            let whole = bytes(1, "a", from: 0, 101, type)
            #expect(bytes(1, "a", from: 0, 40, type) + bytes(1, "a", from: 40, 61, type) == whole)
            #expect(bytes(2, "a", from: 0, 101, type) != whole && bytes(1, "b", from: 0, 101, type) != whole)
            #expect(bytes(1 << 40 | 1, "a", from: 0, 101, type) != whole)
        }
        // Computed by an independent implementation in Python (Philox4x32-10, FNV-1a, float32 product).
        let seed: UInt64 = 0x12_3456_7890
        func words(_ first: Int, _ count: Int) -> [UInt32] {
            var words = [UInt32](repeating: 0, count: count)
            let weights = RandomWeights(seed: seed, name: "model.norm.bias", standardDeviation: 0.02)
            words.withUnsafeMutableBytes { weights.fill($0, from: first, as: .float32) }
            return words
        }
        #expect(words(0, 4) == [0x3C0E_124C, 0xBB27_2495, 0x3C48_5671, 0x3C36_A97E])
        #expect(words(1 << 33, 2) == [0x3C26_5D0D, 0xBCB4_9E46])
        // Rounding to bf16 moves a value by half a unit of its last place at most.
        let single = bytes(5, "w", from: 0, 4, .float32).withUnsafeBytes {
            Array($0.bindMemory(to: UInt32.self))
        }
        let half = bytes(5, "w", from: 0, 4, .bfloat16).withUnsafeBytes {
            Array($0.bindMemory(to: UInt16.self))
        }
        for (wide, narrow) in zip(single, half) {
            let error = abs(Float(bitPattern: wide) - Float(bitPattern: UInt32(narrow) << 16))
            #expect(error <= abs(Float(bitPattern: wide)) / 256)
        }
    }

    @Test("the same options give the same bytes, another seed gives others")
    func determinism() throws {
        try withTemporaryDirectory { directory in
            func hashes(_ name: String, seed: UInt64, shard: Int) throws -> [CheckpointVerifier.FileResult] {
                let target = directory.appendingPathComponent(name)
                try CheckpointInitializer(
                    preset: .tinyMoE, layerCount: 1, seed: seed, shardByteCountMax: shard,
                    tokenizerDirectory: Self.tokenizer
                ).write(to: target)
                return try CheckpointVerifier.verify(target).files
            }
            let first = try hashes("a", seed: 1, shard: 1 << 30)
            #expect(try hashes("b", seed: 1, shard: 1 << 30) == first)
            let other = try hashes("c", seed: 2, shard: 1 << 30)
            #expect(zip(first, other).filter { $0 != $1 }.map(\.0.name) == ["model.safetensors"])
            _ = try hashes("d", seed: 1, shard: 100_000)
            let one = try Checkpoint(directory: directory.appendingPathComponent("a"))
            let many = try Checkpoint(directory: directory.appendingPathComponent("d"))
            #expect(one.index.shards.count == 1 && many.index.shards.count > 5)
            for tensor in one.configuration.parameterTensors {
                let bytes = try one.tensor(tensor.name).withBytes { Array($0) }
                #expect(try many.tensor(tensor.name).withBytes { Array($0) } == bytes)
            }
        }
    }

    @Test("a redundant head is stored equal to the embedding")
    func redundantHead() throws {
        try withTemporaryDirectory { directory in
            let target = directory.appendingPathComponent("model")
            var initializer = try CheckpointInitializer(
                preset: .tinyDense, layerCount: 1, tokenizerDirectory: Self.tokenizer)
            initializer.storesRedundantHead = true
            try initializer.write(to: target)
            let checkpoint = try Checkpoint(directory: target)
            #expect(checkpoint.storesRedundantHead)
            let file = try SafetensorsFile(target.appendingPathComponent("model.safetensors"))
            let head = try file.tensor("lm_head.weight").withBytes { Array($0) }
            #expect(try file.tensor("model.embed_tokens.weight").withBytes { Array($0) } == head)
            let summary = CheckpointSummary(checkpoint)
            #expect(summary.storedByteCount == file.file.byteCount - file.header.dataOffset)
        }
    }

    @Test("a failure leaves nothing")
    func failure() throws {
        try withTemporaryDirectory { directory in
            let target = directory.appendingPathComponent("model")
            var initializer = try CheckpointInitializer(
                preset: .tinyDense, tokenizerDirectory: Self.tokenizer)
            initializer.tokenizerDirectory = directory.appendingPathComponent("nowhere")
            #expect(checkpointError { try initializer.write(to: target) }?.code == .notFound)
            #expect(try listing(directory).isEmpty)
            let nested = directory.appendingPathComponent("absent/model")
            initializer.tokenizerDirectory = nil
            #expect(checkpointError { try initializer.write(to: nested) }?.code == .fileSystem)
        }
    }
}
