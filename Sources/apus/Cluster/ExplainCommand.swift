// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import JobSpecification

/// `apus explain KEY`: what the table of keys says.
struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say what a key of job files means: type, bounds, default, names in TRL and verl.",
        discussion: """
            KEY is a key (group_size), its path (sampling.top_p), a section (optimizer), a value (grpo), the beginning of one, or \
            a name of TRL (num_generations) or verl (actor_rollout_ref.rollout.n). Without it all keys are listed.
            """)

    @Argument(help: "A key, or what is known of it.")
    var key: String?

    @Flag(help: "Print the JSON Schema of job files, for editors.")
    var jsonSchema = false

    @Flag(help: "Print the reference page, in Markdown.")
    var markdown = false

    func validate() throws {
        guard [key != nil, jsonSchema, markdown].count(where: { $0 }) <= 1 else {
            throw ValidationError("give one of KEY, --json-schema and --markdown")
        }
    }

    func run() throws {
        if jsonSchema { return print(EditorSchema.text, terminator: "") }
        if markdown { return print(ReferencePage.text, terminator: "") }
        guard let key else { return print(KeyExplanation().lines.joined(separator: "\n"), terminator: "") }
        guard let found = KeyExplanation(key) else {
            let near = KeyExplanation.near(key)
            complain(
                "no key is called '\(key)'" + (near.map { "; did you mean '\($0)'?" } ?? "; apus explain lists all"))
            throw ExitStatus.usage
        }
        print(found.lines.joined(separator: "\n"))
    }
}
