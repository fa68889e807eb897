// SPDX-License-Identifier: Apache-2.0

/// Splits a generated answer at the last `</think>` into thinking and response, as Qwen's documentation does.
package struct ThinkingParser: Sendable {
    /// How an answer stands with respect to thinking.
    package enum State: Sendable, Equatable {
        /// No tag was generated: everything is the response.
        case absent
        /// Thinking was begun and not ended, for example by a length limit: everything is thinking.
        case unfinished
        /// Thinking was ended; it may be empty.
        case finished
    }

    /// The parts of an answer, as ranges of its ids; tags belong to neither.
    package struct Split: Sendable, Equatable {
        package let state: State
        package let thinking: Range<Int>
        package let response: Range<Int>
    }

    /// The parts of an answer as text, without line feeds around them.
    package struct TextSplit: Sendable, Equatable {
        package let state: State
        package let thinking: String
        package let response: String
    }

    /// The instruction that ends thinking when its budget is spent (Qwen documentation; technical report
    /// 4.6).
    package static let stopThinkingText =
        "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking "
        + "directly now.\n</think>\n\n"

    /// The id of `<think>`.
    package let startID: Int32
    /// The id of `</think>`.
    package let endID: Int32

    /// - Throws: ``TokenizerError`` with code `missing_token` when the vocabulary has no think tags.
    package init(_ tokenizer: Tokenizer) throws(TokenizerError) {
        func id(_ tag: String) throws(TokenizerError) -> Int32 {
            guard let id = tokenizer.tokenID(of: tag) else {
                throw TokenizerError(
                    code: .missingToken, message: "the vocabulary has no \(tag); use a Qwen3 tokenizer",
                    location: TokenizerFile.name)
            }
            return id
        }
        startID = try id("<think>")
        endID = try id("</think>")
    }

    /// ``stopThinkingText`` in ids of the loaded tokenizer: 24 with the released one. Force-fed when the
    /// budget is spent, and masked from every loss.
    package static func stopThinkingIDs(_ tokenizer: Tokenizer) -> [Int32] {
        tokenizer.encode(stopThinkingText)
    }

    /// Whether all of these prompts end inside a think block, so that their answers begin there (2507-Thinking models).
    ///
    /// - Parameter ends: ids that end a turn; what stands in an earlier turn opens no block of the answer.
    package static func allOpen(
        _ prompts: some Sequence<[Int32]>, _ tokenizer: Tokenizer, ends: [Int32]
    ) -> Bool {
        guard let parser = try? ThinkingParser(tokenizer) else { return false }
        let marks = Set(ends + [parser.startID, parser.endID])
        var isAny = false
        for prompt in prompts {
            guard prompt.last(where: marks.contains) == parser.startID else { return false }
            isAny = true
        }
        return isAny
    }

    /// Splits the ids of an answer.
    ///
    /// - Parameter startsInThinking: the prompt ended inside a think block (2507-Thinking models, or a budget
    ///   that continues an answer), so an answer without tags is unfinished thinking.
    package func split(_ ids: [Int32], startsInThinking: Bool = false) -> Split {
        let first = ids.firstIndex(of: startID)
        if let end = ids.lastIndex(of: endID) {
            let start = first.map { $0 < end ? $0 + 1 : 0 } ?? 0
            return Split(state: .finished, thinking: start..<end, response: (end + 1)..<ids.count)
        }
        if first != nil || startsInThinking {
            return Split(
                state: .unfinished, thinking: (first.map { $0 + 1 } ?? 0)..<ids.count,
                response: ids.count..<ids.count)
        }
        return Split(state: .absent, thinking: 0..<0, response: 0..<ids.count)
    }

    /// Splits and decodes the ids of an answer, without special tokens.
    package func text(
        of ids: [Int32], _ tokenizer: Tokenizer, startsInThinking: Bool = false
    ) -> TextSplit {
        let split = split(ids, startsInThinking: startsInThinking)
        func text(_ range: Range<Int>) -> String {
            let bytes = Array(tokenizer.decode(ids[range], skipSpecial: true).utf8)
            return String(decoding: bytes.trimming(start: true, end: true), as: UTF8.self)
        }
        return TextSplit(state: split.state, thinking: text(split.thinking), response: text(split.response))
    }

    /// Splits the text of an answer by the same rule.
    package static func split(text: String, startsInThinking: Bool = false) -> TextSplit {
        let bytes = Array(text.utf8)
        func trimmed(_ slice: ArraySlice<UInt8>) -> String {
            String(decoding: Array(slice).trimming(start: true, end: true), as: UTF8.self)
        }
        let first = bytes.firstRange(of: "<think>")
        if let end = bytes.lastRange(of: "</think>") {
            let start = first.map { $0.upperBound <= end.lowerBound ? $0.upperBound : 0 } ?? 0
            return TextSplit(
                state: .finished, thinking: trimmed(bytes[start..<end.lowerBound]),
                response: trimmed(bytes[end.upperBound...]))
        }
        if first != nil || startsInThinking {
            return TextSplit(
                state: .unfinished, thinking: trimmed(bytes[(first?.upperBound ?? 0)...]), response: "")
        }
        return TextSplit(state: .absent, thinking: "", response: trimmed(bytes[...]))
    }
}
