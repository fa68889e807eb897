// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import Rewards

/// A job file on its way to the coordinator.
struct Submission {
    let url: URL
    let reading: JobReading
    private var parsed: Job { reading.job }

    /// Reads and checks the file here, so that most mistakes are told at once.
    init(_ path: String, _ overrides: [String]) throws {
        url = URL(fileURLWithPath: path)
        let (url, names) = (url, RewardRegistry.names)
        reading = try reporting(ExitStatus.badInput) {
            try JobReading.read(
                url, overrides: overrides.map { try JobOverride(argument: $0) }, rewardNames: names,
                rewardProblem: RewardRegistry.problem, checkpoint: CheckpointFacts.look(at:))
        }
    }

    /// A job that has been read already.
    init(_ reading: JobReading, file: URL) {
        url = file
        self.reading = reading
    }

    /// The job with every setting.
    var resolvedYAML: String { parsed.resolvedYAML }

    var name: String { parsed.name }

    /// Where the run will be written.
    var output: URL { URL(fileURLWithPath: parsed.output).standardizedFileURL }

    /// What an earlier `apus run` of this job has left.
    enum Earlier { case nothing, unfinished, done }

    /// Looks at the output directory, as far as that can be done without a coordinator.
    /// - Parameter state: where the cluster of an unfinished run has its state.
    /// - Throws: ``ClientError`` where the directory is something else's.
    func earlier(_ state: ClusterFiles) throws -> Earlier {
        let run = RunDirectory(output)
        guard run.exists else { return .nothing }
        guard let status = run.status, run.jobText == resolvedYAML, status.status == "done" || !status.isEnded else {
            throw ClientError(run.refusal(for: resolvedYAML), exitCode: 3)
        }
        if status.status == "done" {
            // Data that were edited since then give another run; where they are gone there is only this one.
            let lineage = try? JSONDecoder().decode(
                [String: String].self, from: Data(contentsOf: output.appendingPathComponent("lineage.json")))
            if let data = lineage?["data"], let hashes = try? parsed.dataHashes(),
                DataFiles.combined(hashes) != data
            {
                throw ClientError(
                    "\(output.path) exists already: the finished run of this job, made from other data; choose another "
                        + "output or remove it first", exitCode: 3)
            }
            return .done
        }
        guard FileManager.default.fileExists(atPath: state.state.path) else {
            let owner = status.owner?.state ?? state.state.path
            let remedy =
                FileManager.default.fileExists(atPath: owner)
                ? "go on with it in that cluster, with apus submit --resume"
                : "that is gone, so the run cannot go on: rename or remove it, and run the same command again"
            throw ClientError(
                "\(output.path) exists already: an unfinished run whose cluster has its state in \(owner); \(remedy)",
                exitCode: 3)
        }
        return .unfinished
    }

    /// - Parameter resumes: go on with the same job where the coordinator knows it, unfinished or done with its output in
    ///   place.
    /// - Returns: the job's number.
    func submit(_ client: ClusterClient, resumes: Bool = false) throws -> UInt64 {
        let number = UInt64.random(in: 1 ... .max)
        let reply = try client.request(seconds: 120) {
            $0.submitJob.submission = number
            $0.submitJob.jobText = reading.submissionYAML
            $0.submitJob.file = url.path
            $0.submitJob.resumes = resumes
        }
        guard case .jobAccepted(let accepted) = reply.body else {
            throw ClientError("the coordinator sent an unexpected answer")
        }
        if accepted.isKnown { complain("going on with job \(accepted.job)") }
        if !accepted.firstPrompt.isEmpty {
            print("first prompt: " + Format.printable(accepted.firstPrompt), terminator: "")
            StandardOutput.flush()
        }
        return accepted.job
    }
}
