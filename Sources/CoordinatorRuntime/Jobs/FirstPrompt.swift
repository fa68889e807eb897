// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification
internal import Tokenization

/// What the model reads of a job's first row, for people: whether the chat template had a part in it, and the text with all
/// special tokens.
struct FirstPrompt {
    let text: String

    private static let byteCountMax = 32 << 10

    /// - Parameters:
    ///   - learned: number of the first token that is learned from, where the row holds an answer.
    ///   - usesTemplate: whether the row is a conversation.
    ///   - hasTemplate: whether the model has a chat template.
    init(
        _ tokens: [Int32], id: String, _ tokenizer: Tokenizer, learned: Int? = nil, usesTemplate: Bool,
        hasTemplate: Bool,
        asked: Bool?
    ) {
        let prompt = learned.map { Array(tokens.prefix($0)) } ?? tokens
        var text = "row \(id), \(prompt.count) tokens, "
        if usesTemplate {
            text += "rendered by the model's chat template"
        } else if hasTemplate, asked == nil {
            text +=
                "a text that goes to the model as it is (data.apply_chat_template: true makes it a user's turn; false says "
                + "that it is wanted so)"
        } else {
            text += "a text that goes to the model as it is"
        }
        text += ":\n" + Self.shortened(tokenizer.decode(prompt)) + "\n"
        if let learned {
            text +=
                "what is learned, \(tokens.count - learned) tokens:\n"
                + Self.shortened(tokenizer.decode(tokens[learned...])) + "\n"
        }
        self.text = text
    }

    private static func shortened(_ text: String) -> String {
        guard text.utf8.count > byteCountMax else { return text }
        let left = text.utf8.count - byteCountMax
        return String(decoding: text.utf8.prefix(byteCountMax), as: UTF8.self) + "… (\(left) bytes more)"
    }
}
