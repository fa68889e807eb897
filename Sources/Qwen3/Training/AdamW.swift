// SPDX-License-Identifier: Apache-2.0
internal import CKernels
package import RuntimeSupport
package import Tensors

/// AdamW's constants (Loshchilov and Hutter 2019; names and meaning of `torch.optim.AdamW`).
package struct AdamWSettings: Sendable, Hashable {
    package var beta1: Double
    package var beta2: Double
    package var epsilon: Double
    /// Decoupled; not applied to norms and biases.
    package var weightDecay: Double

    package init(beta1: Double = 0.9, beta2: Double = 0.95, epsilon: Double = 1e-8, weightDecay: Double = 0) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
    }
}

/// One optimizer step: everything all elements share, computed once in fp64 and rounded once. These bits are journaled,
/// and every owner applies them.
package struct AdamWStep: Sendable, Hashable {
    /// From 1.
    package let number: Int
    package let learningRate: Double
    /// Factor of every gradient: 1, or less when the norm is clipped.
    package let gradientScale: Float
    package let settings: AdamWSettings

    package init(number: Int, learningRate: Double, gradientScale: Float, settings: AdamWSettings) {
        precondition(number >= 1)
        self.number = number
        self.learningRate = learningRate
        self.gradientScale = gradientScale
        self.settings = settings
    }

    fileprivate func kernelValue(decays: Bool) -> ck_adamw_step {
        // x^n by repeated multiplication: libm's pow is not the same on all hosts.
        func power(_ base: Double) -> Double { (0..<number).reduce(1.0) { product, _ in product * base } }
        let decay = decays ? 1 - learningRate * settings.weightDecay : 1
        return ck_adamw_step(
            gradient_scale: gradientScale, beta1: Float(settings.beta1), one_minus_beta1: Float(1 - settings.beta1),
            beta2: Float(settings.beta2), one_minus_beta2: Float(1 - settings.beta2), decay: Float(decay),
            rate: Float(learningRate / (1 - power(settings.beta1))),
            root_bias_correction2: Float((1 - power(settings.beta2)).squareRoot()),
            epsilon: Float(settings.epsilon))
    }
}

/// Master weights and moments, fp32, of some elements: `[count]` each.
package final class OptimizerState {
    package let count: Int
    private let storage: PageBuffer

    private let isOnDisk: Bool

    /// - Parameter directory: keeps the state on a disk, for models whose state the memory does not hold; nil: in memory.
    /// - Throws: ``MemoryError``.
    package init(count: Int, onDisk directory: String? = nil) throws(MemoryError) {
        self.count = count
        let byteCount = max(64, 3 * padded(count) * 4)
        isOnDisk = directory != nil
        if let directory {
            storage = try PageBuffer(byteCount: byteCount, onDisk: directory)
        } else {
            storage = try PageBuffer(byteCount: byteCount)
        }
    }

    /// Not needed until the next step.
    package func rest() { if isOnDisk { storage.release() } }

    package var master: UnsafeMutablePointer<Float> { storage.floats() }
    package var first: UnsafeMutablePointer<Float> { storage.floats(at: padded(count) * 4) }
    package var second: UnsafeMutablePointer<Float> { storage.floats(at: 2 * padded(count) * 4) }

    /// Steps the elements of `range`.
    ///
    /// - Parameter gradient: of the first element of `range` on.
    package func apply(_ step: AdamWStep, _ range: Range<Int>, decays: Bool, gradient: UnsafePointer<Float>) {
        var kernel = step.kernelValue(decays: decays)
        ck_adamw(
            &kernel, master + range.lowerBound, first + range.lowerBound, second + range.lowerBound, gradient,
            Int64(range.count))
    }
}

private func padded(_ count: Int) -> Int { (count + 15) / 16 * 16 }

/// Σ x² of a block in fp64: the parts that a gradient's norm is added up from, in block order.
package enum GradientNorm {
    package static func sumOfSquares(_ x: UnsafePointer<Float>, count: Int) -> Double {
        ck_sum_of_squares(x, Int64(count))
    }

    /// Factor that brings a norm down to `limit` (torch's `clip_grad_norm_`: limit / (norm + 1e-6), at most 1).
    package static func clipFactor(sumOfSquares: Double, limit: Double?) -> Float {
        guard let limit else { return 1 }
        return Float(min(1, limit / (sumOfSquares.squareRoot() + 1e-6)))
    }
}
