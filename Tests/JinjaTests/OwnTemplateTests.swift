// SPDX-License-Identifier: Apache-2.0
import Foundation
import Jinja
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

/// Templates of this project beside what transformers makes of them (Tests/Fixtures/jinja/generate_templates.py). Together
/// they use all that the templates of released models use, which are not part of this project.
struct OwnTemplateTests {
    static let names = ["herald", "marked", "plain", "ponder"]

    private static func text(_ name: String) throws -> String {
        String(decoding: try Data(contentsOf: Fixtures.url("jinja/templates/\(name).jinja")), as: UTF8.self)
    }

    @Test(arguments: names) func agreesWithTransformers(_ name: String) throws {
        let template = try JinjaTemplate(Self.text(name))
        let document = try JSONValue(
            parsing: Array(try Data(contentsOf: Fixtures.url("jinja/template_cases.json"))))
        let cases = try #require(document.arrayValue).filter { $0["template"]?.stringValue == name }
        #expect(cases.count > 100)
        for (index, item) in cases.enumerated() {
            var conversation = Conversation(messages: try #require(item["messages"]), tools: item["tools"])
            conversation.documents = item["documents"]
            conversation.addGenerationPrompt = item["add_generation_prompt"]?.boolValue ?? false
            conversation.arguments = item["kwargs"]?.objectValue ?? JSONObject([])
            let rendered = Result {
                try template.render(
                    conversation, specialTokens: [("bos_token", "<s>"), ("eos_token", "</s>")], clock: JinjaTests.now)
            }
            guard let expected = item["text"]?.stringValue else {
                #expect(throws: TokenizerError.self, "case \(index)") { try rendered.get() }
                continue
            }
            let chat = try rendered.get()
            #expect(chat.text.utf8.elementsEqual(expected.utf8), "case \(index): \(chat.text.debugDescription)")
            let spans = (item["spans"]?.arrayValue ?? []).compactMap { $0.arrayValue?.compactMap(\.intValue) }
            #expect(chat.generatedRanges.map { [$0.lowerBound, $0.upperBound] } == spans, "case \(index)")
        }
    }

    /// What templates of released models use, and how it is spelled here.
    private static let constructs = [
        #"\{%- "#, #" -%\}"#, #"% 2"#, #"\{'user':"#, #"for \w+ in"#, #"for \w+, \w+ in"#, #"in .* if .* %\}"#,
        #"% if "#, #"%- generation"#,
        #" if .* else "#, #"\[\('Title'"#, #"macro \w+\(\w+\)"#, #"macro \w+\(.*="#, #"set ns\.\w+ ="#, #"\[1:\]"#,
        #"\[::-1\]"#,
        #" ~ "#, #"\| default\("#, #"\| items"#, #"\| join\("#, #"\| length"#, #"\| list"#, #"map\(attribute="#,
        #"\| reject\("#, #"\| safe"#,
        #"selectattr\("#, #"\| string"#, #"\| tojson\b"#, #"tojson\(ensure_ascii="#, #"tojson\(indent="#, #"\| trim"#,
        #"is defined"#,
        #"'equalto'"#, #"is false"#, #"is iterable"#, #"is mapping"#, #"is not none"#, #"is sequence"#, #"is string"#,
        #"is not undefined"#, #"\.endswith\("#, #"\.get\("#, #"\.items\(\)"#, #"\.lstrip\("#, #"\.rstrip\("#,
        #"\.split\("#,
        #"\.startswith\("#, #"\.strip\("#, #"namespace\("#, #"raise_exception\("#, #"strftime_now\("#, #"loop\.first"#,
        #"loop\.index\b"#,
        #"loop\.index0"#, #"loop\.last"#, #"loop\.nextitem"#, #"loop\.previtem"#, #"not in \["#, #"elif "#, #"\{#-"#,
    ]

    @Test func everyConstructIsUsed() throws {
        let all = try Self.names.map(Self.text).joined(separator: "\n")
        for construct in Self.constructs {
            let expression = try Regex(construct)
            #expect(all.firstMatch(of: expression) != nil, "\(construct)")
        }
    }
}
