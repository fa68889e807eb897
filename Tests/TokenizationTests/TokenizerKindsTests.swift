// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

/// Tokenizers of the kinds that models are released with, beside the tokenizers library; made by
/// Tests/Fixtures/tokenizers/generate.py.
@Suite("Kinds of tokenizers")
struct TokenizerKindsTests {
    @Test(
        "ids, offsets and decoded text are the library's",
        arguments: ["gpt2", "llama3", "qwen2", "digits", "digit_runs", "added"])
    func cases(_ name: String) throws {
        let tokenizer = try Tokenizer(directory: Fixtures.url("tokenizers/\(name)"))
        let cases = try FixtureCases.cases("tokenizers/\(name)/cases.json")
        #expect(cases.count > 150)
        for item in cases {
            let text = try item.text("text")
            let encoding = tokenizer.encodeWithOffsets(text)
            #expect(encoding.ids == item["ids"]?.ids, "\(text.debugDescription)")
            #expect(encoding.offsets == item["offsets"]?.ranges, "\(text.debugDescription)")
            #expect(tokenizer.encode(text) == encoding.ids)
            #expect(tokenizer.encodeSequence(text) == (item["sequence"] ?? item["ids"])?.ids)
            // The library takes letters of an added token for stand-ins of bytes.
            if encoding.ids.contains(where: { tokenizer.addedContents[$0] == "caf\u{e9}x" }) { continue }
            #expect(same(tokenizer.decode(encoding.ids), try item.text("decoded")))
        }
    }

    @Test("every spelling of a split expression cuts as the library does")
    func splits() throws {
        let cases = try FixtureCases.cases("tokenizers/split_cases.json")
        #expect(cases.count >= 10)
        for item in cases {
            let pattern = try item.text("pattern")
            let expression = try #require(SplitExpression(pattern), "\(pattern)")
            for pieces in item["pieces"]?.arrayValue ?? [] {
                let expected = (pieces.arrayValue ?? []).compactMap(\.stringValue)
                let bytes = Array(expected.joined().utf8)
                var found: [[UInt8]] = []
                bytes.withUnsafeBufferPointer { bytes in
                    UnicodeClasses.table.withUnsafeBufferPointer { classes in
                        var start = 0
                        while start < bytes.count {
                            let end = expression.end(from: start, in: bytes, classes: classes)
                            found.append(Array(bytes[start..<end]))
                            start = end
                        }
                    }
                }
                #expect(found == expected.map { Array($0.utf8) }, "\(pattern) on \(expected)")
            }
        }
    }

    @Test(
        "other texts are no split expression",
        arguments: [
            "", "(", "[", #"\p{L}+"#, #"\s+|\p{L}+"#, #"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+|x"#,
            #"\p{L}*|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#,
        ])
    func noExpression(pattern: String) { #expect(SplitExpression(pattern) == nil) }

    /// Features of files that change nothing, or nothing for ids.
    @Test(
        arguments: [
            ([("post_processor", ["type": "ByteLevel", "trim_offsets": true, "add_prefix_space": true])], []),
            ([("post_processor", nil)], []),
            ([("normalizer", ["type": "Sequence", "normalizers": [["type": "NFC"]]])], []),
            ([("decoder", ["type": "Sequence", "decoders": [["type": "ByteLevel"]]])], []),
            ([], [("dropout", 0.0)]), ([], [("dropout", 0)]), ([], [("ignore_merges", true)]),
            ([], [("fuse_unk", true)]),
        ] as [([(String, JSONValue)], [(String, JSONValue)])])
    func harmlessFeatures(changes: [(String, JSONValue)], model: [(String, JSONValue)]) throws {
        let plain = try Tokenizer(tokenizer: TinyWorldTokenizer.file())
        let changed = try Tokenizer(tokenizer: TinyWorldTokenizer.file(changes, model: model))
        for text in ["<|im_start|>user\n 3A  x\n\n\n", " a b ", "It's 12 /no_think"] {
            #expect(changed.encode(text) == plain.encode(text))
            #expect(changed.decode(changed.encode(text)) == plain.decode(plain.encode(text)))
        }
    }

    @Test("an unknown token of whatever text does not matter where every byte has a token", arguments: ["", "<unk>"])
    func unknownToken(text: String) throws {
        let url = Fixtures.url("tokenizers/qwen2/tokenizer.json")
        var document = try JSONValue(parsing: Array(try Data(contentsOf: url))).objectValue
        var model = document?["model"]?.objectValue
        model?["unk_token"] = .string(text)
        model?["byte_fallback"] = true
        document?["model"] = model.map { .object($0) }
        let changed = try Tokenizer(tokenizer: Array(JSONValue.object(try #require(document)).pythonText.utf8))
        let plain = try Tokenizer(directory: Fixtures.url("tokenizers/qwen2"))
        #expect(changed.encode("Größe 你好\u{0} 12") == plain.encode("Größe 你好\u{0} 12"))
    }

    // MARK: - Special tokens beside tokenizer.json (transformers 5.24 gave the expected ids)

    /// 256 bytes, `<s>` and `ab` in the vocabulary, `<e>` added.
    private func directory(_ files: [String: String]) throws -> Tokenizer {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tokenizer-\(UUID())")
        defer { try? FileManager.default.removeItem(at: url) }
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        let alphabet = (0..<256).map { ByteAlphabet.scalars[$0] }.sorted()
        var vocabulary = alphabet.enumerated().map { index, scalar in
            JSONObject.Member(key: String(Unicode.Scalar(scalar) ?? " "), value: .integer(String(index)))
        }
        vocabulary.append(.init(key: "<s>", value: .integer("256")))
        vocabulary.append(.init(key: "ab", value: .integer("257")))
        let file: JSONValue = [
            "added_tokens": [["id": .integer("258"), "content": "<e>", "special": false, "normalized": false]],
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false], "decoder": ["type": "ByteLevel"],
            "model": ["type": "BPE", "vocab": .object(JSONObject(vocabulary)), "merges": ["a b"]],
        ]
        let contents = ["tokenizer.json": file.pythonText].merging(files) { $1 }
        for (name, text) in contents where !text.isEmpty {
            try Data(text.utf8).write(to: url.appendingPathComponent(name))
        }
        return try Tokenizer(directory: url)
    }

    @Test("tokens that only tokenizer_config.json names get the next ids, and are special")
    func namedTokens() throws {
        let tokenizer = try directory([
            "tokenizer_config.json": #"""
            {"bos_token": "<s>", "eos_token": "<e>", "pad_token": "<pad>", "image_token": "<img>",
             "additional_special_tokens": ["<x>", "<y>"], "clean_up_tokenization_spaces": true}
            """#
        ])
        let ids = tokenizer.encode("<s>ab<e> <pad><x><y><img> .")
        #expect(ids == [256, 257, 258, 220, 259, 261, 262, 260, 220, 13])
        #expect(tokenizer.decode(ids, skipSpecial: true) == "ab  .")
        #expect(tokenizer.endOfSequenceID == 258 && tokenizer.paddingID == 259)
        #expect(tokenizer.idLimit == 263 && tokenizer.writtenIDLimit == 259)
        #expect(tokenizer.specialTokens.map(\.name) == ["bos_token", "eos_token", "pad_token", "image_token"])
    }

    @Test("special_tokens_map.json counts where tokenizer_config.json has no added_tokens_decoder")
    func specialTokensMap() throws {
        let map = #"{"bos_token": {"content": "<s>", "rstrip": true, "normalized": false}, "eos_token": "<q>"}"#
        var tokenizer = try directory(["special_tokens_map.json": map])
        #expect(tokenizer.encode("<s>  ab<q>") == [256, 257, 259])
        #expect(tokenizer.endOfSequenceID == 259)
        tokenizer = try directory([
            "special_tokens_map.json": map,
            "tokenizer_config.json":
                #"{"eos_token": "<e>", "added_tokens_decoder": {"258": {"content": "<e>", "special": true}}}"#,
        ])
        #expect(tokenizer.endOfSequenceID == 258 && tokenizer.tokenID(of: "<q>") == nil)
    }

    @Test("added_tokens.json has ids")
    func addedTokensFile() throws {
        let tokenizer = try directory([
            "added_tokens.json": #"{"<think>": 260, "<|eot|>": 261}"#,
            "tokenizer_config.json": #"{"eos_token": "<|eot|>"}"#,
        ])
        #expect(tokenizer.encode("<think>ab<|eot|>") == [260, 257, 261])
        #expect(tokenizer.isSpecial(261) && !tokenizer.isSpecial(260))
    }

    @Test("vocab.json and merges.txt alone are a tokenizer where the class is known")
    func vocabularyAndMerges() throws {
        let source = Fixtures.url("tokenizer/main")
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tokenizer-\(UUID())")
        defer { try? FileManager.default.removeItem(at: url) }
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
            try FileManager.default.copyItem(
                at: source.appendingPathComponent(name), to: url.appendingPathComponent(name))
        }
        let (whole, parts) = (try FixtureCases.tokenizer("main"), try Tokenizer(directory: url))
        for item in try FixtureCases.cases("tokenizer/main/encode_cases.json") {
            let text = try item.text("text")
            #expect(parts.encode(text) == whole.encode(text), "\(text.debugDescription)")
        }
        try Data(#"{"tokenizer_class": "XTokenizer"}"#.utf8).write(
            to: url.appendingPathComponent("tokenizer_config.json"))
        let error = try #require(throws: TokenizerError.self) { try Tokenizer(directory: url) }
        #expect(error.code == .unsupportedFeature && error.message.contains("XTokenizer"))
    }
}
