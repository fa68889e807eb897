// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import ClusterProtocol
import Foundation
import Testing

@testable import CoordinatorRuntime

@Suite("Whose an output is")
final class OutputClaimTests {
    private let directory = FileManager.default.temporaryDirectory.appendingPathComponent(
        "apus-claim-\(UInt32.random(in: 0 ... .max))", isDirectory: true)
    private let journal: Journal
    private var claims: OutputClaim

    init() throws {
        journal = try Journal(directory: directory.appendingPathComponent("state"))
        claims = OutputClaim(journal)
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    private var run: RunDirectory { RunDirectory(directory.appendingPathComponent("out")) }

    private func prepared(job: UInt64, submission: UInt64 = 0, text: String = "name: a\n") -> PreparedSubmission {
        var admitted = WireJobAdmitted()
        admitted.job = job
        admitted.name = "a"
        admitted.resolvedYaml = text
        admitted.output = run.url.path
        admitted.submission = submission
        return PreparedSubmission(admitted: admitted, settings: WireGenerationSettings(), rows: [], warnings: [])
    }

    private func known(_ prepared: PreparedSubmission, _ status: String?) -> KnownJob {
        KnownJob(admitted: prepared.admitted, status: status, models: [])
    }

    private func job(_ outcome: OutputClaim.Outcome) -> UInt64? {
        if case .known(let job) = outcome { job } else { nil }
    }

    @Test("a job whose files are done, and whose end is not yet in the journal, is known to who goes on with it")
    func endsNow() throws {
        let first = prepared(job: 1)
        #expect(job(try claims.settle(first, [], resumes: true)) == nil)
        try run.set(RunDirectory.Status(status: "done"))
        for status in [nil, "done"] as [String?] {
            #expect(job(try claims.settle(prepared(job: 2), [known(first, status)], resumes: true)) == 1)
        }
        #expect(throws: SubmissionError.self) {
            try claims.settle(prepared(job: 2), [known(first, nil)], resumes: false)
        }
        #expect(throws: SubmissionError.self) {
            try claims.settle(prepared(job: 2, text: "name: b\n"), [known(first, nil)], resumes: true)
        }
    }

    @Test("the same submission again is the same job, before and after it is admitted; another one is refused")
    func repeated() throws {
        let first = prepared(job: 1, submission: 77)
        #expect(job(try claims.settle(first, [], resumes: false)) == nil)
        #expect(job(try claims.settle(prepared(job: 2, submission: 77), [], resumes: false)) == 1)
        let admitted = [known(first, nil)]
        #expect(job(try claims.settle(prepared(job: 3, submission: 77), admitted, resumes: false)) == 1)
        #expect(throws: SubmissionError.self) {
            try claims.settle(prepared(job: 4, submission: 78), admitted, resumes: false)
        }
    }
}
