// SPDX-License-Identifier: Apache-2.0
internal import CKernels
internal import RuntimeSupport

/// Assignment entries sorted by (expert, row): a counting sort.
struct ExpertOrder {
    /// For each place in sorted order, the row it gathers.
    let rowOfPlace: [Int]
    /// For each assignment entry, its place.
    let placeOfEntry: [Int]
    /// Experts with at least one row, ascending.
    let active: [Int]
    /// For each place, the assignment entry it holds.
    let entryOfPlace: [Int]
    private let starts: [Int]

    var count: Int { rowOfPlace.count }

    init(_ assignment: ExpertAssignment, expertCount: Int) {
        var starts = [Int](repeating: 0, count: expertCount + 1)
        for expert in assignment.experts { starts[Int(expert) + 1] += 1 }
        for expert in 0..<expertCount { starts[expert + 1] += starts[expert] }
        self.starts = starts
        active = (0..<expertCount).filter { starts[$0 + 1] > starts[$0] }
        var next = starts
        var rowOfPlace = [Int](repeating: 0, count: assignment.experts.count)
        var placeOfEntry = rowOfPlace
        var entryOfPlace = rowOfPlace
        for row in 0..<assignment.rowCount {
            for entry in assignment.entries(of: row) {
                let expert = Int(assignment.experts[entry])
                rowOfPlace[next[expert]] = row
                placeOfEntry[entry] = next[expert]
                entryOfPlace[next[expert]] = entry
                next[expert] += 1
            }
        }
        self.rowOfPlace = rowOfPlace
        self.placeOfEntry = placeOfEntry
        self.entryOfPlace = entryOfPlace
    }

    func weight(ofPlace place: Int, _ assignment: ExpertAssignment) -> Float {
        assignment.weights[entryOfPlace[place]]
    }

    func places(of expert: Int) -> Range<Int> { starts[expert]..<starts[expert + 1] }
}

extension ExpertTree {
    /// For each row and each subtree that it touches the sum of its experts' rows `[width]`, fp32, in `y` at their
    /// places.
    ///
    /// - Parameters:
    ///   - scales: multiply each expert's row by its router weight first (one rounding).
    ///   - emit: called once per (row, subtree), possibly on several threads at once.
    static func combine(
        _ assignment: ExpertAssignment, _ subtrees: (Int) -> [ExpertSubtree], _ order: ExpertOrder,
        _ y: UnsafeMutablePointer<Float>, width: Int, scales: Bool, on pool: ComputePool,
        _ priority: ComputePool.Priority, _ emit: (Int, ExpertSubtree, UnsafePointer<Float>) -> Void
    ) {
        pool.parallel(assignment.rowCount, priority: priority) { row in
            let entries = assignment.entries(of: row)
            let wanted = subtrees(row)
            withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<Float>.self, capacity: max(1, entries.count)) {
                leaves in
                for (slot, entry) in entries.enumerated() {
                    leaves[slot] = y + order.placeOfEntry[entry] * width
                    if scales { ck_scale(leaves[slot], assignment.weights[entry], Int64(width), leaves[slot]) }
                }
                assignment.experts.withUnsafeBufferPointer { experts in
                    var from = entries.lowerBound
                    while from < entries.upperBound {
                        let subtree = wanted.last { $0.first <= Int(experts[from]) }!
                        var to = from + 1
                        while to < entries.upperBound, Int(experts[to]) < subtree.first + subtree.size { to += 1 }
                        let local = from - entries.lowerBound
                        ExpertTree.sum(
                            positions: UnsafeBufferPointer(rebasing: experts[from..<to]),
                            rows: UnsafeBufferPointer(rebasing: leaves[local..<local + to - from]), width: width)
                        emit(row, subtree, leaves[local])
                        from = to
                    }
                }
            }
        }
    }
}
