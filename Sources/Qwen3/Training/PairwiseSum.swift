// SPDX-License-Identifier: Apache-2.0
internal import CKernels
package import RuntimeSupport
package import Tensors

/// Sums the cells' vectors along the fixed pairwise tree over their numbers. Cells come in ascending order, gaps are
/// allowed; what two finished neighbours of a node leave is one vector, so few are alive at a time.
package final class PairwiseSum {
    /// A finished sum: the cells `first ..< first + size` (those of them that came), `size` a power of two.
    package struct Item {
        package let first: Int
        package let size: Int
        package let vector: PageBuffer
    }

    package let elementCount: Int
    private let pool: ComputePool
    private var free: [PageBuffer] = []
    /// Ascending, disjoint; no two are halves of one node.
    package private(set) var items: [Item] = []

    package init(elementCount: Int, pool: ComputePool) {
        self.elementCount = elementCount
        self.pool = pool
    }

    /// A vector to be filled and given to ``add(cell:_:)``; its contents are unspecified.
    /// - Throws: ``MemoryError``.
    package func makeVector() throws(MemoryError) -> PageBuffer {
        if let vector = free.popLast() { return vector }
        return try PageBuffer(byteCount: elementCount * 4)
    }

    /// Adds the vector of the next cell. With `cellCount` cells in the step, nodes that reach beyond it count as
    /// finished with what there is.
    package func add(cell: Int, _ vector: PageBuffer) {
        precondition(items.last.map { $0.first + $0.size <= cell } ?? true, "cells come in order")
        add(Item(first: cell, size: 1, vector: vector))
    }

    /// Adds a finished subtree, in order.
    package func add(_ item: Item) {
        var item = item
        while let last = items.last, last.size == item.size, last.first == item.first - item.size,
            last.first % (2 * item.size) == 0
        {
            sum(last.vector, item.vector)
            free.append(item.vector)
            items.removeLast()
            item = Item(first: last.first, size: 2 * last.size, vector: last.vector)
        }
        items.append(item)
    }

    /// The sum of everything, along the same tree; empties the list. Nil when nothing came.
    package func finish() -> PageBuffer? {
        guard var total = items.popLast()?.vector else { return nil }
        // Right to left: at the right edge of the tree a node has a left half only now and then, never a right half
        // only, so joining what is left from the right is the tree with absent nodes skipped.
        while let item = items.popLast() {
            sum(item.vector, total)
            free.append(total)
            total = item.vector
        }
        return total
    }

    /// Forgets everything that was added.
    package func reset() {
        free += items.map(\.vector)
        items = []
    }

    /// Gives a vector back for another cell.
    package func recycle(_ vector: PageBuffer) { free.append(vector) }

    private func sum(_ a: PageBuffer, _ b: PageBuffer) {
        let piece = 65_536
        pool.parallel((elementCount + piece - 1) / piece) { task in
            let offset = task * piece * 4
            let count = Int64(min(piece, elementCount - task * piece))
            ck_add(a.floats(at: offset), b.floats(at: offset), count, a.floats(at: offset))
        }
    }
}
