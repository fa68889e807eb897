// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

/// The command line: parses, prints, exits. Everything else lives in the libraries.
@main
struct Apus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus", abstract: "Post-trains Qwen3-family models on clusters of CPU hosts.",
        version: Version.current,
        groupedSubcommands: [
            CommandGroup(name: "Checks", subcommands: [ParityCommand.self])
        ])
}

/// The version of this build; workers and coordinators of different versions do not talk.
enum Version {
    static let current = "0.1.0"
}
