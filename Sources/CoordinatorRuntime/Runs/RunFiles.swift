// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation

/// The files of a run while it runs. All of them are functions of the journal: made anew after a restart, the writer
/// compares what lies there with what it would have written, and goes on where the two part.
protocol RunFiles: AnyObject {
    /// Brings them up to what is recorded, in order and without gaps.
    func update(_ job: JobRecord) throws
    /// The job has ended or is about to: everything that is recorded.
    func complete(_ job: JobRecord) throws
}

/// A run's directory as its coordinator sees it.
struct OwnedRun {
    let directory: RunDirectory
    let job: JobRecord
    let owner: RunDirectory.Owner

    init(_ job: JobRecord, _ journal: Journal) {
        directory = RunDirectory(URL(fileURLWithPath: job.admitted.output, isDirectory: true))
        self.job = job
        owner = RunDirectory.Owner(journal: journal.identity, job: job.id, state: journal.directory.path)
    }

    /// Whether the directory is this job's, unfinished.
    var isOurs: Bool { directory.status?.owner.map { $0.journal == owner.journal && $0.job == owner.job } ?? false }

    /// Opens the files; a directory that somebody has removed is made again.
    /// - Throws: one line.
    func open(_ journal: Journal, _ models: [UInt32: WireModelDescription]) throws -> any RunFiles {
        if !directory.exists {
            try directory.claim(jobText: job.admitted.resolvedYaml, owner)
        } else if directory.status == nil, directory.jobText == nil {
            try directory.claimExisting(jobText: job.admitted.resolvedYaml, owner)
        }
        guard isOurs else {
            throw JournalError(description: "\(directory.url.path) belongs to another run now")
        }
        directory.removeLeftovers()
        if directory.status?.status == "queued" {
            try directory.set(RunDirectory.Status(status: "running", owner: owner))
        }
        if !job.admitted.firstPrompt.isEmpty {
            try DurableFile.write(
                job.admitted.firstPrompt, to: directory.url.appendingPathComponent(RunDirectory.firstPromptFile))
        }
        return job.isTraining
            ? try TrainingFiles(journal, job, models, directory.url)
            : try RolloutFiles(journal, job, models, directory.url)
    }

    /// Says how the job ended. A job of which nothing came leaves no directory.
    func close() throws {
        guard let ended = job.ended, isOurs else { return }
        directory.removeLeftovers()
        directory.removeAbandonedClaims()
        if ended.status != "done", job.isUntouched { return directory.removeEmpty() }
        try directory.set(
            RunDirectory.Status(status: ended.status, problem: ended.problem.isEmpty ? nil : ended.problem))
    }
}
