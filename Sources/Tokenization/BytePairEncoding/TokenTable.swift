// SPDX-License-Identifier: Apache-2.0

/// The bytes of every token, and the token of given bytes. Keys are exact bytes, never Swift strings, whose
/// equality would join different tokens.
struct TokenTable: Sendable {
    private var pool: [UInt8] = []
    private var starts: [Int] = []
    private var lengths: [Int32] = []  // -1: no token has this id
    private var slots: [Int32] = []  // open addressing by hash of the bytes; -1: empty
    /// How many ids have a token.
    private(set) var count = 0

    /// One more than the highest id.
    var idLimit: Int { lengths.count }

    /// - Parameters:
    ///   - idLimit: one more than the highest id.
    ///   - tokenCountMax: how many tokens will be inserted at most.
    init(idLimit: Int, tokenCountMax: Int) {
        starts = [Int](repeating: 0, count: idLimit)
        lengths = [Int32](repeating: -1, count: idLimit)
        slots = [Int32](repeating: -1, count: Self.capacity(for: tokenCountMax))
    }

    /// A power of two that leaves at least half of an open-addressing table empty.
    static func capacity(for count: Int) -> Int {
        var capacity = 16
        while capacity < 2 * count { capacity *= 2 }
        return capacity
    }

    /// The bytes of `id`; `nil` when no token has this id.
    func bytes(of id: Int) -> ArraySlice<UInt8>? {
        guard id >= 0, id < lengths.count, lengths[id] >= 0 else { return nil }
        return pool[starts[id]..<(starts[id] + Int(lengths[id]))]
    }

    /// The id of the token with exactly these bytes. Where several have them, the first inserted.
    func id(of bytes: some Collection<UInt8>) -> Int32? {
        var slot = Self.hash(bytes) & (slots.count - 1)
        while slots[slot] >= 0 {
            if let candidate = self.bytes(of: Int(slots[slot])), candidate.elementsEqual(bytes) {
                return slots[slot]
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    /// Adds a token. `isSearchable` false: it has an id and bytes, and ``id(of:)`` does not find it.
    mutating func insert(_ bytes: [UInt8], id: Int, isSearchable: Bool) {
        precondition(lengths[id] < 0, "token id \(id) is inserted twice")
        starts[id] = pool.count
        lengths[id] = Int32(bytes.count)
        pool += bytes
        count += 1
        guard isSearchable else { return }
        var slot = Self.hash(bytes) & (slots.count - 1)
        while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = Int32(id)
    }

    /// FNV-1a, folded: independent of the process, unlike `Hasher`.
    private static func hash(_ bytes: some Collection<UInt8>) -> Int {
        var value: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return Int(truncatingIfNeeded: (value ^ (value >> 29)) & 0x7FFF_FFFF)
    }
}
