// SPDX-License-Identifier: Apache-2.0

/// Working memory of one encoding call: the symbols of the pre-token at hand and the cache of short
/// pre-tokens.
///
/// Merging keeps the symbols in a linked list and the candidate merges in a heap ordered by (rank, position),
/// so a pre-token of n bytes costs O(n log n) steps and O(n) memory however long it is.
// @unchecked: a scratch belongs to one call at a time; the tokenizer hands it out and takes it back under a
// lock.
final class EncodingScratch: @unchecked Sendable {
    /// One token of the pre-token: its id and its end in bytes from the start of the pre-token.
    struct Piece {
        var id: Int32
        var end: Int32
    }

    /// Longest pre-token whose tokens are cached, in bytes.
    static let cachedByteCountMax = 16
    /// Most tokens of a cached pre-token.
    static let cachedTokenCountMax = 6
    /// Number of cache places; a new entry replaces the one in its place, so memory is fixed (about 1 MB).
    static let cacheCapacity = 1 << 14

    /// Whether the memory is worth keeping: it has not grown for one enormous pre-token.
    var isSmall: Bool { ids.capacity <= 1 << 16 }

    /// Tokens of the pre-token encoded last.
    private(set) var pieces: [Piece] = []
    /// Steps of merging so far: one for each heap level moved through and each symbol set up.
    private(set) var stepCount = 0

    private struct CacheEntry {
        var low: UInt64 = 0
        var high: UInt64 = 0
        var byteCount: UInt8 = 0  // 0: empty
        var tokenCount: UInt8 = 0
        // Ends fit in one byte each, since the pre-token has at most 16 bytes.
        var ids: (Int32, Int32, Int32, Int32, Int32, Int32) = (0, 0, 0, 0, 0, 0)
        var ends: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8) = (0, 0, 0, 0, 0, 0)
    }

    private var cache = [CacheEntry](repeating: CacheEntry(), count: cacheCapacity)
    // The symbols: -1 as id marks one that was merged into its left neighbour.
    private var ids: [Int32] = []
    private var ends: [Int32] = []
    private var previous: [Int32] = []
    private var next: [Int32] = []
    private var ranks: [Int32] = []  // rank of the merge with the right neighbour
    private var heap: [UInt64] = []  // rank << 32 | position of the left symbol

    /// Encodes one pre-token into ``pieces``.
    ///
    /// - Parameters:
    ///   - bytes: the pre-token, not empty.
    ///   - byteTokens: the token of each single byte; -1 where the vocabulary lacks it: such bytes are
    ///     dropped, as the tokenizers library does without an unknown token.
    ///   - wholeTokens: where given, a pre-token that is one of them is that token, whatever the merges say.
    func encode(
        _ bytes: UnsafeBufferPointer<UInt8>, byteTokens: [Int32], merges: MergeTable, wholeTokens: TokenTable? = nil
    ) {
        guard bytes.count <= Self.cachedByteCountMax else {
            merge(bytes, byteTokens: byteTokens, merges: merges, wholeTokens: wholeTokens)
            return
        }
        var low: UInt64 = 0
        var high: UInt64 = 0
        for index in 0..<min(8, bytes.count) { low |= UInt64(bytes[index]) << UInt64(8 * index) }
        for index in stride(from: 8, to: bytes.count, by: 1) {
            high |= UInt64(bytes[index]) << UInt64(8 * (index - 8))
        }
        let mixed = (low ^ (high &* 0xC2B2_AE3D_27D4_EB4F) ^ UInt64(bytes.count)) &* 0x9E37_79B9_7F4A_7C15
        let place = Int(truncatingIfNeeded: mixed >> 48) & (Self.cacheCapacity - 1)
        let isHit = cache.withUnsafeBufferPointer { cache in
            let entry = cache[place]
            guard entry.low == low, entry.high == high, Int(entry.byteCount) == bytes.count else {
                return false
            }
            pieces.removeAll(keepingCapacity: true)
            withUnsafeBytes(of: entry.ids) { ids in
                withUnsafeBytes(of: entry.ends) { ends in
                    for index in 0..<Int(entry.tokenCount) {
                        let id = ids.load(fromByteOffset: 4 * index, as: Int32.self)
                        pieces.append(Piece(id: id, end: Int32(ends[index])))
                    }
                }
            }
            return true
        }
        if isHit { return }
        merge(bytes, byteTokens: byteTokens, merges: merges, wholeTokens: wholeTokens)
        guard pieces.count <= Self.cachedTokenCountMax else { return }
        var entry = CacheEntry(
            low: low, high: high, byteCount: UInt8(bytes.count), tokenCount: UInt8(pieces.count))
        withUnsafeMutableBytes(of: &entry.ids) { ids in
            for (index, piece) in pieces.enumerated() {
                ids.storeBytes(of: piece.id, toByteOffset: 4 * index, as: Int32.self)
            }
        }
        withUnsafeMutableBytes(of: &entry.ends) { ends in
            for (index, piece) in pieces.enumerated() { ends[index] = UInt8(piece.end) }
        }
        cache[place] = entry
    }

    private func merge(
        _ bytes: UnsafeBufferPointer<UInt8>, byteTokens: [Int32], merges: MergeTable, wholeTokens: TokenTable?
    ) {
        if let id = wholeTokens?.id(of: bytes) {
            pieces.removeAll(keepingCapacity: true)
            pieces.append(Piece(id: id, end: Int32(bytes.count)))
            return
        }
        setUp(bytes, byteTokens: byteTokens, merges: merges)
        while let candidate = popSmallest() {
            let rank = Int32(truncatingIfNeeded: candidate >> 32)
            let left = Int(candidate & 0xFFFF_FFFF)
            // A candidate is stale when its symbol was merged away or has another neighbour by now.
            guard ids[left] >= 0, ranks[left] == rank else { continue }
            let right = Int(next[left])
            ids[left] = merges.results[Int(rank)]
            ends[left] = ends[right]
            ids[right] = -1
            next[left] = next[right]
            if next[right] >= 0 { previous[Int(next[right])] = Int32(left) }
            updateRank(of: left, merges: merges)
            if previous[left] >= 0 { updateRank(of: Int(previous[left]), merges: merges) }
        }
        pieces.removeAll(keepingCapacity: true)
        var index = ids.isEmpty ? -1 : 0
        while index >= 0 {
            pieces.append(Piece(id: ids[index], end: ends[index]))
            index = Int(next[index])
        }
    }

    private func setUp(_ bytes: UnsafeBufferPointer<UInt8>, byteTokens: [Int32], merges: MergeTable) {
        ids.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
        previous.removeAll(keepingCapacity: true)
        next.removeAll(keepingCapacity: true)
        ranks.removeAll(keepingCapacity: true)
        heap.removeAll(keepingCapacity: true)
        for (index, byte) in bytes.enumerated() where byteTokens[Int(byte)] >= 0 {
            ids.append(byteTokens[Int(byte)])
            ends.append(Int32(index + 1))
            previous.append(Int32(ids.count - 2))
            next.append(Int32(ids.count))
            ranks.append(MergeTable.noRank)
        }
        stepCount += ids.count
        guard !ids.isEmpty else { return }
        next[ids.count - 1] = -1
        for index in ids.indices { updateRank(of: index, merges: merges) }
    }

    /// Looks up the merge of a symbol with its right neighbour and enters it as a candidate.
    private func updateRank(of left: Int, merges: MergeTable) {
        let right = next[left]
        ranks[left] = right < 0 ? MergeTable.noRank : merges.rank(left: ids[left], right: ids[Int(right)])
        if ranks[left] != MergeTable.noRank { push(UInt64(ranks[left]) << 32 | UInt64(left)) }
    }

    private func push(_ candidate: UInt64) {
        heap.append(candidate)
        var index = heap.count - 1
        while index > 0 {
            stepCount += 1
            let parent = (index - 1) / 2
            if heap[parent] <= candidate { break }
            heap[index] = heap[parent]
            index = parent
        }
        heap[index] = candidate
    }

    private func popSmallest() -> UInt64? {
        guard let smallest = heap.first else { return nil }
        let moved = heap.removeLast()
        guard !heap.isEmpty else { return smallest }
        var index = 0
        while true {
            stepCount += 1
            var child = 2 * index + 1
            if child >= heap.count { break }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            if moved <= heap[child] { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = moved
        return smallest
    }
}
