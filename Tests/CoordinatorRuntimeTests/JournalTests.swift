// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import ClusterProtocol
import ClusterTransport
import Foundation
import JobSpecification
import Logging
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import CoordinatorRuntime

/// A directory that goes with its test.
private final class Directory {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
        "apus-journal-\(UInt32.random(in: 0 ... .max))", isDirectory: true)

    deinit { try? FileManager.default.removeItem(at: url) }
}

@Suite("Journal")
struct JournalTests {
    private func rows(_ count: Int) -> [JobRow] {
        (0..<count).map { JobRow(group: $0, id: "\($0)", tokens: [1, 2, 3], json: "{\"prompt\":\"\($0)\"}") }
    }

    private let entry = WireJournalEntry.with { $0.epochStarted.epoch = 1 }

    @Test("records are written and read while a job with many rows is stored")
    func largeSubmission() throws {
        let directory = Directory()
        let journal = try Journal(directory: directory.url)
        let rows = rows(60_000)
        let (isStored, appended) = (Locked(false), Locked(0))
        _ = DedicatedThread.start(name: "store") {
            try? journal.store(job: 1, settings: WireGenerationSettings(), rows: rows)
            isStored.withLock { $0 = true }
        }
        while !isStored.withLock({ $0 }) {
            try journal.append([(entry, nil)])
            _ = try journal.settings(of: 1)
            if !isStored.withLock({ $0 }) { appended.withLock { $0 += 1 } }
        }
        // With one transaction for all rows it would be one, or two.
        #expect(appended.withLock { $0 } >= 10, "\(appended.withLock { $0 })")
        #expect(try journal.row(job: 1, group: 59_999).id == "59999")
    }

    @Test("what a process left half stored is replaced, other jobs' rows stay")
    func storedAgain() throws {
        let directory = Directory()
        let journal = try Journal(directory: directory.url)
        try journal.store(job: 1, settings: WireGenerationSettings(), rows: rows(5000))
        try journal.store(job: 2, settings: WireGenerationSettings(), rows: rows(3))
        try journal.store(job: 1, settings: WireGenerationSettings(), rows: rows(2))
        #expect(throws: JournalError.self) { try journal.row(job: 1, group: 2) }
        #expect(try journal.row(job: 2, group: 2).tokens == [1, 2, 3])
    }

    @Test("what is forgotten of one job leaves the others' and the admissions alone")
    func forgetting() throws {
        let directory = Directory()
        let journal = try Journal(directory: directory.url)
        for job: UInt64 in [1, 2] {
            try journal.store(job: job, settings: .with { $0.seed = 5 }, rows: rows(2500))
            try journal.append([
                (.with { $0.jobAdmitted.job = job }, nil),
                (
                    .with { $0.unitRecorded.job = job },
                    .with {
                        $0.job = job; $0.rollout.text = "x"
                    }
                ),
            ])
        }
        try journal.forget(job: 1)
        #expect(try journal.entries().count == 3)
        #expect(try journal.settings(of: 1).seed == 0 && journal.settings(of: 2).seed == 5)
        #expect(throws: JournalError.self) { try journal.row(job: 1, group: 0) }
        #expect(try journal.row(job: 2, group: 2499).id == "2499")
        #expect(try journal.record(job: 1, isScore: false, group: 0, sibling: 0) == nil)
        #expect(try journal.record(job: 2, isScore: false, group: 0, sibling: 0) != nil)
    }

    @Test("every commit is synced, not only those before a checkpoint of the log")
    func synchronous() throws {
        let directory = Directory()
        let journal = try Journal(directory: directory.url)
        #expect(try journal.synchronousSetting() == 2)
    }
}

@Suite("Intake of records")
struct RecordIntakeTests {
    @Test("a loop that is slow slows those who send; what waits is bounded, and nothing is lost")
    func slowLoop() {
        let intake = RecordIntake(chunkByteCount: 4096, resultByteCount: 4096)
        let announced = BoundedQueue<Int>(itemCountMax: 1000, byteCountMax: 1000)
        let thread = intake.start(isWorker: { _ in true }, logger: Logger(label: "test")) {
            _ = announced.tryPush(0)
        }
        defer { withExtendedLifetime(thread) { intake.close() } }
        let sent = Locked(0)
        let sender = DedicatedThread.start(name: "sender") {
            for number in 0..<200 {
                let result = WireUnitResult.with {
                    $0.rollout.group = UInt32(number)
                    $0.rollout.text = String(repeating: "x", count: 500)
                }
                let chunks = BulkChunker.messages(
                    transfer: UInt64(number + 1), content: Payload(result.encoded()), to: PeerIdentity("a"),
                    chunkByteCount: 200)
                for chunk in chunks {
                    // The transport's credit holds a sender as this does.
                    _ = intake.chunks.push(chunk, byteCount: chunk.chargedByteCount, until: .distantFuture)
                }
                sent.withLock { $0 = number + 1 }
            }
        }
        // Nobody takes anything: the sender stands still long before its end.
        var before = -1
        while before != sent.withLock({ $0 }) {
            before = sent.withLock { $0 }
            Thread.sleep(forTimeInterval: 0.2)
        }
        #expect(before < 30 && intake.waitingByteCount <= 4096, "\(before) sent")
        var groups: [UInt32] = []
        while groups.count < 200, announced.pop(until: .now.advanced(byMilliseconds: 10_000)) != nil {
            if let (result, _) = intake.take() { groups.append(result.rollout.group) }
        }
        #expect(groups == Array(0..<200))
        withExtendedLifetime(sender) {}
    }

    @Test("how many tokens of a whole vocabulary fit into a record")
    func fullVocabulary() {
        let count = WireUnitResult.byteCountMax / TeacherOutputs.full.byteCountPerToken(vocabulary: 151_936)
        #expect(count == 1480)
        #expect(TeacherOutputs.topK(64).byteCountPerToken(vocabulary: 151_936) == 524)
    }
}

@Suite("Files of a run")
struct RunFileTests {
    @Test("a step above what one protobuf file can have is cut into several, and read as one")
    func largeReplay() throws {
        let directory = Directory()
        let replay = directory.url.appendingPathComponent(ReplayFiles.directoryName)
        try FileManager.default.createDirectory(at: replay, withIntermediateDirectories: true)
        let messages = (0..<7).map { index in
            WireEnvelope.with { $0.trainCells.cells = [.with { $0.index = index }] }
        }
        let parts = ReplayFiles.parts(of: messages, byteCountMax: 60)
        #expect(parts.count > 2 && parts.allSatisfy { !$0.isEmpty } && parts.flatMap(\.self) == messages)
        #expect(ReplayFiles.parts(of: messages).count == 1)
        try ReplayFiles.write(.with { $0.checkpoint = "c" }, messages, to: replay, step: 3, byteCountMax: 60)
        try ReplayFiles.write(.with { $0.checkpoint = "d" }, messages, to: replay, step: 4, byteCountMax: 1 << 20)
        let steps = try ReplayFiles.read(directory.url)
        #expect(steps.map(\.checkpoint) == ["c", "d"])
        #expect(steps.allSatisfy { $0.messages == messages })
    }

    @Test("what is no longer kept goes, what is newer than the journal stays")
    func checkpoints() throws {
        let directory = Directory()
        let checkpoints = SavedCheckpoints(output: directory.url.path)
        let names = [
            "step-000001", "step-000001.partial", "step-000002", "step-000002.damaged", "step-000003",
            "step-000004.partial", "step-x",
        ]
        for name in names + ["step-000005"] {
            try FileManager.default.createDirectory(
                at: checkpoints.directory.appendingPathComponent(name), withIntermediateDirectories: true)
        }
        try checkpoints.remove(keeping: [2, 3])
        let left = try FileManager.default.contentsOfDirectory(atPath: checkpoints.directory.path).sorted()
        #expect(left == ["step-000002", "step-000003", "step-000004.partial", "step-000005", "step-x"])
    }

    @Test("a manifest that was written before the coordinator was killed is none of the checkpoint's files")
    func manifest() throws {
        let directory = Directory()
        let training = directory.url.appendingPathComponent("training")
        try FileManager.default.createDirectory(at: training, withIntermediateDirectories: true)
        for name in ["config.json", "training/state.json", "manifest.json", ".config.json.7.1.partial"] {
            try Data("{}".utf8).write(to: directory.url.appendingPathComponent(name))
        }
        let files = try SnapshotSealer.files(in: directory.url)
        #expect(files.map(\.name) == ["config.json", "training/state.json"])
        #expect(files.map(\.byteCount) == [2, 2])
    }
}
