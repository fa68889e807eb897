// SPDX-License-Identifier: Apache-2.0

/// Looks for stop strings at the end of an output, byte by byte: a stop string may begin or end inside a token.
package struct StopStrings: Sendable {
    private let texts: [[UInt8]]
    private let byteCountMax: Int
    private let bytes: @Sendable (Int32) -> [UInt8]?

    /// - Parameter bytes: what a token id stands for.
    package init(_ texts: [String], bytes: @escaping @Sendable (Int32) -> [UInt8]?) {
        self.texts = texts.map { Array($0.utf8) }.filter { !$0.isEmpty }
        byteCountMax = self.texts.map(\.count).max() ?? 0
        self.bytes = bytes
    }

    /// Whether the last token completed a stop string.
    @Sendable package func ends(_ output: ArraySlice<Int32>) -> Bool {
        guard let last = output.last else { return false }
        let lastCount = bytes(last)?.count ?? 0
        var tail: [UInt8] = []
        for id in output.reversed() {
            tail.insert(contentsOf: bytes(id) ?? [], at: 0)
            if tail.count >= byteCountMax + lastCount { break }
        }
        return texts.contains { text in
            guard tail.count >= text.count else { return false }
            let first = max(0, tail.count - lastCount - text.count + 1)
            guard first <= tail.count - text.count else { return false }
            return (first...(tail.count - text.count)).contains { tail[$0..<$0 + text.count].elementsEqual(text) }
        }
    }
}
