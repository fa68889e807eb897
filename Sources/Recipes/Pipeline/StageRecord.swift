// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Crypto
package import Foundation

/// What a pipeline writes down of a stage: `stages/NAME.json` in its output.
package struct StageRecord: Codable, Equatable, Sendable {
    /// SHA-256 of what was asked: the job with all settings, or the command; and the recipes of its inputs.
    package let recipe: String
    /// Earlier stages that it read, with their recipes.
    package let inputs: [String: String]
    /// Files that it read and no stage made: SHA-256 of their content by path; nil in records of older versions.
    package let data: [String: String]?
    /// The last line of its metrics.
    package let figures: [String: Double]
    /// nil until the stage is finished.
    package let seconds: Double?
    /// Processor seconds of all processes that carried it out; nil where that is not known.
    package let processorSeconds: Double?

    package var isFinished: Bool { seconds != nil }

    package init(
        recipe: String, inputs: [String: String], data: [String: String]? = nil, figures: [String: Double] = [:],
        seconds: Double? = nil, processorSeconds: Double? = nil
    ) {
        self.recipe = recipe
        self.inputs = inputs
        self.data = data
        self.figures = figures
        self.seconds = seconds
        self.processorSeconds = processorSeconds
    }

    /// A figure of the stage's metrics, or of its cost: `seconds`, `cpu_seconds`.
    package func figure(_ name: String) -> Double? {
        switch name {
        case "seconds": seconds
        case "cpu_seconds": processorSeconds
        default: figures[name]
        }
    }

    /// - Parameters:
    ///   - text: the job with all settings, or the arguments.
    ///   - inputs: recipes of earlier stages, by name.
    package static func recipe(_ text: String, inputs: [String: String]) -> String {
        let lines = inputs.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)\n" }
        return SHA256.hash(data: Data((lines.joined() + text).utf8)).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }

    package static func url(_ stage: String, in output: URL) -> URL {
        output.appendingPathComponent("stages", isDirectory: true).appendingPathComponent("\(stage).json")
    }

    /// nil where the stage has not been begun.
    package static func read(_ stage: String, in output: URL) -> StageRecord? {
        (try? Data(contentsOf: url(stage, in: output))).flatMap {
            try? JSONDecoder().decode(StageRecord.self, from: $0)
        }
    }

    package func write(_ stage: String, in output: URL) throws {
        let url = Self.url(stage, in: output)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        try DurableFile.write(String(decoding: encoder.encode(self), as: UTF8.self) + "\n", to: url)
    }

    /// The last line of a stage's `metrics.jsonl`: figures that are numbers.
    package static func figures(_ directory: URL) -> [String: Double] { metrics(directory).last ?? [:] }

    /// All lines of a stage's `metrics.jsonl`.
    package static func metrics(_ directory: URL) -> [[String: Double]] {
        let url = directory.appendingPathComponent("metrics.jsonl")
        guard let text = try? String(contentsOf: url, encoding: .utf8) else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return object?.compactMapValues { ($0 as? NSNumber)?.doubleValue }
        }
    }
}
