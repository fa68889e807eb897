// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// The little that a model must know of its tokenizer: how many ids there are and which of them end a sequence.
package struct TokenizerFacts: Hashable, Sendable {
    static let mainFileName = "tokenizer.json"
    /// Files that belong to a tokenizer, where they exist.
    package static let fileNames = [
        mainFileName, "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "chat_template.json",
    ]
    static let fileByteCountMax = 256 << 20
    private static let templateDirectory = "additional_chat_templates"

    /// The files of a tokenizer that `directory` has, further chat templates in a directory of their own included.
    package static func files(in directory: URL) -> [String] {
        let templates =
            (try? FileManager.default.contentsOfDirectory(
                atPath: directory.appendingPathComponent(templateDirectory).path)) ?? []
        return fileNames.filter { SystemCall.exists(directory.appendingPathComponent($0).path) }
            + templates.filter { $0.hasSuffix(".jinja") }.sorted().map { "\(templateDirectory)/\($0)" }
    }

    /// Largest id plus one.
    package let idCount: Int
    /// The id of `<|endoftext|>`.
    package let endOfTextID: Int?
    /// The id of `<|im_end|>`.
    package let endOfTurnID: Int?

    package init(idCount: Int, endOfTextID: Int?, endOfTurnID: Int?) {
        self.idCount = idCount
        self.endOfTextID = endOfTextID
        self.endOfTurnID = endOfTurnID
    }

    static func missing(_ directory: URL) -> CheckpointError {
        CheckpointError(
            .notFound, "has no \(mainFileName)", file: directory.path,
            remedy: "give a directory with the tokenizer files of a Hugging Face checkpoint")
    }

    /// Reads `tokenizer.json` of `directory`, without building its vocabulary in memory.
    /// - Throws: `notFound`, `malformedJSON`, `limitExceeded`.
    package init(directory: URL) throws {
        let url = directory.appendingPathComponent(TokenizerFacts.mainFileName)
        guard SystemCall.exists(url.path) else { throw TokenizerFacts.missing(directory) }
        let bytes = try SmallFile.read(url, limit: TokenizerFacts.fileByteCountMax)
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw CheckpointError(.malformedJSON, "is not UTF-8", file: url.path)
        }
        var found = Collected()
        try bytes.withUnsafeBytes { buffer in
            var scanner = JSONScanner(buffer)
            do throws(JSONScanner.Failure) {
                try scanner.readObject { (scanner, key) throws(JSONScanner.Failure) in
                    try found.member(&scanner, key)
                }
                try scanner.expectEnd()
            } catch {
                throw CheckpointError(
                    .malformedJSON, "bad JSON: \(error.message)", file: url.path, byteOffset: error.offset)
            }
        }
        guard found.maximum >= 0 else {
            throw CheckpointError(.malformedJSON, "has no vocabulary", file: url.path)
        }
        self.init(
            idCount: found.maximum + 1, endOfTextID: found.added["<|endoftext|>"],
            endOfTurnID: found.added["<|im_end|>"])
    }

    /// Token ids seen while reading.
    private struct Collected {
        var maximum = -1
        var added: [String: Int] = [:]

        mutating func member(_ scanner: inout JSONScanner, _ key: String) throws(JSONScanner.Failure) {
            switch key {
            case "added_tokens":
                try scanner.readArray { (scanner) throws(JSONScanner.Failure) in
                    let token = try scanner.readValue(depth: 0)
                    guard case .integer(let id)? = token["id"], case .string(let content)? = token["content"]
                    else { throw scanner.failure("an added token needs \"id\" and \"content\"") }
                    try note(id, scanner)
                    added[content] = id
                }
            case "model":
                try scanner.readObject { (scanner, key) throws(JSONScanner.Failure) in
                    guard key == "vocab" else { return try scanner.skipValue() }
                    try scanner.readObject { (scanner, _) throws(JSONScanner.Failure) in
                        guard case .unsigned(let id) = try scanner.readNumber() else {
                            throw scanner.failure("a token id should be a whole number")
                        }
                        try note(Int(clamping: id), scanner)
                    }
                }
            default: try scanner.skipValue()
            }
        }

        private mutating func note(_ id: Int, _ scanner: JSONScanner) throws(JSONScanner.Failure) {
            guard (0..<Qwen3Configuration.Limits.vocabularySize).contains(id) else {
                throw scanner.failure("token id \(id) is out of range")
            }
            maximum = max(maximum, id)
        }
    }
}
