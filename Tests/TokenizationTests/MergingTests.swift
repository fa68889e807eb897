// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

@testable import Tokenization

@Suite("Byte-pair merging")
struct MergingTests {
    /// The definition, as slow as it is plain: join the leftmost pair of the lowest rank until none is left.
    private func reference(_ bytes: [UInt8], _ tokenizer: Tokenizer) -> [Int32] {
        var ids = bytes.map { tokenizer.byteTokens[Int($0)] }.filter { $0 >= 0 }
        while true {
            let ranks = zip(ids, ids.dropFirst()).map { tokenizer.merges.rank(left: $0, right: $1) }
            guard let best = ranks.min(), best != MergeTable.noRank, let place = ranks.firstIndex(of: best)
            else {
                return ids
            }
            ids.replaceSubrange(place...(place + 1), with: [tokenizer.merges.results[Int(best)]])
        }
    }

    @Test("the heap merges as the definition says, on cached and on long pre-tokens")
    func equalsDefinition() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        var generator = SplitMix64(state: 7)
        let scratch = EncodingScratch()
        let words = try FixtureCases.cases("tokenizer/main/encode_cases.json").prefix(60)
            .map { Array(try $0.text("text").utf8) }
        let pool = words.flatMap { $0 }
        for _ in 0..<600 {
            let count = Int.random(in: 1...48, using: &generator)
            let start = Int.random(in: 0..<(pool.count - count), using: &generator)
            let bytes = Array(pool[start..<(start + count)])
            let expected = reference(bytes, tokenizer)
            for _ in 0..<2 {  // the second time from the cache
                bytes.withUnsafeBufferPointer {
                    scratch.encode($0, byteTokens: tokenizer.byteTokens, merges: tokenizer.merges)
                }
                #expect(scratch.pieces.map(\.id) == expected, "\(bytes)")
                #expect(scratch.pieces.last?.end == Int32(count))
            }
        }
    }

    @Test(
        "the steps for one long pre-token grow almost in proportion to its length",
        arguments: ["a", " ", "=", "ab", "\n", "-+", "\u{301}\u{323}", "你"])
    func noQuadraticBlowUp(unit: String) throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        func steps(_ count: Int) -> Int {
            let scratch = EncodingScratch()
            let text = String(repeating: unit, count: count)
            let encoding = tokenizer.encoding(of: text, wantsOffsets: false, scratch: scratch)
            #expect(!encoding.ids.isEmpty)
            return scratch.stepCount
        }
        let small = steps(2_000)
        let large = steps(32_000)
        #expect(small >= 2_000)
        // 16 times the text: n log n gives at most 16 · 15/11 = 22 times the steps, a quadratic way 256
        // times.
        #expect(large < 24 * small, "\(small) steps, then \(large)")
    }

    @Test("memory that grew for an enormous pre-token is not kept")
    func largeMemoryIsDropped() throws {
        let tokenizer = try FixtureCases.tokenizer("small")
        let scratch = EncodingScratch()
        #expect(scratch.isSmall)
        _ = tokenizer.encoding(of: String(repeating: "q", count: 200_000), wantsOffsets: false, scratch: scratch)
        #expect(!scratch.isSmall)
        tokenizer.giveBack(scratch)
        #expect(tokenizer.takeScratch() !== scratch)
    }

    @Test("working memory does not grow with the number of different pre-tokens")
    func cacheIsBounded() throws {
        let tokenizer = try FixtureCases.tokenizer("main")
        let scratch = EncodingScratch()
        let text = (0..<30_000).map { " w" + String($0, radix: 36).filter(\.isLetter) + "x" }.joined()
        let first = tokenizer.encoding(of: text, wantsOffsets: false, scratch: scratch)
        // A second pass over entries that were replaced meanwhile must give the same ids.
        #expect(tokenizer.encoding(of: text, wantsOffsets: false, scratch: scratch).ids == first.ids)
        #expect(tokenizer.encode(text) == first.ids)
    }
}
