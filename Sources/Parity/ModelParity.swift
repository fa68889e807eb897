// SPDX-License-Identifier: Apache-2.0
//
// Compares the forward pass with what transformers computed for the same checkpoint (fixture kind "models"):
// every layer boundary, router choices, log-probs, greedy continuations, YaRN, and bf16 compute by its mean error.
// Generic in shapes, configurations and vocabularies: everything is read from the directory.
internal import Checkpoints
package import Foundation
internal import Qwen3
package import RuntimeSupport
internal import Tensors

/// Runs the fixture kind "models" for one model directory.
package struct ModelParity {
    /// fp32 logits within 1e-4 of transformers: its own noise (fp64 against fp32, sdpa against eager) is 4e-6…2e-5.
    package static let logitTolerance = 1e-4
    /// Layer boundaries, relative to their largest element: ours are within 1.3e-6.
    package static let boundaryTolerance = 1e-5
    /// Root mean square over all logits of a batch.
    package static let rootMeanSquareTolerance = 6e-6

    private let directory: URL
    private let checkpoint: Checkpoint
    private let pool: ComputePool
    private let name: String

    package init(_ directory: URL, pool: ComputePool) throws {
        self.directory = directory
        self.pool = pool
        name = directory.lastPathComponent
        checkpoint = try Checkpoint(directory: directory)
    }

    /// The cases of a model directory; one that is skipped where the family is none of Apus's.
    package static func run(_ directory: URL, pool: ComputePool) throws -> [ParityCase] {
        if let problem = try ModelFamily.problem(directory) {
            return [.skipped("models", directory.lastPathComponent, problem)]
        }
        return try ModelParity(directory, pool: pool).run()
    }

    package func run() throws -> [ParityCase] {
        let model = try LoadedModel(checkpoint, checkpoint.configuration, .fp32, pool)
        var cases: [ParityCase] = []
        let references = try FileManager.default.contentsOfDirectory(atPath: directory.appending(path: "ref").path)
            .sorted()
        for file in references where file.hasPrefix("forward_") && file.hasSuffix(".safetensors") {
            let batch = String(file.dropFirst("forward_".count).dropLast(".safetensors".count))
            cases += try forward(model, batch, FixtureTensors(reference(file)))
        }
        if references.contains("greedy.json") { cases += try greedy(model) }
        if references.contains("yarn.safetensors") { cases += try yarn() }
        return cases
    }

    private func reference(_ file: String) -> URL { directory.appending(path: "ref/\(file)") }

    // MARK: - Forward batches

    private func forward(_ model: LoadedModel, _ batch: String, _ expected: FixtureTensors) throws -> [ParityCase] {
        let shape = try expected.shape("input_ids")
        let ids = try expected.integers("input_ids")
        let mask = try expected.integers("attention_mask")
        var comparison = Comparison()
        for row in 0..<shape[0] {
            let columns = (0..<shape[1]).filter { mask[row * shape[1] + $0] == 1 }
            let rows = columns.map { row * shape[1] + $0 }
            let trace = try model.trace(tokens: rows.map { ids[$0] })
            try compare(trace, rows, expected, model.model.configuration, &comparison)
        }
        var cases = comparison.cases(kind: "models", prefix: "\(name)/\(batch)")
        if expected.contains("logits_bf16_compute") {
            cases.append(try bf16(batch, expected, shape: shape, ids: ids))
        }
        return cases
    }

    private func compare(
        _ trace: ForwardTrace, _ rows: [Int], _ expected: FixtureTensors, _ configuration: Qwen3Configuration,
        _ comparison: inout Comparison
    ) throws {
        func check(_ label: String, _ name: String, _ actual: [Float], scale: Bool = false) throws {
            guard expected.contains(name) else { return }
            let all = try expected.floats(name)
            let width = actual.count / rows.count
            let wanted = rows.flatMap { all[$0 * width..<($0 + 1) * width] }
            comparison.add(label, actual, wanted, relative: scale)
        }
        try check("logits", "logits", trace.logits)
        try check("logits", "logits_posids", trace.logits)
        try check("entropy", "entropy", trace.entropies)
        try check("hidden", "hidden.embed", trace.stages[.embedding]!, scale: true)
        try check("hidden", "hidden.norm", trace.stages[.finalNorm]!, scale: true)
        for layer in 0..<configuration.layerCount {
            try check("hidden", "hidden.layer\(layer)", trace.stages[.layerOutput(layer: layer)]!, scale: true)
            try check("attention", "attn_out.layer\(layer)", trace.stages[.attentionOutput(layer: layer)]!, scale: true)
            try check(
                "feed_forward", "mlp_out.layer\(layer)", trace.stages[.feedForwardOutput(layer: layer)]!, scale: true)
            if let logits = trace.stages[.routerLogits(layer: layer)] {
                try check("router_logits", "router.logits.layer\(layer)", logits, scale: true)
                try check("router_weights", "router.weights.layer\(layer)", trace.routerWeights[layer]!)
                let experts = "router.experts.layer\(layer)"
                if expected.contains(experts) {
                    let all = try expected.integers(experts)
                    let k = configuration.expertsPerToken
                    comparison.addIdentity(
                        "router_experts", trace.experts[layer]!.map(Int32.init),
                        rows.flatMap { all[$0 * k..<($0 + 1) * k] })
                }
            }
        }
        // next_token_logps has one column less than the tokens; a row's last real token predicts nothing.
        if expected.contains("next_token_logps") {
            let columns = try expected.shape("next_token_logps")[1]
            let all = try expected.floats("next_token_logps")
            let pairs = zip(rows, trace.nextLogProbs).filter { $0.0 % (columns + 1) < columns }.dropLast(0)
            comparison.add(
                "logprobs", pairs.map(\.1), pairs.map { all[$0.0 / (columns + 1) * columns + $0.0 % (columns + 1)] },
                relative: false)
        }
    }

    // MARK: - bf16

    /// bf16 flips experts now and then, so one logit may be far off; the mean error may not. The bound is what torch
    /// itself loses in bf16 on the same batch.
    private func bf16(_ batch: String, _ expected: FixtureTensors, shape: [Int], ids: [Int32]) throws -> ParityCase {
        let model = try LoadedModel(checkpoint, checkpoint.configuration, .bf16, pool)
        let exact = try expected.floats("logits")
        let torch = try expected.floats("logits_bf16_compute")
        var ours: [Float] = []
        for row in 0..<shape[0] {
            ours += try model.trace(tokens: Array(ids[row * shape[1]..<(row + 1) * shape[1]])).logits
        }
        func meanError(_ values: [Float]) -> Double {
            zip(values, exact).reduce(0) { $0 + abs(Double($1.0) - Double($1.1)) } / Double(exact.count)
        }
        let vocabulary = model.model.configuration.vocabularySize
        let divergence = Divergence.meanKL(exact, ours, vocabulary: vocabulary)
        let torchDivergence = Divergence.meanKL(exact, torch, vocabulary: vocabulary)
        return ParityCase(
            kind: "models", name: "\(name)/\(batch) bf16 mean error", worstError: meanError(ours),
            tolerance: 1.25 * meanError(torch) + 1e-3,
            detail: String(format: "KL %.2e (torch bf16: %.2e)", divergence, torchDivergence))
    }

    // MARK: - Greedy

    private struct GreedyFile: Decodable {
        struct Row: Decodable {
            let prompt: [Int32]
            let continuation: [Int32]
        }
        struct EOSCase: Decodable {
            let eos_token_id: [Int32]
            let pad_token_id: Int32
            let batch_output_after_prompt: [[Int32]]
        }
        let max_new_tokens: Int
        let rows: [Row]
        let eos_case: EOSCase?
    }

    private func greedy(_ model: LoadedModel) throws -> [ParityCase] {
        let file = try JSONDecoder().decode(GreedyFile.self, from: Data(contentsOf: reference("greedy.json")))
        var mismatches = 0
        var comparison = Comparison()
        for (index, row) in file.rows.enumerated() {
            let (tokens, logits) = try model.greedy(prompt: row.prompt, count: file.max_new_tokens)
            mismatches += zip(tokens, row.continuation).filter { $0 != $1 }.count
            let steps = reference("greedy_step_logits.safetensors")
            if index == 0, FileManager.default.fileExists(atPath: steps.path) {
                comparison.add("greedy_logits", logits, try FixtureTensors(steps).floats("row0"), relative: false)
            }
            if let stop = file.eos_case, index < stop.batch_output_after_prompt.count {
                var cut = tokens
                if let end = cut.firstIndex(where: stop.eos_token_id.contains) { cut = Array(cut[...end]) }
                let wanted = stop.batch_output_after_prompt[index]
                let padded = cut + [Int32](repeating: stop.pad_token_id, count: max(0, wanted.count - cut.count))
                mismatches += zip(padded, wanted).filter { $0 != $1 }.count
            }
        }
        return [.identical("models", "\(name)/greedy", mismatches: mismatches)]
            + comparison.cases(kind: "models", prefix: "\(name)")
    }

    // MARK: - YaRN

    private func yarn() throws -> [ParityCase] {
        let expected = try FixtureTensors(reference("yarn.safetensors"))
        let ids = try expected.integers("input_ids")
        var comparison = Comparison()
        for prefix in Set(expected.names.filter { $0.hasSuffix(".inv_freq") }.map { String($0.dropLast(9)) }).sorted() {
            let file = prefix == "plain_rope" ? "config.json" : "config_yarn_\(prefix).json"
            let configuration = try Qwen3Configuration(file: directory.appending(path: file))
            let model = try LoadedModel(checkpoint, configuration, .fp32, pool)
            comparison.add(
                "yarn inv_freq", RotaryEmbedding(configuration).inverseFrequencies,
                try expected.floats("\(prefix).inv_freq"), relative: true)
            let vocabulary = configuration.vocabularySize
            let last = "\(prefix).logits_last48"
            if expected.contains(last) {
                let wanted = try expected.floats(last)
                comparison.add(
                    "yarn logits", Array(try model.trace(tokens: ids).logits.suffix(wanted.count)), wanted,
                    relative: false)
            }
            let shifted = "\(prefix).logits_first16_at_shifted_positions"
            if expected.contains(shifted) {
                let wanted = try expected.floats(shifted)
                let count = wanted.count / vocabulary
                let actual = try model.trace(tokens: Array(ids[..<count]), rotaryOffset: ids.count - count).logits
                comparison.add("yarn shifted", actual, wanted, relative: false)
            }
        }
        return comparison.cases(kind: "models", prefix: name)
    }
}
