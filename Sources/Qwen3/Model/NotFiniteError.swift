// SPDX-License-Identifier: Apache-2.0
internal import CKernels
internal import Glibc
internal import RuntimeSupport
internal import Tensors

/// A model computes values that are no numbers: its weights are damaged or have diverged. Every worker finds the same.
package struct NotFiniteError: Error, Hashable, CustomStringConvertible {
    /// The model's directory.
    package let model: String
    /// The first place whose values are not finite, as far as is known.
    package let place: String

    package init(model: String, place: String) {
        self.model = model
        self.place = place
    }

    package var description: String { "the model \(model): \(place) is not finite" }
}

extension ForwardStage {
    /// As messages have it.
    var place: String {
        switch self {
        case .embedding: "the embedding of a token"
        case .attentionOutput(let layer): "the output of layer \(layer)'s attention"
        case .feedForwardOutput(let layer): "the output of layer \(layer)'s feed-forward block"
        case .layerOutput(let layer): "the output of layer \(layer)"
        case .routerLogits(let layer): "the output of layer \(layer)'s router"
        case .finalNorm: "the output of the final norm"
        }
    }
}

extension Qwen3Model {
    /// Why a pass over `spans` gave a value that is not finite: the pass is made again, looking at every stage. What it
    /// writes to `cache` is what the pass wrote.
    ///
    /// - Parameter place: where it was seen.
    func notFinite(
        _ spans: [ForwardSpan], cache: KVCache, seen place: String = "the head's output"
    ) -> NotFiniteError {
        let kept = observer
        defer { observer = kept }
        var found: ForwardStage?
        observer = { stage, values, rows, width in
            if found == nil, !isFinite(values, rows * width) { found = stage }
        }
        // What it throws was thrown before.
        try? pass(spans, cache: cache) { _, _ in }
        return NotFiniteError(model: name, place: found?.place ?? place)
    }
}

/// Whether all of `count` values are finite.
func isFinite(_ values: UnsafePointer<Float>, _ count: Int) -> Bool {
    isFinite(UnsafeRawPointer(values), .float32, count)
}

/// The same of stored values.
func isFinite(_ values: UnsafeRawPointer, _ type: ElementType, _ count: Int) -> Bool {
    @inline(__always)
    func check<T: FixedWidthInteger & UnsignedInteger>(_: T.Type, _ exponent: T) -> Bool {
        let words = UnsafeBufferPointer(start: values.assumingMemoryBound(to: T.self), count: count)
        var found: T = 0
        for word in words { found |= word & exponent == exponent ? 1 : 0 }
        return found == 0
    }
    return switch type {
    case .float32: check(UInt32.self, 0x7F80_0000)
    case .bfloat16: check(UInt16.self, 0x7F80)
    case .float16: check(UInt16.self, 0x7C00)
    }
}
