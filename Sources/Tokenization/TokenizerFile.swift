// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// The contents of tokenizer.json after checking that every field says what this tokenizer does.
///
/// `truncation` and `padding` are ignored: transformers replaces them at each call. Everything else that
/// would change ids or text is refused by name, because a wrong id is worse than no tokenizer.
struct TokenizerFile {
    /// Name used in messages.
    static let name = "tokenizer.json"
    /// Highest token id accepted, against a file that would make us allocate by its word.
    static let idMax = 1 << 22

    var addedTokens: [AddedToken] = []
    var vocabulary: [(entry: String, id: Int32)] = []
    var merges: [(left: String, right: String)] = []
    /// Whether text is brought to normal form C; false only where the file has no normalizer.
    var normalizes = true

    init(parsing bytes: [UInt8]) throws(TokenizerError) {
        let root: JSONValue
        do {
            root = try JSONValue(parsing: bytes)
        } catch {
            throw TokenizerError(code: .malformedFile, message: error.description, location: Self.name)
        }
        guard root.objectValue != nil else {
            throw Self.malformed("", "expected an object, found \(root.kind)")
        }
        try checkPipeline(root)
        try readModel(root["model"])
        let added = try Self.list(root["added_tokens"] ?? .array([]), "added_tokens")
        for (index, token) in added.enumerated() {
            addedTokens.append(try Self.addedToken(token, "added_tokens[\(index)]", id: token["id"]))
        }
    }

    static func malformed(_ field: String, _ message: String) -> TokenizerError {
        TokenizerError(
            code: .malformedFile, message: message, location: field.isEmpty ? name : "\(name): \(field)")
    }

    static func unsupported(_ field: String, _ found: JSONValue?, expected: String) -> TokenizerError {
        TokenizerError(
            code: .unsupportedFeature,
            message: "\(shortText(found)) is not supported, only \(expected); use a Qwen2 or Qwen3 tokenizer",
            location: "\(name): \(field)")
    }

    private static func shortText(_ value: JSONValue?) -> String {
        guard let text = value?.pythonText else { return "a missing field" }
        return text.unicodeScalars.count <= 80 ? text : String(text.unicodeScalars.prefix(80)) + "..."
    }

    static func list(_ value: JSONValue, _ field: String) throws(TokenizerError) -> [JSONValue] {
        guard let list = value.arrayValue else {
            throw malformed(field, "expected a list, found \(value.kind)")
        }
        return list
    }

    static func tokenID(_ value: JSONValue?, _ field: String) throws(TokenizerError) -> Int32 {
        guard let id = value?.intValue, id >= 0, id <= idMax else {
            throw malformed(field, "\(shortText(value)) is not a token id (0 to \(idMax))")
        }
        return Int32(id)
    }

    /// Reads one entry of `added_tokens` here or of `added_tokens_decoder` in tokenizer_config.json.
    static func addedToken(
        _ value: JSONValue, _ field: String, id: JSONValue?
    ) throws(TokenizerError) -> AddedToken {
        guard let content = value["content"]?.stringValue, !content.isEmpty else {
            throw malformed("\(field).content", "expected a text that is not empty")
        }
        for option in ["single_word", "lstrip", "rstrip"] {
            guard value[option] ?? false == false else {
                throw unsupported("\(field).\(option)", value[option], expected: "false")
            }
        }
        let isSpecial = value["special"]?.boolValue ?? false
        return AddedToken(
            id: try tokenID(id, "\(field).id"), content: content, isSpecial: isSpecial,
            isNormalized: value["normalized"]?.boolValue ?? !isSpecial)
    }

    private mutating func checkPipeline(_ root: JSONValue) throws(TokenizerError) {
        func check(_ field: String, _ value: JSONValue?, _ allowed: [JSONValue]) throws(TokenizerError) {
            guard allowed.contains(value ?? .null) else {
                let expected = allowed.map(\.pythonText).joined(separator: " or ")
                throw Self.unsupported(field, value, expected: expected)
            }
        }
        try check("version", root["version"], ["1.0", nil])
        normalizes = !(root["normalizer"] ?? .null).isNull
        if normalizes {
            try check("normalizer.type", root["normalizer"]?["type"], ["NFC"])
        }
        let outer = root["pre_tokenizer"]
        try check("pre_tokenizer.type", outer?["type"], ["Sequence"])
        let steps = try Self.list(outer?["pretokenizers"] ?? .null, "pre_tokenizer.pretokenizers")
        guard steps.count == 2 else {
            throw Self.unsupported(
                "pre_tokenizer.pretokenizers", .array(steps), expected: "a Split followed by a ByteLevel")
        }
        let split = "pre_tokenizer.pretokenizers[0]"
        try check("\(split).type", steps[0]["type"], ["Split"])
        try check("\(split).pattern.Regex", steps[0]["pattern"]?["Regex"], [.string(PreTokenizer.pattern)])
        try check("\(split).behavior", steps[0]["behavior"], ["Isolated"])
        try check("\(split).invert", steps[0]["invert"], [false, nil])
        let byteLevel = "pre_tokenizer.pretokenizers[1]"
        try check("\(byteLevel).type", steps[1]["type"], ["ByteLevel"])
        try check("\(byteLevel).add_prefix_space", steps[1]["add_prefix_space"], [false])
        try check("\(byteLevel).use_regex", steps[1]["use_regex"], [false])
        if let post = root["post_processor"], !post.isNull {
            try check("post_processor.type", post["type"], ["ByteLevel"])
            try check("post_processor.trim_offsets", post["trim_offsets"], [false])
        }
        try check("decoder.type", root["decoder"]?["type"], ["ByteLevel"])
        let model = root["model"]
        try check("model.type", model?["type"], ["BPE"])
        for option in ["dropout", "unk_token"] { try check("model.\(option)", model?[option], [nil]) }
        for option in ["continuing_subword_prefix", "end_of_word_suffix"] {
            try check("model.\(option)", model?[option], ["", nil])
        }
        for option in ["byte_fallback", "ignore_merges"] {
            try check("model.\(option)", model?[option], [false, nil])
        }
    }

    private mutating func readModel(_ model: JSONValue?) throws(TokenizerError) {
        guard let entries = model?["vocab"]?.objectValue?.members, !entries.isEmpty else {
            throw Self.malformed("model.vocab", "expected an object with at least one token")
        }
        vocabulary.reserveCapacity(entries.count)
        for entry in entries {
            let id = try Self.tokenID(entry.value, "model.vocab[\(JSONValue.string(entry.key).pythonText)]")
            vocabulary.append((entry.key, id))
        }
        let pairs = try Self.list(model?["merges"] ?? .null, "model.merges")
        merges.reserveCapacity(pairs.count)
        for (index, pair) in pairs.enumerated() {
            // Both notations are in the wild: "a b", and ["a", "b"], which can hold blanks.
            let parts: [String]
            if let text = pair.stringValue {
                parts = text.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false)
                    .map { String($0) }
            } else {
                parts = (pair.arrayValue ?? []).compactMap(\.stringValue)
            }
            guard parts.count == 2, pair.arrayValue?.count ?? 2 == 2 else {
                throw Self.malformed("model.merges[\(index)]", "expected \"a b\" or [\"a\", \"b\"]")
            }
            merges.append((parts[0], parts[1]))
        }
    }
}
