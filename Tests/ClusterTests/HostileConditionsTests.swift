// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// Keys that nobody knows, and disks that are full.
@Suite("Wrong keys and full disks", .serialized)
struct HostileConditionsTests {
    private static func eventually(_ seconds: Double, _ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Date().addingTimeInterval(seconds)
        while try !condition() {
            if Date() > deadline { return false }
            Thread.sleep(forTimeInterval: 0.05)
        }
        return true
    }

    @Test("a worker with an unknown key is told what to do, and the cluster goes on")
    func unknownKey() throws {
        let bench = try Workbench("key")
        try bench.makeModel(layers: 2)
        try bench.makeJob(groups: 2, groupSize: 2, tokens: 16)
        let cluster = try bench.startCluster(workers: 1)
        defer { cluster.stop() }
        try #require(try bench.apus("keys", "generate", "stranger.key").status == 0)
        let address = try #require(
            FileManager.default.enumerator(atPath: bench.url("state").path)?.compactMap { $0 as? String }
                .first { $0.hasSuffix("coordinator.json") })
        let process = Process()
        process.executableURL = Workbench.apus
        process.currentDirectoryURL = bench.directory
        process.arguments = ["worker", "--join", "state/\(address)", "--keys", "stranger.key", "--threads", "1"]
        let log = bench.url("stranger.log")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        let handle = try FileHandle(forWritingTo: log)
        process.standardOutput = handle
        process.standardError = handle
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let isTold = try Self.eventually(30) {
            try String(contentsOf: log, encoding: .utf8).contains("allow-list")
        }
        let text = try String(contentsOf: log, encoding: .utf8)
        #expect(isTold, "\(text)")
        #expect(text.contains("refuses this worker's key; add the line"), "\(text)")
        let result = try bench.apus("submit", "job.yaml", "--watch")
        #expect(result.status == 0, "\(result.errors)")
    }

    @Test("a full disk under the journal: the job waits, says so, and finishes with the same bytes")
    func fullDisk() throws {
        let bench = try Workbench("disk")
        let mount = bench.url("small")
        try FileManager.default.createDirectory(at: mount, withIntermediateDirectories: false)
        guard getuid() == 0, Glibc.mount("tmpfs", mount.path, "tmpfs", 0, "size=16m") == 0 else {
            print("skipped: a full disk needs root to mount a small one")
            return
        }
        defer { umount2(mount.path, Int32(MNT_DETACH)) }
        try bench.makeModel()
        try bench.makeJob(output: "quiet")
        try #require(try bench.apus("run", "job.yaml", "--workers", "2").status == 0)
        try bench.makeJob(output: "out")
        let cluster = try bench.startCluster(workers: 2, state: "small/state")
        defer { cluster.stop() }
        try #require(
            try Self.eventually(30) {
                try bench.apus("workers").output.split(separator: "\n").count { $0.contains("live") } >= 2
            })
        // All but a few pages are taken.
        let filler = mount.appendingPathComponent("filler")
        let file = open(filler.path, O_CREAT | O_WRONLY, 0o600)
        let block = [UInt8](repeating: 1, count: 4096)
        while write(file, block, block.count) == block.count {}
        close(file)
        ftruncate64(filler.path, freeing: 96 << 10)
        let submitted = try bench.apus("submit", "job.yaml")
        if submitted.status == 0 {
            #expect(try Self.eventually(60) { try bench.apus("job", "1").output.contains("room on the disk") })
        } else {
            #expect(submitted.errors.contains("disk is full"), "\(submitted.errors)")
        }
        try FileManager.default.removeItem(at: filler)
        let result =
            submitted.status == 0 ? try bench.apus("watch", "1") : try bench.apus("submit", "job.yaml", "--watch")
        #expect(result.status == 0, "\(result.errors)\(result.output)")
        #expect(try bench.contents(of: "out") == bench.contents(of: "quiet"))
    }

    private func ftruncate64(_ path: String, freeing count: Int) {
        var status = stat()
        stat(path, &status)
        truncate(path, max(0, status.st_size - count))
    }
}
