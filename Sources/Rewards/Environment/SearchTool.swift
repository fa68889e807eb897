// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import GRDB

/// `search`: full-text search over the job's corpus, by SQLite's FTS5 with its BM25 ranking.
struct SearchTool: EnvironmentTool {
    static let name = "search"
    static let schema = ToolRegistry.schema(
        name, "Full-text search over a collection of documents.",
        [("query", "Words to look for"), ("limit", "Documents at most, 1 to 10")], required: ["query"])

    /// Bytes of a corpus: the index is in memory, in each process that runs tools.
    private static let corpusByteCountMax = 256 << 20

    private let index: DatabaseQueue

    private struct Document: Decodable {
        let id: String?
        let title: String?
        let text: String
    }

    /// - Throws: one line: the corpus cannot be read.
    init(corpus path: String) throws {
        let url = URL(fileURLWithPath: path)
        let size = try url.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0
        guard size <= Self.corpusByteCountMax else {
            throw ToolError("\(path) has \(size) bytes; a corpus has at most \(Self.corpusByteCountMax)")
        }
        let lines = try Data(contentsOf: url).split(separator: UInt8(ascii: "\n"))
        index = try DatabaseQueue()
        try index.write { database in
            try database.create(virtualTable: "document", using: FTS5()) { table in
                table.column("id").notIndexed()
                table.column("title")
                table.column("text")
            }
            let statement = try database.makeStatement(sql: "INSERT INTO document VALUES (?, ?, ?)")
            for (number, line) in lines.enumerated() {
                guard let document = try? JSONDecoder().decode(Document.self, from: line) else {
                    throw ToolError("\(path): line \(number + 1) has no string 'text'")
                }
                try statement.execute(arguments: [document.id ?? "\(number + 1)", document.title ?? "", document.text])
            }
        }
    }

    func call(_ arguments: ToolArguments, _ state: inout EnvironmentState) throws(ToolError) -> String {
        try arguments.requireOnly(["query", "limit"])
        let query = try arguments.text("query")
        let limit = try arguments.integer("limit", 1...10, default: 3)
        // Any of the words, each quoted: what the model writes is never query syntax.
        guard let pattern = FTS5Pattern(matchingAnyTokenIn: query) else { throw ToolError("the query has no words") }
        let found = try? index.read { database in
            try Row.fetchAll(
                database,
                sql: "SELECT id, title, text FROM document WHERE document MATCH ? ORDER BY rank, rowid LIMIT ?",
                arguments: [pattern, limit])
        }
        guard let found, !found.isEmpty else { return "no document matches" }
        return found.map { row -> String in
            let (id, title, text): (String, String, String) = (row[0], row[1], row[2])
            return "[\(id)]\(title.isEmpty ? "" : " \(title):") \(text)"
        }.joined(separator: "\n")
    }
}
