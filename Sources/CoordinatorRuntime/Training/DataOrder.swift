// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// In which order rows of data come: every epoch a permutation of its own, a pure function of seed and row count. The
/// cursor is the position itself, so a resumed job can neither skip nor repeat a row.
struct DataOrder {
    private let seed: UInt64
    private let rowCount: Int
    private var epoch = -1
    private var permutation: [Int32] = []

    init(seed: UInt64, rowCount: Int) {
        precondition(rowCount > 0)
        self.seed = seed
        self.rowCount = rowCount
    }

    /// The row at a position of the endless sequence.
    mutating func row(at position: Int) -> Int {
        let wanted = position / rowCount
        if wanted != epoch {
            epoch = wanted
            permutation = (0..<Int32(rowCount)).map { $0 }
            let key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
            // Fisher and Yates, with 64 random bits per draw: the bias is below 2^-32.
            for last in stride(from: rowCount - 1, to: 0, by: -1) {
                let block = Philox.block(
                    counter: (UInt32(last), UInt32(truncatingIfNeeded: wanted), 0x6461_7461, 0), key: key)
                let draw = UInt64(block.0) << 32 | UInt64(block.1)
                permutation.swapAt(last, Int(draw % UInt64(last + 1)))
            }
        }
        return Int(permutation[position % rowCount])
    }
}
