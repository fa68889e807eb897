// SPDX-License-Identifier: Apache-2.0

/// Finds what a misspelt word was meant to be.
package enum EditDistance {
    /// The candidate with the fewest edits (insert, delete, replace, swap of neighbours), the first of
    /// equals; nil when more than about a third of the word would have to change.
    package static func nearest(to word: String, among candidates: [String]) -> String? {
        var best: (distance: Int, name: String)?
        for name in candidates {
            let distance = between(Array(word.utf8.prefix(64)), Array(name.utf8))
            if distance < best?.distance ?? .max { best = (distance, name) }
        }
        guard let best, best.distance <= max(1, (max(word.utf8.count, best.name.utf8.count) + 2) / 3) else {
            return nil
        }
        return best.name
    }

    /// Optimal string alignment distance.
    private static func between(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var rows = [Array(0...b.count)]
        for i in 1..<(a.count + 1) {
            var row = [i]
            for j in 1..<(b.count + 1) {
                let replace = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
                var cost = min(replace, rows[i - 1][j] + 1, row[j - 1] + 1)
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    cost = min(cost, rows[i - 2][j - 2] + 1)
                }
                row.append(cost)
            }
            rows.append(row)
        }
        return rows[a.count][b.count]
    }
}
