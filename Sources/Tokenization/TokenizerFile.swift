// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// The contents of tokenizer.json after checking that every field says something that this tokenizer does.
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
    /// Whether text is brought to normal form C.
    var normalizes = false
    var preTokenizer = PreTokenizer()
    var postProcessor = PostProcessor()
    /// Whether a pre-token that is a token of the vocabulary is that token, whatever the merges say (Llama 3).
    var ignoresMerges = false
    /// Whether add_bos_token and add_eos_token of tokenizer_config.json count.
    var takesEndsFromConfiguration = false
    /// Whether the model says what to do with bytes that the vocabulary lacks.
    var handlesUnknownBytes = false

    init() {}

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
        try readPipeline(root)
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
            message: "\(shortText(found)) is not supported, only \(expected)",
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
        let isSpecial = value["special"]?.boolValue ?? false
        return AddedToken(
            id: try tokenID(id, "\(field).id"), content: content, isSpecial: isSpecial,
            isNormalized: value["normalized"]?.boolValue ?? !isSpecial,
            takesSpaceBefore: value["lstrip"]?.boolValue ?? false,
            takesSpaceAfter: value["rstrip"]?.boolValue ?? false,
            isSingleWord: value["single_word"]?.boolValue ?? false)
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
