// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// What the README and the pages of Documentation/ tell people to type works, and their links lead somewhere.
@Suite("Pages of the documentation")
struct DocumentationTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static var pages: [String] {
        let folder = root.appendingPathComponent("Documentation")
        let names = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
        return ["README.md"]
            + names.filter { $0.hasSuffix(".md") && $0.contains("/") && !$0.hasPrefix("Decisions/") }
            .sorted().map { "Documentation/" + $0 }
    }

    /// A fenced block, with the comment in the line before it: `<!-- not run: why -->` or `<!-- file: NAME -->`.
    private struct Block {
        var language: String
        var note: String
        var lines: [String] = []
    }

    private static func blocks(in text: String) -> [Block] {
        var blocks: [Block] = []
        var open: Block?
        var before = ""
        for line in text.components(separatedBy: "\n") {
            if line.hasPrefix("```") {
                if let block = open {
                    blocks.append(block)
                    open = nil
                } else {
                    open = Block(language: String(line.dropFirst(3)), note: before)
                }
            } else if open != nil {
                open?.lines.append(line)
            }
            before = line
        }
        return blocks
    }

    /// Commands in backquotes outside of blocks, and lines of blocks that begin with one.
    private static func commands(in text: String) -> [[String]] {
        var isCode = false
        return text.components(separatedBy: "\n").flatMap { line -> [[String]] in
            if line.hasPrefix("```") { isCode.toggle() }
            let candidates =
                isCode
                ? [line]
                : line.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            return candidates.filter { $0.hasPrefix("apus ") }.map { command in
                let code = command.components(separatedBy: " #")[0].replacingOccurrences(of: "\\|", with: "|")
                    .components(separatedBy: "|")[0]
                let placeholders: [Substring: String] = ["N": "1", "WORKER": "1", "KEY": "steps"]
                return code.split(separator: " ").dropFirst().map { placeholders[$0] ?? String($0) }
                    .filter { $0 != "…" && $0 != "..." }
            }
        }
    }

    @Test("every command named on a page is one that the program takes")
    func namedCommands() throws {
        let bench = try Workbench("documentation")
        var seen: Set<[String]> = []
        // The references are made from the program.
        for page in Self.pages where !page.contains("/Reference/") {
            let text = try String(contentsOf: Self.root.appendingPathComponent(page), encoding: .utf8)
            for arguments in Self.commands(in: text) {
                // A mere name, as in "`apus up` restarts its processes"; what would really start here; placeholders.
                guard arguments.count > 1, arguments[0] != "up", !arguments.contains("calibrate"),
                    arguments != ["COMMAND", "--help"]
                else { continue }
                guard seen.insert(arguments).inserted else { continue }
                let result = try bench.apus(arguments, environment: [:], seconds: 60)
                // A sentence may name a command or an option without what belongs to it.
                let isPartial =
                    result.errors.contains("Missing expected argument") || result.errors.contains("Missing value")
                #expect(
                    result.status != 2 || isPartial,
                    "\(page): apus \(arguments.joined(separator: " ")): \(result.errors)")
            }
        }
        #expect(seen.count >= 10, "\(seen.count) commands were found")
    }

    @Test("commands in blocks do what they say, one page after another", arguments: pages)
    func blocks(_ page: String) throws {
        let text = try String(contentsOf: Self.root.appendingPathComponent(page), encoding: .utf8)
        let blocks = Self.blocks(in: text)
        guard blocks.contains(where: { $0.language == "sh" && !$0.note.hasPrefix("<!-- not run:") }) else { return }
        let bench = try Workbench("documentation")
        // Stand-ins for what a page's reader brings.
        try FileManager.default.createSymbolicLink(
            at: bench.url("Cluster"), withDestinationURL: Self.root.appendingPathComponent("Cluster"))
        try FileManager.default.createDirectory(at: bench.url("models"), withIntermediateDirectories: false)
        try bench.makeModel("models/mine")
        for block in blocks where block.note.hasPrefix("<!-- file: ") {
            let name = block.note.dropFirst("<!-- file: ".count).dropLast(" -->".count)
            try bench.write(String(name), block.lines.joined(separator: "\n") + "\n")
        }
        for block in blocks where block.language == "sh" && !block.note.hasPrefix("<!-- not run:") {
            for line in block.lines where !line.isEmpty && !line.hasPrefix("#") {
                let code = line.components(separatedBy: " #")[0]
                try #require(code.hasPrefix("apus "), "\(page): only commands of this program are run: \(line)")
                let arguments = code.split(separator: " ").dropFirst().map(String.init)
                let result = try bench.apus(arguments, environment: [:], seconds: 300)
                #expect(result.status == 0, "\(page): \(line): \(result.errors)")
            }
        }
    }

    @Test("links between pages lead to files", arguments: pages)
    func links(_ page: String) throws {
        let url = Self.root.appendingPathComponent(page)
        let text = try String(contentsOf: url, encoding: .utf8)
        for piece in text.components(separatedBy: "](").dropFirst() {
            let target = piece.prefix { $0 != ")" && $0 != "#" }
            guard !target.isEmpty, !target.contains("://") else { continue }
            let file = url.deletingLastPathComponent().appendingPathComponent(String(target))
            #expect(FileManager.default.fileExists(atPath: file.path), "\(page): \(target)")
        }
    }
}
