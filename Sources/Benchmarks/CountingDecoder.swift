// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Qwen3
internal import Tensors

/// A model that also counts what a pass must read and multiply, from the experts that its rows really chose.
final class CountingDecoder: DecoderModel {
    /// Work of the passes since the last reset.
    struct Work {
        /// Packed weights, each once a pass, and the keys and values that attention reads.
        var bytes = 0.0
        /// A multiply-add counts two.
        var operations = 0.0
    }

    private let decoder: CachedDecoder
    private(set) var work = Work()

    init(_ decoder: CachedDecoder) { self.decoder = decoder }

    func reset() { work = Work() }

    var vocabularySize: Int { decoder.vocabularySize }
    var contextLength: Int { decoder.contextLength }
    var routingByteCount: Int { decoder.routingByteCount }

    func forward(
        _ spans: [ForwardSpan], onRouting: (Int, [UInt8]) -> Void,
        onLogits: (Int, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        var chosen = Set<Int>()  // layer and expert
        var entries = 0
        let expertsPerToken = decoder.model.configuration.expertsPerToken
        try decoder.forward(
            spans,
            onRouting: { row, bytes in
                entries += bytes.count
                for (slot, expert) in bytes.enumerated() { chosen.insert(slot / expertsPerToken << 8 | Int(expert)) }
                onRouting(row, bytes)
            }, onLogits: onLogits)
        count(spans, expertsRead: chosen.count, entries: entries)
    }

    private func count(_ spans: [ForwardSpan], expertsRead: Int, entries: Int) {
        let model = decoder.model
        let c = model.configuration
        let element = Double(model.compute.byteCount)
        let rows = spans.reduce(0) { $0 + $1.tokens.count }
        let headRows = spans.reduce(0) { sum, span in
            sum + (span.logits == .all ? span.tokens.count : span.logits == .last ? 1 : 0)
        }
        func add(weights: Double, rows: Int) {
            work.bytes += rows > 0 ? weights * element : 0
            work.operations += 2 * weights * Double(rows)
        }
        for layer in model.trunk.layers {
            for matrix in [layer.query, layer.key, layer.value, layer.output] {
                add(weights: Double(matrix.outputCount * matrix.inputCount), rows: rows)
            }
            switch layer.feedForward {
            case .dense(let block):
                add(weights: 3 * Double(block.gate.outputCount * block.gate.inputCount), rows: rows)
            case .mixtureOfExperts(let router):
                add(weights: Double(router.outputCount * router.inputCount), rows: rows)
            }
        }
        let expert = 3 * Double(c.moeIntermediateSize * c.hiddenSize)
        work.bytes += Double(expertsRead) * expert * element
        work.operations += 2 * Double(entries) * expert
        add(weights: Double(c.vocabularySize * c.hiddenSize), rows: headRows)
        for span in spans {
            // A span's keys and values are read once at least; each of its rows multiplies all that it sees.
            let end = span.start + span.tokens.count
            let layers = Double(c.layerCount)
            work.bytes += layers * 2 * Double(end * decoder.cache.tokenByteCount)
            let pairs = Double(span.tokens.count) * (Double(span.start) + Double(span.tokens.count + 1) / 2)
            work.operations += layers * 4 * pairs * Double(c.attentionHeadCount * c.headSize)
        }
    }
}
