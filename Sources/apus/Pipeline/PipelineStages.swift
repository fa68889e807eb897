// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import JobSpecification
import Recipes
import Rewards
import RuntimeSupport

/// Carries out a pipeline's stages on this machine: one cluster for all of them, started for the first job, and this
/// program's own commands as child processes.
final class PipelineStages: StageExecutor {
    private let options: LocalClusterOptions
    private let directory: URL
    private let cluster = Locked<LocalCluster?>(nil)
    private var client: ClusterClient?

    init(_ options: LocalClusterOptions, _ pipeline: Pipeline) {
        self.options = options
        directory = pipeline.output.appendingPathComponent(".cluster", isDirectory: true)
        onTermination { [cluster] in
            complain("interrupted; run the same command again to go on")
            cluster.withLock { $0 }?.supervisor.stop()
            Foundation.exit(130)
        }
    }

    func run(_ reading: JobReading, file: URL) throws {
        let job = reading.job
        let client = try connect()
        let id: UInt64
        do { id = try Submission(reading, file: file).submit(client, resumes: true) } catch let error as ClientError
            where error.exitCode == 3
        {
            let remedy =
                FileManager.default.fileExists(atPath: job.output)
                ? "; --from \(job.name) makes the stage again" : ""
            throw PipelineError(.badInput, "stage \(job.name): \(error.description)\(remedy)")
        }
        let cluster = cluster.withLock { $0 }
        try finish(JobWatch(client, job: id) { cluster?.supervisor.problem?.description }.run())
    }

    func run(command: [String], in directory: URL) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = command
        process.currentDirectoryURL = directory
        try process.run()
        process.waitUntilExit()
        guard process.terminationReason == .exit, process.terminationStatus == 0 else {
            throw PipelineError(
                .stage, "apus \(command.joined(separator: " ")) ended with \(process.terminationStatus)")
        }
    }

    var processorSeconds: Double? { ProcessorTime.ofChildren() }

    private func connect() throws -> ClusterClient {
        if let client { return client }
        let started = try LocalCluster(options, directory: directory, remedy: RunCommand.remedy)
        cluster.withLock { $0 = started }
        let client = try started.context.client()
        self.client = client
        return client
    }

    /// Ends the cluster; with `isDone` its state goes too.
    func stop(isDone: Bool) {
        client?.close()
        cluster.withLock { $0 }?.supervisor.stop()
        if isDone {
            try? FileManager.default.removeItem(at: directory)
        } else if FileManager.default.fileExists(atPath: directory.path) {
            complain("state and logs are in \(directory.path)")
        }
    }
}

extension RunCommand {
    /// `apus run PIPELINE`.
    func runPipeline() throws {
        let pipeline = try reporting(ExitStatus.badInput) {
            var output: String?
            var variables: [String: String] = [:]
            for text in overrides {
                let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                switch parts.first {
                case "output": output = parts.count > 1 ? parts[1] : nil
                case let name? where name.hasPrefix("variables.") && parts.count > 1:
                    variables[String(name.dropFirst("variables.".count))] = parts[1]
                case let name? where parts.count > 1 && !name.contains("."):
                    // A variable by its name alone, as a job's keys are; one that is not there is complained of below.
                    variables[name] = parts[1]
                default:
                    throw InputError(
                        "--set \(text): a pipeline takes output=… and NAME=… of its variables; stages have a set: in the file"
                    )
                }
            }
            return try Pipeline.read(URL(fileURLWithPath: job), output: output, variables: variables)
        }
        let stages = PipelineStages(options, pipeline)
        let runner = PipelineRunner(
            pipeline, executor: stages,
            readJob: { file, settings in
                try JobReading.read(
                    file, overrides: settings,
                    overridesDirectory: URL(fileURLWithPath: job).standardizedFileURL.deletingLastPathComponent().path,
                    rewardNames: RewardRegistry.names, rewardProblem: RewardRegistry.problem)
            },
            report: { line in
                print("== \(line)")
                StandardOutput.flush()
            })
        var isDone = false
        defer { stages.stop(isDone: isDone) }
        try reportingClient {
            do { try runner.run(from: from) } catch let error as PipelineError {
                complain(error.description)
                throw error.code == .badInput ? ExitStatus.badInput : ExitStatus.jobFailed
            } catch let error as JobError {
                complain(error.description)
                throw ExitStatus.badInput
            }
        }
        isDone = !keepState
        print(runner.table().joined(separator: "\n"))
        print("\(pipeline.name): \(pipeline.output.path), report.html and report.md there")
    }
}
