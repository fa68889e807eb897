// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Checkpoints

@Suite("Files that grow, and the directories of runs")
struct RunDirectoryTests {
    private let directory: URL

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-run-\(UInt32.random(in: 0 ... .max))", isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    @Test(
        "whatever a kill or a power failure left, the file ends with the right bytes, once",
        arguments: [
            "", "one\n", "one\ntw", "one\ntwo\n", "one\n\0\0\0\0", "one\nother\nthree\n", "one\ntwo\nthree\nfo",
        ])
    func appendedFileMends(left: String) throws {
        let url = directory.appendingPathComponent("file")
        try Data(left.utf8).write(to: url)
        let file = try AppendedFile(url)
        for line in ["one", "two"] { try file.append(line: line) }
        try file.synchronize()
        #expect(try String(contentsOf: url, encoding: .utf8) == "one\ntwo\n")
        try file.append(line: "three")
        try file.synchronize()
        #expect(try String(contentsOf: url, encoding: .utf8) == "one\ntwo\nthree\n")
    }

    @Test("what is there already is not written again")
    func appendedFileCompares() throws {
        let url = directory.appendingPathComponent("file")
        try Data("one\ntwo\n".utf8).write(to: url)
        let file = try AppendedFile(url)
        try file.append(line: "one")
        // A reader has the same file open all the time: it is neither cut nor replaced.
        let reader = try FileHandle(forReadingFrom: url)
        try file.append(line: "two")
        try file.append(line: "three")
        try file.synchronize()
        #expect(try reader.readToEnd() == Data("one\ntwo\nthree\n".utf8))
    }

    private let owner = RunDirectory.Owner(journal: "a", job: 1, state: "/state")

    @Test("a directory has one job: a second claim fails, and says what lies there")
    func claims() throws {
        let run = RunDirectory(directory.appendingPathComponent("deep/er/out"))
        try run.claim(jobText: "kind: train\nsteps: 4\n", owner)
        #expect(run.status == .init(status: "queued", owner: owner) && run.jobText == "kind: train\nsteps: 4\n")
        let other = RunDirectory.Owner(journal: "b", job: 1, state: "/other")
        let error = #expect(throws: CheckpointError.self) { try run.claim(jobText: "kind: train\n", other) }
        #expect(error?.code == .targetExists)
        #expect(run.status?.owner == owner)
        let refusal = run.refusal(for: "kind: train\nsteps: 8\n")
        #expect(
            refusal.contains("exists already") && refusal.contains("/state") && refusal.contains("'steps: 4'")
                && refusal.contains("'steps: 8'") && refusal.contains("choose another output"), "\(refusal)")
        try run.set(.init(status: "done"))
        #expect(
            try String(contentsOf: run.url.appendingPathComponent("status.json"), encoding: .utf8)
                == "{\"status\":\"done\"}\n")
        #expect(run.refusal(for: run.jobText!).contains("the finished run of this job"))
    }

    @Test("links and dots lead to the same directory; a run's own folders are nobody's output")
    func paths() throws {
        let run = RunDirectory(directory.appendingPathComponent("out"))
        try run.claim(jobText: "", owner)
        try FileManager.default.createSymbolicLink(
            at: directory.appendingPathComponent("link"), withDestinationURL: directory)
        #expect(
            RunDirectory.canonicalPath(directory.path + "/link/./new/x/../out")
                == RunDirectory.canonicalPath(directory.path + "/new/out"))
        let inside = RunDirectory(directory.appendingPathComponent("link/out/checkpoints/step-000001"))
        #expect(inside.enclosingRun?.lastPathComponent == "out")
        #expect(RunDirectory(directory.appendingPathComponent("out/evaluation")).enclosingRun == nil)
        #expect(RunDirectory(directory.appendingPathComponent("checkpoints/a")).enclosingRun == nil)
    }

    @Test("a command replaces none of a run's files")
    func protects() throws {
        let run = RunDirectory(directory.appendingPathComponent("out"))
        try run.claim(jobText: "", owner)
        let metrics = run.url.appendingPathComponent("metrics.jsonl")
        try RunDirectory.protect(metrics)
        try Data().write(to: metrics)
        #expect(throws: CheckpointError.self) { try RunDirectory.protect(metrics) }
        let elsewhere = directory.appendingPathComponent("metrics.jsonl")
        try Data().write(to: elsewhere)
        try RunDirectory.protect(elsewhere)
    }

    @Test("what a killed writer left half done goes, in every folder that the coordinator writes to")
    func leftovers() throws {
        let run = RunDirectory(directory.appendingPathComponent("out"))
        try run.claim(jobText: "", owner)
        let names = [".lineage.json.7.1.partial", "rollouts/.x.7.2.partial", "rollouts/text.jsonl", "notes.partial"]
        for name in names {
            let url = run.url.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data().write(to: url)
        }
        run.removeLeftovers()
        #expect(
            names.map { FileManager.default.fileExists(atPath: run.url.appendingPathComponent($0).path) }
                == [false, false, true, true])
    }

    @Test("a run of which nothing came goes; what else lies there stays")
    func removesEmpty() throws {
        let run = RunDirectory(directory.appendingPathComponent("out"))
        try run.claim(jobText: "", owner)
        run.removeEmpty()
        #expect(!run.exists)
        try run.claim(jobText: "", owner)
        try Data().write(to: run.url.appendingPathComponent("notes"))
        run.removeEmpty()
        #expect(FileManager.default.fileExists(atPath: run.url.appendingPathComponent("notes").path))
    }
}
