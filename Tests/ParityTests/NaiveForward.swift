// SPDX-License-Identifier: Apache-2.0
//
// A second, deliberately plain forward pass in fp64 with switchable mistakes. It shares no code with the model:
// without a mistake it must pass the parity check, with any of them it must fail.
import Checkpoints
import Foundation

/// The classic mistakes of implementations, and one change that is none.
enum Mistake: String, CaseIterable {
    case none
    case topKThenSoftmaxWhenRenormalised
    case interleavedRoPE, ropeTheta1e4, noQueryKeyNorm, queryKeyNormAfterRoPE, queryKeyNormOverAllHeads
    case tiledKeyValueHeads, scaleByHiddenOverHeads, noRenormalisation, routerInBF16, gateUpInterleaved
    case gateAndUpSwapped, epsilon1e5
    case noQueryBias, noKeyBias, noValueBias, noLongWaveScaling
}

struct NaiveForward {
    let configuration: Qwen3Configuration
    let mistake: Mistake
    private let weights: [String: [Double]]

    init(_ directory: URL, mistake: Mistake) throws {
        let checkpoint = try Checkpoint(directory: directory)
        configuration = checkpoint.configuration
        self.mistake = mistake
        var weights: [String: [Double]] = [:]
        for name in checkpoint.index.shards.flatMap({ $0.header.entries.map(\.name) }) {
            let view = try checkpoint.tensor(TensorName(name))
            let isFloat = view.dataType == .float32
            weights[name] = view.withBytes { bytes in
                (0..<view.elementCount).map { index in
                    isFloat
                        ? Double(bytes.loadUnaligned(fromByteOffset: index * 4, as: Float.self))
                        : Double(
                            Float(
                                bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
                                    << 16))
                }
            }
        }
        self.weights = weights
    }

    /// Logits `[T, V]` of one sequence.
    func logits(_ ids: [Int32]) -> [Float] {
        let c = configuration
        let embedding = weights["model.embed_tokens.weight"]!
        var x = ids.map { id in Array(embedding[Int(id) * c.hiddenSize..<(Int(id) + 1) * c.hiddenSize]) }
        for layer in 0..<c.layerCount {
            let prefix = "model.layers.\(layer)."
            let attended = attention(x.map { norm($0, weights[prefix + "input_layernorm.weight"]!) }, prefix)
            for row in x.indices { x[row] = zip(x[row], attended[row]).map(+) }
            for row in x.indices {
                let h = norm(x[row], weights[prefix + "post_attention_layernorm.weight"]!)
                let out = c.isMoELayer(layer) ? experts(h, prefix + "mlp.") : block(h, prefix + "mlp.")
                x[row] = zip(x[row], out).map(+)
            }
        }
        let head = c.tieWordEmbeddings ? embedding : weights["lm_head.weight"]!
        return x.flatMap { row in product(head, norm(row, weights["model.norm.weight"]!)).map(Float.init) }
    }

    private func product(_ weight: [Double], _ x: [Double]) -> [Double] {
        (0..<weight.count / x.count).map { row in
            var sum = 0.0
            for index in x.indices { sum += weight[row * x.count + index] * x[index] }
            return sum
        }
    }

    private func norm(_ x: [Double], _ weight: [Double]) -> [Double] {
        let epsilon = mistake == .epsilon1e5 ? 1e-5 : configuration.rmsNormEpsilon
        let scale = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + epsilon).squareRoot()
        return zip(x, weight).map { $0 * scale * $1 }
    }

    private func rotate(_ x: [Double], position: Int) -> [Double] {
        let base = mistake == .ropeTheta1e4 ? 1e4 : configuration.ropeTheta
        let half = x.count / 2
        var out = x
        for index in 0..<half {
            let angle = Double(position) * frequency(pow(base, -2 * Double(index) / Double(x.count)))
            let (first, second) = mistake == .interleavedRoPE ? (2 * index, 2 * index + 1) : (index, index + half)
            out[first] = x[first] * cos(angle) - x[second] * sin(angle)
            out[second] = x[second] * cos(angle) + x[first] * sin(angle)
        }
        return out
    }

    /// As Llama 3.1's own code has it: by wavelength.
    private func frequency(_ plain: Double) -> Double {
        guard case .llama3(let scaling)? = configuration.ropeScaling, mistake != .noLongWaveScaling else {
            return plain
        }
        let (wave, context) = (2 * Double.pi / plain, Double(scaling.originalMaxPositionEmbeddings))
        if wave < context / scaling.highFrequencyFactor { return plain }
        if wave > context / scaling.lowFrequencyFactor { return plain / scaling.factor }
        let smooth =
            (context / wave - scaling.lowFrequencyFactor) / (scaling.highFrequencyFactor - scaling.lowFrequencyFactor)
        return (1 - smooth) * plain / scaling.factor + smooth * plain
    }

    /// A product with the bias that the file has for it.
    private func projection(_ name: String, _ x: [Double], without: Mistake) -> [Double] {
        let y = product(weights[name + ".weight"]!, x)
        guard mistake != without, let bias = weights[name + ".bias"] else { return y }
        return zip(y, bias).map(+)
    }

    /// Heads of one row, normalised where the file has norms, and rotated.
    private func heads(_ x: [Double], _ weight: [Double]?, position: Int) -> [[Double]] {
        let size = configuration.headSize
        var parts = stride(from: 0, to: x.count, by: size).map { Array(x[$0..<$0 + size]) }
        guard let weight else { return parts.map { rotate($0, position: position) } }
        switch mistake {
        case .noQueryKeyNorm: return parts.map { rotate($0, position: position) }
        case .queryKeyNormAfterRoPE: return parts.map { norm(rotate($0, position: position), weight) }
        case .queryKeyNormOverAllHeads:
            let all = norm(x, Array(repeating: 1, count: x.count))
            parts = stride(from: 0, to: x.count, by: size).map { start in
                zip(all[start..<start + size], weight).map(*)
            }
            return parts.map { rotate($0, position: position) }
        default: return parts.map { rotate(norm($0, weight), position: position) }
        }
    }

    private func attention(_ h: [[Double]], _ prefix: String) -> [[Double]] {
        let c = configuration
        let name = prefix + "self_attn."
        let size = c.headSize
        let group = c.attentionHeadCount / c.keyValueHeadCount
        let scale =
            1 / Double(mistake == .scaleByHiddenOverHeads ? c.hiddenSize / c.attentionHeadCount : size).squareRoot()
        let queries = h.indices.map {
            heads(
                projection(name + "q_proj", h[$0], without: .noQueryBias), weights[name + "q_norm.weight"], position: $0
            )
        }
        let keys = h.indices.map {
            heads(
                projection(name + "k_proj", h[$0], without: .noKeyBias), weights[name + "k_norm.weight"], position: $0)
        }
        let values = h.map { projection(name + "v_proj", $0, without: .noValueBias) }
        return h.indices.map { row in
            var out: [Double] = []
            for head in 0..<c.attentionHeadCount {
                let kv = mistake == .tiledKeyValueHeads ? head % c.keyValueHeadCount : head / group
                let scores = (0...row).map { past in
                    zip(queries[row][head], keys[past][kv]).reduce(0) { $0 + $1.0 * $1.1 } * scale
                }
                let largest = scores.max()!
                let exponentials = scores.map { exp($0 - largest) }
                let sum = exponentials.reduce(0, +)
                out += (0..<size).map { d in
                    (0...row).reduce(0) { $0 + exponentials[$1] / sum * values[$1][kv * size + d] }
                }
            }
            return product(weights[name + "o_proj.weight"]!, out)
        }
    }

    private func block(_ h: [Double], _ prefix: String) -> [Double] {
        var gate = product(weights[prefix + "gate_proj.weight"]!, h)
        var up = product(weights[prefix + "up_proj.weight"]!, h)
        if mistake == .gateAndUpSwapped { swap(&gate, &up) }
        if mistake == .gateUpInterleaved {
            let joined = gate + up
            gate = stride(from: 0, to: joined.count, by: 2).map { joined[$0] }
            up = stride(from: 1, to: joined.count, by: 2).map { joined[$0] }
        }
        let inner = zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
        return product(weights[prefix + "down_proj.weight"]!, inner)
    }

    private func experts(_ h: [Double], _ prefix: String) -> [Double] {
        let c = configuration
        var logits = product(weights[prefix + "gate.weight"]!, h)
        if mistake == .routerInBF16 {
            let router = weights[prefix + "gate.weight"]!.map(Self.bf16)
            logits = product(router, h.map(Self.bf16)).map(Self.bf16)
        }
        let largest = logits.max()!
        let exponentials = logits.map { exp($0 - largest) }
        let sum = exponentials.reduce(0, +)
        let chosen = logits.indices.sorted { (logits[$0], $1) > (logits[$1], $0) }.prefix(c.expertsPerToken)
        let kept = chosen.reduce(0) { $0 + exponentials[$1] }
        var normalise = c.normTopKProb
        if mistake == .noRenormalisation { normalise.toggle() }
        if mistake == .topKThenSoftmaxWhenRenormalised && c.normTopKProb { normalise = true }
        var out = [Double](repeating: 0, count: c.hiddenSize)
        for expert in chosen {
            let weight = exponentials[expert] / (normalise ? kept : sum)
            let y = block(h, prefix + "experts.\(expert).")
            for index in out.indices { out[index] += weight * y[index] }
        }
        return out
    }

    private static func bf16(_ x: Double) -> Double {
        let bits = Float(x).bitPattern
        return Double(Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000))
    }
}
