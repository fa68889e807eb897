// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import JobSpecification
import RuntimeSupport
import Tokenization

extension Tokenizer {
    /// The chat template that `--template` names: a file, or one of the model's own by its name; nil: the model's.
    func chatTemplate(option: String?, withTools: Bool = false) throws -> ChatTemplate {
        var template: ChatTemplate
        if let option, chatTemplates.names.contains(option), !FileManager.default.fileExists(atPath: option) {
            template = try chatTemplate(named: option)
        } else {
            let text = try option.map { try ChatTemplateTexts.text(ofFile: URL(fileURLWithPath: $0)) }
            template = try chatTemplate(text: text, withTools: withTools)
        }
        // As transformers, which shows the time of day here.
        template.clock = Int(Date().timeIntervalSince1970) + TimeZone.current.secondsFromGMT()
        return template
    }

    /// The chat template of a job; nil where neither the job nor the model has one.
    func chatTemplate(ofJob settings: ChatTemplateSection) throws -> ChatTemplate? {
        let text = try settings.path.map { try ChatTemplateTexts.text(ofFile: URL(fileURLWithPath: $0)) }
        guard let text = text ?? chatTemplates.text() ?? chatTemplates.text(withTools: true) else { return nil }
        return try chatTemplate(text: text)
    }
}

extension ChatTemplate? {
    /// The ids at which generation stops: those that the model's files name, and the end of the template's turn.
    func stopIDs(_ named: [Int32], _ tokenizer: Tokenizer) -> [Int32] {
        guard let end = self?.turnEnd(tokenizer), !named.contains(end) else { return named }
        return named + [end]
    }
}

/// Options of commands that render messages.
struct ChatTemplateOptions: ParsableArguments {
    @Option(help: "A file with a chat template to use instead of the model's own, or the name of one of its own.")
    var template: String?

    @Option(help: "Variables of the chat template, as JSON: '{\"enable_thinking\": false}'.")
    var chatTemplateKwargs: String?

    func arguments() throws -> JSONObject {
        guard let chatTemplateKwargs else { return JSONObject([]) }
        do {
            if let object = try JSONValue(parsing: chatTemplateKwargs, repeatedKeys: .refused).objectValue {
                return object
            }
        } catch { throw InputError("--chat-template-kwargs: \(error)") }
        throw InputError("--chat-template-kwargs is no JSON object")
    }
}
