// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import ClusterProtocol
internal import Foundation

/// A teacher's distributions for the siblings of one group, as safetensors:
/// `sibling.N.top_ids` `[T, K]`, `sibling.N.top_logprobs` `[T, K]`, `sibling.N.tail_mass` `[T]`, or
/// `sibling.N.logprobs` `[T, V]`.
enum ScoreFile {
    static func write(_ scores: [WireScoreRecord], group: Int, into directory: URL) throws {
        var tensors: [(TensorDescription, Data)] = []
        for score in scores {
            let count = score.logProbs.count / 4
            let prefix = "sibling.\(score.sibling)"
            func add(_ name: String, _ type: SafetensorsDataType, _ shape: [Int], _ data: Data) {
                guard !data.isEmpty else { return }
                tensors.append((TensorDescription(name: "\(prefix).\(name)", dataType: type, shape: shape), data))
            }
            let k = Int(score.topK)
            add("top_ids", .int32, [count, k], score.topIds)
            add("top_logprobs", .float32, [count, k], score.topLogProbs)
            add("tail_mass", .float32, [count], score.tailMass)
            add(
                "logprobs", .float32, [count, count > 0 ? score.fullLogProbs.count / 4 / count : 0], score.fullLogProbs)
        }
        guard !tensors.isEmpty else { return }
        let number = String(group)
        let name = "group-\(String(repeating: "0", count: max(0, 6 - number.count)))\(number).safetensors"
        let url = directory.appendingPathComponent(name)
        // It appears whole: one that is there was written before a restart.
        if FileManager.default.fileExists(atPath: url.path) { return }
        let writer = try SafetensorsWriter(url, tensors: tensors.map(\.0))
        for (tensor, data) in tensors { try data.withUnsafeBytes { try writer.append(tensor.name, $0) } }
        try writer.finish()
    }
}
