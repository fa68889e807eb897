// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport

@testable import Tokenization

/// A character tokenizer with 15 added tokens and no merges, as small test worlds use it.
enum TinyWorldTokenizer {
    static let special = [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>",
        "<tool_response>", "</tool_response>",
    ]
    static let plain = ["system", "user", "assistant", " /think", " /no_think", "\n\n"]

    /// The split expression of Qwen2, Qwen2.5 and Qwen3.
    static let pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
        + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#

    /// The value of tokenizer.json with the given changes of top-level fields and of fields of `model`.
    ///
    /// - Parameter repeatsAdded: lists the added tokens in the vocabulary too. The tokenizers library needs
    ///   this to give them the ids of the file when they are not the highest.
    static func document(
        _ changes: [(String, JSONValue)] = [], model: [(String, JSONValue)] = [], repeatsAdded: Bool = false
    ) -> JSONValue {
        var vocabulary: [(String, JSONValue)] = []
        if repeatsAdded {
            vocabulary = (special + plain).enumerated().map { ($1, .integer(String($0))) }
        }
        for (index, byte) in ([0x0A] + Array(0x20...0x7E)).enumerated() {
            let scalar = Unicode.Scalar(ByteAlphabet.scalars[byte]) ?? " "
            vocabulary.append((String(scalar), .integer(String(15 + index))))
        }
        let added = (special + plain).enumerated().map { index, content -> JSONValue in
            [
                "id": .integer(String(index)), "content": .string(content), "single_word": false,
                "lstrip": false,
                "rstrip": false, "normalized": false, "special": .bool(index < special.count),
            ]
        }
        let byteLevel: JSONValue = [
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
        ]
        let split: JSONValue = [
            "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
            "invert": false,
        ]
        let modelFields: [(String, JSONValue)] = [
            ("type", "BPE"), ("dropout", nil), ("unk_token", nil), ("continuing_subword_prefix", ""),
            ("end_of_word_suffix", ""), ("fuse_unk", false), ("byte_fallback", false),
            ("ignore_merges", false),
            ("vocab", object(vocabulary)), ("merges", []),
        ]
        let fields: [(String, JSONValue)] = [
            ("version", "1.0"), ("truncation", nil), ("padding", nil), ("added_tokens", .array(added)),
            ("normalizer", ["type": "NFC"]),
            ("pre_tokenizer", ["type": "Sequence", "pretokenizers": [split, byteLevel]]),
            ("post_processor", byteLevel), ("decoder", byteLevel), ("model", object(modelFields + model)),
        ]
        return object(fields + changes)
    }

    static func file(
        _ changes: [(String, JSONValue)] = [], model: [(String, JSONValue)] = [], repeatsAdded: Bool = false
    ) -> [UInt8] {
        Array(document(changes, model: model, repeatsAdded: repeatsAdded).pythonText.utf8)
    }

    private static func object(_ fields: [(String, JSONValue)]) -> JSONValue {
        .object(JSONObject(fields.map { JSONObject.Member(key: $0.0, value: $0.1) }))
    }
}
