// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import RuntimeSupport
import Tokenization

/// `apus render MODEL messages.json`: the prompt that a conversation becomes.
struct RenderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render", abstract: "Render messages through the model's chat template.",
        discussion: "The file holds a list of messages, or an object with messages, tools and chat_template_kwargs.")

    @Argument(help: "A directory with tokenizer.json.")
    var model: String

    @Argument(help: "A JSON file; - reads standard input.")
    var messages: String

    @OptionGroup var chat: ChatTemplateOptions

    @Flag(inversion: .prefixedNo, help: "Open the assistant's turn at the end.")
    var generationPrompt = true

    @Flag(help: "Leave the last message open, which is the assistant's, for the model to go on with.")
    var continueFinalMessage = false

    @Flag(inversion: .prefixedEnableDisable, help: "Disabled: pre-fill an empty think block.")
    var thinking = true

    @Flag(help: "Print token ids instead of text.")
    var ids = false

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let tokenizer = try Tokenizer(directory: tokenizerDirectory(model))
            let data =
                messages == "-"
                ? FileHandle.standardInput.readDataToEndOfFile() : try Data(contentsOf: URL(fileURLWithPath: messages))
            let document = try JSONValue(parsing: Array(data), repeatedKeys: .refused)
            var conversation = Conversation(messages: document["messages"] ?? document, tools: document["tools"])
            conversation.addGenerationPrompt = generationPrompt && !continueFinalMessage
            if continueFinalMessage { conversation.continuedField = "content" }
            conversation.arguments = try chat.arguments()
            if !thinking { conversation.arguments["enable_thinking"] = false }
            for member in document["chat_template_kwargs"]?.objectValue?.members ?? [] {
                conversation.arguments[member.key] = member.value
            }
            let template = try tokenizer.chatTemplate(
                option: chat.template, withTools: conversation.tools?.isTrue ?? false)
            let text = try template.render(conversation).text
            if ids {
                print(tokenizer.encode(text).map(String.init).joined(separator: " "))
            } else {
                print(text, terminator: "")
            }
        }
    }
}
