// SPDX-License-Identifier: Apache-2.0
internal import Qwen3

/// Some entries of an assignment, grouped by row, both ascending.
struct EntryRows {
    var rows: [Int32] = []
    var starts: [Int32] = [0]
    /// Indices into the whole assignment's experts.
    var entries: [Int32] = []

    init() {}

    /// All entries of `assignment`.
    init(_ assignment: ExpertAssignment) {
        rows = Array(0..<Int32(assignment.rowCount))
        starts = assignment.rowStarts
        entries = Array(0..<Int32(assignment.experts.count))
    }

    /// Appends an entry; rows come in ascending order.
    mutating func append(row: Int32, entry: Int32) {
        if rows.last == row {
            starts[starts.count - 1] += 1
        } else {
            rows.append(row)
            starts.append(starts[starts.count - 1] + 1)
        }
        entries.append(entry)
    }
}

/// The entries that one destination computes in one message (or, for the local one, in one run).
struct DispatchShare {
    let destination: Int
    var members = EntryRows()
    /// For each row of the answer the entry at which its sum is stored: the first that the sum covers.
    /// Standing for the sum by the expert of that entry is enough, because any two members of disjoint
    /// aligned subtrees differ first at the node that joins the subtrees.
    var heads: [Int32] = []
    private var lastSubtree = -1

    init(destination: Int) { self.destination = destination }

    mutating func append(row: Int32, entry: Int32, subtree: Int) {
        if members.rows.last != row || lastSubtree != subtree { heads.append(entry) }
        members.append(row: row, entry: entry)
        lastSubtree = subtree
    }

    /// The part of `assignment` that this share covers, its rows numbered from 0.
    func assignment(of whole: ExpertAssignment) -> ExpertAssignment {
        var part = ExpertAssignment()
        part.rowStarts = members.starts
        part.experts = members.entries.map { whole.experts[Int($0)] }
        part.weights = members.entries.map { whole.weights[Int($0)] }
        return part
    }
}

/// How much goes into one message.
struct ShareLimits {
    let rowCount: Int
    let headCount: Int
    /// 32-bit words of the routing part.
    let wordCount: Int

    /// - Parameter messageByteCount: most bytes of rows in a message, either way.
    init(width: Int, tokenRowByteCount: Int, messageByteCount: Int) {
        rowCount = max(1, min(ExchangeLimits.rowCount, messageByteCount / tokenRowByteCount))
        headCount = max(1, min(ExchangeLimits.rowCount, messageByteCount / (width * 4)))
        wordCount = ExchangeLimits.partByteCount / 4
    }

    func hasRoom(in share: DispatchShare, subtreeCount: Int, forRowOf entryCount: Int) -> Bool {
        let words =
            2 * subtreeCount + share.members.rows.count + 2 + 2 * (share.members.entries.count + entryCount)
        return share.members.rows.count < rowCount && share.heads.count + entryCount <= headCount
            && words <= wordCount
    }
}

extension RouteView {
    /// Splits entries by destination and, for remote ones, by what fits into a message.
    ///
    /// - Returns: the shares, remote ones in the order of filling up, and the entries that nobody holds.
    func split(
        _ members: EntryRows, of assignment: ExpertAssignment, limits: ShareLimits
    ) -> (remote: [DispatchShare], local: DispatchShare, orphans: EntryRows) {
        var finished: [DispatchShare] = []
        var open = (0...owners.count).map { DispatchShare(destination: $0) }
        var orphans = EntryRows()
        for (place, row) in members.rows.enumerated() {
            let range = Int(members.starts[place])..<Int(members.starts[place + 1])
            for entry in members.entries[range] {
                let expert = Int(assignment.experts[Int(entry)])
                let target = destination[expert]
                if target == Self.nobody {
                    orphans.append(row: row, entry: entry)
                    continue
                }
                if target != Self.local, open[target].members.rows.last != row,
                    !open[target].members.rows.isEmpty,
                    !limits.hasRoom(
                        in: open[target], subtreeCount: subtrees[target].count, forRowOf: range.count)
                {
                    finished.append(open[target])
                    open[target] = DispatchShare(destination: target)
                }
                open[target].append(row: row, entry: entry, subtree: subtreeIndex[expert])
            }
        }
        finished += open.dropFirst().filter { !$0.members.rows.isEmpty }
        return (finished, open[Self.local], orphans)
    }
}
