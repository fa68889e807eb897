// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import RuntimeSupport

/// The files of a tokenizer in a model directory.
struct TokenizerDirectory {
    /// Where the vocabulary stands.
    enum Vocabulary {
        /// The contents of tokenizer.json.
        case document([UInt8])
        /// The contents of vocab.json and merges.txt, as older tools left them, and `model_type` of config.json.
        case pair(vocabulary: [UInt8], merges: [UInt8], modelType: String?)
    }

    private let directory: URL

    init(_ directory: URL) { self.directory = directory }

    /// The contents of a file; nil where there is none.
    func read(_ name: String) throws -> [UInt8]? {
        let url = directory.appendingPathComponent(name)
        guard FileManager.default.fileExists(atPath: url.path) else { return nil }
        return try Self.contents(of: url)
    }

    static func contents(of url: URL, byteCountMax: Int = Tokenizer.fileByteCountMax) throws -> [UInt8] {
        do {
            let size = try FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int ?? 0
            guard size <= byteCountMax else {
                throw TokenizerError(
                    code: .unreadableFile, message: "\(size) bytes are more than \(byteCountMax)",
                    location: url.path)
            }
            return Array(try Data(contentsOf: url))
        } catch let error as TokenizerError {
            throw error
        } catch {
            throw TokenizerError(code: .unreadableFile, message: "\(error)", location: url.path)
        }
    }

    func tokenizer() throws -> Vocabulary {
        if let document = try read(TokenizerFile.name) { return .document(document) }
        guard let vocabulary = try read("vocab.json"), let merges = try read("merges.txt") else {
            throw TokenizerError(
                code: .unreadableFile,
                message: "no such file, nor vocab.json and merges.txt; a model directory needs its tokenizer",
                location: directory.appendingPathComponent(TokenizerFile.name).path)
        }
        var modelType: String?
        if let bytes = try read("config.json") {
            modelType = (try? JSONValue(parsing: bytes))?["model_type"]?.stringValue
        }
        return .pair(vocabulary: vocabulary, merges: merges, modelType: modelType)
    }

    /// Templates in files of their own, which count before tokenizer_config.json: `chat_template.jinja` and those in
    /// `additional_chat_templates`; or else `chat_template.json`, as processors wrote it.
    func chatTemplates() throws -> ChatTemplateTexts {
        var result = ChatTemplateTexts()
        if let bytes = try read("chat_template.jinja") {
            try result.add(bytes, named: ChatTemplateTexts.defaultName, location: "chat_template.jinja")
        }
        let folder = directory.appendingPathComponent("additional_chat_templates")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()) ?? []
        for name in names where name.hasSuffix(".jinja") {
            try result.add(
                Self.contents(of: folder.appendingPathComponent(name)), named: String(name.dropLast(6)),
                location: "additional_chat_templates/\(name)")
        }
        return result
    }

    /// The template of `chat_template.json`, as processors wrote it, for where nothing else names one.
    func processorTemplate() throws -> JSONValue? {
        let name = "chat_template.json"
        guard let bytes = try read(name) else { return nil }
        return try TokenizerConfiguration.document(bytes, name)["chat_template"]
    }
}

extension TokenizerDirectory.Vocabulary {
    /// - Parameter settings: names the tokenizer's class, which says how vocab.json and merges.txt are meant.
    func file(_ settings: TokenizerConfiguration) throws(TokenizerError) -> TokenizerFile {
        switch self {
        case .document(let bytes): return try TokenizerFile(parsing: bytes)
        case .pair(let vocabulary, let merges, let modelType):
            var file = TokenizerFile()
            switch settings.tokenizerClass ?? modelType {
            case "Qwen2Tokenizer"?, "Qwen3Tokenizer"?, "qwen2"?, "qwen3"?, "qwen3_moe"?:
                file.normalizes = true
                file.preTokenizer.steps = [.split(.qwen2)]
            case "GPT2Tokenizer"?, "gpt2"?: file.preTokenizer.steps = [.split(.gpt2)]
            case let other:
                throw TokenizerError(
                    code: .unsupportedFeature,
                    message: "\(other ?? "no class") does not say how vocab.json and merges.txt cut text, only "
                        + "Qwen2Tokenizer and GPT2Tokenizer do; add tokenizer.json",
                    location: "\(TokenizerConfiguration.name): tokenizer_class")
            }
            file.takesEndsFromConfiguration = true
            try file.readVocabulary(vocabulary, merges: merges)
            return file
        }
    }
}

extension TokenizerFile {
    /// Reads vocab.json and merges.txt.
    fileprivate mutating func readVocabulary(_ bytes: [UInt8], merges text: [UInt8]) throws(TokenizerError) {
        let root = try TokenizerConfiguration.document(bytes, "vocab.json")
        for member in root.objectValue?.members ?? [] {
            vocabulary.append((member.key, try Self.tokenID(member.value, "vocab.json")))
        }
        guard !vocabulary.isEmpty else {
            throw TokenizerError(code: .malformedFile, message: "has no token", location: "vocab.json")
        }
        for (index, line) in text.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
            var line = line
            if line.last == 0x0D { line.removeLast() }
            if line.isEmpty || line.starts(with: "#version".utf8) { continue }
            let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                throw TokenizerError(
                    code: .malformedFile, message: "line \(index + 1): expected two tokens", location: "merges.txt")
            }
            merges.append((String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self)))
        }
    }
}
