// SPDX-License-Identifier: Apache-2.0
//
// The fixed pairwise tree over the expert index along which a token's expert outputs are added. Absent nodes are
// skipped, never added as zero. An item is a leaf or the finished sum of an aligned subtree, named by its first
// expert: so whoever adds a subtree beforehand gets the bits that adding its leaves one by one here would give.
internal import CKernels

/// Adds rows along the fixed pairwise tree.
package enum ExpertTree {
    /// Adds `rows` (each `[width]`, fp32) in place; the sum ends in the first row.
    ///
    /// - Parameters:
    ///   - positions: first expert of each item, strictly ascending; items are disjoint aligned subtrees.
    ///   - rows: one row per item; all but the first hold intermediate values afterwards.
    package static func sum(
        positions: UnsafeBufferPointer<Int32>, rows: UnsafeBufferPointer<UnsafeMutablePointer<Float>>, width: Int
    ) {
        // A stack of finished subtrees. Two neighbours merge once the item after them lies under a higher node:
        // the highest differing bit of neighbouring positions is the level of the node that joins them.
        let count = positions.count
        precondition(count == rows.count && count > 0)
        if count == 1 { return }
        withUnsafeTemporaryAllocation(of: (row: UnsafeMutablePointer<Float>, level: Int).self, capacity: count) {
            stack in
            var depth = 0
            for index in 0..<count {
                stack[depth] = (rows[index], index == 0 ? Int.max : level(positions[index - 1], positions[index]))
                depth += 1
                let next = index + 1 < count ? level(positions[index], positions[index + 1]) : Int.max
                while depth > 1, stack[depth - 1].level < next {
                    let left = stack[depth - 2].row
                    ck_add(left, stack[depth - 1].row, Int64(width), left)
                    depth -= 1
                }
            }
            precondition(depth == 1, "expert positions must be ascending and disjoint")
        }
    }

    private static func level(_ a: Int32, _ b: Int32) -> Int { 32 - Int((a ^ b).leadingZeroBitCount) }
}

/// An aligned subtree of the expert tree: experts `first ..< first + size`, `size` a power of two dividing `first`.
package struct ExpertSubtree: Hashable, Sendable, Comparable {
    package let first: Int
    package let size: Int

    package init(first: Int, size: Int) {
        precondition(size > 0 && size & (size - 1) == 0 && first % size == 0, "not an aligned subtree")
        self.first = first
        self.size = size
    }

    package static func < (a: Self, b: Self) -> Bool { (a.first, a.size) < (b.first, b.size) }

    /// The fewest aligned subtrees that cover exactly `owned`, ascending; the tree has `expertCount` leaves rounded up
    /// to a power of two, and leaves that do not exist count as owned.
    package static func maximal(owned: Set<Int>, expertCount: Int) -> [ExpertSubtree] {
        var size = 1
        while size < expertCount { size *= 2 }
        func cover(_ first: Int, _ size: Int) -> [ExpertSubtree] {
            if first >= expertCount { return [] }
            let leaves = first..<min(first + size, expertCount)
            if leaves.allSatisfy(owned.contains) { return [ExpertSubtree(first: first, size: size)] }
            if size == 1 { return [] }
            return cover(first, size / 2) + cover(first + size / 2, size / 2)
        }
        return cover(0, size)
    }
}
