// SPDX-License-Identifier: Apache-2.0

/// Sets of overlapping pieces of texts, to find texts that are nearly equal (Broder 1997).
package struct Shingles: Sendable {
    /// Characters of a piece.
    static let length = 8
    private let sets: [Set<Int>]
    private var owners: [Int: [Int32]] = [:]

    /// An index over `texts`.
    package init(_ texts: [String]) {
        sets = texts.map(Self.set)
        for (index, set) in sets.enumerated() { for piece in set { owners[piece, default: []].append(Int32(index)) } }
    }

    /// Case, spaces and the thinking flags do not make texts different.
    static func set(_ text: String) -> Set<Int> {
        let flagless = text.replacing("/no_think", with: "").replacing("/think", with: "")
        let characters = Array(flagless.lowercased().unicodeScalars.filter { !$0.properties.isWhitespace }.map(\.value))
        guard characters.count > length else { return characters.isEmpty ? [] : [hash(characters[...])] }
        return Set((0...characters.count - length).map { hash(characters[$0..<$0 + length]) })
    }

    /// FNV-1a: the same in every process, unlike Swift's own.
    private static func hash(_ characters: ArraySlice<UInt32>) -> Int {
        var value: UInt64 = 0xCBF2_9CE4_8422_2325
        for character in characters { value = (value ^ UInt64(character)) &* 0x100_0000_01B3 }
        return Int(truncatingIfNeeded: value)
    }

    /// Jaccard similarity of `text` and the most similar of the indexed texts, in [0, 1].
    package func similarity(_ text: String) -> Double {
        let own = Self.set(text)
        var common: [Int32: Int] = [:]
        for piece in own { for owner in owners[piece] ?? [] { common[owner, default: 0] += 1 } }
        return common.map { Double($0.value) / Double(own.count + sets[Int($0.key)].count - $0.value) }.max() ?? 0
    }
}
