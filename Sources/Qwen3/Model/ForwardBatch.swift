// SPDX-License-Identifier: Apache-2.0

/// A run of consecutive tokens of one sequence.
package struct ForwardSpan: Sendable {
    /// For which of the span's positions the logits of the next token are wanted.
    package enum Logits: Sendable { case none, last, all }

    package var tokens: [Int32]
    /// Position of the first token in its sequence.
    package var start: Int
    /// The sequence's pages, covering positions `0 ..< start + tokens.count`.
    package var pages: [Int32]
    package var logits: Logits
    /// Added to a position before rotation. Attention is relative, so only YaRN parity checks shift a sequence.
    package var rotaryOffset: Int

    package init(tokens: [Int32], start: Int, pages: [Int32], logits: Logits, rotaryOffset: Int = 0) {
        self.tokens = tokens
        self.start = start
        self.pages = pages
        self.logits = logits
        self.rotaryOffset = rotaryOffset
    }
}

/// What a forward pass can be watched at, for parity checks. Rows are the batch's tokens in order.
package enum ForwardStage: Hashable, Sendable {
    case embedding
    case attentionOutput(layer: Int)
    case feedForwardOutput(layer: Int)
    case layerOutput(layer: Int)
    case routerLogits(layer: Int)
    case finalNorm
}
