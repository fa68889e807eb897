// SPDX-License-Identifier: Apache-2.0
//
// Who gets an output directory: a new job, the same job submitted again, or nobody.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation

/// A job that the coordinator knew when another one was submitted.
struct KnownJob: Sendable {
    let admitted: WireJobAdmitted
    /// nil: it has not ended.
    let status: String?
    /// Hashes of the models that it names.
    let models: [String]
}

extension KnownJob {
    init(_ job: JobRecord, _ models: [UInt32: WireModelDescription]) {
        admitted = job.admitted
        status = job.ended?.status
        self.models = job.models.compactMap { models[$0]?.contentHash }
    }
}

/// Decides for one coordinator, on the thread that prepares submitted jobs.
struct OutputClaim {
    enum Outcome {
        /// The directory is the new job's. `replaced` had it, unfinished, before somebody removed it.
        case new(replaced: UInt64?)
        /// This is that job, submitted before.
        case known(UInt64)
    }

    private let journal: Journal
    /// Directories that were given to jobs in this process, by path.
    private var given: [String: (job: UInt64, submission: UInt64)] = [:]

    init(_ journal: Journal) { self.journal = journal }

    /// - Parameter resumes: the client goes on with the same job where there is one.
    /// - Throws: ``SubmissionError`` with whose the directory is, or why it cannot be written.
    mutating func settle(
        _ prepared: PreparedSubmission, _ known: [KnownJob], resumes: Bool
    ) throws(SubmissionError) -> Outcome {
        let admitted = prepared.admitted
        let run = RunDirectory(URL(fileURLWithPath: admitted.output, isDirectory: true))
        let path = RunDirectory.canonicalPath(run.url.path)
        let here = known.filter { RunDirectory.canonicalPath($0.admitted.output) == path }
        let unfinished = here.last { $0.status == nil }
        if let outer = run.enclosingRun {
            throw SubmissionError(
                description: "\(run.url.path) lies in a folder of the run \(outer.path); choose another output")
        }
        if run.exists {
            if let found = try same(run, prepared, here, path, resumes) { return .known(found) }
            // Its claim outlived a coordinator that was killed before it had admitted the job: nothing was made.
            run.removeEmpty()
        }
        do {
            let owner = RunDirectory.Owner(
                journal: journal.identity, job: admitted.job, state: journal.directory.path)
            try run.claim(jobText: admitted.resolvedYaml, owner)
        } catch {
            throw SubmissionError(description: String(describing: error))
        }
        given[path] = (admitted.job, admitted.submission)
        return .new(replaced: unfinished?.admitted.job)
    }

    /// The job could not be stored after all.
    mutating func giveBack(_ prepared: PreparedSubmission) {
        let run = RunDirectory(URL(fileURLWithPath: prepared.admitted.output, isDirectory: true))
        given[RunDirectory.canonicalPath(run.url.path)] = nil
        run.removeEmpty()
    }

    /// The job of the same submission, which was sent again because its answer was lost, with a coordinator perhaps.
    private func again(_ prepared: PreparedSubmission, _ here: [KnownJob], _ path: String) -> UInt64? {
        let submission = prepared.admitted.submission
        guard submission != 0 else { return nil }
        if let job = here.last(where: { $0.admitted.submission == submission }) { return job.admitted.job }
        return given[path].flatMap { $0.submission == submission ? $0.job : nil }
    }

    /// The job that has the directory, if it is this one and the client goes on with it; nil where the directory is a claim
    /// of ours that no job stands behind.
    private func same(
        _ run: RunDirectory, _ prepared: PreparedSubmission, _ here: [KnownJob], _ path: String, _ resumes: Bool
    ) throws(SubmissionError) -> UInt64? {
        let text = prepared.admitted.resolvedYaml
        let status = run.status
        let owner = status?.owner
        let isOurs = owner.map { $0.journal == journal.identity } ?? false
        if let again = again(prepared, here, path) { return again }
        if isOurs, let owner, let job = here.last(where: { $0.admitted.job == owner.job && $0.status == nil }) {
            let name = "job \(owner.job) (\(job.admitted.name))"
            if let difference = difference(job, prepared) {
                throw SubmissionError(
                    description:
                        "\(run.url.path) exists already: \(name) is not finished, writes there and was made from other "
                        + "settings (\(difference)); choose another output, or cancel that job and remove its output")
            }
            if resumes { return owner.job }
            throw SubmissionError(
                description:
                    "\(run.url.path) exists already: \(name) is not finished and writes there; follow it with apus watch "
                    + "\(owner.job), or choose another output")
        }
        if isOurs, let owner, given[path]?.job == owner.job {
            // Submitted a moment ago, not yet admitted.
            if resumes, run.jobText == text { return owner.job }
            throw SubmissionError(
                description: "\(run.url.path) exists already: job \(owner.job) writes there; choose another output")
        }
        if isOurs, status?.isEnded == false, !here.contains(where: { $0.admitted.job == owner?.job }) { return nil }
        // Its files are done a moment before its end is in the journal.
        if resumes, status?.status == "done", run.jobText == text,
            let done = here.last(where: { [nil, "done"].contains($0.status) && difference($0, prepared) == nil })
        {
            return done.admitted.job
        }
        throw SubmissionError(description: run.refusal(for: text))
    }

    /// What differs between a job and one that is submitted: settings, data or models; nil: they are the same.
    private func difference(_ job: KnownJob, _ prepared: PreparedSubmission) -> String? {
        if let line = RunDirectory.firstDifference(job.admitted.resolvedYaml, prepared.admitted.resolvedYaml) {
            return line
        }
        var hashes: [String] = []
        for model in ([prepared.policy, prepared.scorer] + prepared.furtherScorers).compactMap({ $0?.contentHash })
        where !hashes.contains(model) {
            hashes.append(model)
        }
        var known: [String] = []
        for model in job.models where !known.contains(model) { known.append(model) }
        if hashes != known { return "the content of a model" }
        func recipe(_ admitted: WireJobAdmitted) -> WireJobAdmitted {
            var recipe = admitted
            recipe.job = 0
            recipe.submission = 0
            recipe.policyModel = 0
            recipe.scoreModel = 0
            recipe.furtherScoreModels = []
            return recipe
        }
        return recipe(job.admitted) == recipe(prepared.admitted) ? nil : "the content of a data file"
    }
}
