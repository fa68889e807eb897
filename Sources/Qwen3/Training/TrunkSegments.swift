// SPDX-License-Identifier: Apache-2.0

/// The trunk's parameters cut into segments of whole blocks: the unit in which optimizer state has an owner and lies in
/// files. The cut depends on shapes alone, who owns what on the number of members; neither shows in a bit.
package struct TrunkSegments: Sendable {
    package struct Segment: Sendable, Hashable {
        /// Blocks of the layout.
        package let blocks: Range<Int>
        /// First element in the flat vector, and one past the last.
        package let elements: Range<Int>
    }

    /// Segments of a model, about: enough that any number of members shares the work evenly.
    package static let count = 48

    package let layout: ParameterLayout
    package let segments: [Segment]

    package init(_ layout: ParameterLayout) {
        self.layout = layout
        var segments: [Segment] = []
        let target = max(1, layout.count / Self.count)
        var first = 0
        for (index, block) in layout.blocks.enumerated() {
            let begin = layout.blocks[first].offset
            let end = index + 1 < layout.blocks.count ? layout.blocks[index + 1].offset : layout.count
            if end - begin >= target || index + 1 == layout.blocks.count {
                segments.append(Segment(blocks: first..<index + 1, elements: begin..<end))
                first = index + 1
            }
            _ = block
        }
        self.segments = segments
    }

    /// The member that owns a segment's master weights and moments.
    package func owner(of segment: Int, memberCount: Int) -> Int { segment % memberCount }

    package func owned(by rank: Int, memberCount: Int) -> [Int] {
        segments.indices.filter { owner(of: $0, memberCount: memberCount) == rank }
    }
}

/// The maximal aligned subtrees that cover a range of cells: what ``PairwiseSum`` leaves of it.
package func pairwiseItems(of cells: Range<Int>) -> [(first: Int, size: Int)] {
    var items: [(first: Int, size: Int)] = []
    for cell in cells {
        var item = (first: cell, size: 1)
        while let last = items.last, last.size == item.size, last.first % (2 * item.size) == 0,
            last.first + last.size == item.first
        {
            items.removeLast()
            item = (last.first, 2 * last.size)
        }
        items.append(item)
    }
    return items
}
