// SPDX-License-Identifier: Apache-2.0

/// The ways to cut a text before byte-pair encoding that `tokenizer.ggml.pre` names, as the models' own tokenizer.json
/// files spell them.
enum GGUFPreTokenizer: Sendable, CaseIterable {
    case gpt2, smollm, qwen2, llama3

    static let names: [(String, GGUFPreTokenizer)] = [
        ("gpt-2", .gpt2), ("smollm", .smollm), ("qwen2", .qwen2), ("deepseek-r1-qwen", .qwen2), ("llama-bpe", .llama3),
        ("llama3", .llama3), ("llama-v3", .llama3),
    ]

    init(_ file: GGUFFile) throws {
        let key = "tokenizer.ggml.pre"
        guard let name = try file.text(key) else {
            throw file.invalid(
                "the metadata lack '\(key)'",
                remedy: "an old converter wrote the file: take a newer one, or give the tokenizer files of the model "
                    + "(--tokenizer DIRECTORY)")
        }
        guard let found = GGUFPreTokenizer.names.first(where: { $0.0 == name }) else {
            throw file.unsupported(
                "the pre-tokenizer \"\(name)\"",
                "Apus reads \(GGUFPreTokenizer.names.map(\.0).joined(separator: ", ")); give the tokenizer files of "
                    + "the model (--tokenizer DIRECTORY)")
        }
        self = found.1
    }

    /// Whether a word that is in the vocabulary is taken whole.
    var ignoresMerges: Bool { self == .llama3 }
    /// Whether texts begin with the first token where the file does not say.
    var addsBeginning: Bool { self == .llama3 }
    var normalizer: JSONValue { self == .qwen2 ? .object([.init("type", .string("NFC"))]) : .null }

    private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    private static func expression(digits: String) -> String {
        contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|"# + digits
            + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }

    static func byteLevel(prefix: Bool, trims: Bool, splits: Bool) -> JSONValue {
        .object([
            .init("type", .string("ByteLevel")), .init("add_prefix_space", .bool(prefix)),
            .init("trim_offsets", .bool(trims)), .init("use_regex", .bool(splits)),
        ])
    }

    /// `pre_tokenizer` of tokenizer.json.
    func json(addsPrefixSpace: Bool) -> JSONValue {
        func sequence(_ parts: [JSONValue]) -> JSONValue {
            .object([.init("type", .string("Sequence")), .init("pretokenizers", .array(parts))])
        }
        func split(_ expression: String) -> JSONValue {
            .object([
                .init("type", .string("Split")),
                .init("pattern", .object([.init("Regex", .string(expression))])),
                .init("behavior", .string("Isolated")), .init("invert", .bool(false)),
            ])
        }
        func bytes(trims: Bool, splits: Bool) -> JSONValue {
            GGUFPreTokenizer.byteLevel(prefix: addsPrefixSpace, trims: trims, splits: splits)
        }
        switch self {
        case .gpt2: return bytes(trims: true, splits: true)
        case .smollm:
            let digits: JSONValue = .object([
                .init("type", .string("Digits")), .init("individual_digits", .bool(true)),
            ])
            return sequence([digits, bytes(trims: true, splits: true)])
        case .qwen2:
            return sequence([
                split(GGUFPreTokenizer.expression(digits: #"\p{N}"#)), bytes(trims: false, splits: false),
            ])
        case .llama3:
            return sequence([
                split(GGUFPreTokenizer.expression(digits: #"\p{N}{1,3}"#)), bytes(trims: true, splits: false),
            ])
        }
    }

    /// `decoder` of tokenizer.json.
    var decoder: JSONValue {
        self == .qwen2
            ? GGUFPreTokenizer.byteLevel(prefix: false, trims: false, splits: false)
            : GGUFPreTokenizer.byteLevel(prefix: true, trims: true, splits: true)
    }

    /// What `post_processor` does to offsets; null: there is nothing to do.
    var bytePostProcessor: JSONValue {
        switch self {
        case .smollm: .null
        case .gpt2, .llama3: GGUFPreTokenizer.byteLevel(prefix: true, trims: false, splits: true)
        case .qwen2: GGUFPreTokenizer.byteLevel(prefix: false, trims: false, splits: false)
        }
    }
}
