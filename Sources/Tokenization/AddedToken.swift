// SPDX-License-Identifier: Apache-2.0

/// A token that is found in text as a whole before anything else, such as `<|im_end|>` or `<think>`.
package struct AddedToken: Sendable, Equatable {
    /// The token's id.
    package let id: Int32
    /// The text that it stands for.
    package let content: String
    /// Whether `decode(_:skipSpecial:)` leaves it out when asked to. Qwen's `<think>` and `<tool_call>` are
    /// not special.
    package let isSpecial: Bool
    /// Whether it is looked for in normalized text, as tokens added by users are by default, or in the text
    /// as given.
    package let isNormalized: Bool

    package static func == (left: AddedToken, right: AddedToken) -> Bool {
        left.id == right.id && left.content.utf8.elementsEqual(right.content.utf8)
            && left.isSpecial == right.isSpecial && left.isNormalized == right.isNormalized
    }
}
