// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("Verifying checkpoints")
struct CheckpointVerifierTests {
    @Test("sound checkpoints have no problems", arguments: CheckpointTests.models)
    func sound(_ model: String) throws {
        let report = try CheckpointVerifier.verify(Fixtures.url("models/\(model)"))
        #expect(report.isValid, "\(report.problems)")
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/\(model)"))
        #expect(report.tensors.count == checkpoint.index.tensorNames.count)
        #expect(report.summary?.parameters == checkpoint.configuration.parameterCounts)
        let byteCount = report.summary?.storedByteCount
        #expect(byteCount == checkpoint.index.totalByteCount)
    }

    @Test("NaN and infinity are counted per tensor, in every type")
    func nonFinite() throws {
        func count(_ values: [UInt16], _ type: SafetensorsDataType) -> NonFiniteCounts {
            values.withUnsafeBytes { NonFiniteCounts($0, dataType: type) }
        }
        let half = count([0x7C00, 0xFC00, 0x7C01, 0xFE00, 0x7BFF, 0x3C00], .float16)
        #expect(half.infinityCount == 2 && half.nanCount == 2)
        let brain = count([0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F7F, 0x3F80, 0x7C00], .bfloat16)
        #expect(brain.infinityCount == 2 && brain.nanCount == 2)
        let singles = [Float.nan, .infinity, -.infinity, 0, -1].withUnsafeBytes {
            NonFiniteCounts($0, dataType: .float32)
        }
        #expect(singles.infinityCount == 2 && singles.nanCount == 1)
        let doubles = [Double.nan, .infinity, 1].withUnsafeBytes { NonFiniteCounts($0, dataType: .float64) }
        #expect(doubles.infinityCount == 1 && doubles.nanCount == 1)
        #expect(count([0xFFFF], .int16).isFinite)
    }

    @Test("damage is found and named: values, hashes, absent files, broken headers")
    func damage() throws {
        try withTemporaryDirectory { directory in
            let copy = directory.appendingPathComponent("model")
            try copyFiles(of: Fixtures.url("models/dense_untied_fp32"), to: copy)
            let sound = try CheckpointVerifier.verify(copy)
            #expect(sound.isValid)
            var expected = Dictionary(uniqueKeysWithValues: sound.files.map { ($0.name, $0.hash) })
            #expect(try CheckpointVerifier.verify(copy, expectedHashes: expected).isValid)

            let shard = "model-00003-of-00003.safetensors"
            let url = copy.appendingPathComponent(shard)
            let view = try SafetensorsFile(url).tensor("model.norm.weight")
            var bytes = Array(try Data(contentsOf: url))
            bytes.replaceSubrange(
                view.byteRange.lowerBound..<view.byteRange.lowerBound + 4, with: [0, 0, 0xC0, 0x7F])
            try DurableFile.write(bytes, to: url)
            expected["absent.json"] = ContentHash(of: [])
            let damaged = try CheckpointVerifier.verify(copy, expectedHashes: expected)
            #expect(damaged.problems.count == 3)
            #expect(
                damaged.problems.contains {
                    $0.tensor == "model.norm.weight" && $0.message.contains("1 NaN and 0 infinite")
                })
            #expect(
                damaged.problems.contains { $0.code == .corrupted && $0.file == url.path && $0.tensor == nil }
            )
            #expect(damaged.problems.contains { $0.code == .notFound })

            bytes.removeLast()
            try DurableFile.write(bytes, to: url)
            let truncated = try CheckpointVerifier.verify(copy)
            #expect(truncated.problems.count == 1 && truncated.problems.first?.code == .malformedFile)
            #expect(truncated.summary == nil && truncated.files.count == sound.files.count)
            #expect(
                checkpointError { _ = try CheckpointVerifier.verify(directory.appendingPathComponent("no")) }
                    != nil)
        }
    }

    @Test("the hash is SHA-256")
    func hash() {
        #expect(
            ContentHash(of: Array("abc".utf8)).hexadecimal
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(ContentHash("BA") == nil && ContentHash(String(repeating: "g", count: 64)) == nil)
    }
}
