// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Foundation
internal import JobSpecification

/// Seconds by what bounds them.
package struct TimeParts: Equatable, Sendable, Codable {
    /// Products.
    package var compute = 0.0
    /// Reading weights, keys and values.
    package var memory = 0.0
    /// The network interface, and waiting for answers.
    package var wire = 0.0
    /// Fixed costs per layer and token.
    package var overhead = 0.0

    package var total: Double { compute + memory + wire + overhead }

    static func + (a: Self, b: Self) -> Self {
        Self(
            compute: a.compute + b.compute, memory: a.memory + b.memory, wire: a.wire + b.wire,
            overhead: a.overhead + b.overhead)
    }
    static func * (a: Self, factor: Double) -> Self {
        Self(
            compute: a.compute * factor, memory: a.memory * factor, wire: a.wire * factor, overhead: a.overhead * factor
        )
    }
}

/// What a model asks of a host: a roofline per group of products, from the model's shapes alone.
struct CostModel {
    let c: Qwen3Configuration
    let compute: ComputeType
    let routing: RoutingSample

    private var element: Double { Double(compute.byteCount) }
    private var hidden: Double { Double(c.hiddenSize) }
    var sparseLayers: Double { Double((0..<c.layerCount).count(where: c.isMoELayer)) }
    private var denseLayers: Double { Double(c.layerCount) - sparseLayers }
    private var attentionParameters: Double { hidden * Double(2 * c.querySize + 2 * c.keyValueSize) }
    /// Weights of the trunk's layers that every token meets.
    var layerParameters: Double {
        Double(c.layerCount) * attentionParameters + denseLayers * 3 * hidden * Double(c.intermediateSize)
            + sparseLayers * hidden * Double(c.expertCount)
    }
    var headParameters: Double { hidden * Double(c.vocabularySize) }
    var trunkParameters: Double { layerParameters + headParameters * (c.tieWordEmbeddings ? 1 : 2) }
    /// Weights of one expert in one layer.
    var expertParameters: Double { 3 * hidden * Double(c.moeIntermediateSize) }

    /// Time of work that reads `bytes` and multiplies `operations`, on shares of the host's limits.
    func roofline(_ host: HostSpecification, bytes: Double, operations: Double, efficiency: Double) -> TimeParts {
        let memory = bytes / host.readBandwidth / efficiency
        let products = operations / host.products(compute) / efficiency
        return memory > products ? TimeParts(memory: memory) : TimeParts(compute: products)
    }

    /// The trunk's part of a forward pass.
    ///
    /// - Parameters:
    ///   - rows: tokens of the pass.
    ///   - sequences: whose keys and values are read.
    ///   - context: tokens that a row sees.
    ///   - headRows: rows that need logits.
    func trunk(
        _ host: HostSpecification, rows: Double, sequences: Double, context: Double, headRows: Double, sampled: Double
    ) -> TimeParts {
        let cache = Double(c.keyValueByteCountPerToken(elementByteCount: compute.byteCount))
        let layers = roofline(
            host, bytes: layerParameters * element + sequences * context * cache,
            operations: 2 * layerParameters * rows + 4 * Double(c.layerCount * c.querySize) * context * rows,
            efficiency: host.generationEfficiency)
        let head =
            headRows > 0
            ? roofline(
                host, bytes: headParameters * element, operations: 2 * headParameters * headRows,
                efficiency: host.generationEfficiency) : TimeParts()
        let overhead = Double(c.layerCount) * host.layerOverhead + sampled * host.tokenOverhead / Double(host.cores)
        return layers + head + TimeParts(overhead: overhead)
    }

    /// One layer's experts at an owner, for `tokens` tokens of all sources together. `worst`: on the busiest layer.
    func serving(_ owner: RoutingSample.Owner, _ host: HostSpecification, tokens: Double) -> TimeParts {
        roofline(
            host, bytes: owner.touched(tokens) * expertParameters * element,
            operations: 2 * expertParameters * tokens * owner.entriesAtWorst, efficiency: host.generationEfficiency)
    }

    /// Bytes that the tokens of one source send to remote owners and get back, in one layer's forward exchange.
    func exchanged(tokens: Double, by worker: Int) -> (out: Double, back: Double) {
        var (out, back) = (0.0, 0.0)
        for owner in routing.owners where owner.worker != worker {
            out += tokens * (owner.visits * (hidden * element + 4) + owner.entries * 8)
            back += tokens * owner.sums * hidden * 4
        }
        return (out, back)
    }

    /// A forward pass of one worker while the others do the same.
    ///
    /// A worker that waits for owners serves others meanwhile, so a pass takes the longest of three: the way of its own
    /// rows through trunk, wire and the slowest owner; the work of its own cores, serving included; and its network
    /// interface. An owner with a backlog runs all dispatches of a layer together (see ExpertServer), so under load each
    /// expert is read once for everybody.
    func pass(
        worker: Int, _ hosts: (Int) -> HostSpecification, rows: Double, sequences: Double, context: Double,
        headRows: Double, sampled: Double, rowsOfAll: Double
    ) -> (time: TimeParts, wireBytes: Double) {
        let host = hosts(worker)
        let own = trunk(host, rows: rows, sequences: sequences, context: context, headRows: headRows, sampled: sampled)
        guard c.expertCount > 0, !routing.owners.isEmpty else { return (own, 0) }
        var slowest = TimeParts()
        var isRemote = false
        for owner in routing.owners {
            let time = serving(owner, hosts(owner.worker), tokens: rows)
            if time.total > slowest.total { slowest = time }
            if owner.worker != worker { isRemote = true }
        }
        let (out, back) = exchanged(tokens: rows, by: worker)
        var served = (tokensIn: 0.0, bytesOut: 0.0)
        var load = TimeParts()
        if let index = routing.ownerOfWorker[worker] {
            let owner = routing.owners[index]
            let others = rowsOfAll - rows
            served = (
                others * (owner.visits * (hidden * element + 4) + owner.entries * 8), others * owner.sums * hidden * 4
            )
            load = serving(owner, host, tokens: rowsOfAll)
        }
        let interface = max(out + served.bytesOut, back + served.tokensIn) / host.networkBandwidth
        let waiting = isRemote ? 2 * host.latency + (out + back) / host.networkBandwidth : 0
        let candidates = [
            own + (slowest + TimeParts(wire: waiting)) * sparseLayers, own + load * sparseLayers,
            TimeParts(wire: interface * sparseLayers),
        ]
        let time = candidates.max { $0.total < $1.total } ?? own
        return (time, (out + back) * sparseLayers)
    }
}
