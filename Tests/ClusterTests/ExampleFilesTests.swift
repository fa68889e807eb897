// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// What the files in Cluster/ and the README tell people to type is a command line of this program.
@Suite("Commands in examples")
struct ExampleFilesTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Lines of comments that begin with a command, and commands in backquotes; lines that end in a backslash go on.
    private static func commands(in text: String) -> [[String]] {
        var lines: [String] = []
        var isGoingOn = false
        for line in text.components(separatedBy: "\n") {
            guard line.trimmingCharacters(in: .whitespaces).hasPrefix("#") else {
                isGoingOn = false
                continue
            }
            var words = line.trimmingCharacters(in: .whitespaces).drop { $0 == "#" }.trimmingCharacters(
                in: .whitespaces)
            let continues = words.hasSuffix("\\")
            if continues { words.removeLast() }
            if isGoingOn { lines[lines.count - 1] += " " + words } else { lines.append(words) }
            isGoingOn = continues
        }
        return lines.flatMap { line -> [[String]] in
            let quoted = line.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            // A sentence may end in a command.
            let last = line.components(separatedBy: ": ").last ?? line
            let sentence = line.components(separatedBy: ". ").last ?? line
            return Set(quoted + [line, last, sentence]).sorted().filter { $0.hasPrefix("apus ") }.map { command in
                let code = command.components(separatedBy: "  #")[0]
                return code.split(separator: " ").dropFirst().map(String.init)
            }
        }
    }

    @Test("every command named in a comment of Cluster/**/*.yaml is one that the program takes")
    func comments() throws {
        let bench = try Workbench("examples")
        let folder = Self.root.appendingPathComponent("Cluster")
        let names = try #require(FileManager.default.enumerator(atPath: folder.path)).compactMap { $0 as? String }
        var count = 0
        for name in names.sorted() where name.hasSuffix(".yaml") {
            let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
            for arguments in Self.commands(in: text) where arguments.count > 1 {
                count += 1
                // Unknown options and surplus or missing arguments are found before anything is read; the files are not
                // there, which is another exit code.
                let result = try bench.apus(arguments, environment: [:], seconds: 60)
                #expect(
                    result.status != 2,
                    "\(name): apus \(arguments.joined(separator: " ")): \(result.errors)")
            }
        }
        #expect(count >= 10, "\(count) commands were found")
    }

    @Test("a wrong command would be found")
    func wrongCommand() throws {
        let bench = try Workbench("examples")
        let text =
            "#   apus data arithmetic --count 64 --seed 7\n# so: apus run job.yaml -o \\\n#   seed=1\nkind: rollout\n"
        let commands = Self.commands(in: text)
        #expect(commands.map(\.count) == [6, 4])
        for arguments in commands { #expect(try bench.apus(arguments, seconds: 60).status == 2) }
    }
}
