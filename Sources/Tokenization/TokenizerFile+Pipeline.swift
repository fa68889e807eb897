// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// What is put around the ids of a text, and how offsets are reported.
struct PostProcessor: Sendable, Equatable {
    /// Ids before and after a text that is encoded as a whole, such as the beginning of the sequence (Llama 3).
    var prefix: [Int32] = []
    var suffix: [Int32] = []
    /// Whether offsets leave white space at the ends of a token out (`trim_offsets`).
    var trimsOffsets = false
    /// Whether a first token's space counts as added (`add_prefix_space` beside `trim_offsets`).
    var keepsFirstSpace = false
}

extension TokenizerFile {
    private static func check(
        _ field: String, _ value: JSONValue?, _ allowed: [JSONValue]
    ) throws(TokenizerError) {
        guard allowed.contains(value ?? .null) else {
            throw unsupported(field, value, expected: allowed.map(\.pythonText).joined(separator: " or "))
        }
    }

    /// The parts of a field that may be a Sequence of parts.
    private static func parts(
        _ value: JSONValue?, _ field: String, list: String
    ) throws(TokenizerError) -> [(field: String, value: JSONValue)] {
        guard let value, !value.isNull else { return [] }
        guard value["type"] == "Sequence" else { return [(field, value)] }
        var result: [(field: String, value: JSONValue)] = []
        for (index, item) in try Self.list(value[list] ?? .null, "\(field).\(list)").enumerated() {
            result += try parts(item, "\(field).\(list)[\(index)]", list: list)
        }
        return result
    }

    mutating func readPipeline(_ root: JSONValue) throws(TokenizerError) {
        try Self.check("version", root["version"], ["1.0", nil])
        for (field, part) in try Self.parts(root["normalizer"], "normalizer", list: "normalizers") {
            try Self.check("\(field).type", part["type"], ["NFC"])
            normalizes = true
        }
        try readPreTokenizer(root["pre_tokenizer"])
        try readPostProcessor(root["post_processor"])
        let decoders = try Self.parts(root["decoder"], "decoder", list: "decoders")
        guard decoders.count == 1 else {
            throw Self.unsupported("decoder.type", root["decoder"]?["type"], expected: "ByteLevel")
        }
        try Self.check("\(decoders[0].field).type", decoders[0].value["type"], ["ByteLevel"])
        let model = root["model"]
        try Self.check("model.type", model?["type"], ["BPE"])
        if let dropout = model?["dropout"], !dropout.isNull, dropout.doubleValue != 0 {
            throw Self.unsupported("model.dropout", dropout, expected: "0 or null")
        }
        for option in ["continuing_subword_prefix", "end_of_word_suffix"] {
            try Self.check("model.\(option)", model?[option], ["", nil])
        }
        for option in ["byte_fallback", "ignore_merges"] {
            try Self.check("model.\(option)", model?[option], [false, true, nil])
        }
        ignoresMerges = model?["ignore_merges"] == true
        handlesUnknownBytes = model?["byte_fallback"] == true || !(model?["unk_token"] ?? .null).isNull
    }

    private mutating func readPreTokenizer(_ value: JSONValue?) throws(TokenizerError) {
        let parts = try Self.parts(value, "pre_tokenizer", list: "pretokenizers")
        // Without the byte alphabet the vocabulary would be one of characters.
        guard let last = parts.last, last.value["type"] == "ByteLevel" else {
            throw Self.unsupported(
                parts.isEmpty ? "pre_tokenizer" : "\(parts[parts.count - 1].field).type",
                parts.last?.value["type"], expected: "ByteLevel, alone or as the last of a Sequence")
        }
        for (field, part) in parts.dropLast() {
            switch part["type"] {
            case "Digits": preTokenizer.steps.append(.digits(individual: part["individual_digits"]?.boolValue ?? false))
            case "Split": preTokenizer.steps.append(.split(try Self.split(part, field)))
            case let type: throw Self.unsupported("\(field).type", type, expected: "Split, Digits and ByteLevel")
            }
        }
        try Self.check("\(last.field).add_prefix_space", last.value["add_prefix_space"], [false])
        if last.value["use_regex"]?.boolValue ?? true { preTokenizer.steps.append(.split(.gpt2)) }
    }

    private static func split(_ part: JSONValue, _ field: String) throws(TokenizerError) -> SplitExpression {
        let pattern = part["pattern"]?["Regex"]
        guard let text = pattern?.stringValue, let expression = SplitExpression(text) else {
            throw unsupported(
                "\(field).pattern.Regex", pattern ?? part["pattern"],
                expected: "the expressions of GPT-2, Llama 3 and Qwen2 and the like")
        }
        // The expressions match all of a text, so that to keep the matches and to remove what is between are one.
        let inverted = part["invert"] == true
        try check("\(field).behavior", part["behavior"], [inverted ? "Removed" : "Isolated"])
        return expression
    }

    private mutating func readPostProcessor(_ value: JSONValue?) throws(TokenizerError) {
        for (field, part) in try Self.parts(value, "post_processor", list: "processors") {
            switch part["type"] {
            case "ByteLevel":
                // Both are true where the file does not say.
                if part["trim_offsets"]?.boolValue ?? true {
                    postProcessor.trimsOffsets = true
                    postProcessor.keepsFirstSpace = part["add_prefix_space"]?.boolValue ?? true
                }
            case "TemplateProcessing": try readTemplate(part, field)
            case let type:
                throw Self.unsupported("\(field).type", type, expected: "ByteLevel and TemplateProcessing")
            }
        }
    }

    /// Reads what a TemplateProcessing puts around a single text.
    private mutating func readTemplate(_ part: JSONValue, _ field: String) throws(TokenizerError) {
        var sequences = 0
        var (before, after): ([Int32], [Int32]) = ([], [])
        for (index, piece) in try Self.list(part["single"] ?? .null, "\(field).single").enumerated() {
            let place = "\(field).single[\(index)]"
            if piece["Sequence"] != nil {
                sequences += 1
                continue
            }
            guard let name = piece["SpecialToken"]?["id"]?.stringValue else {
                throw Self.malformed(place, "expected a Sequence or a SpecialToken")
            }
            let ids = try Self.list(
                part["special_tokens"]?[name]?["ids"] ?? .null, "\(field).special_tokens[\"\(name)\"].ids")
            for id in ids {
                let id = try Self.tokenID(id, "\(field).special_tokens[\"\(name)\"].ids")
                if sequences == 0 { before.append(id) } else { after.append(id) }
            }
        }
        guard sequences == 1 else {
            throw Self.unsupported("\(field).single", part["single"], expected: "the text once, between special tokens")
        }
        postProcessor.prefix = before + postProcessor.prefix
        postProcessor.suffix += after
    }
}
