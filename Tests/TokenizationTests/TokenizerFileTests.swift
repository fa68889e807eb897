// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

@Suite("Tokenizer files")
struct TokenizerFileTests {
    @Test(
        "the tiny-world form loads: single characters, no merges, tokens longer than their prefixes",
        arguments: [false, true])
    func tinyWorld(repeatsAdded: Bool) throws {
        let configuration = Array(
            #"{"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}}"#.utf8)
        let tokenizer = try Tokenizer(
            tokenizer: TinyWorldTokenizer.file(repeatsAdded: repeatsAdded), configuration: configuration)
        #expect(tokenizer.vocabularyCount == 111)
        #expect(tokenizer.endOfTextIDs == [2, 0])
        #expect(tokenizer.paddingID == 0)
        #expect(!tokenizer.coversAllBytes)
        let text = "<|im_start|>user\n3A /no_think /think<|im_end|>\n\n\n"
        let encoding = tokenizer.encodeWithOffsets(text)
        #expect(encoding.ids == [1, 10, 15, 35, 49, 13, 12, 2, 14, 15])
        #expect(encoding.offsets.last == 48..<49)
        #expect(tokenizer.decode(encoding.ids) == text)
        #expect(tokenizer.decode(encoding.ids, skipSpecial: true) == "user\n3A /no_think /think\n\n\n")
        // A byte without a token is dropped, as the library does.
        #expect(tokenizer.encode("1é2") == [33, 34])
    }

    @Test("tokens looked for in normalized text are found in any normalization")
    func normalizedAddedToken() throws {
        let token: JSONValue = ["id": 111, "content": "e\u{301}x", "special": false, "normalized": true]
        let added = (TinyWorldTokenizer.document()["added_tokens"]?.arrayValue ?? []) + [token]
        let tokenizer = try Tokenizer(tokenizer: TinyWorldTokenizer.file([("added_tokens", .array(added))]))
        for text in ["1e\u{301}x2", "1\u{E9}x2"] {
            let encoding = tokenizer.encodeWithOffsets(text)
            #expect(encoding.ids == [33, 111, 34])
            let count = text.unicodeScalars.count
            #expect(encoding.offsets == [0..<1, 1..<(count - 1), (count - 1)..<count])
        }
    }

    @Test("end ids come from generation_config.json too, each once")
    func generationConfiguration() throws {
        func ends(_ text: String) throws -> [Int32] {
            try Tokenizer(tokenizer: TinyWorldTokenizer.file(), generationConfiguration: Array(text.utf8))
                .endOfTextIDs
        }
        #expect(try ends(#"{"eos_token_id": [2, 0]}"#) == [2, 0])
        #expect(try ends(#"{"eos_token_id": 5}"#) == [5, 0])
        #expect(try ends("{}") == [0])
        #expect(throws: TokenizerError.self) { try ends(#"{"eos_token_id": ["x"]}"#) }
    }

    @Test(
        "a feature that is not implemented is refused by the name of its field",
        arguments: [
            ("version", "2.0", "version"), ("normalizer", ["type": "NFKC"], "normalizer.type"),
            (
                "normalizer", ["type": "Sequence", "normalizers": [["type": "NFC"], ["type": "Lowercase"]]],
                "normalizer.normalizers[1].type"
            ),
            ("pre_tokenizer", nil, "pre_tokenizer"), ("pre_tokenizer", ["type": "Metaspace"], "pre_tokenizer.type"),
            ("pre_tokenizer", ["type": "Sequence", "pretokenizers": []], "pre_tokenizer"),
            (
                "pre_tokenizer", ["type": "ByteLevel", "add_prefix_space": true],
                "pre_tokenizer.add_prefix_space"
            ),
            (
                "pre_tokenizer",
                ["type": "Sequence", "pretokenizers": [["type": "Punctuation"], ["type": "ByteLevel"]]],
                "pre_tokenizer.pretokenizers[0].type"
            ),
            ("post_processor", ["type": "BertProcessing"], "post_processor.type"),
            (
                "post_processor", ["type": "TemplateProcessing", "single": []],
                "post_processor.single"
            ),
            ("decoder", nil, "decoder.type"), ("decoder", ["type": "Metaspace"], "decoder.type"),
            ("model", ["type": "Unigram"], "model.type"),
        ] as [(String, JSONValue, String)])
    func unsupported(field: String, value: JSONValue, location: String) throws {
        try expect(.unsupportedFeature, location, TinyWorldTokenizer.file([(field, value)]))
    }

    @Test(
        "a model option that is not implemented is refused by its name",
        arguments: [
            ("dropout", 0.1), ("continuing_subword_prefix", "##"), ("end_of_word_suffix", "</w>"),
        ] as [(String, JSONValue)])
    func unsupportedModel(option: String, value: JSONValue) throws {
        try expect(.unsupportedFeature, "model.\(option)", TinyWorldTokenizer.file(model: [(option, value)]))
    }

    @Test(
        "options for bytes without a token need a vocabulary with all bytes",
        arguments: [("unk_token", "<unk>"), ("unk_token", ""), ("byte_fallback", true)] as [(String, JSONValue)])
    func unknownBytes(option: String, value: JSONValue) throws {
        try expect(.malformedFile, "model", TinyWorldTokenizer.file(model: [(option, value)]))
    }

    @Test("another split expression is refused")
    func otherExpression() throws {
        for other in [#"|\\p{N}{2}|"#, #"|\\d|"#] {
            let text = TinyWorldTokenizer.document().pythonText.replacingOccurrences(of: #"|\\p{N}|"#, with: other)
            try expect(.unsupportedFeature, "pre_tokenizer.pretokenizers[0].pattern.Regex", Array(text.utf8))
        }
    }

    @Test(
        "a vocabulary that contradicts itself is refused",
        arguments: [
            ("vocab", [:], "model.vocab"), ("vocab", ["a": -1], "model.vocab[\"a\"]"),
            ("vocab", ["a": "1"], "model.vocab[\"a\"]"),
            ("vocab", ["a": 1_000_000_000], "model.vocab[\"a\"]"),
            ("vocab", ["a": 20, "b": 20], "model.vocab"), ("vocab", ["a": 3], "added_tokens"),
            ("vocab", ["user": 30], "added_tokens"), ("merges", nil, "model.merges"),
            ("merges", ["a"], "model.merges[0]"), ("merges", ["a b c"], "model.merges[0]"),
            ("merges", [["a", "b", "c"]], "model.merges[0]"), ("merges", [["a", 1]], "model.merges[0]"),
            ("merges", [3], "model.merges[0]"), ("merges", ["a b"], "model.merges[0]"),
        ] as [(String, JSONValue, String)])
    func malformedModel(field: String, value: JSONValue, location: String) throws {
        try expect(.malformedFile, location, TinyWorldTokenizer.file(model: [(field, value)]))
    }

    @Test(
        "added tokens that contradict each other are refused",
        arguments: [
            ([["id": 0, "content": ""]], "added_tokens[0].content"),
            ([["content": "x"]], "added_tokens[0].id"),
            ([["id": 0, "content": "x"], ["id": 0, "content": "y"]], "added_tokens"),
            ([["id": 0, "content": "x"], ["id": 1, "content": "x"]], "added_tokens"), ("x", "added_tokens"),
        ] as [(JSONValue, String)])
    func malformedAddedTokens(value: JSONValue, location: String) throws {
        try expect(.malformedFile, location, TinyWorldTokenizer.file([("added_tokens", value)]))
    }

    private func expect(_ code: TokenizerError.Code, _ location: String, _ file: [UInt8]) throws {
        let error = try #require(throws: TokenizerError.self) { try Tokenizer(tokenizer: file) }
        #expect(error.code == code, "\(error)")
        #expect(error.location == "tokenizer.json: \(location)", "\(error)")
    }

    @Test("options of tokenizer_config.json that change ids are refused")
    func configuration() throws {
        func code(_ configuration: String) -> TokenizerError.Code? {
            do {
                _ = try Tokenizer(
                    tokenizer: TinyWorldTokenizer.file(), configuration: Array(configuration.utf8))
                return nil
            } catch { return error.code }
        }
        #expect(code("{}") == nil)
        #expect(code(#"{"add_bos_token": true, "bos_token": null}"#) == nil)
        // transformers reads these three from tokenizer.json, or takes no notice of them.
        #expect(code(#"{"add_bos_token": true, "bos_token": "<|im_end|>"}"#) == nil)
        #expect(code(#"{"add_prefix_space": true, "tokenizer_class": "PreTrainedTokenizerFast"}"#) == nil)
        #expect(code(#"{"clean_up_tokenization_spaces": true}"#) == nil)
        #expect(code(#"{"add_prefix_space": true}"#) == .unsupportedFeature)
        #expect(code(#"{"split_special_tokens": true}"#) == .unsupportedFeature)
        #expect(code("[]") == .malformedFile)
        #expect(code("{") == .malformedFile)
        #expect(code(#"{"added_tokens_decoder": {"x": {"content": "y"}}}"#) == .malformedFile)
        #expect(code(#"{"added_tokens_decoder": {"3": {"content": "<think>"}}}"#) == nil)
        #expect(code(#"{"added_tokens_decoder": {"4": {"content": "<think>"}}}"#) == .malformedFile)
    }

    @Test("a file cut or changed anywhere is an error or another tokenizer, never a crash")
    func damagedFiles() throws {
        let file = TinyWorldTokenizer.file()
        for bytes in Damage.truncations(file) {
            #expect(throws: TokenizerError.self) { try Tokenizer(tokenizer: bytes) }
        }
        var (refused, taken) = (0, 0)
        for bytes in Damage.flips(file, masks: [0x01, 0x20, 0xFF]) {
            do throws(TokenizerError) {
                _ = try Tokenizer(tokenizer: bytes).encode("abc")
                taken += 1
            } catch { refused += 1 }
        }
        #expect(refused > file.count && taken > 100, "\(taken) taken, \(refused) refused")
    }

    @Test("a missing file is named")
    func missingFile() throws {
        let error = try #require(throws: TokenizerError.self) {
            try Tokenizer(directory: Fixtures.url("tokenizer"))
        }
        #expect(error.code == .unreadableFile)
        #expect(error.location.hasSuffix("tokenizer/tokenizer.json"))
    }
}
