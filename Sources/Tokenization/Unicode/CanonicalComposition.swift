// SPDX-License-Identifier: Apache-2.0

// Unicode normal form C (UAX #15) with the data of the tokenizers library, which is Unicode 9.0, and with the
// library's account of which original scalar each normalized scalar comes from: a composite counts as its
// first part only.

/// A text in normal form C and where its scalars come from.
struct NormalizedScalars {
    /// The scalars in normal form C.
    var scalars: [UInt32] = []
    /// For each scalar the original one, counted from the start of the text; -1 before the first.
    var origins: [Int32] = []
}

/// Normal form C by full decomposition, canonical ordering and composition.
enum CanonicalComposition {
    /// Full canonical decompositions outside Hangul.
    static let decompositions: [UInt32: ArraySlice<UInt32>] = {
        var result: [UInt32: ArraySlice<UInt32>] = [:]
        let flat = UnicodeTables.decompositions
        var index = 0
        while index < flat.count {
            let count = Int(flat[index + 1])
            result[flat[index]] = flat[(index + 2)..<(index + 2 + count)]
            index += 2 + count
        }
        return result
    }()

    /// The two parts of each primary composite outside Hangul.
    static let composites: [UInt32: (UInt32, UInt32)] = {
        var result: [UInt32: (UInt32, UInt32)] = [:]
        let flat = UnicodeTables.compositions
        for index in stride(from: 0, to: flat.count, by: 3) {
            result[flat[index + 2]] = (flat[index], flat[index + 1])
        }
        return result
    }()

    private static let compositions: [UInt64: UInt32] = {
        var result: [UInt64: UInt32] = [:]
        for (composite, parts) in composites { result[UInt64(parts.0) << 32 | UInt64(parts.1)] = composite }
        return result
    }()

    private static let combiningClasses: [UInt32: UInt8] = {
        var result: [UInt32: UInt8] = [:]
        let flat = UnicodeTables.combiningClassRanges
        for index in stride(from: 0, to: flat.count, by: 3) {
            for scalar in flat[index]...flat[index + 1] { result[scalar] = UInt8(flat[index + 2]) }
        }
        return result
    }()

    private static func combiningClass(_ scalar: UInt32) -> UInt8 {
        scalar < 0x300 ? 0 : combiningClasses[scalar] ?? 0
    }

    /// One scalar on its way. `change` is 0 for a scalar that stands for one original scalar, 1 for one that
    /// was inserted after it, and -n for one that stands for n more originals.
    private struct Item {
        var scalar: UInt32
        var change: Int
        var combiningClass: UInt8
    }

    /// Normalizes one text.
    ///
    /// - Complexity: O(n log n) in the longest run of combining marks, O(n) otherwise.
    static func normalize(_ original: [UInt32]) -> NormalizedScalars {
        var result = NormalizedScalars()
        result.scalars.reserveCapacity(original.count)
        result.origins.reserveCapacity(original.count)
        var consumed = 0
        for item in composed(ordered(decomposed(original))) {
            let origin = item.change > 0 ? consumed - 1 : consumed
            result.scalars.append(item.scalar)
            result.origins.append(Int32(min(origin, original.count - 1)))
            if item.change <= 0 { consumed += 1 - item.change }
        }
        return result
    }

    private static func decomposed(_ original: [UInt32]) -> [Item] {
        var items: [Item] = []
        items.reserveCapacity(original.count)
        for scalar in original {
            if scalar < 0xC0 {
                items.append(Item(scalar: scalar, change: 0, combiningClass: 0))
            } else if (0xAC00..<0xD7A4).contains(scalar) {
                let index = scalar - 0xAC00
                items.append(Item(scalar: 0x1100 + index / 588, change: 0, combiningClass: 0))
                items.append(Item(scalar: 0x1161 + index % 588 / 28, change: 1, combiningClass: 0))
                if index % 28 > 0 {
                    items.append(Item(scalar: 0x11A7 + index % 28, change: 1, combiningClass: 0))
                }
            } else if let parts = decompositions[scalar] {
                for (place, part) in parts.enumerated() {
                    items.append(
                        Item(scalar: part, change: place == 0 ? 0 : 1, combiningClass: combiningClass(part)))
                }
            } else {
                items.append(Item(scalar: scalar, change: 0, combiningClass: combiningClass(scalar)))
            }
        }
        return items
    }

    /// Sorts each run of combining marks by class, equal classes in their order.
    private static func ordered(_ items: [Item]) -> [Item] {
        var items = items
        var start = 0
        while start < items.count {
            var end = start + 1
            if items[start].combiningClass != 0 {
                while end < items.count, items[end].combiningClass != 0 { end += 1 }
                if end - start > 1 {
                    let keys = (start..<end).map { UInt64(items[$0].combiningClass) << 32 | UInt64($0) }
                        .sorted()
                    items.replaceSubrange(start..<end, with: keys.map { items[Int($0 & 0xFFFF_FFFF)] })
                }
            }
            start = end
        }
        return items
    }

    private static func composed(_ items: [Item]) -> [Item] {
        var result: [Item] = []
        result.reserveCapacity(items.count)
        var starter: Int?  // place in `result` of the last scalar of class 0
        for item in items {
            guard let place = starter else {
                if item.combiningClass == 0 { starter = result.count }
                result.append(item)
                continue
            }
            let isAdjacent = place == result.count - 1
            // A mark is blocked from its starter by a mark of the same or a higher class between them.
            let isBlocked = !isAdjacent && result[result.count - 1].combiningClass >= item.combiningClass
            if !isBlocked, let composite = compose(result[place].scalar, item.scalar) {
                result[place].scalar = composite
                result[place].change += item.change - 1
                continue
            }
            if item.combiningClass == 0 { starter = result.count }
            result.append(item)
        }
        return result
    }

    private static func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if (0x1100..<0x1113).contains(first), (0x1161..<0x1176).contains(second) {
            return 0xAC00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28
        }
        if (0xAC00..<0xD7A4).contains(first), (first - 0xAC00) % 28 == 0, (0x11A8..<0x11C3).contains(second) {
            return first + (second - 0x11A7)
        }
        return compositions[UInt64(first) << 32 | UInt64(second)]
    }
}
