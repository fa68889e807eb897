// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// The coordinator killed at journal entries of a training job that keeps one checkpoint: the job goes on and ends with the
/// quiet run's bytes. Scripts/chaos journal does the same at every entry.
@Suite("A coordinator killed at a journal entry", .serialized)
struct CoordinatorKillTests {
    private static let bench = Result { () throws -> Workbench in
        let bench = try Workbench("journal")
        let world = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Cluster/tiny-world")
        for arguments in [
            [
                "model", "init", "model", "--preset", "tiny-world-moe", "--tokenizer",
                world.appendingPathComponent("tokenizer").path, "--dtype", "fp32", "--seed", "1",
            ],
            ["data", "registers", "rows.jsonl", "-n", "200", "--seed", "1", "--form", "demonstrations"],
        ] {
            let result = try bench.apus(arguments)
            try #require(result.status == 0, "\(result.errors)")
        }
        try bench.write(
            "job.yaml",
            """
            kind: train
            name: job
            method: sft
            model: {path: model, compute: fp32}
            data: {path: rows.jsonl}
            steps: 3
            rows_per_step: 4
            optimizer: {learning_rate: 1.0e-3}
            cell_tokens: 256
            checkpoint: {every: 1, keep: 1}
            output: quiet
            """)
        let result = try bench.apus("run", "job.yaml", "--workers", "2", "--threads", "1")
        try #require(result.status == 0, "\(result.errors)")
        return bench
    }

    /// Every file of a run but its own job's text; manifests without the entry that names it.
    private func files(_ run: URL) throws -> [String: Data] {
        var files: [String: Data] = [:]
        for case let name as String in FileManager.default.enumerator(atPath: run.path)!
        where name.hasPrefix("checkpoints/") || name == "metrics.jsonl" {
            let url = run.appendingPathComponent(name)
            guard try url.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { continue }
            let content = try Data(contentsOf: url)
            files[name] = content
            if name.hasSuffix("manifest.json") {
                var manifest = try #require(try JSONSerialization.jsonObject(with: content) as? [String: Any])
                manifest["job"] = nil
                files[name] = try JSONSerialization.data(withJSONObject: manifest, options: .sortedKeys)
            }
        }
        return files
    }

    // Commits: the epoch, the job, then of each step what was prepared, what was committed, its checkpoint; the end.
    @Test(
        "with one checkpoint kept, the job ends with the quiet run's bytes",
        arguments: [("before", 8), ("after", 8), ("before", 9), ("before", 11), ("after", 12)])
    func killed(when: String, entry: Int) throws {
        let bench = try Self.bench.get()
        let name = "killed-\(when)-\(entry)"
        let marker = bench.url("\(name).struck")
        let result = try bench.apus(
            ["run", "job.yaml", "--workers", "2", "--threads", "1", "--set", "output=\(name)"],
            environment: ["APUS_FAIL_POINT": "journal.\(when)-sync:\(entry):\(marker.path)"])
        #expect(result.status == 0, "\(result.errors)\(result.output)")
        #expect(FileManager.default.fileExists(atPath: marker.path), "nothing was killed")
        #expect(try files(bench.url(name)) == files(bench.url("quiet")))
    }
}
