// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Qwen3

/// Fixture kind "sampling": after all penalties and filters the kept ids and their probabilities are those of
/// transformers (presence penalty: vLLM).
package struct SamplingParity {
    private let root: URL

    package init(_ root: URL) { self.root = root }

    private struct File: Decodable {
        struct Case: Decodable {
            struct Settings: Decodable {
                let temperature: Float?
                let top_k: Int?
                let top_p: Float?
                let min_p: Float?
                let repetition_penalty: Float?
                let presence_penalty: Float?
            }
            let id: Int
            let name: String
            let vocab: Int
            let prompt_len: Int
            let settings: Settings
        }
        let cases: [Lenient<Case>]
    }

    package func run() throws -> [ParityCase] {
        let file = try JSONDecoder().decode(File.self, from: Data(contentsOf: root.appending(path: "cases.json")))
        let tensors = try FixtureTensors(root.appending(path: "cases.safetensors"))
        return file.cases.cases("sampling", name: { "\($0.id) \($0.name)" }) { item in
            let id = String(format: "%03d", item.id)
            let logits = try tensors.floats("\(id).logits")
            let expected = try tensors.floats("\(id).probs")
            let shape = try tensors.shape("\(id).logits")
            let history = tensors.contains("\(id).input_ids") ? try tensors.integers("\(id).input_ids") : []
            let length = history.count / shape[0]
            let settings = item.settings
            let processor = LogitsProcessor(
                SamplingParameters(
                    repetitionPenalty: settings.repetition_penalty ?? 1,
                    presencePenalty: settings.presence_penalty ?? 0, temperature: settings.temperature ?? 1,
                    topK: settings.top_k ?? 0, topP: settings.top_p ?? 1, minP: settings.min_p ?? 0))
            var worst = 0.0
            var differing = 0
            for row in 0..<shape[0] {
                let range = row * shape[1]..<(row + 1) * shape[1]
                let seen = history[row * length..<(row + 1) * length]
                let actual = Self.probabilities(
                    Array(logits[range]), processor, prompt: seen.prefix(item.prompt_len),
                    output: seen.dropFirst(item.prompt_len))
                for (a, e) in zip(actual, expected[range]) {
                    worst = max(worst, abs(Double(a) - Double(e)))
                    if (a > 0) != (e > 0) { differing += 1 }
                }
            }
            return [
                ParityCase(
                    kind: "sampling", name: "\(id) \(item.name), vocabulary \(shape[1])",
                    worstError: differing > 0 ? .infinity : worst, tolerance: 1e-6,
                    detail: differing > 0 ? "\(differing) ids kept or dropped wrongly" : "")
            ]
        }
    }

    private static func probabilities(
        _ row: [Float], _ processor: LogitsProcessor, prompt: ArraySlice<Int32>, output: ArraySlice<Int32>
    ) -> [Float] {
        var logits = row
        return logits.withUnsafeMutableBufferPointer { buffer in
            processor.penalise(buffer.baseAddress!, count: buffer.count, prompt: prompt, output: output)
            let candidates = processor.candidates(buffer.baseAddress!, count: buffer.count)
            let total = candidates.weights.reduce(0.0) { $0 + Double($1) }
            var result = [Float](repeating: 0, count: buffer.count)
            for (id, weight) in zip(candidates.ids, candidates.weights) {
                result[Int(id)] = Float(Double(weight) / total)
            }
            return result
        }
    }
}
