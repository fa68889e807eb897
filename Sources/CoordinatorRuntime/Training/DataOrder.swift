// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import RuntimeSupport

/// In which order rows of data come: every epoch of a file a permutation of its own, files of a mixture in blocks that
/// hold each file's share exactly. A pure function of seed and counts. The cursor is the position itself, so a resumed
/// job can neither skip nor repeat a row.
struct DataOrder {
    /// One file of the mixture.
    private struct Source {
        let firstRow: Int
        let rowCount: Int
        /// Places in a block.
        let share: Int
        var epoch = -1
        var permutation: [Int32] = []
    }

    /// Positions of a block; shares are multiples of its inverse.
    static let blockSize = 1024

    private let seed: UInt64
    private var sources: [Source]
    private var block = -1
    /// By place in the block: the source, and how many places of it come before.
    private var places: [(source: Int, rank: Int)] = []

    init(seed: UInt64, rowCount: Int) { self.init(seed: seed, [(rowCount, 1)]) }

    init(seed: UInt64, _ admitted: WireJobAdmitted) {
        let sources = admitted.sources.map { (Int($0.rowCount), $0.weight) }
        self.init(seed: seed, sources.isEmpty ? [(Int(admitted.rowCount), 1)] : sources)
    }

    init(seed: UInt64, _ sources: [(rowCount: Int, weight: Double)]) {
        precondition(sources.allSatisfy { $0.rowCount > 0 && $0.weight > 0 })
        self.seed = seed
        let shares = Self.shares(sources.map(\.weight))
        var first = 0
        self.sources = zip(sources, shares).map { source, share in
            defer { first += source.rowCount }
            return Source(firstRow: first, rowCount: source.rowCount, share: share)
        }
    }

    /// Places of a block by largest remainder, at least one each.
    private static func shares(_ weights: [Double]) -> [Int] {
        let total = weights.reduce(0, +)
        let exact = weights.map { $0 / total * Double(blockSize) }
        var shares = exact.map { max(1, Int($0)) }
        let order = exact.indices.sorted {
            (exact[$1] - exact[$1].rounded(.down), $0) < (exact[$0] - exact[$0].rounded(.down), $1)
        }
        var next = 0
        while shares.reduce(0, +) < blockSize {
            shares[order[next % order.count]] += 1
            next += 1
        }
        while shares.reduce(0, +) > blockSize { shares[shares.indices.max { shares[$0] < shares[$1] }!] -= 1 }
        return shares
    }

    /// The row at a position of the endless sequence.
    mutating func row(at position: Int) -> Int {
        if sources.count == 1 { return row(0, position) }
        let wanted = position / Self.blockSize
        if wanted != block {
            block = wanted
            var order = sources.indices.flatMap { [Int](repeating: $0, count: sources[$0].share) }
            shuffle(&order, UInt32(truncatingIfNeeded: wanted), domain: 0x6d69_7865)
            var counts = [Int](repeating: 0, count: sources.count)
            places = order.map { source in
                defer { counts[source] += 1 }
                return (source, counts[source])
            }
        }
        let (source, rank) = places[position % Self.blockSize]
        return row(source, block * sources[source].share + rank)
    }

    private mutating func row(_ source: Int, _ position: Int) -> Int {
        let wanted = position / sources[source].rowCount
        if wanted != sources[source].epoch {
            sources[source].epoch = wanted
            var permutation = (0..<Int32(sources[source].rowCount)).map { $0 }
            shuffle(
                &permutation, UInt32(truncatingIfNeeded: wanted), domain: 0x6461_7461,
                UInt32(truncatingIfNeeded: source))
            sources[source].permutation = permutation
        }
        return sources[source].firstRow + Int(sources[source].permutation[position % sources[source].rowCount])
    }

    /// Fisher and Yates, with 64 random bits per draw: the bias is below 2^-32.
    private func shuffle<Element>(_ values: inout [Element], _ round: UInt32, domain: UInt32, _ stream: UInt32 = 0) {
        let key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        for last in stride(from: values.count - 1, to: 0, by: -1) {
            let block = Philox.block(counter: (UInt32(last), round, domain, stream), key: key)
            let draw = UInt64(block.0) << 32 | UInt64(block.1)
            values.swapAt(last, Int(draw % UInt64(last + 1)))
        }
    }
}
