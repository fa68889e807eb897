// SPDX-License-Identifier: Apache-2.0

/// Names of the weight files in a checkpoint that training wrote: one for the trunk, one per expert, so that each is
/// written whole by whoever owns its contents.
package enum SnapshotFiles {
    package static let trunk = "model-trunk.safetensors"

    package static func expert(_ index: Int) -> String {
        let digits = String(index)
        return "model-expert-\(String(repeating: "0", count: max(0, 5 - digits.count)))\(digits).safetensors"
    }

    /// For each weight the file it is in.
    package static func weightMap(of configuration: Qwen3Configuration) -> [(tensor: String, shard: String)] {
        configuration.parameterTensors.map { ($0.name.rawValue, $0.expert.map(expert) ?? trunk) }
    }
}
