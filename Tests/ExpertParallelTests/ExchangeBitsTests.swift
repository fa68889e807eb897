// SPDX-License-Identifier: Apache-2.0
import Qwen3
import RuntimeSupport
import Tensors
import Testing

// SPDX-License-Identifier: Apache-2.0
@testable import ExpertParallel

@Suite("Placement leaves every bit alone", .serialized)
struct ExchangeBitsTests {
    static let cases = [8, 12, 128].flatMap { count in ComputeType.allCases.map { (count, $0) } }

    @Test("1, 2 and 4 processes, any placement, top-k 1 to 8", arguments: cases)
    func placements(expertCount: Int, compute: ComputeType) throws {
        let shape = ExpertShape(
            compute: compute, expertCount: expertCount, hiddenSize: 40, intermediateSize: 24)
        let experts = try RandomExperts(shape, seed: UInt64(expertCount))
        let inputs = (1...8).map { RoutedRows(shape, rowCount: 1 + 5 * $0, topK: $0, seed: UInt64($0)) }
        let expected = try inputs.map { try experts.expected($0) }
        for workerCount in [1, 2, 4] {
            for placement in Placement.allCases {
                let cluster = try TestCluster(count: workerCount)
                defer { cluster.stop() }
                cluster.place(
                    experts, holders: placement.holders(expertCount: expertCount, workerCount: workerCount))
                for worker in cluster.workers {
                    let exchange = worker.exchange(shape)
                    for (input, expected) in zip(inputs, expected) {
                        let actual = try input.run(exchange)
                        #expect(
                            actual == expected,
                            "\(placement) over \(workerCount), top \(input.assignment.experts.count)")
                    }
                }
                let counts = cluster.workers.map(\.counts)
                #expect((counts.map(\.tokensDispatched).reduce(0, +) > 0) == (workerCount > 1))
                #expect(
                    counts.map(\.tokensServed).reduce(0, +) == counts.map(\.tokensDispatched).reduce(0, +))
                #expect(counts.allSatisfy { $0.resends == 0 && $0.refusedFrames == 0 && $0.lateAnswers == 0 })
            }
        }
    }

    @Test("a requester without experts, one single-expert shard per worker")
    func singleExpertShards() throws {
        let shape = ExpertShape(compute: .fp32, expertCount: 8, hiddenSize: 32, intermediateSize: 16)
        let experts = try RandomExperts(shape, seed: 5)
        let cluster = try TestCluster(count: 9)
        defer { cluster.stop() }
        cluster.place(experts, holders: (0..<8).map { [$0 + 1] })
        let input = RoutedRows(shape, rowCount: 33, topK: 5, seed: 3)
        #expect(try input.run(cluster.workers[0].exchange(shape)) == experts.expected(input))
        #expect(cluster.workers[0].counts.tokensDispatched == 33 * 5)
    }

    @Test("a token travels once to each owner, and once per message limit")
    func messageSplits() throws {
        let shape = ExpertShape(compute: .bf16, expertCount: 16, hiddenSize: 64, intermediateSize: 16)
        let experts = try RandomExperts(shape, seed: 6)
        let cluster = try TestCluster(count: 2)
        defer { cluster.stop() }
        cluster.place(experts, holders: (0..<16).map { _ in [1] })
        let input = RoutedRows(shape, rowCount: 200, topK: 8, seed: 4)
        let expected = try experts.expected(input)
        var settings = ExchangeSettings.patient
        settings.messageByteCount = 4096  // 16 sums of 64 floats; one sum per row, since one owner has all
        settings.outstandingByteCount = 10_000
        #expect(try input.run(cluster.workers[0].exchange(shape, settings: settings)) == expected)
        let counts = cluster.workers[0].counts
        #expect(counts.tokensDispatched == 200)
        #expect(counts.dispatchesSent >= 13)
        #expect(cluster.workers[1].counts.dispatchesServed == counts.dispatchesSent)
    }

    @Test("a batch of many megabytes")
    func largeBatch() throws {
        let shape = ExpertShape(compute: .bf16, expertCount: 8, hiddenSize: 1024, intermediateSize: 16)
        let experts = try RandomExperts(shape, seed: 8)
        let cluster = try TestCluster(count: 3, threads: 2)
        defer { cluster.stop() }
        cluster.place(experts, holders: Placement.strided.holders(expertCount: 8, workerCount: 3))
        let input = RoutedRows(shape, rowCount: 3000, topK: 6, seed: 4)
        #expect(try input.run(cluster.workers[0].exchange(shape)) == experts.expected(input))
        #expect(cluster.workers[0].counts.bytesIn > 32 << 20)
    }

    @Test("dispatches of several sources about one layer are one computation")
    func coalescing() throws {
        let shape = ExpertShape(compute: .bf16, expertCount: 12, hiddenSize: 64, intermediateSize: 32)
        let experts = try RandomExperts(shape, layerCount: 2, seed: 9)
        let cluster = try TestCluster(count: 5, silent: [4])
        defer { cluster.stop() }
        // Workers 0 to 3 only ask, the last of them about another layer; worker 4 answers once all have
        // asked.
        cluster.place(experts, holders: (0..<12).map { _ in [4] })
        let inputs = (0..<4).map { RoutedRows(shape, rowCount: 20 + $0, topK: 4, seed: UInt64($0)) }
        let expected = try inputs.indices.map { try experts.expected(inputs[$0], layer: $0 / 3) }
        let threads = inputs.indices.map { index in
            DedicatedThread.start(name: "source-\(index)") {
                let actual = try? inputs[index].run(cluster.workers[index].exchange(shape), layer: index / 3)
                #expect(actual == expected[index])
            }
        }
        let server = cluster.workers[4]
        #expect(eventually { server.port.dispatches.count == 4 })
        server.serve()
        for thread in threads { thread.join() }
        #expect(server.counts.dispatchesServed == 4)
        #expect(server.counts.tokensServed == 20 + 21 + 22 + 23)
        #expect(server.counts.servedRuns == 2)
        #expect(server.counts.coalescedRuns == 1)
    }

    @Test("everybody asks and serves everybody at once")
    func allToAll() throws {
        let shape = ExpertShape(compute: .fp32, expertCount: 16, hiddenSize: 64, intermediateSize: 32)
        let experts = try RandomExperts(shape, seed: 10)
        let cluster = try TestCluster(count: 4, threads: 2)
        defer { cluster.stop() }
        cluster.place(experts, holders: Placement.replicated.holders(expertCount: 16, workerCount: 4))
        let inputs = (0..<4).map { RoutedRows(shape, rowCount: 10 + 30 * $0, topK: 3, seed: UInt64($0)) }
        let expected = try inputs.map { try experts.expected($0) }
        let threads = inputs.indices.map { index in
            DedicatedThread.start(name: "worker-\(index)") {
                let exchange = cluster.workers[index].exchange(shape)
                for round in 0..<50 {
                    let actual = try? inputs[index].run(exchange)
                    if actual != expected[index] { Issue.record("worker \(index), round \(round)") }
                }
            }
        }
        for thread in threads { thread.join() }
    }
}
