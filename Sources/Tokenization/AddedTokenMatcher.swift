// SPDX-License-Identifier: Apache-2.0

/// Finds added tokens in text: at the leftmost place where one starts, the longest that starts there.
///
/// - Complexity: O(n · m) in the worst case with m the length of the longest token; places whose byte starts
///   no token are passed over with one look-up.
struct AddedTokenMatcher: Sendable {
    private struct Node: Sendable {
        var children: [UInt8: Int] = [:]
        var id: Int32 = -1
    }

    private var nodes = [Node()]
    private var isFirstByte = [Bool](repeating: false, count: 256)

    /// Whether there is no token to find.
    var isEmpty: Bool { nodes.count == 1 }

    mutating func insert(_ bytes: [UInt8], id: Int32) {
        precondition(!bytes.isEmpty, "an added token has at least one byte")
        var node = 0
        for byte in bytes {
            if let child = nodes[node].children[byte] {
                node = child
            } else {
                nodes.append(Node())
                nodes[node].children[byte] = nodes.count - 1
                node = nodes.count - 1
            }
        }
        nodes[node].id = id
        isFirstByte[Int(bytes[0])] = true
    }

    /// The first token at or after `start`.
    func firstMatch(in bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> (range: Range<Int>, id: Int32)? {
        guard !isEmpty else { return nil }
        return isFirstByte.withUnsafeBufferPointer { isFirstByte in
            for index in start..<bytes.count where isFirstByte[Int(bytes[index])] {
                if let match = longestMatch(in: bytes, at: index) { return (index..<match.end, match.id) }
            }
            return nil
        }
    }

    private func longestMatch(in bytes: UnsafeBufferPointer<UInt8>, at start: Int) -> (end: Int, id: Int32)? {
        var node = 0
        var index = start
        var best: (end: Int, id: Int32)?
        while index < bytes.count, let child = nodes[node].children[bytes[index]] {
            node = child
            index += 1
            if nodes[node].id >= 0 { best = (index, nodes[node].id) }
        }
        return best
    }
}
