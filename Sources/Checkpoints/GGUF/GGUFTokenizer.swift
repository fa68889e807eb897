// SPDX-License-Identifier: Apache-2.0

/// The byte-level BPE tokenizer of a GGUF file, and its files in the Hugging Face form.
package struct GGUFTokenizer: Sendable {
    /// What the file says of a token.
    enum Kind: Int, Sendable { case normal = 1, unknown, control, userDefined, unused, byte }

    /// Ids that config.json and generation_config.json name.
    struct SpecialIDs: Sendable {
        var beginning: Int?
        /// Of a text or a turn, the first one before the others.
        var ends: [Int] = []
        var padding: Int?
        var unknown: Int?
    }

    let tokens: [String]
    let kinds: [Kind]
    let merges: [(String, String)]
    let preTokenizer: GGUFPreTokenizer
    let special: SpecialIDs
    /// Whether every text begins with `special.beginning`.
    let addsBeginning: Bool
    let addsPrefixSpace: Bool
    let template: String?
    let contextLength: Int

    /// - Parameter rowCount: of the embedding.
    init(_ file: GGUFFile, rowCount: Int, contextLength: Int) throws {
        self.contextLength = contextLength
        let model = try file.text("tokenizer.ggml.model")
        guard model == "gpt2" else {
            throw file.unsupported(
                model.map { "a tokenizer of the kind \"\($0)\"" } ?? "a file without a tokenizer",
                "Apus reads byte-level BPE (\"gpt2\"); give tokenizer files of that kind (--tokenizer DIRECTORY)")
        }
        preTokenizer = try GGUFPreTokenizer(file)
        guard let tokens = try file.texts("tokenizer.ggml.tokens"), !tokens.isEmpty else {
            throw file.invalid("the metadata lack 'tokenizer.ggml.tokens'")
        }
        guard tokens.count <= rowCount else {
            throw file.invalid("has \(tokens.count) tokens, but only \(rowCount) rows of embedding")
        }
        self.tokens = tokens
        kinds = try GGUFTokenizer.kinds(file, tokens.count)
        merges = try GGUFTokenizer.merges(file, try GGUFTokenizer.index(tokens, file))
        special = try GGUFTokenizer.specialIDs(file, tokens.count)
        addsBeginning =
            try special.beginning != nil
            && file.bool("tokenizer.ggml.add_bos_token") ?? preTokenizer.addsBeginning
        if try file.bool("tokenizer.ggml.add_eos_token") == true {
            throw file.unsupported(
                "'tokenizer.ggml.add_eos_token' true", "give the tokenizer files of the model (--tokenizer DIRECTORY)")
        }
        addsPrefixSpace = try file.bool("tokenizer.ggml.add_space_prefix") ?? false
        template = try file.text("tokenizer.chat_template")
    }

    private static func kinds(_ file: GGUFFile, _ count: Int) throws -> [Kind] {
        let key = "tokenizer.ggml.token_type"
        guard let numbers = try file.integers(key) else { return Array(repeating: .normal, count: count) }
        guard numbers.count == count else {
            throw file.invalid("'\(key)' has \(numbers.count) elements for \(count) tokens")
        }
        return try numbers.enumerated().map { id, number in
            guard let kind = Kind(rawValue: number) else {
                throw file.invalid("'\(key)' of token \(id) is \(number), known are 1 to 6")
            }
            return kind
        }
    }

    private static func merges(_ file: GGUFFile, _ ids: [[UInt8]: Int]) throws -> [(String, String)] {
        let key = "tokenizer.ggml.merges"
        guard let lines = try file.texts(key) else { throw file.invalid("the metadata lack '\(key)'") }
        return try lines.enumerated().map { rank, line in
            // Byte-level symbols are never blank, so the blank divides.
            let parts = line.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
                throw file.invalid("merge \(rank) of '\(key)' is no pair: \"\(line.prefix(80))\"")
            }
            for part in parts + [parts[0] + parts[1]] where ids[Array(part.utf8)] == nil {
                throw file.invalid("merge \(rank) of '\(key)' needs \"\(part.prefix(80))\", which is no token")
            }
            return (parts[0], parts[1])
        }
    }

    private static func specialIDs(_ file: GGUFFile, _ count: Int) throws -> SpecialIDs {
        func id(_ name: String) throws -> Int? {
            // All ones say that there is none.
            if case .integer(0xFFFF_FFFF)? = file.header["tokenizer.ggml.\(name)_token_id"] { return nil }
            return try file.integer("tokenizer.ggml.\(name)_token_id", 0...count - 1)
        }
        var ids = SpecialIDs(beginning: try id("bos"), padding: try id("padding"), unknown: try id("unknown"))
        for name in ["eos", "eot", "eom"] {
            if let end = try id(name), !ids.ends.contains(end) { ids.ends.append(end) }
        }
        return ids
    }

    /// Ids by the bytes of their tokens: Swift's own comparison of texts would take canonically equivalent ones for one.
    private static func index(_ tokens: [String], _ file: GGUFFile) throws -> [[UInt8]: Int] {
        var ids: [[UInt8]: Int] = [:]
        ids.reserveCapacity(tokens.count)
        for (id, token) in tokens.enumerated() {
            if let other = ids.updateValue(id, forKey: Array(token.utf8)) {
                throw file.invalid("tokens \(other) and \(id) are both \"\(token.prefix(80))\"")
            }
        }
        return ids
    }
}
