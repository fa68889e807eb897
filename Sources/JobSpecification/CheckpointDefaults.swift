// SPDX-License-Identifier: Apache-2.0
//
// Defaults that derive from the model's checkpoint. They are functions of the checkpoint's files and the job, never of a
// host: the same job is the same settings everywhere, and they are written down with the job.

/// What a checkpoint's files say that defaults derive from.
package struct CheckpointFacts: Equatable, Sendable {
    /// `max_position_embeddings`, in tokens.
    package var contextLength: Int
    package var parameterCount: Int
    /// Elements of keys and values that a token takes in all layers.
    package var cacheElementsPerToken: Int
    /// Of all experts together; 0 without.
    package var expertParameterCount: Int
    /// Bytes of all experts' rows that wait for a wave's fold, per token of it, by compute type; 0 without experts.
    package var expertRowBytesPerToken: [ComputeType: Int]
    /// Whether its chat template writes thinking blocks.
    package var thinks: Bool
    /// Of generation_config.json, where it says that tokens are to be sampled.
    package var sampling: [String: ResolvedValue]

    package init(
        contextLength: Int, parameterCount: Int, cacheElementsPerToken: Int, expertParameterCount: Int = 0,
        expertRowBytesPerToken: [ComputeType: Int] = [:], thinks: Bool = false, sampling: [String: ResolvedValue] = [:]
    ) {
        self.contextLength = contextLength
        self.parameterCount = parameterCount
        self.cacheElementsPerToken = cacheElementsPerToken
        self.expertParameterCount = expertParameterCount
        self.expertRowBytesPerToken = expertRowBytesPerToken
        self.thinks = thinks
        self.sampling = sampling
    }
}

/// Looks at the checkpoint at a path; nil where it cannot be looked at from here.
package typealias CheckpointLook = (_ path: String) -> CheckpointFacts?

/// Peak learning rates of full training by method and size of the model.
enum LearningRate {
    static let sentence =
        "by method and parameters (below 1 B, below 10 B, above): sft and reward 2e-5, 1e-5, 5e-6; distill 1e-5, 5e-6, "
        + "2e-6; grpo 2e-6, 1e-6, 5e-7"

    static func of(_ method: TrainingMethod, isOnPolicy: Bool, parameterCount: Int) -> Double {
        let rates =
            switch method {
            case .sft, .reward: [2e-5, 1e-5, 5e-6]
            case .distill: isOnPolicy ? [1e-5, 5e-6, 2e-6] : [2e-5, 1e-5, 5e-6]
            case .grpo: [2e-6, 1e-6, 5e-7]
            }
        return rates[parameterCount < 1_000_000_000 ? 0 : parameterCount < 10_000_000_000 ? 1 : 2]
    }
}

/// A default that was found, and where it comes from.
struct DerivedDefault {
    let path: [String]
    let value: ResolvedValue
    let reason: String
}

/// The keys of one job whose defaults derive from its checkpoint and that are not written.
struct CheckpointDefaults {
    /// As much as an ordinary answer takes.
    static let responseLength = 1024
    /// The same of a model that thinks first.
    static let thinkingLength = 4096

    private let node: YAMLNode
    private let kind: JobFileKind
    private let method: TrainingMethod?

    init(_ node: YAMLNode, _ kind: JobFileKind) {
        self.node = node
        self.kind = kind
        method = node.text(at: ["method"]).flatMap(TrainingMethod.init)
    }

    private var isOnPolicy: Bool {
        let written = node.text(at: ["teacher", "on_policy"])?.lowercased()
        return !["false", "no", "off"].contains(written)
    }

    private var generates: Bool {
        kind == .rollout || method == .grpo || method == .distill && isOnPolicy
    }

    /// Keys of the distribution that tokens are drawn from.
    private static let distribution = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty"]

    /// Whether sampling values that are not written are the checkpoint's.
    private var takesSampling: Bool {
        guard generates else { return false }
        if let preset = node.text(at: ["sampling", "preset"]) { return preset == SamplingPreset.checkpoint.rawValue }
        return kind == .rollout
            && Self.distribution.allSatisfy { node.text(at: ["sampling", $0]) == nil }
    }

    /// The keys, whether or not there is a checkpoint to look at.
    var open: [[String]] {
        var keys: [[String]] = []
        if generates { keys.append(["sampling", "max_new_tokens"]) }
        if takesSampling { keys += Self.distribution.map { ["sampling", $0] } }
        if kind == .train { keys += [["optimizer", "learning_rate"], ["wave_cells"]] }
        if generates || kind == .score { keys.append(["resources", "kv_cache_bytes"]) }
        return keys.filter { node.text(at: $0) == nil }
    }

    /// The path of the model that the defaults derive from.
    var modelPath: String? { node.text(at: ["model", "path"]) ?? node.text(at: ["model"]) }

    func derived(_ facts: CheckpointFacts) -> [DerivedDefault] {
        open.compactMap { key -> DerivedDefault? in
            switch key.last! {
            case "max_new_tokens": responseLength(facts)
            case "learning_rate": learningRate(facts)
            case "wave_cells": waveCells(facts)
            case "kv_cache_bytes": cache(facts)
            case let name:
                facts.sampling[name].map {
                    DerivedDefault(path: key, value: $0, reason: "its generation_config.json")
                }
            }
        }
    }

    private func context(_ facts: CheckpointFacts) -> Int {
        guard let factor = node.text(at: ["model", "yarn_factor"]).flatMap(Double.init), factor <= 1024 else {
            return facts.contextLength
        }
        return Int(Double(facts.contextLength) * max(1, factor))
    }

    private var responseLengthWritten: Int? {
        node.text(at: ["sampling", "max_new_tokens"]).flatMap { Int($0.filter { $0 != "_" }) }
    }

    private func responseLength(_ facts: CheckpointFacts) -> DerivedDefault {
        let thinks = facts.thinks && node.text(at: ["thinking", "mode"]) != ThinkingMode.off.rawValue
        // A budget of thinking wants room for the answer after it.
        let budget = node.text(at: ["thinking", "budget"]).flatMap { Int($0) } ?? 0
        let usual = max(thinks ? Self.thinkingLength : Self.responseLength, min(budget, 1 << 20) + Self.responseLength)
        let half = max(1, context(facts) / 2)
        return DerivedDefault(
            path: ["sampling", "max_new_tokens"], value: .integer(min(usual, half)),
            reason: half < usual
                ? "half of the checkpoint's context of \(context(facts)) tokens"
                : thinks ? "a model that thinks" : "a model that does not think")
    }

    private func learningRate(_ facts: CheckpointFacts) -> DerivedDefault? {
        guard let method else { return nil }
        return DerivedDefault(
            path: ["optimizer", "learning_rate"],
            value: .number(LearningRate.of(method, isOnPolicy: isOnPolicy, parameterCount: facts.parameterCount)),
            reason: "method \(method.rawValue), \(Self.count(facts.parameterCount)) parameters")
    }

    /// Rows of experts wait until a wave is folded: a wave is cut where they would outgrow the experts' own state.
    private func waveCells(_ facts: CheckpointFacts) -> DerivedDefault? {
        guard facts.expertParameterCount > 0 else { return nil }
        let compute = node.text(at: ["model", "compute"]).flatMap(ComputeType.init) ?? .bf16
        let perToken = facts.expertRowBytesPerToken[compute] ?? 0
        let room = max(4 << 30, facts.expertParameterCount * 12 / 4)
        let cellTokens = node.text(at: ["cell_tokens"]).flatMap { Int($0.filter { $0 != "_" }) } ?? 2048
        guard perToken > 0, (16...16_777_216).contains(cellTokens) else { return nil }
        let cells = max(1, min(64, room / perToken / cellTokens))
        return DerivedDefault(
            path: ["wave_cells"], value: .integer(cells),
            reason: cells == 64 ? "all rows of experts fit" : "rows of experts that wait for a wave")
    }

    private func cache(_ facts: CheckpointFacts) -> DerivedDefault {
        let compute = node.text(at: ["model", "compute"]).flatMap(ComputeType.init) ?? .bf16
        let response =
            responseLengthWritten
            ?? { if case .integer(let count) = responseLength(facts).value { count } else { 0 } }()
        let tokens = min(context(facts), generates ? 2 * min(response, 1 << 20) : Self.thinkingLength)
        let needed = 4 * tokens * facts.cacheElementsPerToken * compute.byteCount
        let step = 256 << 20
        var bytes = max(1 << 30, (needed + step - 1) / step * step)
        let limit = node.text(at: ["resources", "memory_per_worker"]).flatMap { text in
            try? YAMLReader(YAMLNode(.scalar(text, isPlain: true), .line(1))).byteCount(1...(1 << 46))
        }
        if let limit { bytes = min(bytes, max(1 << 30, limit / 2)) }
        return DerivedDefault(
            path: ["resources", "kv_cache_bytes"], value: .integer(bytes),
            reason: bytes == 1 << 30 ? "enough for this model" : "four sequences of \(tokens) tokens")
    }

    private static func count(_ count: Int) -> String {
        let (value, unit): (Double, String) =
            count >= 1_000_000_000 ? (Double(count) / 1e9, "B") : (Double(count) / 1e6, "M")
        let tenths = (value * 10).rounded() / 10
        return "\(tenths) \(unit)"
    }
}

extension YAMLNode {
    /// The single value at a path of keys; nil where there is none or it is null.
    func text(at path: [String]) -> String? {
        var node = self
        for key in path {
            guard case .mapping(let entries) = node.content, let entry = entries.first(where: { $0.key == key }) else {
                return nil
            }
            node = entry.value
        }
        guard case .scalar(let text, _) = node.content, !node.isNull else { return nil }
        return text
    }
}
