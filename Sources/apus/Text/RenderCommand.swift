// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import RuntimeSupport
import Tokenization

/// `apus render MODEL messages.json`: the prompt that a conversation becomes.
struct RenderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render", abstract: "Render messages through the model's chat template.",
        discussion: "The file holds a list of messages, or an object with messages and tools.")

    @Argument(help: "A directory with tokenizer.json.")
    var model: String

    @Argument(help: "A JSON file; - reads standard input.")
    var messages: String

    @Option(help: "A file with a chat template to use instead of the model's own, or the name of one of its own.")
    var template: String?

    @Flag(inversion: .prefixedNo, help: "Open the assistant's turn at the end.")
    var generationPrompt = true

    @Flag(inversion: .prefixedEnableDisable, help: "Disabled: pre-fill an empty think block.")
    var thinking = true

    @Flag(help: "Print token ids instead of text.")
    var ids = false

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let tokenizer = try Tokenizer(directory: URL(fileURLWithPath: model))
            let data =
                messages == "-"
                ? FileHandle.standardInput.readDataToEndOfFile() : try Data(contentsOf: URL(fileURLWithPath: messages))
            let document = try JSONValue(parsing: Array(data), repeatedKeys: .refused)
            let chat = try tokenizer.chatTemplate(option: template).render(
                messages: document["messages"] ?? document, tools: document["tools"],
                addGenerationPrompt: generationPrompt, enableThinking: thinking ? nil : false)
            if ids {
                print(tokenizer.encode(chat.text).map(String.init).joined(separator: " "))
            } else {
                print(chat.text, terminator: "")
            }
        }
    }
}
