// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// How rotary embeddings are stretched, in the words of config.json.
enum GGUFRotary {
    /// Converters write the factors of Llama 3.1 as a tensor, `[D/2]`.
    static let tensorName = "rope_freqs.weight"

    /// The value of `rope_scaling`, or null.
    static func scaling(_ file: GGUFFile, _ family: GGUFModel.Family, _ shape: GGUFShape) throws -> JSONValue {
        let prefix = family.rawValue + ".rope.scaling."
        let type = try file.text(prefix + "type") ?? "none"
        if let tensor = file.tensor(tensorName) {
            guard type == "none" else {
                throw file.unsupported("'\(prefix)type' \"\(type)\" beside \(tensorName)", "one of them must do")
            }
            return try llama3(tensor, file, shape)
        }
        switch type {
        case "none": return .null
        case "yarn": return try yarn(file, prefix, shape)
        default: throw file.unsupported("'\(prefix)type' \"\(type)\"", "Apus reads none, yarn, and Llama 3's factors")
        }
    }

    private static func yarn(_ file: GGUFFile, _ prefix: String, _ shape: GGUFShape) throws -> JSONValue {
        guard let factor = try file.real(prefix + "factor"), factor >= 1 else {
            throw file.invalid("yarn needs '\(prefix)factor' of 1 or more")
        }
        let original = try file.integer(
            prefix + "original_context_length", 1...Qwen3Configuration.Limits.maxPositionEmbeddings)
        return .object([
            .init("factor", .real(factor)),
            .init(
                "original_max_position_embeddings",
                .integer(original ?? max(1, Int((Double(shape.contextLength) / factor).rounded())))),
            .init("rope_type", .string("yarn")),
        ])
    }

    /// The four numbers of Llama 3's scaling: with `low_freq_factor` 1, which only fixes the others' unit, the factors
    /// determine them.
    private static func llama3(_ tensor: GGUFFile.Tensor, _ file: GGUFFile, _ shape: GGUFShape) throws -> JSONValue {
        let half = shape.headSize / 2
        guard tensor.type == .f32, tensor.shape == [half] else {
            throw CheckpointError(
                .inconsistentCheckpoint, "should be F32 of shape [\(half)]", file: file.url.path, tensor: tensorName,
                remedy: GGUFCursor.damaged)
        }
        let stored = tensor.file.withBytes(tensor.header.dataRange) { bytes in
            (0..<half).map { Double(bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)) }
        }
        let wavelengths = (0..<half).map {
            2 * Double.pi * pow(shape.ropeTheta, Double(2 * $0) / Double(shape.headSize))
        }
        let candidates = [solved(stored, wavelengths), released(stored)].compactMap(\.self)
        guard let found = candidates.first(where: { $0.explains(stored, wavelengths) }) else {
            throw CheckpointError(
                .unsupportedConfiguration, "holds other factors than Llama 3's", file: file.url.path,
                tensor: tensorName, remedy: "take the model's safetensors files, whose config.json says how it is done")
        }
        return .object([
            .init("factor", .real(found.factor)), .init("high_freq_factor", .real(found.high)),
            .init("low_freq_factor", .real(1)),
            .init("original_max_position_embeddings", .integer(found.original)),
            .init("rope_type", .string("llama3")),
        ])
    }

    private struct Llama3 {
        let factor: Double
        let high: Double
        let original: Int

        /// By how much a frequency is divided.
        func divisor(_ wavelength: Double) -> Double {
            let turns = Double(original) / wavelength
            if turns > high { return 1 }
            if turns < 1 { return factor }
            let smooth = (turns - 1) / (high - 1)
            return 1 / ((1 - smooth) / factor + smooth)
        }

        /// Stored factors are fp32.
        func explains(_ stored: [Double], _ wavelengths: [Double]) -> Bool {
            for (value, wavelength) in zip(stored, wavelengths) {
                let expected = divisor(wavelength)
                if abs(value - expected) > 1e-4 * expected { return false }
            }
            return true
        }
    }

    /// Between the two ends 1 / divisor is linear in 1 / wavelength: two points give the line.
    private static func solved(_ stored: [Double], _ wavelengths: [Double]) -> Llama3? {
        guard let factor = stored.max(), factor > 1 else { return nil }
        var between: [(turns: Double, smooth: Double)] = []
        for (value, length) in zip(stored, wavelengths) where value > 1.000_1 && value < factor * 0.999_9 {
            between.append((1 / length, (1 / value - 1 / factor) / (1 - 1 / factor)))
        }
        guard let first = between.first, let last = between.last, first.turns != last.turns else { return nil }
        let slope = (first.smooth - last.smooth) / (first.turns - last.turns)
        let start = slope * first.turns - first.smooth
        // smooth = (original · turns - 1) / (high - 1)
        guard start > 1e-3, slope > 0 else { return nil }
        let high = ((1 + 1 / start) * 1_000).rounded() / 1_000
        let original = (slope * (high - 1)).rounded()
        guard original >= 1, original <= Double(Qwen3Configuration.Limits.maxPositionEmbeddings) else { return nil }
        return Llama3(factor: factor, high: high, original: Int(original))
    }

    /// Small heads have too few factors to tell; the released models differ in `factor` alone.
    private static func released(_ stored: [Double]) -> Llama3? {
        stored.max().flatMap { $0 > 1 ? Llama3(factor: $0, high: 4, original: 8_192) : nil }
    }
}
