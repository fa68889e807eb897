// SPDX-License-Identifier: Apache-2.0
import Foundation
import Jinja
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

enum ReferenceTemplates {
    static let folder = Fixtures.root
        .appendingPathComponent("../../../shared/fixtures/chat_templates", isDirectory: true).standardizedFileURL
}

/// Templates as models are released with, beside what transformers makes of them. The texts are other people's and not
/// part of this project: they are read from a folder of reference data next to the checkout, where there is one.
@Suite(
    .enabled(
        if: FileManager.default.fileExists(atPath: ReferenceTemplates.folder.path),
        "there is no reference data in \(ReferenceTemplates.folder.path)"))
struct ReleasedTemplateTests {
    private static func document(_ path: String) throws -> JSONValue {
        try JSONValue(parsing: Array(try Data(contentsOf: ReferenceTemplates.folder.appendingPathComponent(path))))
    }

    /// The templates' entries in the list; empty without reference data.
    static let templates: [String] = {
        guard let list = try? document("templates.json") else { return [] }
        return (list["templates"] ?? list).arrayValue?.compactMap { $0["name"]?.stringValue } ?? []
    }()

    @Test func thereAreTemplates() { #expect(Self.templates.count >= 30) }

    @Test(arguments: templates) func agreesWithTransformers(_ name: String) throws {
        let list = try Self.document("templates.json")
        let entry = try #require((list["templates"] ?? list).arrayValue?.first { $0["name"]?.stringValue == name })
        let file = ReferenceTemplates.folder.appendingPathComponent(try #require(entry["file"]?.stringValue))
        let template = try JinjaTemplate(String(decoding: try Data(contentsOf: file), as: UTF8.self))
        let tokens = (entry["special_tokens"]?.objectValue?.members ?? []).compactMap { member in
            member.value.stringValue.map { (name: member.key, text: $0) }
        }
        let data = try Self.document("conversations.json")
        let cases = try #require(try Self.document("cases/\(name).json")["cases"]?.arrayValue)
        for (index, item) in cases.enumerated() {
            let conversation = try Self.conversation(item, data)
            let rendered = Result { try template.render(conversation, specialTokens: tokens, clock: JinjaTests.now) }
            guard let output = item["output"]?.stringValue else {
                let error = #expect(throws: TokenizerError.self, "case \(index)") { try rendered.get() }
                if item["error"]?["kind"]?.stringValue == "raised" {
                    let words = try #require(item["error"]?["message"]?.stringValue)
                    #expect(error?.message.contains(words) == true, "case \(index): \(error?.message ?? "")")
                }
                continue
            }
            let chat = try rendered.get()
            #expect(chat.text.utf8.elementsEqual(output.utf8), "case \(index): \(chat.text.debugDescription)")
            if let spans = item["generation_spans"]?.arrayValue {
                let expected = spans.compactMap { $0.arrayValue?.compactMap(\.intValue) }
                #expect(chat.generatedRanges.map { [$0.lowerBound, $0.upperBound] } == expected, "case \(index)")
            }
        }
    }

    private static func conversation(_ item: JSONValue, _ data: JSONValue) throws -> Conversation {
        func named(_ kind: String, _ field: String) -> JSONValue? {
            item[field]?.stringValue.flatMap { data[kind]?[$0] }
        }
        var result = Conversation(messages: try #require(named("conversations", "conversation")))
        result.tools = named("tools", "tools")
        result.documents = named("documents", "documents")
        result.addGenerationPrompt = item["add_generation_prompt"]?.boolValue ?? false
        switch item["continue_final_message"] {
        case .string(let field)?: result.continuedField = field
        case .bool(true)?: result.continuedField = "content"
        default: break
        }
        result.arguments = item["kwargs"]?.objectValue ?? JSONObject([])
        result.keepsNullFields = item["keep_null"]?.boolValue ?? false
        return result
    }
}
