// SPDX-License-Identifier: Apache-2.0
//
// Who owns which page of the key/value cache. Full pages of a prompt are registered under the exact ids they and
// their predecessors hold, so siblings of a group and later requests with the same prefix share them. Only full
// pages are shared and a shared page is never written again, so nothing needs to be copied.

/// Pages of one key/value cache: free, in use (counted), or idle but still holding a known prefix.
package struct BlockManager: Sendable {
    /// A registered page: the page before it in the prompt and the ids it holds.
    private struct PrefixKey: Hashable {
        let previous: Int32
        let tokens: [Int32]
    }

    package let pageCount: Int
    package let pageSize: Int
    private var free: [Int32]
    private var references: [Int32]
    private var pageOfPrefix: [PrefixKey: Int32] = [:]
    private var prefixOfPage: [PrefixKey?]
    /// Registered pages that no sequence uses, least recently used first.
    private var idle: [Int32] = []

    package init(pageCount: Int, pageSize: Int) {
        precondition(pageCount > 0 && pageSize > 0)
        self.pageCount = pageCount
        self.pageSize = pageSize
        free = (0..<Int32(pageCount)).reversed()
        references = Array(repeating: 0, count: pageCount)
        prefixOfPage = Array(repeating: nil, count: pageCount)
    }

    /// Pages that an allocation can have.
    package var availableCount: Int { free.count + idle.count }

    package func pagesNeeded(for tokenCount: Int) -> Int { (tokenCount + pageSize - 1) / pageSize }

    /// Takes `count` pages, or none and nil when there are not enough.
    package mutating func allocate(_ count: Int) -> [Int32]? {
        guard count <= availableCount else { return nil }
        return (0..<count).map { _ in
            if free.isEmpty { forget(idle.removeFirst()) }
            let page = free.removeLast()
            references[Int(page)] = 1
            return page
        }
    }

    /// The registered pages that hold the longest prefix of `tokens`, now in use by one more sequence.
    package mutating func acquirePrefix(of tokens: ArraySlice<Int32>) -> [Int32] {
        var pages: [Int32] = []
        var start = tokens.startIndex
        while start + pageSize <= tokens.endIndex {
            let key = PrefixKey(previous: pages.last ?? -1, tokens: Array(tokens[start..<start + pageSize]))
            guard let page = pageOfPrefix[key] else { break }
            if references[Int(page)] == 0, let place = idle.firstIndex(of: page) { idle.remove(at: place) }
            references[Int(page)] += 1
            pages.append(page)
            start += pageSize
        }
        return pages
    }

    /// Makes the full pages of `tokens`, whose keys and values are now in `pages`, known to later prompts.
    package mutating func registerPrefix(_ tokens: ArraySlice<Int32>, pages: [Int32]) {
        var previous: Int32 = -1
        for (index, page) in pages.enumerated() {
            let start = tokens.startIndex + index * pageSize
            guard start + pageSize <= tokens.endIndex else { return }
            let key = PrefixKey(previous: previous, tokens: Array(tokens[start..<start + pageSize]))
            if pageOfPrefix[key] == nil && prefixOfPage[Int(page)] == nil {
                pageOfPrefix[key] = page
                prefixOfPage[Int(page)] = key
            }
            // A twin computed at the same time stays private; the chain goes on with the registered page.
            previous = pageOfPrefix[key]!
            if previous != page { return }
        }
    }

    /// Gives pages back.
    package mutating func release(_ pages: [Int32]) {
        for page in pages.reversed() {
            references[Int(page)] -= 1
            precondition(references[Int(page)] >= 0, "page \(page) released twice")
            guard references[Int(page)] == 0 else { continue }
            if prefixOfPage[Int(page)] == nil { free.append(page) } else { idle.append(page) }
        }
    }

    /// Drops every known prefix: the weights changed. No sequence may be running.
    package mutating func dropPrefixes() {
        precondition(references.allSatisfy { $0 == 0 }, "prefixes dropped while sequences run")
        for page in idle { forget(page) }
        idle.removeAll()
    }

    private mutating func forget(_ page: Int32) {
        if let key = prefixOfPage[Int(page)] { pageOfPrefix[key] = nil }
        prefixOfPage[Int(page)] = nil
        free.append(page)
    }

    /// Every page is in exactly one state. For tests.
    package func checkInvariants() -> Bool {
        let used = references.filter { $0 > 0 }.count
        return used + free.count + idle.count == pageCount && Set(free).count == free.count
            && Set(idle).count == idle.count && Set(free).isDisjoint(with: idle)
            && free.allSatisfy { references[Int($0)] == 0 && prefixOfPage[Int($0)] == nil }
            && idle.allSatisfy { references[Int($0)] == 0 && prefixOfPage[Int($0)] != nil }
    }
}
