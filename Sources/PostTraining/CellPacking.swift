// SPDX-License-Identifier: Apache-2.0
package import Qwen3

/// How a step's sequences are cut into cells: in order, a new cell whenever the next sequence would exceed the budget.
/// A rule of the data alone, so cells are the same whoever computes them.
package enum CellPacking {
    /// For each cell the indices of its sequences.
    ///
    /// - Parameters:
    ///   - shared: tokens that a sequence need not bring when it follows the one before it in a cell.
    ///   - kinds: sequences of one cell are of one kind; nil: all are.
    ///   - unit: neighbours that stay together, such as the two of a pair.
    package static func pack(
        tokenCounts: [Int], shared: [Int]? = nil, kinds: [UInt32]? = nil, unit: Int = 1, budget: Int
    ) -> [[Int]] {
        var cells: [[Int]] = []
        var used = 0
        for index in stride(from: 0, to: tokenCounts.count, by: unit) {
            let members = Array(index..<index + unit)
            let added = members.reduce(0) { $0 + tokenCounts[$1] - (shared?[$1] ?? 0) }
            let isOther = kinds.map { index > 0 && $0[index] != $0[index - 1] } ?? false
            if cells.isEmpty || used + added > budget || isOther {
                cells.append(members)
                // Its first has nobody to share with.
                used = added + (shared?[index] ?? 0)
            } else {
                cells[cells.count - 1] += members
                used += added
            }
        }
        return cells
    }

    /// Splits cells over members: contiguous ranges of about equal token counts.
    package static func share(cellTokenCounts: [Int], members: Int) -> [Range<Int>] {
        let total = cellTokenCounts.reduce(0, +)
        var ranges: [Range<Int>] = []
        var (next, passed) = (0, 0)
        for member in 0..<members {
            let first = next
            // The middle of a cell decides on which side of the cut it falls.
            while next < cellTokenCounts.count,
                member + 1 == members || (2 * passed + cellTokenCounts[next]) * members <= 2 * total * (member + 1)
            {
                passed += cellTokenCounts[next]
                next += 1
            }
            ranges.append(first..<next)
        }
        return ranges
    }
}

extension TrainingCell {
    package init(index: Int, _ sequences: [TrainingSequence], sharesPrompts: Bool = false) {
        self.init(
            index: index, sequences: sequences.map(\.tokens), scored: sequences.map(\.scored),
            routes: sequences.contains { !$0.routes.isEmpty } ? sequences.map(\.routes) : [],
            sharesPrompts: sharesPrompts)
    }
}
