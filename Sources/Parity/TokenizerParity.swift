// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport
internal import Tokenization

/// Fixture kind "tokenizer": ids, offsets and texts of the tokenizers library, chat templates of transformers and TRL.
package struct TokenizerParity {
    private let directory: URL
    private let name: String

    /// - Parameter directory: a folder with tokenizer.json and any of encode_, decode_ and chat_cases.json.
    package init(_ directory: URL) {
        self.directory = directory
        name = directory.lastPathComponent
    }

    package func run() throws -> [ParityCase] {
        let tokenizer = try Tokenizer(directory: directory)
        var cases = [ParityCase.identical("tokenizer", "\(name) loads", mismatches: 0)]
        if let items = try Self.cases(directory.appending(path: "encode_cases.json")) {
            cases.append(
                Self.count("tokenizer", "\(name) encode", items) { item in
                    let encoding = tokenizer.encodeWithOffsets(item.text("text"))
                    let offsets = encoding.offsets.map { [Int32($0.lowerBound), Int32($0.upperBound)] }
                    return encoding.ids == item.ids("ids") && offsets == item.rows("offsets")
                        && Self.decodes(tokenizer, item)
                })
        }
        if let items = try Self.cases(directory.appending(path: "decode_cases.json")) {
            cases.append(Self.count("tokenizer", "\(name) decode", items) { Self.decodes(tokenizer, $0) })
        }
        if let items = try Self.cases(directory.appending(path: "chat_cases.json")) {
            cases.append(
                try Self.count("tokenizer", "\(name) chat", items) { item in
                    // The other templates of these cases are TRL's, which are not shipped.
                    guard item.text("template") == "qwen3" else { return true }
                    let template = try tokenizer.chatTemplate()
                    let chat = try template.render(
                        messages: item["messages"] ?? .null, tools: item["tools"],
                        addGenerationPrompt: item["add_generation_prompt"]?.boolValue ?? false,
                        enableThinking: item["enable_thinking"]?.boolValue)
                    let encoded = chat.encodeWithAssistantMask(tokenizer)
                    let mask = item["assistant_mask"].map { _ in item.ids("assistant_mask") }
                    return Self.same(chat.text, item.text("text")) && encoded.ids == item.ids("ids")
                        && (mask ?? encoded.assistantMask.map { $0 ? 1 : 0 })
                            == encoded.assistantMask.map { $0 ? 1 : 0 }
                })
        }
        return cases
    }

    /// Fixture kind "chat_template": worked examples of the released template. Ids need the released tokenizer.
    static func chatTemplate(_ root: URL, released: Tokenizer?) throws -> [ParityCase] {
        guard let items = try cases(root.appending(path: "cases.json")) else { return [] }
        let tokenizer =
            try released
            ?? Tokenizer(
                directory: root.deletingLastPathComponent().appending(path: "tokenizer/main"))
        return items.flatMap { item in
            ParityRunner.capture("chat_template", item.text("name")) {
                let input = item["input"] ?? .null
                let chat = try tokenizer.chatTemplate().render(
                    messages: input["messages"] ?? .null, tools: input["tools"],
                    addGenerationPrompt: input["add_generation_prompt"]?.boolValue ?? false,
                    enableThinking: input["enable_thinking"]?.boolValue)
                var mismatches = same(chat.text, item.text("output")) ? 0 : 1
                if let released, released.encode(chat.text) != item.ids("token_ids") { mismatches += 1 }
                return [.identical("chat_template", item.text("name"), mismatches: mismatches)]
            }
        }
    }

    /// Fixture kind "tokenizer_real": the released vocabulary.
    static func released(_ root: URL, _ tokenizer: Tokenizer) throws -> [ParityCase] {
        guard let items = try cases(root.appending(path: "cases.json")) else { return [] }
        return [
            count("tokenizer_real", "encode and decode", items) { item in
                tokenizer.encode(item.text("text")) == item.ids("ids")
                    && same(tokenizer.decode(item.ids("ids")), item.text("decode"))
                    && same(tokenizer.decode(item.ids("ids"), skipSpecial: true), item.text("decode_skip_special"))
            }
        ]
    }

    // MARK: - Reading cases

    private static func decodes(_ tokenizer: Tokenizer, _ item: JSONValue) -> Bool {
        same(tokenizer.decode(item.ids("ids")), item.text("decoded"))
            && same(tokenizer.decode(item.ids("ids"), skipSpecial: true), item.text("decoded_skip_special"))
    }

    /// Equality by scalars; Swift's `==` would also accept another normalization.
    private static func same(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

    private static func cases(_ file: URL) throws -> [JSONValue]? {
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        let document = try JSONValue(parsing: Array(try Data(contentsOf: file)))
        return document.arrayValue ?? document["cases"]?.arrayValue
    }

    private static func count(
        _ kind: String, _ name: String, _ items: [JSONValue], _ agrees: (JSONValue) throws -> Bool
    ) rethrows -> ParityCase {
        let wrong = try items.indices.filter { try !agrees(items[$0]) }
        return .identical(
            kind, "\(name), \(items.count) cases", mismatches: wrong.count,
            detail: wrong.first.map { "first: case \($0)" } ?? "")
    }
}

extension JSONValue {
    fileprivate func text(_ key: String) -> String { self[key]?.stringValue ?? "" }
    fileprivate func ids(_ key: String) -> [Int32] {
        (self[key]?.arrayValue ?? []).compactMap(\.intValue).map(Int32.init)
    }
    fileprivate func rows(_ key: String) -> [[Int32]] {
        (self[key]?.arrayValue ?? []).map { ($0.arrayValue ?? []).compactMap(\.intValue).map(Int32.init) }
    }
}
