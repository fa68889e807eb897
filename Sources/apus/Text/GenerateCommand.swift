// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Qwen3
import RuntimeSupport
import Tokenization

/// `apus generate MODEL PROMPT`: samples in this process, without a cluster.
struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate", abstract: "Sample answers to a prompt in this process, without a cluster.")

    @OptionGroup var local: LocalModelOptions
    @OptionGroup var chat: ChatTemplateOptions

    @Argument(help: "What the user says; - reads standard input.")
    var prompt: String

    @Flag(help: "Take the prompt as it is, without the chat template.")
    var raw = false

    @Option(name: .customShort("n"), help: "Answers.")
    var count = 1

    @Option(help: "Thinking: on, off (an empty think block is pre-filled).")
    var thinking = "on"

    @Option(help: "Most tokens of thinking; then the stop-thinking text is fed in.")
    var thinkingBudget: Int?

    @Option(help: "Temperature; 0 is greedy. Default: the recommendation for the mode.")
    var temperature: Float?

    @Option(help: "Keep the k most likely tokens; 0 is off.")
    var topK: Int?

    @Option(help: "Keep the most likely tokens up to this probability.")
    var topP: Float?

    @Option(help: "Drop tokens less likely than this share of the likeliest.")
    var minP: Float?

    @Option(help: "Most new tokens.")
    var maxNewTokens = 256

    @Option(help: "Seed: the same seed gives the same answers.")
    var seed: UInt64 = 0

    func run() throws {
        guard ["on", "off"].contains(thinking), count > 0 else {
            complain("--thinking must be on or off, -n above 0")
            throw ExitStatus.usage
        }
        try reporting(ExitStatus.badInput) {
            let loaded = try local.load()
            let tokenizer = loaded.tokenizer
            let input =
                prompt == "-" ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : prompt
            let template = raw ? nil : try tokenizer.chatTemplate(option: chat.template)
            let ids = try template.map { tokenizer.encode(try rendered(input, $0)) } ?? tokenizer.encodePrompt(input)
            if let id = ids.first(where: { Int($0) >= loaded.configuration.vocabularySize }) {
                throw InputError(
                    "the prompt has \(tokenizer.decode([id]).debugDescription), a special token for which the model has no row"
                )
            }
            let stopIDs = template.stopIDs(loaded.configuration.eosTokenIDs.map(Int32.init), tokenizer)
            let parser = try? ThinkingParser(tokenizer)
            for index in 0..<count { try loaded.engine.submit(request(index, ids, stopIDs, loaded, parser)) }
            for result in try loaded.results() { show(result, tokenizer) }
        }
    }

    private func rendered(_ input: String, _ template: ChatTemplate) throws -> String {
        var conversation = Conversation(messages: [["role": "user", "content": .string(input)]])
        conversation.addGenerationPrompt = true
        conversation.arguments = try chat.arguments()
        if thinking == "off" { conversation.arguments["enable_thinking"] = false }
        return try template.render(conversation).text
    }

    private func request(
        _ index: Int, _ ids: [Int32], _ stopIDs: [Int32], _ loaded: LoadedLocalModel, _ parser: ThinkingParser?
    ) throws -> GenerationRequest {
        var sampling: SamplingParameters = thinking == "on" ? .thinking : .nonThinking
        if let temperature { sampling.temperature = temperature }
        if let topK { sampling.topK = topK }
        if let topP { sampling.topP = topP }
        if let minP { sampling.minP = minP }
        var budget: ThinkingBudget?
        if let thinkingBudget {
            guard let parser else {
                throw InputError("the tokenizer has no <think> token, so it has no thinking budget")
            }
            budget = ThinkingBudget(
                tokenCount: thinkingBudget, startID: parser.startID, endID: parser.endID,
                stopIDs: ThinkingParser.stopThinkingIDs(loaded.tokenizer))
        }
        let options = GenerationOptions(
            sampling: sampling, maxNewTokens: maxNewTokens,
            stopIDs: stopIDs,
            random: RolloutRandom(runSeed: seed, prompt: 0, sibling: UInt16(index)), thinkingBudget: budget,
            usableVocabulary: loaded.tokenizer.idLimit)
        return GenerationRequest(id: UInt64(index), tokens: ids, task: .generate(options))
    }

    private func show(_ result: GenerationResult, _ tokenizer: Tokenizer) {
        if count > 1 { print("--- \(result.id + 1)") }
        print(tokenizer.decode(result.tokens, skipSpecial: true))
        let mean = result.logProbs.reduce(0, +) / Float(max(1, result.logProbs.count))
        complain(
            "\(result.tokens.count) tokens, \(result.finishReason.rawValue), mean log-prob "
                + String(format: "%.4f", mean)
                + (result.budgetForced ? ", thinking stopped by the budget" : ""))
    }
}
