// SPDX-License-Identifier: Apache-2.0

/// What a GGUF file says of itself, also of those that are not read.
package struct GGUFSummary: Sendable {
    /// Tensors of one type.
    package struct Row: Sendable {
        package let type: GGUFTensorType
        package let tensorCount: Int
        package let elementCount: Int
        package let byteCount: Int
    }

    package let architecture: String?
    package let name: String?
    /// `tokenizer.ggml.model` and `.pre`.
    package let tokenizer: String?
    package let preTokenizer: String?
    package let tokenCount: Int
    package let hasTemplate: Bool
    /// Largest share of the bytes first.
    package let rows: [Row]
    package var elementCount: Int { rows.reduce(0) { $0 + $1.elementCount } }

    /// - Throws: `invalidConfiguration` where the metadata have other types than they should.
    package init(_ file: GGUFFile) throws {
        architecture = try file.text("general.architecture")
        name = try file.text("general.name")
        tokenizer = try file.text("tokenizer.ggml.model")
        preTokenizer = try file.text("tokenizer.ggml.pre")
        hasTemplate = file.header["tokenizer.chat_template"] != nil
        tokenCount = if case .array(_, let count, _)? = file.header["tokenizer.ggml.tokens"] { count } else { 0 }
        rows = Dictionary(grouping: file.tensors, by: \.type).map { type, tensors in
            Row(
                type: type, tensorCount: tensors.count,
                elementCount: tensors.reduce(0) { $0 + $1.shape.reduce(1, *) },
                byteCount: tensors.reduce(0) { $0 + $1.header.dataRange.count })
        }.sorted { ($1.byteCount, $0.type.rawValue) < ($0.byteCount, $1.type.rawValue) }
    }
}
