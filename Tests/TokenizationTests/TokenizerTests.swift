// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

@Suite("Tokenizer against the tokenizers library")
struct TokenizerTests {
    @Test("ids, offsets and decoded text of every encode case are equal")
    func encodeCases() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        let cases = try FixtureCases.cases("tokenizer/main/encode_cases.json")
        #expect(cases.count > 100)
        for item in cases {
            let text = try item.text("text")
            let encoding = tokenizer.encodeWithOffsets(text)
            #expect(encoding.ids == item["ids"]?.ids, "\(text.debugDescription)")
            #expect(encoding.offsets == item["offsets"]?.ranges, "\(text.debugDescription)")
            #expect(tokenizer.encode(text) == encoding.ids)
            #expect(same(tokenizer.decode(encoding.ids), try item.text("decoded")))
            #expect(
                same(tokenizer.decode(encoding.ids, skipSpecial: true), try item.text("decoded_skip_special"))
            )
        }
    }

    @Test("every decode case gives the library's text, at once and token by token")
    func decodeCases() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        let cases = try FixtureCases.cases("tokenizer/main/decode_cases.json")
        #expect(cases.count > 50)
        for item in cases {
            let ids = try #require(item["ids"]).ids
            for (field, skipSpecial) in [("decoded", false), ("decoded_skip_special", true)] {
                let expected = try item.text(field)
                #expect(same(tokenizer.decode(ids, skipSpecial: skipSpecial), expected), "\(ids)")
                var decoder = StreamingDecoder(tokenizer, skipSpecial: skipSpecial)
                let streamed = ids.map { decoder.append($0) }.joined() + decoder.finish()
                #expect(same(streamed, expected), "\(ids)")
            }
        }
    }

    @Test("the streaming decoder holds an unfinished character back")
    func streamingHoldsBack() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        var decoder = StreamingDecoder(tokenizer)
        let ids = try "😀".utf8.map { try #require(tokenizer.tokens.id(of: CollectionOfOne($0))) }
        #expect(ids.map { decoder.append($0) } == ["", "", "", "😀"])
        #expect(decoder.finish() == "")
        #expect(decoder.append(ids[0]) == "")
        #expect(decoder.append(ids[0]) == "\u{FFFD}")
        #expect(decoder.finish() == "\u{FFFD}")
        #expect(decoder.finish() == "")
    }

    @Test("special tokens, counts and ends are those of the files")
    func properties() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        #expect(tokenizer.vocabularyCount == 3026)
        #expect(tokenizer.addedTokens.count == 26)
        #expect(tokenizer.tokenID(of: "<think>") == 3024)
        #expect(tokenizer.tokenID(of: " text") == 911)
        #expect(tokenizer.tokenID(of: "no such token") == nil)
        #expect(tokenizer.endOfSequenceID == 3002)
        #expect(tokenizer.paddingID == 3000)
        #expect(tokenizer.endOfTextIDs == [3002, 3000])
        #expect(tokenizer.isSpecial(3002) && !tokenizer.isSpecial(3024))
        #expect(tokenizer.coversAllBytes)
        #expect(tokenizer.bytes(of: 3026) == nil && tokenizer.bytes(of: -1) == nil)
    }

    @Test("both merge notations load", arguments: ["main", "small"])
    func mergeNotations(name: String) throws {
        let tokenizer = try FixtureCases.tokenizer(name)
        let text = "def f(x):\n    return x's  value  "
        #expect(tokenizer.decode(tokenizer.encode(text)) == text)
        #expect(tokenizer.encode(text).count < text.utf8.count)
    }

    @Test("random text in normal form C survives encoding and decoding, and its offsets cover it")
    func roundTrips() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        var generator = SplitMix64(state: 20_261_123)
        let pools: [ClosedRange<UInt32>] = [
            0x20...0x7E, 0x09...0x0D, 0xA0...0x17F, 0x300...0x36F, 0x1100...0x11FF, 0xAC00...0xD7A3,
            0x4E00...0x9FFF,
            0x600...0x6FF, 0x1F300...0x1F6FF, 0x2000...0x206F, 0x900...0x9FF, 0x1E00...0x1FFF,
        ]
        for _ in 0..<400 {
            var scalars: [UInt32] = []
            let pool = pools[Int.random(in: 0..<pools.count, using: &generator)]
            for _ in 0..<Int.random(in: 0...60, using: &generator) {
                let other = pools[Int.random(in: 0..<pools.count, using: &generator)]
                let range = Bool.random(using: &generator) ? pool : other
                scalars.append(UInt32.random(in: range, using: &generator))
            }
            let normalized = CanonicalComposition.normalize(scalars).scalars
            #expect(CanonicalComposition.normalize(normalized).scalars == normalized)
            let text = String(decoding: TokenizerBuilder.utf8(scalars), as: UTF8.self)
            let encoding = tokenizer.encodeWithOffsets(text)
            #expect(Array(tokenizer.decode(encoding.ids).utf8) == TokenizerBuilder.utf8(normalized))
            #expect(encoding.offsets.allSatisfy { $0.upperBound <= scalars.count && !$0.isEmpty })
            #expect(encoding.offsets.map(\.lowerBound) == encoding.offsets.map(\.lowerBound).sorted())
        }
    }

    @Test("many threads share one tokenizer")
    func concurrentUse() async throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        let text = String(repeating: "The quick brown fox doesn't jump 123 times.\n", count: 20)
        let expected = tokenizer.encode(text)
        await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<32 { group.addTask { tokenizer.encode(text) == expected } }
            for await isEqual in group { #expect(isEqual) }
        }
    }
}
