// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Random numbers of one row of generated data: they depend on seed, row and kind of data alone, so that any row can be
/// made without those before it.
package struct RowRandom: Sendable {
    private let seed: UInt64
    private let row: UInt32
    private let domain: UInt32
    private var drawn: UInt32 = 0

    package init(seed: UInt64, row: UInt32, domain: UInt32) {
        self.seed = seed
        self.row = row
        self.domain = domain
    }

    /// Uniform in 0 ..< bound.
    package mutating func below(_ bound: Int) -> Int {
        let word = Philox.block(
            counter: (row, drawn, 0, domain),
            key: (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        ).0
        drawn += 1
        return Int((UInt64(word) * UInt64(bound)) >> 32)
    }

    package mutating func pick<Element>(_ items: [Element]) -> Element { items[below(items.count)] }

    /// True with this probability.
    package mutating func chance(_ probability: Double) -> Bool {
        Double(below(1 << 24)) / Double(1 << 24) < probability
    }

    package mutating func shuffled<Element>(_ items: [Element]) -> [Element] {
        var items = items
        for index in items.indices.dropFirst() { items.swapAt(index, below(index + 1)) }
        return items
    }
}
