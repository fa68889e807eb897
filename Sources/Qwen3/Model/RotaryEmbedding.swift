// SPDX-License-Identifier: Apache-2.0
//
// RoPE in the NeoX ("rotate half") form, with YaRN and Llama 3's scaling as transformers implements them
// (`_compute_yarn_parameters`, `_compute_llama3_parameters`).
// Each inverse frequency is computed in fp64 and rounded to fp32 once; the angle is the fp32 product of position and
// inverse frequency. The table of one position is a pure function of that position.
internal import CKernels
package import Checkpoints
internal import Foundation

/// The rotary position embedding of one configuration.
package struct RotaryEmbedding: Sendable {
    /// `[head_size / 2]`.
    package let inverseFrequencies: [Float]
    /// Factor on both cos and sin: 1 without YaRN, `0.1 ln(factor) + 1` with it.
    package let attentionScaling: Float

    package init(_ configuration: Qwen3Configuration) {
        let size = configuration.headSize
        let base = Double(configuration.ropeTheta)
        let plain = (0..<size / 2).map { pow(base, -2 * Double($0) / Double(size)) }
        switch configuration.ropeScaling {
        case nil: (inverseFrequencies, attentionScaling) = (plain.map(Float.init), 1)
        case .llama3(let llama3): (inverseFrequencies, attentionScaling) = (Self.llama3(llama3, plain), 1)
        case .yarn(let yarn):
            inverseFrequencies = Self.yarn(yarn, plain, base: base, headSize: size)
            attentionScaling = Float(Self.attentionFactor(yarn))
        }
    }

    private static func llama3(_ scaling: Llama3Scaling, _ plain: [Double]) -> [Float] {
        let (low, high) = (scaling.lowFrequencyFactor, scaling.highFrequencyFactor)
        return plain.map { frequency in
            // Waves of this frequency in the original context.
            let waves = Double(scaling.originalMaxPositionEmbeddings) * frequency / (2 * .pi)
            if waves > high { return Float(frequency) }
            if waves < low { return Float(frequency / scaling.factor) }
            let smooth = (waves - low) / (high - low)
            return Float((1 - smooth) * frequency / scaling.factor + smooth * frequency)
        }
    }

    private static func yarn(
        _ yarn: YaRNScaling, _ plain: [Double], base: Double, headSize size: Int
    ) -> [Float] {
        func correction(_ rotations: Double) -> Double {
            Double(size) * log(Double(yarn.originalMaxPositionEmbeddings) / (rotations * 2 * .pi)) / (2 * log(base))
        }
        var low = correction(yarn.betaFast)
        var high = correction(yarn.betaSlow)
        if yarn.truncate { (low, high) = (low.rounded(.down), high.rounded(.up)) }
        low = max(low, 0)
        high = min(high, Double(size - 1))
        if low == high { high += 0.001 }
        return plain.enumerated().map { index, frequency in
            let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
            return Float(frequency * (1 - ramp) + frequency / yarn.factor * ramp)
        }
    }

    private static func attentionFactor(_ yarn: YaRNScaling) -> Double {
        func scale(_ mscale: Double) -> Double {
            yarn.factor <= 1 ? 1 : 0.1 * mscale * log(yarn.factor) + 1
        }
        if let given = yarn.attentionFactor { return given }
        if let mscale = yarn.mscale, let all = yarn.mscaleAllDim, mscale != 0, all != 0 {
            return scale(mscale) / scale(all)
        }
        return scale(1)
    }

    /// Writes cos and sin of one position, each `[head_size / 2]`.
    package func table(
        position: Int, cosine: UnsafeMutablePointer<Float>, sine: UnsafeMutablePointer<Float>
    ) {
        let count = inverseFrequencies.count
        withUnsafeTemporaryAllocation(of: Float.self, capacity: max(count, 1)) { angles in
            for index in 0..<count { angles[index] = Float(position) * inverseFrequencies[index] }
            ck_cos(angles.baseAddress, Int64(count), cosine)
            ck_sin(angles.baseAddress, Int64(count), sine)
        }
        if attentionScaling != 1 {
            ck_scale(cosine, attentionScaling, Int64(count), cosine)
            ck_scale(sine, attentionScaling, Int64(count), sine)
        }
    }
}
