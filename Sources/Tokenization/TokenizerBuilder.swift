// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Turns the entries of tokenizer.json into the look-up tables of ``Tokenizer``, checking that they fit
/// together.
struct TokenizerBuilder {
    var addedTokens: [AddedToken] = []
    var addedIDs: [ExactText: Int32] = [:]
    var tokens = TokenTable(idLimit: 0, tokenCountMax: 0)
    var merges = MergeTable(countMax: 0)
    var byteTokens: [Int32] = []
    var rawMatcher = AddedTokenMatcher()
    var normalizedMatcher = AddedTokenMatcher()

    /// One more than the highest id that the files write; special tokens that are only named come after.
    var writtenIDLimit = 0

    /// - Parameters:
    ///   - extraTokens: `added_tokens_decoder` of tokenizer_config.json; entries that tokenizer.json has too must have
    ///     the same id there.
    ///   - specialTokens: tokens with a role, in the order in which those that no file has get ids.
    mutating func build(
        _ file: TokenizerFile, extraTokens: [AddedToken], specialTokens: [TokenizerConfiguration.SpecialToken]
    ) throws(TokenizerError) {
        try collectAddedTokens(file.addedTokens + extraTokens)
        writtenIDLimit = Int(max(file.vocabulary.map(\.id).max() ?? 0, addedTokens.last?.id ?? 0)) + 1
        try addSpecialTokens(specialTokens, file)
        try insertTokens(file)
        byteTokens = (0..<256).map { tokens.id(of: CollectionOfOne(UInt8($0))) ?? -1 }
        guard !file.handlesUnknownBytes || !byteTokens.contains(-1) else {
            throw TokenizerFile.malformed(
                "model",
                "unk_token or byte_fallback is for bytes without a token, and the vocabulary lacks the byte "
                    + "\(byteTokens.firstIndex(of: -1)!); remove it, or add the 256 bytes")
        }
        try insertMerges(file.merges)
        for token in addedTokens {
            if token.isNormalized {
                normalizedMatcher.insert(
                    file.normalizes ? Self.normalized(token.content) : Array(token.content.utf8), token)
            } else {
                rawMatcher.insert(Array(token.content.utf8), token)
            }
        }
    }

    /// Special tokens are added tokens whatever their entries say; those that no file has get the next ids, as in
    /// transformers.
    private mutating func addSpecialTokens(
        _ named: [TokenizerConfiguration.SpecialToken], _ file: TokenizerFile
    ) throws(TokenizerError) {
        guard !named.isEmpty else { return }
        var vocabulary: [ExactText: Int32] = [:]
        for token in named where addedIDs[ExactText(token.content)] == nil { vocabulary[ExactText(token.content)] = -1 }
        if !vocabulary.isEmpty {
            for entry in file.vocabulary where vocabulary[ExactText(entry.entry)] != nil {
                vocabulary[ExactText(entry.entry)] = entry.id
            }
        }
        for token in named {
            let text = ExactText(token.content)
            let known = addedIDs[text].flatMap { id in addedTokens.firstIndex { $0.id == id } }
            let id: Int32
            if let known {
                id = addedTokens[known].id
            } else if let written = vocabulary[text], written >= 0 {
                id = written
            } else {
                id = max(Int32(file.vocabulary.count), Int32(writtenIDLimit), (addedTokens.last?.id ?? -1) + 1)
            }
            let flags = token.flags ?? known.map { addedTokens[$0] }
            let added = AddedToken(
                id: id, content: token.content, isSpecial: true,
                isNormalized: flags.map { $0.isSpecial || token.flags != nil ? $0.isNormalized : false } ?? false,
                takesSpaceBefore: flags?.takesSpaceBefore ?? false, takesSpaceAfter: flags?.takesSpaceAfter ?? false,
                isSingleWord: flags?.isSingleWord ?? false)
            if let known {
                addedTokens[known] = added
            } else {
                addedIDs[text] = id
                addedTokens.append(added)
                addedTokens.sort { $0.id < $1.id }
            }
        }
    }

    private static func normalized(_ text: String) -> [UInt8] {
        utf8(CanonicalComposition.normalize(text.unicodeScalars.map(\.value)).scalars)
    }

    /// The UTF-8 bytes of scalar values.
    static func utf8(_ scalars: [UInt32]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(scalars.count)
        for value in scalars {
            switch value {
            case 0..<0x80: bytes.append(UInt8(value))
            case 0x80..<0x800: bytes += [UInt8(0xC0 | value >> 6), UInt8(0x80 | value & 0x3F)]
            case 0x800..<0x10000:
                bytes += [
                    UInt8(0xE0 | value >> 12), UInt8(0x80 | value >> 6 & 0x3F), UInt8(0x80 | value & 0x3F),
                ]
            default:
                bytes += [UInt8(0xF0 | value >> 18), UInt8(0x80 | value >> 12 & 0x3F)]
                bytes += [UInt8(0x80 | value >> 6 & 0x3F), UInt8(0x80 | value & 0x3F)]
            }
        }
        return bytes
    }

    private mutating func collectAddedTokens(_ candidates: [AddedToken]) throws(TokenizerError) {
        var contents: [Int32: String] = [:]
        for token in candidates {
            let known = addedIDs[ExactText(token.content)]
            if known == token.id { continue }
            if let other = known.map({ "has id \($0) too" })
                ?? contents[token.id].map({ "has the id of \"\($0)\"" })
            {
                throw TokenizerFile.malformed(
                    "added_tokens", "\"\(token.content)\" (id \(token.id)) \(other)")
            }
            addedIDs[ExactText(token.content)] = token.id
            contents[token.id] = token.content
            addedTokens.append(token)
        }
        addedTokens.sort { $0.id < $1.id }
    }

    private mutating func insertTokens(_ file: TokenizerFile) throws(TokenizerError) {
        let highest = max(file.vocabulary.map(\.id).max() ?? 0, addedTokens.last?.id ?? 0)
        tokens = TokenTable(
            idLimit: Int(highest) + 1, tokenCountMax: file.vocabulary.count + addedTokens.count)
        for (entry, id) in file.vocabulary {
            if let addedID = addedIDs[ExactText(entry)] {
                guard addedID == id else {
                    throw TokenizerFile.malformed(
                        "added_tokens", "\"\(entry)\" has id \(addedID) here and \(id) in model.vocab")
                }
                continue
            }
            guard tokens.bytes(of: Int(id)) == nil else {
                throw TokenizerFile.malformed("model.vocab", "id \(id) is used by more than one token")
            }
            // An entry outside the byte alphabet can be decoded and is never produced, as in the library.
            let bytes = ByteAlphabet.bytes(of: entry)
            tokens.insert(bytes ?? Array(entry.utf8), id: Int(id), isSearchable: bytes != nil)
        }
        for token in addedTokens {
            guard tokens.bytes(of: Int(token.id)) == nil else {
                throw TokenizerFile.malformed(
                    "added_tokens", "\"\(token.content)\" has id \(token.id), which model.vocab uses")
            }
            tokens.insert(Array(token.content.utf8), id: Int(token.id), isSearchable: false)
        }
    }

    private mutating func insertMerges(_ pairs: [(left: String, right: String)]) throws(TokenizerError) {
        merges = MergeTable(countMax: pairs.count)
        for (index, pair) in pairs.enumerated() {
            guard let left = ByteAlphabet.bytes(of: pair.left),
                let right = ByteAlphabet.bytes(of: pair.right),
                let leftID = tokens.id(of: left), let rightID = tokens.id(of: right),
                let result = tokens.id(of: left + right)
            else {
                throw TokenizerFile.malformed(
                    "model.merges[\(index)]",
                    "\"\(pair.left)\" and \"\(pair.right)\" or their join are not in model.vocab")
            }
            merges.append(left: leftID, right: rightID, result: result)
        }
    }
}
