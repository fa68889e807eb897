// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import ClusterProtocol
internal import Foundation
internal import JobSpecification
internal import SwiftProtobuf
internal import Tokenization

/// A model directory as the coordinator looks at it: headers and tokenizer, no weight but a tied head (see
/// ``Checkpoint``).
struct ModelFiles {
    let checkpoint: Checkpoint
    let compute: ComputeType
    let version: Int
    private let yarnFactor: Double?
    private let originalContext: Int?

    /// - Parameter freshHeadSeed: see ``Checkpoint``.
    init(
        _ directory: URL, compute: ComputeType, version: Int, yarnFactor: Double? = nil, originalContext: Int? = nil,
        freshHeadSeed: UInt64? = nil
    ) throws {
        let configuration = try yarnFactor.map {
            try Qwen3Configuration(directory: directory).extended(yarnFactor: $0, original: originalContext)
        }
        checkpoint = try Checkpoint(
            directory: directory, configuration: configuration, freshHeadSeed: freshHeadSeed)
        self.compute = compute
        self.version = version
        self.yarnFactor = yarnFactor
        self.originalContext = originalContext
    }

    /// The model of a job that generates or scores.
    init(_ section: ModelSection, at directory: URL, version: Int) throws {
        try self.init(
            directory, compute: section.compute, version: version, yarnFactor: section.yarnFactor,
            originalContext: section.originalContext)
    }

    /// What was made of the files, for the job's notes.
    var notes: [String] { checkpoint.notes.map { "\(checkpoint.directory.path): \($0)" } }

    var contextLength: Int { checkpoint.configuration.maxPositionEmbeddings }
    var cacheByteCountPerToken: Int {
        checkpoint.configuration.keyValueByteCountPerToken(elementByteCount: compute.byteCount)
    }

    /// The same, of what must generate or score tokens.
    func asLanguageModel() throws(SubmissionError) -> ModelFiles {
        guard !checkpoint.configuration.isRewardModel else {
            throw SubmissionError(
                description:
                    "\(checkpoint.directory.path) is a reward model: its head gives a scalar and no tokens; name a "
                    + "language model")
        }
        return self
    }

    /// The same, of what must give a scalar.
    func asRewardModel() throws(SubmissionError) -> ModelFiles {
        guard checkpoint.configuration.isRewardModel else {
            throw SubmissionError(
                description:
                    "\(checkpoint.directory.path) is a language model, no reward model; make one of it with kind: train, "
                    + "method: reward")
        }
        return self
    }

    /// The tokenizer beside the weights; it must fit the vocabulary.
    func tokenizer() throws -> Tokenizer {
        let tokenizer = try Tokenizer(directory: checkpoint.directory)
        let rows = checkpoint.configuration.vocabularySize
        guard tokenizer.writtenIDLimit <= rows else {
            throw SubmissionError(
                description:
                    "\(checkpoint.directory.path): the tokenizer has ids up to \(tokenizer.writtenIDLimit - 1) but the model "
                    + "\(rows) rows; they do not belong together")
        }
        return tokenizer
    }

    /// What turns rows into this model's tokens.
    func renderer(
        _ tokenizer: Tokenizer, _ settings: ChatTemplateSection = ChatTemplateSection(),
        environment: EnvironmentSection? = nil
    ) throws -> PromptRenderer {
        try PromptRenderer(
            tokenizer, settings, stopIDs: checkpoint.configuration.eosTokenIDs.map(Int32.init),
            idLimit: checkpoint.configuration.vocabularySize, environment: environment)
    }

    /// A teacher or reward model reads the policy's token ids: both tokenizers must agree.
    func requireVocabulary(
        of other: Tokenizer, asIn policy: ModelFiles, role: String = "teacher"
    ) throws {
        let own = try tokenizer()
        let isEqual =
            own.writtenIDLimit == other.writtenIDLimit
            && (0..<Int32(own.writtenIDLimit)).allSatisfy { own.bytes(of: $0) == other.bytes(of: $0) }
        guard isEqual else {
            throw SubmissionError(
                description:
                    "the \(role) \(checkpoint.directory.path) and the policy \(policy.checkpoint.directory.path) have "
                    + "different tokenizers; the \(role) cannot read the policy's tokens")
        }
    }

    /// What workers are told.
    var description: WireModelDescription {
        get throws {
            let identity = try checkpoint.identity().hexadecimal
            return .with {
                $0.path = checkpoint.directory.path
                $0.contentHash = identity
                $0.yarnFactor = yarnFactor ?? 0
                $0.originalContext = UInt32(originalContext ?? 0)
                if let seed = checkpoint.freshHeadSeed { $0.freshHeadSeed = seed }
                $0.setSizes(of: checkpoint.configuration, compute: compute)
                $0.policyVersion = UInt64(version)
            }
        }
    }
}
