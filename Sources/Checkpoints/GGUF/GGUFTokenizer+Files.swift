// SPDX-License-Identifier: Apache-2.0

extension GGUFTokenizer {
    /// A token that is looked for in a text before it is cut into words.
    private struct Added {
        let id: Int
        let content: String
        /// Left out of decoded texts that skip special tokens.
        let isSpecial: Bool

        var members: [JSONValue.Member] {
            [
                .init("content", .string(content)), .init("single_word", .bool(false)), .init("lstrip", .bool(false)),
                .init("rstrip", .bool(false)), .init("normalized", .bool(false)), .init("special", .bool(isSpecial)),
            ]
        }
    }

    private var addedTokens: [Added] {
        zip(tokens, kinds).enumerated().compactMap { id, token in
            switch token.1 {
            case .control, .unknown: Added(id: id, content: token.0, isSpecial: true)
            case .userDefined: Added(id: id, content: token.0, isSpecial: false)
            case .normal, .unused, .byte: nil
            }
        }
    }

    /// Converters name rows of the embedding without a token like this.
    private func isFiller(_ id: Int) -> Bool { kinds[id] == .unused && tokens[id] == "[PAD\(id)]" }

    /// The vocabulary of byte-pair encoding. As in the models' own files, added tokens that follow it without a gap are
    /// not part of it; otherwise they are, so that every token keeps its id.
    private func vocabulary(_ added: [Added]) -> [JSONValue.Member] {
        let words = tokens.indices.filter { !isFiller($0) }
        let isAdded = Set(added.map(\.id))
        let plain = words.filter { !isAdded.contains($0) }
        let follows =
            plain.last.map { $0 == plain.count - 1 } ?? false
            && added.enumerated().allSatisfy { $0.element.id == plain.count + $0.offset }
        return (follows ? plain : words).map { .init(tokens[$0], .integer($0)) }
    }

    private var postProcessor: JSONValue {
        let bytes = preTokenizer.bytePostProcessor
        guard addsBeginning, let id = special.beginning else { return bytes }
        let name = JSONValue.string(tokens[id])
        func part(_ kind: String, _ id: JSONValue, _ type: Int) -> JSONValue {
            .object([.init(kind, .object([.init("id", id), .init("type_id", .integer(type))]))])
        }
        let template: JSONValue = .object([
            .init("type", .string("TemplateProcessing")),
            .init("single", .array([part("SpecialToken", name, 0), part("Sequence", .string("A"), 0)])),
            .init(
                "pair",
                .array([
                    part("SpecialToken", name, 0), part("Sequence", .string("A"), 0), part("SpecialToken", name, 1),
                    part("Sequence", .string("B"), 1),
                ])),
            .init(
                "special_tokens",
                .object([
                    .init(
                        tokens[id],
                        .object([
                            .init("id", name), .init("ids", .array([.integer(id)])), .init("tokens", .array([name])),
                        ]))
                ])),
        ])
        guard bytes != .null else { return template }
        return .object([.init("type", .string("Sequence")), .init("processors", .array([bytes, template]))])
    }

    /// The text of tokenizer.json in the form of the tokenizers library.
    package var fileText: String {
        let added = addedTokens
        let json: JSONValue = .object([
            .init("version", .string("1.0")), .init("truncation", .null), .init("padding", .null),
            .init("added_tokens", .array(added.map { .object([.init("id", .integer($0.id))] + $0.members) })),
            .init("normalizer", preTokenizer.normalizer),
            .init("pre_tokenizer", preTokenizer.json(addsPrefixSpace: addsPrefixSpace)),
            .init("post_processor", postProcessor), .init("decoder", preTokenizer.decoder),
            .init(
                "model",
                .object([
                    .init("type", .string("BPE")), .init("dropout", .null), .init("unk_token", .null),
                    .init("continuing_subword_prefix", .null), .init("end_of_word_suffix", .null),
                    .init("fuse_unk", .bool(false)), .init("byte_fallback", .bool(false)),
                    .init("ignore_merges", .bool(preTokenizer.ignoresMerges)),
                    .init("vocab", .object(vocabulary(added))),
                    .init("merges", .array(merges.map { .string("\($0.0) \($0.1)") })),
                ])),
        ])
        return json.prettyPrinted(sortsKeys: false)
    }

    /// The text of tokenizer_config.json, with the chat template.
    package var configurationText: String {
        var members: [JSONValue.Member] = [
            .init("add_bos_token", .bool(addsBeginning)), .init("add_prefix_space", .bool(addsPrefixSpace)),
            .init(
                "added_tokens_decoder",
                .object(addedTokens.map { .init(String($0.id), .object($0.members)) })),
            .init("clean_up_tokenization_spaces", .bool(false)),
            .init("model_max_length", .integer(contextLength)),
            .init("tokenizer_class", .string("PreTrainedTokenizerFast")),
        ]
        if let template { members.append(.init("chat_template", .string(template))) }
        for (name, id) in [
            ("bos_token", special.beginning), ("eos_token", special.ends.first), ("pad_token", special.padding),
            ("unk_token", special.unknown),
        ] {
            members.append(.init(name, id.map { .string(tokens[$0]) } ?? .null))
        }
        return JSONValue.object(members).prettyPrinted()
    }
}
