// SPDX-License-Identifier: Apache-2.0

/// Finds added tokens in text: at the leftmost place where one starts, the longest that starts there. A token that is
/// a single word and touches another is passed over, with its text; white space that belongs to a token is part of it.
///
/// - Complexity: O(n · m) in the worst case with m the length of the longest token; places whose byte starts
///   no token are passed over with one look-up.
struct AddedTokenMatcher: Sendable {
    private struct Node: Sendable {
        var children: [UInt8: Int] = [:]
        var id: Int32 = -1
        var flags: UInt8 = 0
    }

    private static let spaceBefore: UInt8 = 1
    private static let spaceAfter: UInt8 = 2
    private static let singleWord: UInt8 = 4

    private var nodes = [Node()]
    private var isFirstByte = [Bool](repeating: false, count: 256)

    /// Whether there is no token to find.
    var isEmpty: Bool { nodes.count == 1 }

    mutating func insert(_ bytes: [UInt8], _ token: AddedToken) {
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
        nodes[node].id = token.id
        nodes[node].flags =
            (token.takesSpaceBefore ? Self.spaceBefore : 0) | (token.takesSpaceAfter ? Self.spaceAfter : 0)
            | (token.isSingleWord ? Self.singleWord : 0)
        isFirstByte[Int(bytes[0])] = true
    }

    /// The first token at or after `start`; the text before `start` is seen as what touches it.
    func firstMatch(in bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> (range: Range<Int>, id: Int32)? {
        guard !isEmpty else { return nil }
        return isFirstByte.withUnsafeBufferPointer { isFirstByte in
            var index = start
            while index < bytes.count {
                guard isFirstByte[Int(bytes[index])], let match = longestMatch(in: bytes, at: index) else {
                    index += 1
                    continue
                }
                let flags = nodes[match.node].flags
                if flags & Self.singleWord != 0, Self.touchesWord(index..<match.end, in: bytes) {
                    index = match.end
                    continue
                }
                let lower =
                    flags & Self.spaceBefore == 0 ? index : Self.spaceStart(in: bytes, before: index, atLeast: start)
                let upper = flags & Self.spaceAfter == 0 ? match.end : Self.spaceEnd(in: bytes, from: match.end)
                return (lower..<upper, nodes[match.node].id)
            }
            return nil
        }
    }

    private func longestMatch(in bytes: UnsafeBufferPointer<UInt8>, at start: Int) -> (end: Int, node: Int)? {
        var node = 0
        var index = start
        var best: (end: Int, node: Int)?
        while index < bytes.count, let child = nodes[node].children[bytes[index]] {
            node = child
            index += 1
            if nodes[node].id >= 0 { best = (index, node) }
        }
        return best
    }

    private static func touchesWord(_ range: Range<Int>, in bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        if range.lowerBound > 0, isWord(scalarStart(in: bytes, before: range.lowerBound), in: bytes) { return true }
        return range.upperBound < bytes.count && isWord(range.upperBound, in: bytes)
    }

    /// `\w` of the Rust regex crate.
    private static func isWord(_ index: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard let value = Unicode.Scalar(UInt32(scalar(in: bytes, at: index).value)) else { return false }
        let properties = value.properties
        if properties.isAlphabetic || properties.isJoinControl { return true }
        switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
        default: return false
        }
    }

    private static func isSpace(_ index: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        UnicodeClasses.table[scalar(in: bytes, at: index).value] & UnicodeClasses.whitespace != 0
    }

    private static func scalarStart(in bytes: UnsafeBufferPointer<UInt8>, before end: Int) -> Int {
        var index = end - 1
        while index > 0, bytes[index] & 0xC0 == 0x80 { index -= 1 }
        return index
    }

    private static func spaceStart(in bytes: UnsafeBufferPointer<UInt8>, before end: Int, atLeast least: Int) -> Int {
        var result = end
        while result > least {
            let index = scalarStart(in: bytes, before: result)
            guard isSpace(index, in: bytes) else { break }
            result = index
        }
        return result
    }

    private static func spaceEnd(in bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        var result = start
        while result < bytes.count, isSpace(result, in: bytes) { result += scalar(in: bytes, at: result).length }
        return result
    }
}
