// SPDX-License-Identifier: Apache-2.0

/// What generation_config.json recommends. Absent fields are nil.
package struct GenerationDefaults: Hashable, Sendable {
    /// Ids that end a sequence, in file order. Empty when the file says nothing.
    package var eosTokenIDs: [Int]
    package var bosTokenID: Int?
    package var padTokenID: Int?
    package var isSampling: Bool?
    package var temperature: Double?
    package var topK: Int?
    package var topP: Double?
    package var minP: Double?
    package var repetitionPenalty: Double?

    package init(
        eosTokenIDs: [Int] = [], bosTokenID: Int? = nil, padTokenID: Int? = nil, isSampling: Bool? = nil,
        temperature: Double? = nil, topK: Int? = nil, topP: Double? = nil,
        minP: Double? = nil, repetitionPenalty: Double? = nil
    ) {
        self.eosTokenIDs = eosTokenIDs
        self.bosTokenID = bosTokenID
        self.padTokenID = padTokenID
        self.isSampling = isSampling
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.repetitionPenalty = repetitionPenalty
    }

    /// Reads the fields of a parsed generation_config.json.
    /// - Throws: `invalidConfiguration` naming the field.
    package init(_ json: JSONValue, file: String) throws {
        let fields = try ConfigurationFields(json, file: file)
        self.init(
            eosTokenIDs: try fields.integers(["eos_token_id"], 0...Qwen3Configuration.Limits.vocabularySize)
                ?? [],
            bosTokenID: try fields.integer(["bos_token_id"], 0...Qwen3Configuration.Limits.vocabularySize),
            padTokenID: try fields.integer(["pad_token_id"], 0...Qwen3Configuration.Limits.vocabularySize),
            isSampling: try fields.bool(["do_sample"]),
            temperature: try fields.real(["temperature"], 0...1_000),
            topK: try fields.integer(["top_k"], 0...Qwen3Configuration.Limits.vocabularySize),
            topP: try fields.real(["top_p"], 0...1),
            minP: try fields.real(["min_p"], 0...1),
            repetitionPenalty: try fields.real(["repetition_penalty"], 0...100))
    }

    /// The text of generation_config.json, byte for byte that of the released files for their values.
    package var fileText: String { json.prettyPrinted(indent: 4) }

    /// The fields that are set.
    package var json: JSONValue {
        var members: [JSONValue.Member] = []
        func add(_ key: String, _ value: JSONValue?) {
            if let value { members.append(.init(key, value)) }
        }
        add("bos_token_id", bosTokenID.map { .integer($0) })
        add("do_sample", isSampling.map { .bool($0) })
        switch eosTokenIDs.count {
        case 0: break
        case 1: add("eos_token_id", .integer(eosTokenIDs[0]))
        default: add("eos_token_id", .array(eosTokenIDs.map { .integer($0) }))
        }
        add("min_p", minP.map { .real($0) })
        add("pad_token_id", padTokenID.map { .integer($0) })
        add("repetition_penalty", repetitionPenalty.map { .real($0) })
        add("temperature", temperature.map { .real($0) })
        add("top_k", topK.map { .integer($0) })
        add("top_p", topP.map { .real($0) })
        add("transformers_version", .string(Qwen3Configuration.writtenVersion))
        return .object(members)
    }
}
