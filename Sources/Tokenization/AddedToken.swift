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

    /// Whether white space before it, or after it, belongs to it (`lstrip`, `rstrip`).
    package let takesSpaceBefore: Bool
    package let takesSpaceAfter: Bool
    /// Whether it counts only where no letter, number or underscore touches it.
    package let isSingleWord: Bool

    package init(
        id: Int32, content: String, isSpecial: Bool, isNormalized: Bool, takesSpaceBefore: Bool = false,
        takesSpaceAfter: Bool = false, isSingleWord: Bool = false
    ) {
        self.id = id
        self.content = content
        self.isSpecial = isSpecial
        self.isNormalized = isNormalized
        self.takesSpaceBefore = takesSpaceBefore
        self.takesSpaceAfter = takesSpaceAfter
        self.isSingleWord = isSingleWord
    }

    package static func == (left: AddedToken, right: AddedToken) -> Bool {
        left.id == right.id && left.content.utf8.elementsEqual(right.content.utf8)
            && left.isSpecial == right.isSpecial && left.isNormalized == right.isNormalized
            && left.takesSpaceBefore == right.takesSpaceBefore && left.takesSpaceAfter == right.takesSpaceAfter
            && left.isSingleWord == right.isSingleWord
    }
}
