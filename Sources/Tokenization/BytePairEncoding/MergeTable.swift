// SPDX-License-Identifier: Apache-2.0

/// The ranked merges of a byte-pair encoding: which two neighbouring tokens may become one, and in what
/// order.
struct MergeTable: Sendable {
    /// The rank of a pair that does not merge.
    static let noRank = Int32.max

    private var keys: [UInt64]
    private var ranks: [Int32]
    /// The token that the merge of each rank makes.
    private(set) var results: [Int32] = []

    init(countMax: Int) {
        let capacity = TokenTable.capacity(for: countMax)
        keys = [UInt64](repeating: .max, count: capacity)
        ranks = [Int32](repeating: 0, count: capacity)
        results.reserveCapacity(countMax)
    }

    /// Adds the merge of the next rank. A pair given twice keeps its last rank, as in the tokenizers library.
    mutating func append(left: Int32, right: Int32, result: Int32) {
        let key = Self.key(left, right)
        let slot = slot(of: key)
        keys[slot] = key
        ranks[slot] = Int32(results.count)
        results.append(result)
    }

    /// The rank of the merge of two neighbours; ``noRank`` when they do not merge.
    @inline(__always)
    func rank(left: Int32, right: Int32) -> Int32 {
        let key = Self.key(left, right)
        let slot = slot(of: key)
        return keys[slot] == key ? ranks[slot] : Self.noRank
    }

    @inline(__always)
    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    /// Where `key` is or would be.
    @inline(__always)
    private func slot(of key: UInt64) -> Int {
        let mask = keys.count - 1
        var slot = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
        while keys[slot] != key, keys[slot] != .max { slot = (slot + 1) & mask }
        return slot
    }
}
