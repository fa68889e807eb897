// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CoordinatorRuntime
import Foundation

/// `apus reference NAME`: pages of Documentation/Reference that come from the program itself. For Scripts/generate-reference.
struct ReferenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference", abstract: "Print a reference page, in Markdown.", shouldDisplay: false)

    enum Page: String, ExpressibleByArgument, CaseIterable {
        case commands
        case exitCodes = "exit-codes"
        case metrics
    }

    @Argument(help: "commands, exit-codes or metrics.")
    var page: Page

    func run() throws {
        switch page {
        case .commands: print(try CommandReference.text(), terminator: "")
        case .exitCodes: print(ExitStatus.page, terminator: "")
        case .metrics: print(MetricTable.page, terminator: "")
        }
    }
}

/// Every command with its options, as the parser describes them.
enum CommandReference {
    /// As much of the parser's own description as the page shows.
    private struct Tool: Decodable { let command: Command }

    private struct Command: Decodable {
        let commandName: String
        let abstract: String?
        let discussion: String?
        let shouldDisplay: Bool
        let subcommands: [Command]?
        let arguments: [Argument]?
    }

    private struct Argument: Decodable {
        struct Name: Decodable {
            let kind: String
            let name: String
            var text: String { kind == "long" ? "--\(name)" : "-\(name)" }
        }

        let kind: String
        let shouldDisplay: Bool
        let isOptional: Bool
        let isRepeating: Bool
        let names: [Name]?
        let valueName: String?
        let defaultValue: String?
        let allValues: [String]?
        let abstract: String?
    }

    static func text() throws -> String {
        let tool = try JSONDecoder().decode(Tool.self, from: Data(Apus._dumpHelp().utf8))
        var lines = [
            "# Commands", "",
            "Made from the program's own descriptions by `Scripts/generate-reference`; not written by hand. `apus COMMAND "
                + "--help` prints the same of one command. [Exit codes](exit-codes.md) are the same for all.", "",
        ]
        write(tool.command, path: [], into: &lines)
        return lines.joined(separator: "\n") + "\n"
    }

    private static func write(_ command: Command, path: [String], into lines: inout [String]) {
        let path = path + [command.commandName]
        let shown = (command.subcommands ?? []).filter { $0.shouldDisplay && $0.commandName != "help" }
        let arguments = (command.arguments ?? []).filter { $0.shouldDisplay && !isEverywhere($0) }
        if path.count > 1 {
            lines += ["\(String(repeating: "#", count: min(path.count, 4))) \(path.joined(separator: " "))", ""]
            if let abstract = command.abstract, !abstract.isEmpty { lines += [escaped(abstract), ""] }
            if let discussion = command.discussion, !discussion.isEmpty { lines += ["```text", discussion, "```", ""] }
            if shown.isEmpty || !arguments.isEmpty {
                lines += ["    \((path + arguments.map(usage)).joined(separator: " "))", ""]
            }
            if !arguments.isEmpty {
                lines += ["| argument | default | |", "|---|---|---|"] + arguments.map(row) + [""]
            }
        }
        for subcommand in shown { write(subcommand, path: path, into: &lines) }
    }

    private static func isEverywhere(_ argument: Argument) -> Bool {
        let names = argument.names?.map(\.name) ?? []
        return names.contains("help") || names.contains("version")
    }

    private static func usage(_ argument: Argument) -> String {
        let value = (argument.valueName ?? "value").uppercased()
        let text =
            switch argument.kind {
            case "positional": value
            case "flag": argument.names?.last?.text ?? ""
            default: "\(argument.names?.last?.text ?? "") \(value)"
            }
        return (argument.isOptional ? "[\(text)]" : text) + (argument.isRepeating ? "..." : "")
    }

    private static func row(_ argument: Argument) -> String {
        let name =
            argument.kind == "positional"
            ? (argument.valueName ?? "").uppercased() : (argument.names ?? []).map(\.text).joined(separator: ", ")
        var text = argument.abstract ?? ""
        if let values = argument.allValues, !values.isEmpty { text += " One of \(values.joined(separator: ", "))." }
        return "| `\(name)` | \(argument.defaultValue.map { "`\($0)`" } ?? "") | \(escaped(text)) |"
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("|", with: "\\|").replacing("<", with: "&lt;")
    }
}
