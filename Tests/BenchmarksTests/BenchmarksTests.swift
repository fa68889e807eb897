// SPDX-License-Identifier: Apache-2.0
import Benchmarks
import Checkpoints
import Foundation
import RuntimeSupport
import Tensors
import Testing

@Suite("Benchmarks")
struct BenchmarksTests {
    @Test("cores in use come from the first line of /proc/stat")
    func coresInUse() throws {
        let earlier = try #require(CPUTimes(procStat: "cpu  100 2 50 1000 8 0 4 1 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"))
        #expect(earlier == CPUTimes(procStat: "cpu 100 2 50 1000 8 0 4 1"))
        #expect(earlier.busy == 157 && earlier.total == 1165)
        // 50 more ticks busy, 150 idle or waiting for a disk: a quarter of four cores.
        let now = try #require(CPUTimes(procStat: "cpu  140 2 60 1140 18 0 4 1 7 0\n"))
        #expect(now.coresInUse(since: earlier, coreCount: 4) == 1)
        #expect(CPUTimes(procStat: "intr 5\n") == nil)
    }

    @Test("medians")
    func medians() {
        #expect(median([]) == 0)
        #expect(median([3, 1, 2]) == 2)
        #expect(median([4, 1, 2, 3]) == 2.5)
    }

    @Test("a tiny model is decoded and prefilled; its files are gone afterwards")
    func tinyModel() throws {
        let parent = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: parent) }
        let suite = try ModelSuite(
            preset: .tinyMoE, layerCount: 1, compute: .bf16, pool: ComputePool(threadCount: 2), parent: parent)
        #expect(try FileManager.default.contentsOfDirectory(atPath: parent.path).isEmpty)
        var lines: [BenchmarkLine] = []
        try suite.decode(batches: [3], steps: 2) { lines.append($0) }
        try suite.prefill(tokens: 40, repeats: 2) { lines.append($0) }
        #expect(lines.map(\.name) == ["bf16 batch 3", "bf16 40 tokens"])
        // A model this small stays in the caches, so it may be faster than memory: the limit itself is not tested.
        for line in lines { #expect(line.value > 0 && line.limit > 0 && line.share > 0) }
        var report = BenchmarkReport(instructionSet: "any", threads: 2)
        report.measurements = lines
        #expect(try JSONDecoder().decode(BenchmarkReport.self, from: JSONEncoder().encode(report)) == report)
    }
}
