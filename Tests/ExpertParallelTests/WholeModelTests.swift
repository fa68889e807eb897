// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import ClusterTransport
import ExpertParallel
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

@Suite("A whole model over several processes", .serialized)
struct WholeModelTests {
    /// Logits of every position, as bits.
    private func logits(_ model: Qwen3Model) throws -> [[UInt32]] {
        let vocabulary = model.configuration.vocabularySize
        let sequences = (0..<3).map { index in
            (0..<(9 + 11 * index)).map { Int32(($0 * 131 + index * 17) % vocabulary) }
        }
        let cache = try model.makeCache(pageCount: 3 * 3, pageSize: 16)
        let spans = sequences.enumerated().map { index, tokens in
            ForwardSpan(tokens: tokens, start: 0, pages: (0..<3).map { Int32(3 * index + $0) }, logits: .all)
        }
        let sink = Locked<[Int: [UInt32]]>([:])
        try model.forward(spans, cache: cache) { row, logits in
            let bits = UnsafeBufferPointer(start: logits, count: vocabulary).map(\.bitPattern)
            sink.withLock { $0[row] = bits }
        }
        let rows = sink.withLock { $0 }
        return rows.keys.sorted().map { rows[$0]! }
    }

    @Test(
        "tiny-moe over 1, 2 and 4 endpoints: the logits' bits are those of one process",
        arguments: ComputeType.allCases)
    func tinyMoE(compute: ComputeType) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "apus-ep-\(UUID())")
        defer { try? FileManager.default.removeItem(at: directory) }
        try CheckpointInitializer(
            preset: .tinyMoE, seed: 3, tokenizerDirectory: Fixtures.url("models/moe_norm_bf16")
        )
        .write(to: directory)
        let checkpoint = try Checkpoint(directory: directory)
        let configuration = checkpoint.configuration
        let pool = ComputePool(threadCount: 1)
        let expected = try logits(Qwen3Model(checkpoint, compute: compute, pool: pool))
        #expect(expected.count == 9 + 20 + 31)
        let shape = ExpertShape(
            compute: compute, expertCount: configuration.expertCount, hiddenSize: configuration.hiddenSize,
            intermediateSize: configuration.moeIntermediateSize)
        let loader = WeightLoader(checkpoint, compute: compute, pool: pool)
        for count in [1, 2, 4] {
            let cluster = try TestCluster(count: count)
            defer { cluster.stop() }
            let holders = Placement.scattered.holders(expertCount: shape.expertCount, workerCount: count)
            for (index, worker) in cluster.workers.enumerated() {
                let owned = holders.indices.filter { holders[$0] == [index] }
                for layer in 0..<configuration.layerCount where configuration.isMoELayer(layer) {
                    worker.store.add(
                        model: TestCluster.model, policyVersion: 1, shape: shape,
                        layers: [layer: try loader.experts(layer: layer, owned: owned).experts])
                }
            }
            cluster.publish(holders, epoch: 1)
            for worker in cluster.workers {
                let model = Qwen3Model(
                    configuration: configuration, compute: compute, trunk: try loader.trunk(),
                    experts: worker.exchange(shape), pool: worker.pool)
                #expect(try logits(model) == expected, "\(worker.identity) of \(count)")
                #expect((worker.counts.tokensDispatched > 0) == (count > 1))
            }
        }
    }

    @Test("over ZeroMQ with CURVE on loopback")
    func zeroMQ() throws {
        let shape = ExpertShape(compute: .bf16, expertCount: 12, hiddenSize: 512, intermediateSize: 64)
        let experts = try RandomExperts(shape, layerCount: 2, seed: 31)
        let cluster = try TestCluster(zeroMQ: 3)
        defer { cluster.stop() }
        let workers = cluster.workers
        cluster.place(experts, holders: Placement.strided.holders(expertCount: 12, workerCount: 3))
        // A decode step, and a prefill whose answers exceed one message.
        let inputs = [1, 16, 3000].map { RoutedRows(shape, rowCount: $0, topK: 6, seed: UInt64($0)) }
        let expected = try inputs.map { input in try [0, 1].map { try experts.expected(input, layer: $0) } }
        let runs = workers.map { worker in
            Background { () throws -> Void in
                let exchange = worker.exchange(shape, settings: ExchangeSettings())
                for (index, input) in inputs.enumerated() {
                    for layer in [0, 1, 0] {
                        #expect(try input.run(exchange, layer: layer) == expected[index][layer])
                    }
                }
            }
        }
        for run in runs { try run.join() }
        #expect(workers.allSatisfy { $0.counts.dispatchesServed > 0 && $0.counts.refusedFrames == 0 })
    }
}
