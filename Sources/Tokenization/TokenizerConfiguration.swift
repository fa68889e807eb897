// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// What tokenizer_config.json (and generation_config.json beside it) say about special tokens and the chat
/// template.
struct TokenizerConfiguration {
    /// Name used in messages.
    static let name = "tokenizer_config.json"

    var endOfSequenceToken: String?
    var paddingToken: String?
    var chatTemplate: String?
    /// `added_tokens_decoder`: tokens that transformers adds where tokenizer.json lacks them.
    var addedTokens: [AddedToken] = []
    /// `eos_token_id` of generation_config.json, in its order.
    var generationEndIDs: [Int32] = []

    init() {}

    init(parsing bytes: [UInt8]) throws(TokenizerError) {
        let root = try Self.document(bytes, Self.name)
        // Each of these would change the ids or the text.
        for option in ["add_prefix_space", "split_special_tokens", "clean_up_tokenization_spaces"] {
            guard root[option]?.boolValue != true else { throw Self.unsupported(option) }
        }
        if root["add_bos_token"]?.boolValue == true, Self.tokenText(root["bos_token"]) != nil {
            throw Self.unsupported("add_bos_token")
        }
        if root["add_eos_token"]?.boolValue == true { throw Self.unsupported("add_eos_token") }
        endOfSequenceToken = Self.tokenText(root["eos_token"])
        paddingToken = Self.tokenText(root["pad_token"])
        chatTemplate = Self.template(root["chat_template"])
        for member in root["added_tokens_decoder"]?.objectValue?.members ?? [] {
            let field = "added_tokens_decoder[\(member.key)] of \(Self.name)"
            addedTokens.append(try TokenizerFile.addedToken(member.value, field, id: .integer(member.key)))
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

    private static func document(_ bytes: [UInt8], _ name: String) throws(TokenizerError) -> JSONValue {
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
            message: "true is not supported; set it to false or use a Qwen tokenizer",
            location: "\(name): \(option)")
    }

    /// A token given as text or as an object with `content`.
    private static func tokenText(_ value: JSONValue?) -> String? {
        value?.stringValue ?? value?["content"]?.stringValue
    }

    /// A template given as text, or the one named "default" of a list of named templates.
    private static func template(_ value: JSONValue?) -> String? {
        if let text = value?.stringValue { return text }
        let named = value?.arrayValue?.first { $0["name"] == .string("default") }
        return named?["template"]?.stringValue
    }
}
