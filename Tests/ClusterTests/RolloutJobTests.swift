// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Jobs on real processes.
@Suite("Jobs on a local cluster", .serialized)
struct RolloutJobTests {
    @Test("1, 2 and 4 workers write the same bytes")
    func workerCountsAgree() throws {
        let bench = try Workbench("counts")
        try bench.makeModel()
        try bench.makeModel("teacher", layers: 3, seed: 5)
        var reference: [String: Data]?
        for workers in [1, 2, 4] {
            try bench.makeJob(teacher: "teacher", output: "out-\(workers)")
            let result = try bench.apus("run", "job.yaml", "--workers", "\(workers)")
            try #require(result.status == 0, "\(workers) workers: \(result.errors)\(result.output)")
            let contents = try bench.contents(of: "out-\(workers)")
            if let reference { #expect(contents == reference, "\(workers) workers") } else { reference = contents }
        }
        let text = String(decoding: try #require(reference?["rollouts/text.jsonl"]), as: UTF8.self)
        #expect(text.split(separator: "\n").count == 18)
    }

    @Test(
        "a process killed at the worst moment costs nothing",
        arguments: [
            ("exchange.dispatched", 40), ("worker.record-sent", 2), ("worker.shard-loading", 3),
            ("journal.before-sync", 5),
            ("journal.after-sync", 7),
        ])
    func killedProcessesCostNothing(point: String, count: Int) throws {
        let bench = try Workbench("kill")
        try bench.makeModel()
        try bench.makeJob(output: "quiet")
        let quiet = try bench.apus("run", "job.yaml", "--workers", "3")
        try #require(quiet.status == 0, "\(quiet.errors)\(quiet.output)")
        try bench.makeJob(output: "disturbed")
        let marker = bench.url("struck").path
        let disturbed = try bench.apus(
            "run", "job.yaml", "--workers", "3", environment: ["APUS_FAIL_POINT": "\(point):\(count):\(marker)"])
        try #require(disturbed.status == 0, "\(disturbed.errors)\(disturbed.output)")
        #expect(FileManager.default.fileExists(atPath: marker), "nothing was killed")
        #expect(try bench.contents(of: "disturbed") == bench.contents(of: "quiet"))
    }
}
