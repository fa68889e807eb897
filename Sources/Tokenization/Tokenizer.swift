// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// A byte-level byte-pair tokenizer (GPT-2, Llama 3, Qwen, SmolLM and the like), giving the same ids as the tokenizers
/// library.
///
/// Text is cut in this order: added tokens on the text as given (leftmost, longest); normal form C of what
/// lies between; added tokens that are looked for in normalized text; pre-tokens (``PreTokenizer``); bytes,
/// merged by rank. Text of added tokens inside user text becomes those tokens, as in the library.
///
/// One instance serves any number of threads: everything is immutable but a pool of working memory.
package final class Tokenizer: Sendable {
    /// Largest file that is read, in bytes; Qwen3's tokenizer.json has 11 MB.
    package static let fileByteCountMax = 256 << 20

    /// The added tokens, ordered by id.
    package let addedTokens: [AddedToken]
    /// The templates that the directory has.
    package let chatTemplates: ChatTemplateTexts
    /// `bos_token`, `eos_token` and so on: what a template knows as variables.
    package let specialTokens: [(name: String, text: String)]
    /// `eos_token`: `<|im_end|>` for Qwen3.
    package let endOfSequenceID: Int32?
    /// `pad_token`: `<|endoftext|>` for Qwen3.
    package let paddingID: Int32?
    /// The ids that end a generated answer: `eos_token`, `eos_token_id` of generation_config.json where the
    /// directory has one, and `<|endoftext|>`; each once, in this order. Qwen3: 151645, 151643.
    package let endOfTextIDs: [Int32]
    /// Whether every byte has a token. Where not, text with other bytes loses them on encoding.
    package let coversAllBytes: Bool

    let normalizes: Bool
    let preTokenizer: PreTokenizer
    let postProcessor: PostProcessor
    let ignoresMerges: Bool
    let tokens: TokenTable
    let merges: MergeTable
    let byteTokens: [Int32]
    let rawMatcher: AddedTokenMatcher
    let normalizedMatcher: AddedTokenMatcher
    let addedContents: [Int32: String]
    private let addedIDs: [ExactText: Int32]
    private let specialIDs: Set<Int32>
    /// Templates that were read.
    let templateCache = Locked<[ExactText: ChatTemplate]>([:])
    /// Working memory that waits for the next call; at most ``scratchPoolCountMax``, more are dropped.
    private let scratchPool = Locked<[EncodingScratch]>([])
    private static let scratchPoolCountMax = 8

    /// How many tokens there are: `len(tokenizer)` in transformers (151,669 for Qwen3). The model's
    /// vocabulary is usually larger by padding rows.
    package var vocabularyCount: Int { tokens.count }
    /// One more than the largest id. Special tokens that are named and not written have ids for which a model may have
    /// no row; see ``writtenIDLimit``.
    package var idLimit: Int { tokens.idLimit }
    /// One more than the largest id that the files write: rows that a model needs.
    package let writtenIDLimit: Int

    /// Loads tokenizer.json, or else vocab.json and merges.txt, and what other files of the directory say of tokens and
    /// templates.
    ///
    /// - Throws: ``TokenizerError`` naming the file and field that is missing, malformed or not supported.
    package convenience init(directory: URL) throws {
        let files = TokenizerDirectory(directory)
        try self.init(
            tokenizer: try files.tokenizer(), configuration: try files.read(TokenizerConfiguration.name),
            specialTokensMap: try files.read("special_tokens_map.json"),
            addedTokens: try files.read("added_tokens.json"),
            generationConfiguration: try files.read("generation_config.json"),
            chatTemplates: try files.chatTemplates(), processorTemplate: try files.processorTemplate())
    }

    /// Builds a tokenizer from the contents of its files.
    ///
    /// - Throws: ``TokenizerError`` naming the file and field that is malformed or not supported.
    package convenience init(
        tokenizer: [UInt8], configuration: [UInt8]? = nil, specialTokensMap: [UInt8]? = nil,
        addedTokens: [UInt8]? = nil, generationConfiguration: [UInt8]? = nil,
        chatTemplates: ChatTemplateTexts = ChatTemplateTexts()
    ) throws(TokenizerError) {
        try self.init(
            tokenizer: .document(tokenizer), configuration: configuration, specialTokensMap: specialTokensMap,
            addedTokens: addedTokens, generationConfiguration: generationConfiguration, chatTemplates: chatTemplates,
            processorTemplate: nil)
    }

    private init(
        tokenizer: TokenizerDirectory.Vocabulary, configuration: [UInt8]?, specialTokensMap: [UInt8]?,
        addedTokens addedTokensFile: [UInt8]?, generationConfiguration: [UInt8]?,
        chatTemplates files: ChatTemplateTexts, processorTemplate: JSONValue?
    ) throws(TokenizerError) {
        var settings = TokenizerConfiguration()
        if let configuration { settings = try TokenizerConfiguration(parsing: configuration) }
        if let specialTokensMap { try settings.readSpecialTokensMap(specialTokensMap) }
        if let addedTokensFile { try settings.readAddedTokens(addedTokensFile) }
        if let generationConfiguration { try settings.readGenerationConfiguration(generationConfiguration) }
        let file = try tokenizer.file(settings)
        var builder = TokenizerBuilder()
        try builder.build(file, extraTokens: settings.addedTokens ?? [], specialTokens: settings.specialTokens)
        normalizes = file.normalizes
        preTokenizer = file.preTokenizer
        ignoresMerges = file.ignoresMerges
        addedTokens = builder.addedTokens
        addedContents = Dictionary(uniqueKeysWithValues: builder.addedTokens.map { ($0.id, $0.content) })
        tokens = builder.tokens
        writtenIDLimit = builder.writtenIDLimit
        merges = builder.merges
        byteTokens = builder.byteTokens
        coversAllBytes = !builder.byteTokens.contains(-1)
        rawMatcher = builder.rawMatcher
        normalizedMatcher = builder.normalizedMatcher
        addedIDs = builder.addedIDs
        specialIDs = Set(builder.addedTokens.filter(\.isSpecial).map(\.id))
        specialTokens = settings.templateVariables
        var templates = files
        if templates.isEmpty { templates = try ChatTemplateTexts(configuration: settings.chatTemplate) }
        if templates.isEmpty { templates = try ChatTemplateTexts(configuration: processorTemplate) }
        chatTemplates = templates

        endOfSequenceID = settings.token("eos_token").flatMap { builder.addedIDs[ExactText($0)] }
        paddingID = settings.token("pad_token").flatMap { builder.addedIDs[ExactText($0)] }
        var processor = file.postProcessor
        if file.takesEndsFromConfiguration {
            if settings.addsBeginning, let token = settings.token("bos_token"),
                let id = builder.addedIDs[ExactText(token)]
            {
                processor.prefix = [id]
            }
            if settings.addsEnd, let endOfSequenceID { processor.suffix = [endOfSequenceID] }
        }
        for id in processor.prefix + processor.suffix where builder.tokens.bytes(of: Int(id)) == nil {
            throw TokenizerFile.malformed("post_processor", "no token has the id \(id), which it puts around a text")
        }
        postProcessor = processor
        var ends = [endOfSequenceID].compactMap { $0 } + settings.generationEndIDs
        if let endOfText = builder.addedIDs[ExactText("<|endoftext|>")] { ends.append(endOfText) }
        var unique: [Int32] = []
        for id in ends where !unique.contains(id) { unique.append(id) }
        endOfTextIDs = unique
    }

    /// The id of the token that stands for exactly this text; `nil` when there is none. A text that encodes
    /// to one token has an id here; the reverse need not hold.
    package func tokenID(of text: String) -> Int32? {
        addedIDs[ExactText(text)] ?? tokens.id(of: Array(text.utf8))
    }

    /// The bytes of a token, which may be part of a character; `nil` for an id outside the vocabulary.
    package func bytes(of id: Int32) -> [UInt8]? { tokens.bytes(of: Int(id)).map { Array($0) } }

    /// Whether `decode(_:skipSpecial: true)` leaves this id out.
    package func isSpecial(_ id: Int32) -> Bool { specialIDs.contains(id) }

    func takeScratch() -> EncodingScratch { scratchPool.withLock { $0.popLast() } ?? EncodingScratch() }

    func giveBack(_ scratch: EncodingScratch) {
        guard scratch.isSmall else { return }
        scratchPool.withLock { if $0.count < Self.scratchPoolCountMax { $0.append(scratch) } }
    }
}
