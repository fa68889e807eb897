// SPDX-License-Identifier: Apache-2.0

/// The text of a conversation, and which of it the assistant generates.
package struct RenderedChat: Sendable, Equatable {
    /// The text to encode.
    package let text: String
    /// The parts to train on, counted in Unicode scalars; empty when the template marks none.
    package let generatedRanges: [Range<Int>]

    /// The token ids and, for each, whether it belongs to a generated part. A token that reaches into a part
    /// counts, as in transformers' `return_assistant_tokens_mask`.
    package func encodeWithAssistantMask(_ tokenizer: Tokenizer) -> (ids: [Int32], assistantMask: [Bool]) {
        let encoding = tokenizer.encodeWithWholeOffsets(text)
        var mask = [Bool](repeating: false, count: encoding.ids.count)
        var token = 0
        for range in generatedRanges where !range.isEmpty {
            while token < mask.count, encoding.offsets[token].upperBound <= range.lowerBound { token += 1 }
            var covered = token
            while covered < mask.count, encoding.offsets[covered].lowerBound < range.upperBound {
                mask[covered] = true
                covered += 1
            }
        }
        return (encoding.ids, mask)
    }
}
