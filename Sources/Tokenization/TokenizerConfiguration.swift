// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// What the files beside tokenizer.json say: tokenizer_config.json, special_tokens_map.json, added_tokens.json and
/// generation_config.json.
struct TokenizerConfiguration {
    /// Name used in messages.
    static let name = "tokenizer_config.json"

    /// A special token with its role, such as `eos_token`; extra ones have the role `extra_special_tokens`.
    struct SpecialToken {
        let role: String
        let content: String
        /// Where the file says more than the text; the id is not of this file.
        var flags: AddedToken?
    }

    /// The roles that templates know as variables, in the order in which transformers adds tokens.
    private static let roles = [
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
    ]
    private static let extraRole = "extra_special_tokens"

    private var named: [SpecialToken] = []
    var chatTemplate: JSONValue?
    /// `added_tokens_decoder`: tokens that transformers adds where tokenizer.json lacks them; nil where it is absent.
    var addedTokens: [AddedToken]?
    /// `eos_token_id` of generation_config.json, in its order.
    var generationEndIDs: [Int32] = []
    /// `tokenizer_class` without `Fast`.
    var tokenizerClass: String?
    /// Where no tokenizer.json says what is put around a text.
    var addsBeginning = false
    var addsEnd = false

    init() {}

    init(parsing bytes: [UInt8]) throws(TokenizerError) {
        let root = try Self.document(bytes, Self.name)
        tokenizerClass = root["tokenizer_class"]?.stringValue.map { $0.hasSuffix("Fast") ? String($0.dropLast(4)) : $0 }
        // These would change the ids. transformers takes no notice of add_prefix_space in a generic tokenizer, nor
        // of clean_up_tokenization_spaces in a byte-pair one, nor of add_bos_token beside tokenizer.json.
        let isGeneric = ["PreTrainedTokenizer", "TokenizersBackend"].contains(tokenizerClass)
        for option in isGeneric ? ["split_special_tokens"] : ["add_prefix_space", "split_special_tokens"] {
            guard root[option]?.boolValue != true else { throw Self.unsupported(option) }
        }
        addsBeginning = root["add_bos_token"]?.boolValue ?? false
        addsEnd = root["add_eos_token"]?.boolValue ?? false
        readSpecialTokens(root)
        chatTemplate = root["chat_template"]
        for member in root["added_tokens_decoder"]?.objectValue?.members ?? [] {
            let field = "added_tokens_decoder[\(member.key)] of \(Self.name)"
            addedTokens =
                (addedTokens ?? []) + [
                    try TokenizerFile.addedToken(member.value, field, id: .integer(member.key))
                ]
        }
    }

    /// The special tokens in the order in which those that tokenizer.json lacks get ids.
    var specialTokens: [SpecialToken] {
        Self.roles.compactMap { role in named.last { $0.role == role } }
            + named.filter { !Self.roles.contains($0.role) && $0.role != Self.extraRole }
            + named.filter { $0.role == Self.extraRole }
    }

    /// What a template knows as variables: the named tokens, not the extra ones.
    var templateVariables: [(name: String, text: String)] {
        specialTokens.filter { $0.role != Self.extraRole }.map { ($0.role, $0.content) }
    }

    func token(_ role: String) -> String? { named.last { $0.role == role }?.content }

    private mutating func readSpecialTokens(_ root: JSONValue) {
        for member in root.objectValue?.members ?? [] where member.key.hasSuffix("_token") {
            guard let token = Self.specialToken(member.value, member.key) else { continue }
            named.append(token)
        }
        var extra = root[Self.extraRole] ?? .null
        if !extra.isTrue { extra = root["additional_special_tokens"] ?? .null }
        for value in extra.arrayValue ?? [] {
            if let token = Self.specialToken(value, Self.extraRole) { named.append(token) }
        }
        for member in extra.objectValue?.members ?? [] {
            if let token = Self.specialToken(member.value, member.key) { named.append(token) }
        }
    }

    /// A token given as text or as an object with `content`.
    private static func specialToken(_ value: JSONValue, _ role: String) -> SpecialToken? {
        if let text = value.stringValue { return text.isEmpty ? nil : SpecialToken(role: role, content: text) }
        guard let content = value["content"]?.stringValue, !content.isEmpty else { return nil }
        let flags = try? TokenizerFile.addedToken(value, role, id: .integer("0"))
        return SpecialToken(role: role, content: content, flags: flags)
    }

    /// Reads special_tokens_map.json, which older tools wrote: it counts where tokenizer_config.json has no
    /// `added_tokens_decoder`, and then before it, as in transformers.
    mutating func readSpecialTokensMap(_ bytes: [UInt8]) throws(TokenizerError) {
        let root = try Self.document(bytes, "special_tokens_map.json")
        guard addedTokens == nil else { return }
        readSpecialTokens(root)
    }

    /// Reads added_tokens.json, a map from text to id that older tools wrote; see ``readSpecialTokensMap(_:)``.
    mutating func readAddedTokens(_ bytes: [UInt8]) throws(TokenizerError) {
        let name = "added_tokens.json"
        let root = try Self.document(bytes, name)
        guard addedTokens == nil else { return }
        let special = Set(named.map { ExactText($0.content) })
        for member in root.objectValue?.members ?? [] where !member.key.isEmpty {
            let isSpecial = special.contains(ExactText(member.key))
            let id = try TokenizerFile.tokenID(member.value, "\(name)[\"\(member.key)\"]")
            addedTokens =
                (addedTokens ?? []) + [
                    AddedToken(id: id, content: member.key, isSpecial: isSpecial, isNormalized: !isSpecial)
                ]
        }
    }

    /// Reads the end-of-sequence ids of generation_config.json: one id or a list.
    mutating func readGenerationConfiguration(_ bytes: [UInt8]) throws(TokenizerError) {
        let name = "generation_config.json"
        let value = try Self.document(bytes, name)["eos_token_id"] ?? .null
        let ids = value.isNull ? [] : value.arrayValue ?? [value]
        for id in ids {
            guard let number = id.intValue, let exact = Int32(exactly: number), exact >= 0 else {
                throw TokenizerError(
                    code: .malformedFile, message: "\(id.pythonText) is not a token id",
                    location: "\(name): eos_token_id")
            }
            generationEndIDs.append(exact)
        }
    }

    static func document(_ bytes: [UInt8], _ name: String) throws(TokenizerError) -> JSONValue {
        do {
            let root = try JSONValue(parsing: bytes)
            guard root.objectValue != nil else {
                throw TokenizerError(
                    code: .malformedFile, message: "expected an object, found \(root.kind)", location: name)
            }
            return root
        } catch let error as JSONParseError {
            throw TokenizerError(code: .malformedFile, message: error.description, location: name)
        } catch let error as TokenizerError {
            throw error
        } catch {
            throw TokenizerError(code: .malformedFile, message: "\(error)", location: name)
        }
    }

    private static func unsupported(_ option: String) -> TokenizerError {
        TokenizerError(
            code: .unsupportedFeature,
            message: "true is not supported, as it changes token ids; set it to false",
            location: "\(name): \(option)")
    }
}
