// SPDX-License-Identifier: Apache-2.0
internal import Crypto

/// A chat template that turns messages into the text that the model was trained on.
///
/// Templates are Jinja programs; instead of an interpreter, the algorithm of each known template is written
/// out in Swift and chosen by the SHA-256 of the template's text. The texts are those of the released Qwen3
/// models and of TRL 1.16.0 (`trl/chat_templates/*.jinja`).
package enum ChatTemplate: String, Sendable, CaseIterable {
    /// The template of Qwen3-0.6B to 235B: earlier thinking is removed, tools and hard non-thinking are
    /// supported.
    case qwen3
    /// TRL's variant for training: every assistant turn has a think block, so text only grows as turns are
    /// added.
    case qwen3Training = "qwen3_training"
    /// The template of the Qwen3-Instruct-2507 models, which do not think.
    case qwen3Instruct2507 = "qwen3_instruct_2507"
    /// The same text, with the assistant's part marked for training.
    case qwen3Instruct2507Training = "qwen3_instruct_2507_training"

    /// SHA-256 of the template's UTF-8 text, in lower-case hexadecimal digits.
    package var sha256: String {
        switch self {
        case .qwen3: "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8"
        case .qwen3Training: "1d944ff8f268b611abb296cdd24d0f51981eef1c8647ac321c3a0258f61eb6c9"
        case .qwen3Instruct2507: "64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326"
        case .qwen3Instruct2507Training: "48e17aa3caf5bf20075b6e7366864ee943e00b6f0752aadfe8b670c2ab0291a5"
        }
    }

    /// The known template with this text. A line feed at the end, which editors add and Jinja drops, does not
    /// count.
    ///
    /// - Throws: ``TokenizerError`` with code `unknown_template`, saying the hash and the names to choose
    ///   from.
    package init(text: String) throws(TokenizerError) {
        var bytes = Array(text.utf8)
        var hash = Self.hash(bytes)
        let firstHash = hash
        if bytes.last == 0x0A {
            bytes.removeLast()
            hash = Self.hash(bytes)
        }
        guard let known = Self.allCases.first(where: { $0.sha256 == hash || $0.sha256 == firstHash }) else {
            throw TokenizerError(
                code: .unknownTemplate,
                message:
                    "the template with SHA-256 \(firstHash) is not known; "
                    + "name one of \(Self.names) explicitly",
                location: "chat_template")
        }
        self = known
    }

    /// The known template of this name.
    ///
    /// - Throws: ``TokenizerError`` with code `unknown_template`, saying the names to choose from.
    package init(name: String) throws(TokenizerError) {
        guard let known = Self(rawValue: name) else {
            throw TokenizerError(
                code: .unknownTemplate,
                message: "no template is named \"\(name)\"; choose one of \(Self.names)",
                location: "chat_template")
        }
        self = known
    }

    private static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }

    private static func hash(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        let text = SHA256.hash(data: bytes).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }

    /// Whether earlier thinking is kept and every assistant turn has a think block.
    var alwaysThinks: Bool { self == .qwen3Training }
    /// Whether the template knows of thinking at all.
    var knowsThinking: Bool { self == .qwen3 || self == .qwen3Training }
    /// Whether the template marks what the assistant generates.
    var marksGeneration: Bool { self == .qwen3Training || self == .qwen3Instruct2507Training }
}

extension Tokenizer {
    /// The chat template of the model directory, or the one named explicitly.
    ///
    /// - Throws: ``TokenizerError`` when the directory has no template or one that is not known and no name
    ///   is given.
    package func chatTemplate(named name: String? = nil) throws(TokenizerError) -> ChatTemplate {
        if let name { return try ChatTemplate(name: name) }
        guard let chatTemplateText else {
            throw TokenizerError(
                code: .unknownTemplate,
                message: "the model directory has no chat template; name one explicitly, such as qwen3",
                location: "chat_template")
        }
        return try ChatTemplate(text: chatTemplateText)
    }
}
