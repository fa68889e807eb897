// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// `data.prompt_template`: a text with columns in braces, in the form of Python's `str.format`: `{question}` is the column's
/// text, `{{` and `}}` are braces.
package struct PromptTemplate: Equatable, Sendable {
    /// As it was written.
    package let text: String
    private let pieces: [Piece]

    private enum Piece: Equatable {
        case text(String)
        case column(String)
    }

    init(_ reader: YAMLReader) throws(JobError) {
        let text = try reader.string()
        do throws(RowProblem) { self = try PromptTemplate(text) } catch {
            throw reader.error(.invalidValue, error.message)
        }
    }

    /// - Throws: what is wrong with it.
    package init(_ text: String) throws(RowProblem) {
        self.text = text
        var pieces: [Piece] = []
        var plain = ""
        var rest = Substring(text)
        while let index = rest.firstIndex(where: { $0 == "{" || $0 == "}" }) {
            plain += rest[..<index]
            let brace = rest[index]
            rest = rest[index...].dropFirst()
            if rest.first == brace {
                plain.append(brace)
                rest = rest.dropFirst()
                continue
            }
            guard brace == "{" else { throw RowProblem("has a '}' by itself; write '}}' for a brace") }
            guard let end = rest.firstIndex(where: { $0 == "{" || $0 == "}" }), rest[end] == "}" else {
                throw RowProblem("has a '{' that no '}' closes; write '{{' for a brace")
            }
            let name = String(rest[..<end])
            guard !name.isEmpty else {
                throw RowProblem("'{}' names no column; write '{{}}' for braces, as in \\boxed{{}}")
            }
            guard !name.contains(":"), !name.contains("!") else {
                throw RowProblem("'{\(name)}': only {column} is read; write '{{' and '}}' for braces")
            }
            if !plain.isEmpty { pieces.append(.text(plain)) }
            plain = ""
            pieces.append(.column(name))
            rest = rest[end...].dropFirst()
        }
        plain += rest
        if !plain.isEmpty { pieces.append(.text(plain)) }
        guard pieces.contains(where: { if case .column = $0 { true } else { false } }) else {
            throw RowProblem("names no column in braces, so every prompt would be the same; write it as {question}")
        }
        self.pieces = pieces
    }

    /// The prompt of a row.
    /// - Parameters:
    ///   - original: the row as the file has it.
    ///   - renamed: the same with the names that `data.columns` gives.
    /// - Throws: which column is missing.
    package func render(_ original: JSONObject, _ renamed: JSONObject) throws(RowProblem) -> String {
        var result = ""
        for piece in pieces {
            switch piece {
            case .text(let text): result += text
            case .column(let name):
                guard let value = original.value(at: name) ?? renamed.value(at: name), !value.isNull else {
                    throw RowProblem(
                        "no column '\(name)', which data.prompt_template names; \(RowColumns.inventory(original))")
                }
                if case .array(let items) = value, items.contains(where: { $0.objectValue != nil }) {
                    throw RowProblem(
                        "'\(name)' holds messages, which data.prompt_template cannot take; name a text column")
                }
                result += value.columnText ?? ""
            }
        }
        return result
    }
}

extension JSONObject {
    /// The column of this name, or what a path with dots leads to (`reward_model.ground_truth`).
    func value(at path: String) -> JSONValue? {
        if let value = self[path] { return value }
        let parts = path.split(separator: ".").map(String.init)
        guard parts.count > 1 else { return nil }
        return parts.dropFirst().reduce(self[parts[0]]) { value, part in value?[part] }
    }
}
