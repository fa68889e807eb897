// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import Rewards

/// A job file on its way to the coordinator.
struct Submission {
    let url: URL
    private let parsed: Job

    /// Reads and checks the file here, so that most mistakes are told at once.
    init(_ path: String, _ overrides: [String]) throws {
        url = URL(fileURLWithPath: path)
        let (url, names) = (url, RewardRegistry.names)
        parsed = try reporting(ExitStatus.badInput) {
            try Job.read(
                url, overrides: overrides.map { try JobOverride(argument: $0) }, rewardNames: names,
                rewardProblem: RewardRegistry.problem)
        }
    }

    /// A job that has been read already.
    init(_ job: Job, file: URL) {
        url = file
        parsed = job
    }

    /// The job with every setting.
    var resolvedYAML: String { parsed.resolvedYAML }

    /// Where the run will be written; it must not exist.
    func outputDirectory() throws -> URL {
        let output = URL(fileURLWithPath: parsed.output).standardizedFileURL
        guard !FileManager.default.fileExists(atPath: output.path) else {
            throw ClientError("\(output.path) exists already; choose another output or remove it first", exitCode: 3)
        }
        try FileManager.default.createDirectory(
            at: output.deletingLastPathComponent(), withIntermediateDirectories: true)
        return output
    }

    /// - Returns: the job's number.
    func submit(_ client: ClusterClient) throws -> UInt64 {
        let reply = try client.request(seconds: 120, isRepeatable: false) {
            $0.submitJob.jobText = parsed.resolvedYAML
            $0.submitJob.file = url.path
        }
        guard case .jobAccepted(let accepted) = reply.body else {
            throw ClientError("the coordinator sent an unexpected answer")
        }
        return accepted.job
    }

    /// The number of an unfinished job of this name, or of a new one.
    func resumeOrSubmit(_ client: ClusterClient) throws -> UInt64 { try unfinished(client) ?? submit(client) }

    /// The number of an unfinished job of this name, or of one that is done with its output where this one's would be.
    func known(_ client: ClusterClient) throws -> UInt64? {
        if let unfinished = try unfinished(client) { return unfinished }
        let output = URL(fileURLWithPath: parsed.output).standardizedFileURL.path
        guard FileManager.default.fileExists(atPath: output) else { return nil }
        return try jobs(client).last {
            $0.name == parsed.name && $0.status == "done"
                && URL(fileURLWithPath: $0.output).standardizedFileURL.path == output
        }?.id
    }

    private func jobs(_ client: ClusterClient) throws -> [JobWatch.View] {
        // A launch script starts coordinator and client together: the first answer may take a while.
        guard case .jobList(let list) = try client.request(seconds: 60, { $0.listJobs = WireListJobs() }).body else {
            throw ClientError("the coordinator sent an unexpected answer")
        }
        return list.jobs
    }

    /// The number of an unfinished job of this name.
    func unfinished(_ client: ClusterClient) throws -> UInt64? {
        let unfinished = try jobs(client).first { $0.name == parsed.name && !JobWatch.isEnded($0.status) }
        if let unfinished {
            complain("going on with job \(unfinished.id)")
            return unfinished.id
        }
        return nil
    }
}
