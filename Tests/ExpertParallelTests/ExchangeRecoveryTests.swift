// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import RuntimeSupport
import Synchronization
import Tensors
import Testing

@testable import ExpertParallel

@Suite("Trouble leaves every bit alone", .serialized)
struct ExchangeRecoveryTests {
    static let shape = ExpertShape(compute: .bf16, expertCount: 16, hiddenSize: 48, intermediateSize: 32)
    private var shape: ExpertShape { Self.shape }
    private let experts: RandomExperts
    private let input: RoutedRows
    private let expected: [UInt32]

    init() throws {
        experts = try RandomExperts(Self.shape, seed: 21)
        input = RoutedRows(Self.shape, rowCount: 25, topK: 6, seed: 22)
        expected = try experts.expected(input)
    }

    @Test("lost messages are sent again", arguments: [2, 3, 5] as [UInt64])
    func losses(oneIn n: UInt64) throws {
        // Drawn, not counted: losing exactly every second message could lose the same answer for ever.
        let random = Locked(TestRandom(n))
        let cluster = try TestCluster(count: 3) { _, _ in
            random.withLock { $0.next() } % n == 0 ? .lose : .deliver
        }
        defer { cluster.stop() }
        cluster.place(experts, holders: Placement.strided.holders(expertCount: 16, workerCount: 3))
        let exchange = cluster.workers[0].exchange(shape, settings: .impatient)
        for _ in 0..<3 { #expect(try input.run(exchange) == expected) }
        #expect(cluster.workers[0].counts.resends > 0)
    }

    @Test("duplicated and delayed messages change nothing")
    func duplicates() throws {
        let count = Atomic<UInt64>(0)
        let cluster = try TestCluster(count: 3) { _, _ in
            let number = count.wrappingAdd(1, ordering: .relaxed).newValue
            return number % 3 == 0 ? .delay(milliseconds: number % 7) : .duplicate
        }
        defer { cluster.stop() }
        cluster.place(experts, holders: Placement.scattered.holders(expertCount: 16, workerCount: 3))
        let exchange = cluster.workers[0].exchange(shape, settings: .impatient)
        for _ in 0..<20 { #expect(try input.run(exchange) == expected) }
        #expect(eventually { cluster.workers[0].counts.lateAnswers > 0 })
    }

    /// Runs an exchange in which the owners in `mute` never answer, until it waits for one of them; then
    /// calls `mend`.
    private func withMutedOwners(
        _ mute: Set<Int>, holders: [[Int]], workerCount: Int = 4,
        mend: (TestCluster) throws -> Void
    ) throws -> ExchangeStatistics {
        let names = Set(mute.map { PeerIdentity("worker-\($0)") })
        let cluster = try TestCluster(count: workerCount) { from, message in
            names.contains(from) || names.contains(message.peer) ? .lose : .deliver
        }
        defer { cluster.stop() }
        cluster.place(experts, holders: holders)
        let exchange = cluster.workers[0].exchange(shape, settings: .impatient)
        let input = input
        let run = Background { try input.run(exchange) }
        // All others have answered once only muted owners are waited for.
        #expect(eventually { exchange.waiting?.requestCount == mute.count })
        let wait = try #require(exchange.waiting)
        #expect(wait.peer.map(names.contains) == true && wait.reason == .answer && wait.layer == 0)
        try mend(cluster)
        #expect(try run.join() == expected)
        #expect(exchange.waiting == nil)
        return cluster.workers[0].counts
    }

    @Test("an owner dies and its experts come back elsewhere, split in other ways")
    func deadOwner() throws {
        let before = Placement.strided.holders(expertCount: 16, workerCount: 4)
        // Where the experts of worker 3 (3, 7, 11, 15) go: to one survivor, who then holds larger subtrees;
        // apart; here.
        for homes in [[1, 1, 1, 1], [1, 2, 1, 2], [0, 0, 0, 0], [0, 1, 2, 0]] {
            let counts = try withMutedOwners([3], holders: before) { cluster in
                var after = before
                for (place, home) in homes.enumerated() { after[3 + 4 * place] = [home] }
                cluster.place(experts, holders: after, epoch: 2)
            }
            #expect(counts.redispatches > 0)
        }
    }

    @Test("two owners die, and what they had is merged")
    func twoDeadOwners() throws {
        let before = Placement.scattered.holders(expertCount: 16, workerCount: 4)
        let counts = try withMutedOwners([2, 3], holders: before) { cluster in
            cluster.place(experts, holders: before.map { $0[0] >= 2 ? [1] : $0 }, epoch: 9)
        }
        #expect(counts.redispatches >= 2)
    }

    @Test("a new table that leaves the owner in place asks nobody again")
    func irrelevantTable() throws {
        let before = Placement.contiguous.holders(expertCount: 16, workerCount: 4)
        let counts = try withMutedOwners([3], holders: before) { cluster in
            cluster.publish(before.map { $0 == [3] ? [3, 2] : $0 }, epoch: 2)
            #expect(eventually { cluster.workers[0].counts.resends > 3 })
            #expect(cluster.workers[0].counts.redispatches == 0)
            cluster.network.setRule { _, _ in .deliver }
        }
        #expect(counts.redispatches == 0)
    }

    @Test("an owner that does not hold the experts: another replica, or wait until it does")
    func notHeld() throws {
        let cluster = try TestCluster(count: 3)
        defer { cluster.stop() }
        // The table names workers 1 and 2; only worker 2 has the experts.
        cluster.place(experts, holders: (0..<16).map { _ in [2] })
        cluster.publish((0..<16).map { _ in [1, 2] }, epoch: 2)
        let exchange = cluster.workers[0].exchange(shape)
        #expect(try input.run(exchange) == expected)
        #expect(cluster.workers[0].counts.redispatches == 1)

        cluster.publish((0..<16).map { _ in [1] }, epoch: 3)
        let impatient = cluster.workers[0].exchange(shape, settings: .impatient)
        let input = input
        let run = Background { try input.run(impatient) }
        #expect(eventually { impatient.waiting?.reason == .notHeld })
        cluster.workers[1].store.add(
            model: TestCluster.model, policyVersion: 1, shape: shape,
            layers: experts.layers(owned: Set(0..<16)))
        #expect(try run.join() == expected)
    }

    @Test("nobody holds an expert until a table says who does")
    func noHolder() throws {
        let cluster = try TestCluster(count: 2)
        defer { cluster.stop() }
        let exchange = cluster.workers[0].exchange(shape)
        let input = input
        let run = Background { try input.run(exchange) }
        #expect(eventually { exchange.waiting?.reason == .noHolder && exchange.waiting?.peer == nil })
        cluster.place(experts, holders: (0..<16).map { [$0 % 2] })
        #expect(try run.join() == expected)
    }

    @Test("another policy version is not answered with this one's weights")
    func policyVersion() throws {
        let next = try RandomExperts(shape, seed: 99)
        let cluster = try TestCluster(count: 2)
        defer { cluster.stop() }
        cluster.place(experts, holders: (0..<16).map { [$0 % 2] })
        let exchange = cluster.workers[0].exchange(shape, settings: .impatient)
        exchange.policyVersion = 2
        let input = input
        let run = Background { try input.run(exchange) }
        #expect(eventually { exchange.waiting?.reason == .notHeld || exchange.waiting?.reason == .noHolder })
        cluster.place(next, holders: (0..<16).map { [$0 % 2] }, epoch: 2, version: 2)
        #expect(try run.join() == next.expected(input))
        exchange.policyVersion = 1
        #expect(try input.run(exchange) == expected)
    }

    @Test("cancel ends a wait, resume allows the next exchange")
    func cancel() throws {
        let cluster = try TestCluster(count: 2) { _, _ in .lose }
        defer { cluster.stop() }
        cluster.place(experts, holders: (0..<16).map { [$0 % 2] })
        let exchange = cluster.workers[0].exchange(shape, settings: .impatient)
        let input = input
        let run = Background { try input.run(exchange) }
        #expect(eventually { exchange.waiting != nil })
        exchange.cancel()
        #expect(throws: ExchangeError.cancelled) { try run.join() }
        #expect(throws: ExchangeError.cancelled) { try input.run(exchange) }
        #expect(exchange.waiting == nil)
        cluster.network.setRule { _, _ in .deliver }
        exchange.resume()
        #expect(try input.run(exchange) == expected)
    }

    @Test("shards move to and fro while four workers exchange")
    func movingShards() throws {
        let cluster = try TestCluster(count: 4)
        defer { cluster.stop() }
        cluster.place(experts, holders: (0..<16).map { [$0 % 4] })
        let isOver = Atomic<Bool>(false)
        let (input, expected, shape) = (input, expected, shape)
        let runs = cluster.workers.map { worker in
            Background { () throws -> Int in
                let exchange = worker.exchange(shape, settings: .impatient)
                var count = 0
                while !isOver.load(ordering: .relaxed) || count < 20 {
                    #expect(try input.run(exchange) == expected)
                    count += 1
                }
                return count
            }
        }
        var holders = (0..<16).map { [$0 % 4] }
        for epoch in 2..<40 {
            // Copy first, then switch, then let go.
            let moved = epoch * 5 % 16
            let (from, to) = (holders[moved][0], (holders[moved][0] + 1 + epoch % 3) % 4)
            holders[moved] = [to]
            cluster.place(experts, holders: holders, epoch: UInt64(epoch))
            cluster.workers[from].store.remove(model: TestCluster.model, policyVersion: 1, experts: [moved])
        }
        isOver.store(true, ordering: .relaxed)
        for run in runs { #expect(try run.join() >= 20) }
    }
}
