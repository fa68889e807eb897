// SPDX-License-Identifier: Apache-2.0

extension Tokenizer {
    /// The text of token ids. Ids outside the vocabulary stand for nothing; bytes that are not UTF-8 become
    /// U+FFFD, one for each maximal part of a character, over token boundaries.
    ///
    /// Differs from the tokenizers library in one case: an added token with accented Latin letters keeps its
    /// text, where the library takes the letters for stand-ins of bytes.
    ///
    /// - Parameter skipSpecial: leaves special added tokens out. Qwen's `<think>` and `<tool_call>` are not
    ///   special.
    package func decode(_ ids: some Sequence<Int32>, skipSpecial: Bool = false) -> String {
        var bytes: [UInt8] = []
        for id in ids { appendBytes(of: id, skipSpecial: skipSpecial, to: &bytes) }
        return String(decoding: bytes, as: UTF8.self)
    }

    func appendBytes(of id: Int32, skipSpecial: Bool, to bytes: inout [UInt8]) {
        guard let token = tokens.bytes(of: Int(id)), !(skipSpecial && isSpecial(id)) else { return }
        bytes += token
    }
}
