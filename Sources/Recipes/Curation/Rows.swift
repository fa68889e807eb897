// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Crypto
package import Foundation

/// Rows of JSON lines with all their columns, whatever they are called.
package enum Rows {
    package typealias Row = [String: Any]

    /// Bytes of the longest line.
    private static let lineByteCountMax = 16 << 20

    /// - Throws: ``CurationError`` with file and line.
    package static func read(_ url: URL) throws -> [Row] {
        guard let data = try? Data(contentsOf: url, options: .alwaysMapped) else {
            throw CurationError("\(url.path): cannot be read")
        }
        var rows: [Row] = []
        for (index, line) in data.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
        where !line.isEmpty {
            guard line.count <= lineByteCountMax,
                let row = try? JSONSerialization.jsonObject(with: Data(line)) as? Row
            else { throw CurationError("\(url.path): line \(index + 1) is no JSON object") }
            rows.append(row)
        }
        return rows
    }

    /// Writes rows with sorted keys; the file appears whole.
    package static func write(_ rows: [Row], to url: URL) throws {
        let lines = try rows.map { row in
            let data = try JSONSerialization.data(withJSONObject: row, options: [.sortedKeys, .withoutEscapingSlashes])
            return String(decoding: data, as: UTF8.self) + "\n"
        }
        try DurableFile.write(lines.joined(), to: url)
    }

    /// The row's `id`, or `row-N` with its place from 1, as jobs name it.
    package static func id(_ row: Row, _ index: Int) -> String { row["id"] as? String ?? "row-\(index + 1)" }

    /// The query: the last user turn, or the prompt.
    package static func query(_ row: Row) -> String {
        if let prompt = row["prompt"] as? String { return prompt }
        let messages = row["messages"] as? [Row] ?? row["prompt"] as? [Row] ?? []
        return messages.last { $0["role"] as? String == "user" }?["content"] as? String ?? ""
    }

    package static func reference(_ row: Row) -> String? {
        for key in ["answer", "reference", "solution", "ground_truth"] {
            if let text = row[key] as? String, !text.isEmpty { return text }
            if let number = row[key] as? NSNumber { return number.stringValue }
        }
        return nil
    }

    /// A number in [0, 1) that depends on `text` and `salt` alone: for splits that any later file agrees with.
    package static func draw(_ text: String, salt: String) -> Double {
        var value: UInt64 = 0
        for byte in SHA256.hash(data: Data("\(salt)\u{0}\(text)".utf8)).prefix(8) { value = value << 8 | UInt64(byte) }
        return Double(value >> 11) / Double(1 << 53)
    }
}
