// SPDX-License-Identifier: Apache-2.0

/// Token ids and the text that each stands for.
package struct Encoding: Sendable, Equatable {
    /// The token ids.
    package internal(set) var ids: [Int32] = []
    /// For each id the Unicode scalars of the original text that it covers, counted from the start of the
    /// text. A scalar of several bytes may be covered by several ids; empty unless asked for.
    package internal(set) var offsets: [Range<Int>] = []
}

extension Tokenizer {
    /// The token ids of `text`, a part of a sequence or a rendered conversation.
    ///
    /// - Complexity: O(n log n) in the longest pre-token, O(n) otherwise. Memory is proportional to the text.
    package func encode(_ text: String) -> [Int32] {
        encoding(of: text, wantsOffsets: false).ids
    }

    /// The token ids of `text` as a whole sequence: with what the post-processor puts around it, such as the beginning
    /// of the sequence (Llama 3; Qwen's puts nothing).
    package func encodeSequence(_ text: String) -> [Int32] {
        postProcessor.prefix + encode(text) + postProcessor.suffix
    }

    /// The token ids of `text` as the beginning of a sequence, which a model goes on with.
    package func encodePrompt(_ text: String) -> [Int32] { postProcessor.prefix + encode(text) }

    /// The token ids of `text`, without what is put around it, and where in the text each comes from.
    package func encodeWithOffsets(_ text: String) -> Encoding {
        var result = encoding(of: text, wantsOffsets: true)
        if postProcessor.trimsOffsets { trimOffsets(&result) }
        return result
    }

    /// The offsets as they are before white space at the ends of tokens is left out.
    func encodeWithWholeOffsets(_ text: String) -> Encoding { encoding(of: text, wantsOffsets: true) }

    private func trimOffsets(_ encoding: inout Encoding) {
        for (index, id) in encoding.ids.enumerated() {
            guard let bytes = tokens.bytes(of: Int(id)) else { continue }
            let range = encoding.offsets[index]
            var before: Int
            let after: Int
            if addedContents[id] != nil {
                let scalars = String(decoding: bytes, as: UTF8.self).unicodeScalars
                before = scalars.prefix { $0.properties.isWhitespace }.count
                after = scalars.reversed().prefix { $0.properties.isWhitespace }.count
            } else {
                before = bytes.prefix { $0 == 0x20 }.count
                after = bytes.reversed().prefix { $0 == 0x20 }.count
            }
            if before == 1, postProcessor.keepsFirstSpace, index == 0 || range.lowerBound == 0 { before = 0 }
            let lower = min(range.lowerBound + before, range.upperBound)
            let upper = after > 0 && range.upperBound >= after ? max(range.upperBound - after, lower) : range.upperBound
            encoding.offsets[index] = lower..<upper
        }
    }

    private func encoding(of text: String, wantsOffsets: Bool) -> Encoding {
        let scratch = takeScratch()
        defer { giveBack(scratch) }
        return encoding(of: text, wantsOffsets: wantsOffsets, scratch: scratch)
    }

    func encoding(of text: String, wantsOffsets: Bool, scratch: EncodingScratch) -> Encoding {
        var text = text
        return text.withUTF8 { bytes in
            precondition(bytes.count < Int(Int32.max), "a text of \(bytes.count) bytes; encode it in parts")
            return UnicodeClasses.table.withUnsafeBufferPointer { classes in
                var pass = EncodingPass(
                    tokenizer: self, scratch: scratch, classes: classes, wantsOffsets: wantsOffsets)
                pass.encode(bytes)
                return pass.encoding
            }
        }
    }
}

/// One run over a text.
private struct EncodingPass {
    let tokenizer: Tokenizer
    let scratch: EncodingScratch
    let classes: UnsafeBufferPointer<UInt8>
    let wantsOffsets: Bool
    let steps: [PreTokenizer.Step]
    var encoding = Encoding()
    /// Scalars of the original text before the segment at hand.
    private var scalarsBefore = 0
    /// For each byte of the (normalized) segment, the original scalar that it comes from; -1 before the
    /// first. Filled only for offsets.
    private var origins: [Int32] = []

    init(
        tokenizer: Tokenizer, scratch: EncodingScratch, classes: UnsafeBufferPointer<UInt8>,
        wantsOffsets: Bool
    ) {
        self.tokenizer = tokenizer
        self.scratch = scratch
        self.classes = classes
        self.wantsOffsets = wantsOffsets
        steps = tokenizer.preTokenizer.steps
    }

    mutating func encode(_ bytes: UnsafeBufferPointer<UInt8>) {
        encoding.ids.reserveCapacity(bytes.count / 4 + 8)
        var start = 0
        while let match = tokenizer.rawMatcher.firstMatch(in: bytes, from: start) {
            encodeSegment(UnsafeBufferPointer(rebasing: bytes[start..<match.range.lowerBound]))
            encoding.ids.append(match.id)
            if wantsOffsets {
                let count = Self.scalarCount(UnsafeBufferPointer(rebasing: bytes[match.range]))
                encoding.offsets.append(scalarsBefore..<(scalarsBefore + count))
                scalarsBefore += count
            }
            start = match.range.upperBound
        }
        encodeSegment(UnsafeBufferPointer(rebasing: bytes[start...]))
    }

    private static func scalarCount(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
        bytes.reduce(0) { $1 & 0xC0 == 0x80 ? $0 : $0 + 1 }
    }

    /// Encodes text between added tokens.
    private mutating func encodeSegment(_ bytes: UnsafeBufferPointer<UInt8>) {
        guard !bytes.isEmpty else { return }
        if tokenizer.normalizes, mayChange(bytes) {
            let original = String(decoding: bytes, as: UTF8.self).unicodeScalars.map(\.value)
            let normalized = CanonicalComposition.normalize(original)
            let normalizedBytes = TokenizerBuilder.utf8(normalized.scalars)
            normalizedBytes.withUnsafeBufferPointer {
                if wantsOffsets { setOrigins($0, scalarOrigins: normalized.origins) }
                encodeNormalized($0)
            }
            scalarsBefore += original.count
        } else {
            if wantsOffsets { setOrigins(bytes, scalarOrigins: nil) }
            encodeNormalized(bytes)
            if wantsOffsets { scalarsBefore += Self.scalarCount(bytes) }
        }
    }

    /// Whether normal form C may differ from the text. Below U+0300, that is lead byte 0xCC, nothing changes.
    private func mayChange(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard var index = bytes.firstIndex(where: { $0 >= 0xCC }) else { return false }
        while index < bytes.count {
            let (value, length) = scalar(in: bytes, at: index)
            if classes[value] & UnicodeClasses.mayChange != 0 { return true }
            index += length
        }
        return false
    }

    private mutating func setOrigins(_ bytes: UnsafeBufferPointer<UInt8>, scalarOrigins: [Int32]?) {
        origins.removeAll(keepingCapacity: true)
        origins.reserveCapacity(bytes.count)
        var place = -1
        for byte in bytes {
            if byte & 0xC0 != 0x80 { place += 1 }
            origins.append(scalarOrigins?[place] ?? Int32(place))
        }
    }

    /// Encodes normalized text: added tokens that are looked for here, and pre-tokens between them.
    private mutating func encodeNormalized(_ bytes: UnsafeBufferPointer<UInt8>) {
        var start = 0
        while let match = tokenizer.normalizedMatcher.firstMatch(in: bytes, from: start) {
            encodePlain(UnsafeBufferPointer(rebasing: bytes[start..<match.range.lowerBound]), origin: start)
            encoding.ids.append(match.id)
            if wantsOffsets { appendOffset(match.range) }
            start = match.range.upperBound
        }
        encodePlain(UnsafeBufferPointer(rebasing: bytes[start...]), origin: start)
    }

    /// Encodes text without added tokens. `origin` is its place in the segment, in bytes.
    private mutating func encodePlain(_ bytes: UnsafeBufferPointer<UInt8>, origin: Int, step: Int = 0) {
        guard !bytes.isEmpty else { return }
        guard step < steps.count else { return encodePreToken(bytes, origin: origin) }
        let isLast = step + 1 == steps.count
        var start = 0
        while start < bytes.count {
            let end = PreTokenizer.end(of: steps[step], from: start, in: bytes, classes: classes)
            let piece = UnsafeBufferPointer(rebasing: bytes[start..<end])
            if isLast {
                encodePreToken(piece, origin: origin + start)
            } else {
                encodePlain(piece, origin: origin + start, step: step + 1)
            }
            start = end
        }
    }

    private mutating func encodePreToken(_ bytes: UnsafeBufferPointer<UInt8>, origin: Int) {
        scratch.encode(
            bytes, byteTokens: tokenizer.byteTokens, merges: tokenizer.merges,
            wholeTokens: tokenizer.ignoresMerges ? tokenizer.tokens : nil)
        var pieceStart = origin
        for piece in scratch.pieces {
            encoding.ids.append(piece.id)
            if wantsOffsets {
                let pieceEnd = origin + Int(piece.end)
                appendOffset(pieceStart..<pieceEnd)
                pieceStart = pieceEnd
            }
        }
    }

    private mutating func appendOffset(_ range: Range<Int>) {
        let first = max(0, Int(origins[range.lowerBound]))
        let last = Int(origins[range.upperBound - 1])
        encoding.offsets.append((scalarsBefore + first)..<(scalarsBefore + max(first, last + 1)))
    }
}
