// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// The byte-level byte-pair tokenizer of the Qwen2 and Qwen3 families, giving the same ids as the tokenizers
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
    /// The text of `chat_template.jinja`, or else of `chat_template` in tokenizer_config.json.
    package let chatTemplateText: String?
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
    let tokens: TokenTable
    let merges: MergeTable
    let byteTokens: [Int32]
    let rawMatcher: AddedTokenMatcher
    let normalizedMatcher: AddedTokenMatcher
    private let addedIDs: [ExactText: Int32]
    private let specialIDs: Set<Int32>
    /// Working memory that waits for the next call; at most ``scratchPoolCountMax``, more are dropped.
    private let scratchPool = Locked<[EncodingScratch]>([])
    private static let scratchPoolCountMax = 8

    /// How many tokens there are: `len(tokenizer)` in transformers (151,669 for Qwen3). The model's
    /// vocabulary is usually larger by padding rows.
    package var vocabularyCount: Int { tokens.count }
    /// One more than the largest id: rows that a model needs.
    package var idLimit: Int { tokens.idLimit }

    /// Loads tokenizer.json and, where present, tokenizer_config.json, chat_template.jinja and
    /// generation_config.json.
    ///
    /// - Throws: ``TokenizerError`` naming the file and field that is missing, malformed or not supported.
    package convenience init(directory: URL) throws {
        func read(_ name: String) throws -> [UInt8]? {
            let url = directory.appendingPathComponent(name)
            guard FileManager.default.fileExists(atPath: url.path) else { return nil }
            do {
                let size = try FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int ?? 0
                guard size <= Self.fileByteCountMax else {
                    throw TokenizerError(
                        code: .unreadableFile,
                        message: "\(size) bytes are more than \(Self.fileByteCountMax)",
                        location: url.path)
                }
                return Array(try Data(contentsOf: url))
            } catch let error as TokenizerError {
                throw error
            } catch {
                throw TokenizerError(code: .unreadableFile, message: "\(error)", location: url.path)
            }
        }
        guard let tokenizer = try read(TokenizerFile.name) else {
            throw TokenizerError(
                code: .unreadableFile, message: "no such file; a model directory needs it",
                location: directory.appendingPathComponent(TokenizerFile.name).path)
        }
        try self.init(
            tokenizer: tokenizer, configuration: try read(TokenizerConfiguration.name),
            generationConfiguration: try read("generation_config.json"),
            chatTemplate: try read("chat_template.jinja"))
    }

    /// Builds a tokenizer from the contents of its files.
    ///
    /// - Throws: ``TokenizerError`` naming the file and field that is malformed or not supported.
    package init(
        tokenizer: [UInt8], configuration: [UInt8]? = nil, generationConfiguration: [UInt8]? = nil,
        chatTemplate: [UInt8]? = nil
    ) throws(TokenizerError) {
        let file = try TokenizerFile(parsing: tokenizer)
        var settings = TokenizerConfiguration()
        if let configuration { settings = try TokenizerConfiguration(parsing: configuration) }
        if let generationConfiguration { try settings.readGenerationConfiguration(generationConfiguration) }
        var builder = TokenizerBuilder()
        try builder.build(file, extraTokens: settings.addedTokens)
        normalizes = file.normalizes
        addedTokens = builder.addedTokens
        tokens = builder.tokens
        merges = builder.merges
        byteTokens = builder.byteTokens
        coversAllBytes = !builder.byteTokens.contains(-1)
        rawMatcher = builder.rawMatcher
        normalizedMatcher = builder.normalizedMatcher
        addedIDs = builder.addedIDs
        specialIDs = Set(builder.addedTokens.filter(\.isSpecial).map(\.id))
        chatTemplateText = chatTemplate.map { String(decoding: $0, as: UTF8.self) } ?? settings.chatTemplate

        func id(of token: String?, _ field: String) throws(TokenizerError) -> Int32? {
            guard let token else { return nil }
            let id = builder.addedIDs[ExactText(token)] ?? builder.tokens.id(of: Array(token.utf8))
            guard let id else {
                throw TokenizerError(
                    code: .missingToken, message: "\"\(token)\" is not in \(TokenizerFile.name)",
                    location: "\(TokenizerConfiguration.name): \(field)")
            }
            return id
        }
        endOfSequenceID = try id(of: settings.endOfSequenceToken, "eos_token")
        paddingID = try id(of: settings.paddingToken, "pad_token")
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
