// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// One line of JSON with its keys in order; floats as the shortest text that reads back to the same bits.
struct JSONLine {
    private var fields: [(key: String, value: String)] = []
    private static let encoder: JSONEncoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes]
        return encoder
    }()

    var text: String {
        "{" + fields.sorted { $0.key < $1.key }.map { Self.quoted($0.key) + ": " + $0.value }.joined(separator: ", ")
            + "}"
    }

    mutating func put(_ key: String, _ value: String?) { if let value { fields.append((key, Self.quoted(value))) } }
    mutating func put(_ key: String, _ value: Int) { fields.append((key, String(value))) }
    mutating func put(_ key: String, _ value: Bool) { fields.append((key, String(value))) }
    mutating func put(_ key: String, _ value: Double?) { fields.append((key, value.map(Self.number) ?? "null")) }
    mutating func put(_ key: String, _ values: [Int32]) {
        fields.append((key, "[" + values.map(\.description).joined(separator: ", ") + "]"))
    }
    mutating func put(_ key: String, _ values: [Float]) {
        fields.append((key, "[" + values.map { $0.isFinite ? $0.description : "null" }.joined(separator: ", ") + "]"))
    }
    mutating func put(_ key: String, _ line: JSONLine) { fields.append((key, line.text)) }

    private static func number(_ value: Double) -> String { value.isFinite ? value.description : "null" }

    private static func quoted(_ text: String) -> String {
        guard let data = try? encoder.encode(text) else { return "\"\"" }
        return String(decoding: data, as: UTF8.self)
    }
}
