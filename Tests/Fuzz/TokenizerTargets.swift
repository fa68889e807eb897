// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport

@testable import Tokenization

let tokenizerTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "tokenizer-files",
        seeds: {
            try files("Cluster/tiny-world/tokenizer", "tokenizer.json").map { Pieces.join([$0]) }
                + [Pieces.join(["tokenizer.json", "tokenizer_config.json"].map(tinyWorld))]
        },
        run: { bytes in
            let pieces = Pieces.split(bytes)
            guard let file = pieces.first else { return }
            let configuration = pieces.dropFirst().first
            guard let tokenizer = try? Tokenizer(tokenizer: file, configuration: configuration) else { return }
            let ids = tokenizer.encode("set a 12; <|im_end|> é\u{301}")
            _ = tokenizer.decode(ids + [0, 1, .max, -1])
        }),
    FuzzTarget(
        name: "tokenizer-text",
        seeds: { [Array("Wort, 12 日本 \u{e9}\u{301} <think>\n\n</think>\r\n  x".utf8), [0xff, 0xc3, 0x28, 0]] },
        run: { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            let ids = tinyTokenizer.encode(text)
            // The tiny world's vocabulary lacks most bytes, so a text need not come back; it must not crash.
            _ = tinyTokenizer.decode(ids)
            var decoder = StreamingDecoder(tinyTokenizer)
            var streamed = ids.map { decoder.append($0) }.joined()
            streamed += decoder.finish()
            require(streamed == tinyTokenizer.decode(ids), "a stream decodes as the whole")
            _ = ThinkingParser.split(text: text)
        }),
    FuzzTarget(
        name: "chat-templates",
        seeds: { try files("Tests/Fixtures/jinja/templates", ".jinja") },
        run: { bytes in
            guard let template = try? ChatTemplate(String(decoding: bytes, as: UTF8.self)) else { return }
            let messages: JSONValue = [["role": "user", "content": "q"], ["role": "assistant", "content": "a"]]
            _ = try? template.render(messages: messages, tools: [["name": "f"]], addGenerationPrompt: true)
            _ = template.turnEnd(tinyTokenizer)
        }),
    FuzzTarget(
        name: "chat-messages",
        seeds: {
            let cases = try JSONValue(parsing: files("Tests/Fixtures/chat_template", "cases.json")[0])
            return (cases["cases"]?.arrayValue ?? []).compactMap { $0["messages"]?.pythonText }.prefix(40).map {
                Array($0.utf8)
            } + [Array(#"[{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": 1e400}}]}]"#.utf8)]
        },
        run: { bytes in
            guard let messages = try? JSONValue(parsing: bytes) else { return }
            guard
                let chat = try? tinyTemplate.render(
                    messages: messages, tools: messages, addGenerationPrompt: true, enableThinking: false)
            else { return }
            _ = chat.encodeWithAssistantMask(tinyTokenizer)
        }),
]

private func tinyWorld(_ name: String) throws -> [UInt8] {
    try Array(Data(contentsOf: URL(fileURLWithPath: "Cluster/tiny-world/tokenizer/\(name)")))
}

private let tinyTemplate: ChatTemplate = {
    do {
        return try Tokenizer(
            tokenizer: tinyWorld("tokenizer.json"), configuration: tinyWorld("tokenizer_config.json")
        ).chatTemplate()
    } catch { fatalError("\(error)") }
}()

private let tinyTokenizer: Tokenizer = {
    do { return try Tokenizer(tokenizer: tinyWorld("tokenizer.json")) } catch { fatalError("\(error)") }
}()
