// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Foundation

/// What family of models a fixture's checkpoint is of.
enum ModelFamily {
    /// Why the models of a directory cannot be compared; nil where they can.
    static func problem(_ directory: URL) throws -> String? {
        let file = directory.appending(path: "config.json")
        guard case .string(let type)? = try JSONValue.read(file, limit: 1 << 24)["model_type"] else { return nil }
        return Qwen3Configuration.ModelType(rawValue: type) == nil ? "models of type \(type) are not implemented" : nil
    }
}
