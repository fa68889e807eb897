// SPDX-License-Identifier: Apache-2.0
internal import Qwen3
internal import RuntimeSupport

extension ClusterExpertExchange {
    /// Adds each row's sums along the expert tree.
    func addUp(into combined: UnsafeMutablePointer<Float>) {
        let (width, sums, states, assignment) = (shape.hiddenSize, sums, states, assignment)
        let blockRows = 8
        pool.parallel((assignment.rowCount + blockRows - 1) / blockRows) { block in
            for row in block * blockRows..<min(assignment.rowCount, (block + 1) * blockRows) {
                let entries = assignment.entries(of: row)
                let target = combined + row * width
                let capacity = max(1, entries.count)
                withUnsafeTemporaryAllocation(of: Int32.self, capacity: capacity) { positions in
                    withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<Float>.self, capacity: capacity) {
                        items in
                        var count = 0
                        for entry in entries where states[entry] == .head {
                            positions[count] = assignment.experts[entry]
                            items[count] = sums + entry * width
                            count += 1
                        }
                        if count == 0 { return target.update(repeating: 0, count: width) }
                        ExpertTree.sum(
                            positions: UnsafeBufferPointer(rebasing: positions[..<count]),
                            rows: UnsafeBufferPointer(rebasing: items[..<count]), width: width)
                        target.update(from: items[0], count: width)
                    }
                }
            }
        }
    }
}
