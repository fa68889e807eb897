// SPDX-License-Identifier: Apache-2.0
import Qwen3
import Testing

@Suite("Block manager")
struct BlockManagerTests {
    @Test("random traffic never loses, doubles or leaks a page")
    func randomTraffic() {
        var random = SystemRandomNumberGenerator()
        let seed = UInt64.random(in: 0...UInt64.max, using: &random)
        var state = seed
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        var blocks = BlockManager(pageCount: 24, pageSize: 4)
        var held: [(tokens: [Int32], pages: [Int32])] = []
        for _ in 0..<5000 {
            if next(3) > 0, held.count < 12 {
                let tokens = (0..<next(30)).map { Int32($0 / 8 * next(2)) }
                var pages = blocks.acquirePrefix(of: tokens[...])
                let missing = blocks.pagesNeeded(for: tokens.count) - pages.count
                if let more = blocks.allocate(missing) {
                    pages += more
                    blocks.registerPrefix(tokens[...], pages: pages)
                    held.append((tokens, pages))
                } else {
                    blocks.release(pages)
                }
            } else if !held.isEmpty {
                blocks.release(held.remove(at: next(held.count)).pages)
            }
            #expect(blocks.checkInvariants(), "seed \(seed)")
        }
        for entry in held { blocks.release(entry.pages) }
        blocks.dropPrefixes()
        #expect(blocks.availableCount == 24 && blocks.checkInvariants())
    }

    @Test("a prefix is found page by page and only where every id agrees")
    func prefixes() {
        var blocks = BlockManager(pageCount: 8, pageSize: 2)
        let pages = blocks.allocate(3)!
        blocks.registerPrefix([1, 2, 3, 4, 5], pages: pages)
        #expect(blocks.acquirePrefix(of: [1, 2, 3, 4, 9]) == Array(pages[..<2]))
        #expect(blocks.acquirePrefix(of: [1, 2, 9, 4]) == Array(pages[..<1]))
        #expect(blocks.acquirePrefix(of: [3, 4]).isEmpty)
    }
}
