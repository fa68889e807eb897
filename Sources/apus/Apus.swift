// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import RuntimeSupport

/// The command line: parses, prints, exits. Everything else lives in the libraries.
@main
struct Apus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus", abstract: "Post-trains Qwen3-family models on clusters of CPU hosts.",
        version: Version.current,
        groupedSubcommands: [
            CommandGroup(
                name: "Clusters",
                subcommands: [
                    RunCommand.self, UpCommand.self, CoordinatorCommand.self, WorkerCommand.self, KeysCommand.self,
                    VerifierChildCommand.self,
                ]),
            CommandGroup(
                name: "Jobs",
                subcommands: [
                    PlanCommand.self, ExplainCommand.self, SubmitCommand.self, JobsCommand.self, JobCommand.self,
                    WatchCommand.self,
                    CancelCommand.self,
                    WorkersCommand.self, DrainCommand.self, ScaleCommand.self, ShowCommand.self, ReportCommand.self,
                    VerifyCommand.self,
                ]),
            CommandGroup(
                name: "Local tools",
                subcommands: [
                    ModelCommand.self, TokenizeCommand.self, RenderCommand.self, GenerateCommand.self,
                    ScoreCommand.self,
                ]),
            CommandGroup(name: "Data", subcommands: [DataCommand.self, EvaluationCommand.self]),
            CommandGroup(
                name: "Checks",
                subcommands: [ParityCommand.self, BenchCommand.self, SimulateCommand.self, ReferenceCommand.self]),
        ])
}

extension Apus {
    /// As the default, but a command line that cannot be parsed ends with exit code 2 (Documentation/Reference/exit-codes.md).
    static func main() async {
        OpenBLASCore.pin()
        StandardOutput.watch()
        // A verifier's child keeps the limits that it was given.
        if CommandLine.arguments.dropFirst().first != "verifier-child" { ResourceLimits.raise() }
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
            complain(fullMessage(for: error))
            Foundation.exit(ExitStatus.usage.rawValue)
        }
    }
}

/// The version of this build; workers and coordinators of different versions do not talk.
enum Version {
    static let current = "0.1.0"
}
