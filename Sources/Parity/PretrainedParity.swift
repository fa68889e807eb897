// SPDX-License-Identifier: Apache-2.0
//
// Compares a pretrained model with transformers: token ids, logits of prompts, greedy texts (fixture kind "pretrained").
// The weights are not shipped; Scripts/real-parity fetches them.
internal import Checkpoints
internal import Foundation
internal import RuntimeSupport
internal import Tensors
internal import Tokenization

/// Fixture kind "pretrained" for one model.
struct PretrainedParity {
    /// Over 24 to 30 layers, absolute; transformers' own noise (sdpa against eager) is a tenth of it.
    static let logitTolerance = 1e-3

    /// cases.json, as Scripts/real-parity writes it.
    private struct Cases: Decodable {
        struct Encoding: Decodable {
            let text: String
            let ids: [Int32]
        }
        struct Forward: Decodable {
            let ids: [Int32]
            /// The first position that is compared.
            let first: Int
            /// Per position the likeliest token, and by how much its logit exceeds the next one's.
            let top: [Int32]
            let margins: [Double]
            /// Per position some ids and their logits; all logits may stand in logits.safetensors.
            let chosen: [[Int]]
            let logits: [[Float]]
        }
        struct Greedy: Decodable {
            let ids: [Int32]
            let continuation: [Int32]
            /// The smallest distance of the two likeliest tokens on the way.
            let margin: Double
        }
        /// A directory beside the file or among the fetched models.
        let model: String
        let encodings: [Encoding]
        let forward: [Forward]
        let greedy: [Greedy]
    }

    private let directory: URL
    private let name: String
    private let pool: ComputePool

    init(_ directory: URL, pool: ComputePool) {
        self.directory = directory
        self.pool = pool
        name = directory.lastPathComponent
    }

    /// Where fetched models are: as Scripts/fetch-real-models has it.
    private static var cache: URL {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["APUS_CACHE"], !path.isEmpty { return URL(fileURLWithPath: path) }
        return FileManager.default.homeDirectoryForCurrentUser.appending(path: ".cache/apus")
    }

    func run() throws -> [ParityCase] {
        let file = directory.appending(path: "cases.json")
        let cases = try JSONDecoder().decode(Cases.self, from: Data(contentsOf: file))
        let places = [directory, Self.cache].map { $0.appending(path: cases.model) }
        guard
            let model = places.first(where: {
                FileManager.default.fileExists(atPath: $0.appending(path: "config.json").path)
            })
        else {
            return [.skipped("pretrained", name, "\(places[1].path) is not there: Scripts/real-parity fetches it")]
        }
        if let problem = try ModelFamily.problem(model) { return [.skipped("pretrained", name, problem)] }
        let tokenizer = try Tokenizer(directory: model)
        var wrong: [String] = []
        for item in cases.encodings where tokenizer.encode(item.text) != item.ids { wrong.append(item.text) }
        let tokenCount = cases.encodings.reduce(0) { $0 + $1.ids.count }
        var results = [
            ParityCase.identical(
                "pretrained", "\(name) token ids", mismatches: wrong.count,
                detail: wrong.first.map { "first: \($0.prefix(60).debugDescription)" }
                    ?? "\(tokenCount) ids of \(cases.encodings.reduce(0) { $0 + $1.text.utf8.count }) bytes")
        ]
        let checkpoint = try Checkpoint(directory: model)
        let loaded = try LoadedModel(checkpoint, checkpoint.configuration, .fp32, pool)
        results += try forward(cases, loaded, checkpoint.configuration.vocabularySize)
        results += try greedy(cases, loaded)
        return results
    }

    private func forward(_ cases: Cases, _ model: LoadedModel, _ vocabulary: Int) throws -> [ParityCase] {
        let allLogits = directory.appending(path: "logits.safetensors")
        let all = FileManager.default.fileExists(atPath: allLogits.path) ? try FixtureTensors(allLogits) : nil
        var (worst, compared, tops, ties) = (0.0, 0, 0, 0)
        for (index, item) in cases.forward.enumerated() {
            let logits = try model.trace(tokens: item.ids).logits
            let expected = try all?.floats("prompt\(index)")
            for position in item.first..<item.ids.count {
                let row = logits[position * vocabulary..<(position + 1) * vocabulary]
                let place = position - item.first
                for (id, value) in zip(item.chosen[place], item.logits[place]) {
                    worst = max(worst, Self.distance(row[row.startIndex + id], value))
                }
                if let expected {
                    for (ours, theirs) in zip(row, expected[place * vocabulary..<(place + 1) * vocabulary]) {
                        worst = max(worst, Self.distance(ours, theirs))
                    }
                }
                compared += expected == nil ? item.chosen[place].count : vocabulary
                let best = row.indices.max { row[$0] < row[$1] || (row[$0] == row[$1] && $0 > $1) }!
                if item.margins[place] <= 2 * Self.logitTolerance {
                    ties += 1
                } else if Int32(best - row.startIndex) != item.top[place] {
                    tops += 1
                }
            }
        }
        return [
            ParityCase(
                kind: "pretrained", name: "\(name) logits", worstError: worst, tolerance: Self.logitTolerance,
                detail: "\(compared) logits of \(cases.forward.count) prompts"),
            .identical(
                "pretrained", "\(name) top tokens", mismatches: tops,
                detail: ties > 0 ? "\(ties) positions are nearer than the noise" : ""),
        ]
    }

    /// NaN is infinitely far.
    private static func distance(_ ours: Float, _ theirs: Float) -> Double {
        let distance = abs(Double(ours) - Double(theirs))
        return distance.isNaN ? .infinity : distance
    }

    private func greedy(_ cases: Cases, _ model: LoadedModel) throws -> [ParityCase] {
        try cases.greedy.enumerated().map { index, item in
            let tokens = try model.greedy(prompt: item.ids, count: item.continuation.count).tokens
            let same = zip(tokens, item.continuation).prefix { $0 == $1 }.count
            return .identical(
                "pretrained", "\(name) greedy \(index)", mismatches: tokens.count - same,
                detail: "\(same) of \(tokens.count) tokens, smallest margin \(String(format: "%.2g", item.margin))")
        }
    }
}
