// SPDX-License-Identifier: Apache-2.0
package import Checkpoints
internal import Foundation
package import JobSpecification
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

extension CheckpointFacts {
    /// What the files at a path say; nil where there is no checkpoint that can be read, which whoever loads it will tell.
    package static func look(at path: String) -> CheckpointFacts? {
        let directory = URL(fileURLWithPath: path, isDirectory: true)
        guard let configuration = try? Qwen3Configuration(directory: directory) else { return nil }
        return CheckpointFacts(configuration, template: template(directory))
    }

    /// - Parameter template: text of the chat template; nil where there is none or it is not known.
    package init(_ configuration: Qwen3Configuration, template: String? = nil) {
        let summary = CheckpointSummary(configuration: configuration)
        let sparse = (0..<configuration.layerCount).count(where: configuration.isMoELayer)
        let tokens = 1024
        var rows: [JobSpecification.ComputeType: Int] = [:]
        for compute in JobSpecification.ComputeType.allCases where configuration.expertCount > 0 {
            let memory = TrainingMemory(
                configuration, Tensors.ComputeType(rawValue: compute.rawValue)!,
                TrainingMemory.Load(cellTokens: tokens, waveCells: 1, stepTokens: tokens))
            rows[compute] = memory.expertRows * configuration.expertCount / tokens
        }
        self.init(
            contextLength: configuration.maxPositionEmbeddings, parameterCount: summary.parameters.total,
            cacheElementsPerToken: configuration.keyValueByteCountPerToken(elementByteCount: 1),
            expertParameterCount: summary.parametersPerExpert * sparse * configuration.expertCount,
            expertRowBytesPerToken: rows, thinks: template?.contains("<think>") ?? false,
            sampling: configuration.generation.samplingValues)
    }

    /// The text that `Tokenizer` takes, without loading one.
    private static func template(_ directory: URL) -> String? {
        func read(_ name: String) -> Data? {
            let url = directory.appendingPathComponent(name)
            guard let size = try? url.resolvingSymlinksInPath().resourceValues(forKeys: [.fileSizeKey]).fileSize,
                size <= 64 << 20
            else { return nil }
            return try? Data(contentsOf: url)
        }
        if let text = read("chat_template.jinja") { return String(decoding: text, as: UTF8.self) }
        guard let bytes = read("tokenizer_config.json"),
            let written = (try? JSONSerialization.jsonObject(with: bytes) as? [String: Any])?["chat_template"]
        else { return nil }
        if let text = written as? String { return text }
        // Several by name: the default one.
        let named = written as? [[String: String]] ?? []
        return (named.first { $0["name"] == "default" } ?? named.first)?["template"]
    }
}

extension GenerationDefaults {
    /// Values of `sampling` by their keys. transformers ignores them where `do_sample` is false, other readers take them
    /// where it is absent; so do we.
    fileprivate var samplingValues: [String: ResolvedValue] {
        guard isSampling != false else { return [:] }
        var values: [String: ResolvedValue] = [:]
        // 0 stands for greedy here, which no group of responses can be.
        if let temperature, temperature > 0 { values["temperature"] = .number(temperature) }
        if let topP, topP > 0 { values["top_p"] = .number(topP) }
        if let topK { values["top_k"] = .integer(topK) }
        if let minP { values["min_p"] = .number(minP) }
        if let repetitionPenalty, repetitionPenalty > 0 { values["repetition_penalty"] = .number(repetitionPenalty) }
        return values
    }
}
