// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Qwen3
import Tokenization

/// `apus score MODEL TEXT`: log-probs of a given text.
struct ScoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "score", abstract: "Print the log-prob of every token of a text, or a reward model's scalar.")

    @OptionGroup var local: LocalModelOptions

    @Argument(help: "The text; - reads standard input.")
    var text: String

    @Option(help: "Also the k likeliest tokens and the probability of all others.")
    var topK = 0

    @Option(help: "Temperature of the distribution.")
    var temperature: Float = 1

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let loaded = try local.load()
            let input =
                text == "-" ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : text
            let ids = loaded.tokenizer.encodeSequence(input)
            if loaded.configuration.isRewardModel {
                try loaded.engine.submit(
                    GenerationRequest(id: 0, tokens: ids, task: .score(ScoreOptions(detail: .scalar))))
                for result in try loaded.results() {
                    print("reward \(result.logProbs[0]) over \(ids.count) tokens")
                }
                return
            }
            let options = ScoreOptions(temperature: temperature, detail: topK > 0 ? .topK(topK) : .sampledToken)
            try loaded.engine.submit(GenerationRequest(id: 0, tokens: ids, task: .score(options)))
            guard let result = try loaded.results().first else { return }
            for (index, id) in result.tokens.enumerated() {
                var line = String(format: "%9.5f  %9.5f  ", result.logProbs[index], result.entropies[index])
                line += "\(Format.pad(String(id), 7, right: true)) \(loaded.tokenizer.decode([id]).debugDescription)"
                if topK > 0 {
                    line +=
                        "  top: "
                        + zip(result.topIDs[index], result.topLogProbs[index])
                        .map { "\($0) \(String(format: "%.4f", $1))" }.joined(separator: ", ")
                    line += String(format: "  tail %.3g", result.tailMass[index])
                }
                print(line)
            }
            print(
                String(
                    format: "total %.6f over %d tokens  (columns: log-prob, entropy, id, token)",
                    result.logProbs.reduce(0.0) { $0 + Double($1) }, result.tokens.count))
        }
    }
}
