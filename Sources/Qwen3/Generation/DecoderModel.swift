// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
package import Tensors

/// What the generation engine needs of a model: a forward pass over a paged cache.
package protocol DecoderModel: AnyObject {
    var vocabularySize: Int { get }
    /// Whether a row of logits is one scalar.
    var isRewardModel: Bool { get }
    /// Most tokens of one sequence.
    var contextLength: Int { get }
    /// Bytes of routing kept per token: layers × experts per token; 0 for dense models.
    var routingByteCount: Int { get }

    /// Runs `spans`. `onLogits` gets each wanted row, possibly on several threads at once; `onRouting` the routing of
    /// each row.
    func forward(
        _ spans: [ForwardSpan], onRouting: (_ row: Int, _ bytes: [UInt8]) -> Void,
        onLogits: (_ row: Int, UnsafeMutablePointer<Float>) -> Void
    ) throws

    /// Where a pass over `spans` went wrong that gave logits which are not finite.
    func notFinite(_ spans: [ForwardSpan]) -> NotFiniteError
}

extension DecoderModel {
    package var isRewardModel: Bool { false }
    package func notFinite(_ spans: [ForwardSpan]) -> NotFiniteError {
        NotFiniteError(model: "", place: "the head's output")
    }
}

/// A model with the cache it runs on.
package final class CachedDecoder: DecoderModel {
    package let model: Qwen3Model
    package let cache: KVCache
    private let sparseLayers: [Int]

    /// - Throws: ``MemoryError``.
    package init(_ model: Qwen3Model, pageCount: Int, pageSize: Int) throws(MemoryError) {
        self.model = model
        cache = try model.makeCache(pageCount: pageCount, pageSize: pageSize)
        let configuration = model.configuration
        sparseLayers = (0..<configuration.layerCount).filter(configuration.isMoELayer)
    }

    package var vocabularySize: Int { model.configuration.vocabularySize }
    package var isRewardModel: Bool { model.configuration.isRewardModel }
    package var contextLength: Int { model.configuration.maxPositionEmbeddings }
    package var routingByteCount: Int {
        model.configuration.expertCount <= 256 ? sparseLayers.count * model.configuration.expertsPerToken : 0
    }

    package func notFinite(_ spans: [ForwardSpan]) -> NotFiniteError { model.notFinite(spans, cache: cache) }

    package func forward(
        _ spans: [ForwardSpan], onRouting: (_ row: Int, _ bytes: [UInt8]) -> Void,
        onLogits: (_ row: Int, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        let k = model.configuration.expertsPerToken
        let rows = spans.reduce(0) { $0 + $1.tokens.count }
        let stride = routingByteCount
        var routing = [UInt8](repeating: 0, count: rows * stride)
        var layer = 0
        // Routing is complete before the first logits of the same pass.
        try model.forward(
            spans, cache: cache,
            onRouting: stride == 0
                ? nil
                : { _, chosen in
                    for row in 0..<rows {
                        for slot in 0..<k { routing[row * stride + layer * k + slot] = UInt8(chosen[row * k + slot]) }
                    }
                    layer += 1
                }, onLogits: onLogits)
        if stride > 0 { for row in 0..<rows { onRouting(row, Array(routing[row * stride..<(row + 1) * stride])) } }
    }
}
