// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import ExpertParallel
import Glibc
import Qwen3
import RuntimeSupport
import Tensors

/// What a worker process has of the expert exchange.
final class TestWorker: Sendable {
    let identity: PeerIdentity
    let port = ExchangePort()
    let store = ExpertShardStore()
    let routing = ExpertRouting()
    let training = ExpertTraining()
    let pool: ComputePool
    let transport: any Transport
    private let server = Locked<ExpertServer?>(nil)
    private let onTrouble: @Sendable (PeerIdentity, String) -> Void

    init(
        threads: Int = 1, serves: Bool = true,
        onTrouble: @escaping @Sendable (PeerIdentity, String) -> Void = { _, _ in },
        transport make: (Delivery) throws -> any Transport
    ) throws {
        pool = ComputePool(threadCount: threads)
        transport = try make(port.delivery)
        identity = transport.identity
        self.onTrouble = onTrouble
        port.attach(transport)
        if serves { serve() }
    }

    func serve() {
        server.withLock {
            $0 = ExpertServer(port: port, store: store, training: training, pool: pool, onTrouble: onTrouble)
        }
    }

    var counts: ExchangeStatistics { port.counters.snapshot }

    func exchange(
        _ shape: ExpertShape, version: UInt64 = 1, settings: ExchangeSettings = .patient
    ) -> ClusterExpertExchange {
        ClusterExpertExchange(
            model: TestCluster.model, shape: shape, policyVersion: version, port: port, store: store,
            routing: routing,
            pool: pool, settings: settings)
    }

    func stop() {
        server.withLock { $0 }?.stop()
        transport.close()
        port.detach()
    }
}

/// Several workers in this process on an in-memory network, each with its part of the experts.
final class TestCluster: Sendable {
    static let model: UInt32 = 7

    let network: InMemoryNetwork
    let workers: [TestWorker]

    /// - Parameter silent: workers whose server is started later.
    init(
        count: Int, threads: Int = 1, silent: Set<Int> = [],
        rule: @escaping InMemoryNetwork.FateRule = { _, _ in .deliver }
    ) throws {
        let network = InMemoryNetwork(rule: rule)
        self.network = network
        workers = try (0..<count).map { index in
            try TestWorker(threads: threads, serves: !silent.contains(index)) { delivery in
                InMemoryTransport(
                    identity: PeerIdentity("worker-\(index)"), network: network,
                    deliveries: ChannelDeliveries(
                        control: .direct { _ in }, exchange: delivery, bulk: .direct { _ in }))
            }
        }
        for a in workers {
            for b in workers where a.identity < b.identity {
                try a.transport.connect(
                    to: PeerAddress(
                        identity: b.identity, endpoints: ChannelEndpoints(control: "", exchange: "", bulk: "")
                    ))
            }
        }
    }

    /// The same over ZeroMQ with CURVE on loopback.
    ///
    /// - Parameter exchange: limits of the channel that everything here goes over.
    init(zeroMQ count: Int, threads: Int = 1, exchange: ChannelLimits = .exchange) throws {
        network = InMemoryNetwork()
        let keys = try (0..<count).map { _ in try CurveKeyPair.generate() }
        let allowed = AllowList(Dictionary(uniqueKeysWithValues: keys.map { ($0.publicKey, Role.worker) }))
        workers = try keys.map { keys in
            try TestWorker(threads: threads) { delivery in
                var configuration = ZeroMQConfiguration(
                    security: .curve(keys: keys, allowList: allowed), listen: .anyPort(on: "127.0.0.1"),
                    deliveries: ChannelDeliveries(
                        control: .direct { _ in }, exchange: delivery, bulk: .direct { _ in }))
                configuration.exchange = exchange
                return try ZeroMQTransport(configuration)
            }
        }
        for (index, worker) in workers.enumerated() {
            for other in workers[..<index] {
                guard let endpoints = (other.transport as? ZeroMQTransport)?.endpoints else { continue }
                try worker.transport.connect(to: PeerAddress(identity: other.identity, endpoints: endpoints))
            }
        }
    }

    /// Gives experts to workers and publishes the table.
    ///
    /// - Parameter holders: for each expert the indices of its holders.
    func place(_ experts: RandomExperts, holders: [[Int]], epoch: UInt64 = 1, version: UInt64 = 1) {
        for (index, worker) in workers.enumerated() {
            let owned = Set(holders.indices.filter { holders[$0].contains(index) })
            worker.store.add(
                model: Self.model, policyVersion: version, shape: experts.shape,
                layers: experts.layers(owned: owned))
        }
        publish(holders, epoch: epoch)
    }

    /// Tells every worker who holds what.
    func publish(_ holders: [[Int]], epoch: UInt64) {
        for (index, worker) in workers.enumerated() {
            worker.routing.update(
                model: Self.model,
                ExpertRouteTable(
                    epoch: epoch, holders: holders.map { $0.map { workers[$0].identity } },
                    requester: worker.identity,
                    requesterIndex: index))
        }
    }

    func stop() {
        for worker in workers { worker.stop() }
        network.close()
    }
}

/// Ways to spread experts over workers.
enum Placement: String, CaseIterable, Sendable {
    case contiguous, strided, scattered, replicated, lonely

    /// For each expert the workers that hold it.
    func holders(expertCount: Int, workerCount: Int) -> [[Int]] {
        var random = TestRandom(UInt64(expertCount * 31 + workerCount))
        return (0..<expertCount).map { expert in
            switch self {
            case .contiguous: [expert * workerCount / expertCount]
            case .strided: [expert % workerCount]
            case .scattered: [Int.random(in: 0..<workerCount, using: &random)]
            case .replicated: [expert % workerCount, (expert / 3 + 1) % workerCount]
            // One expert alone with the last worker, the rest with the first.
            case .lonely: [expert == expertCount / 2 ? workerCount - 1 : 0]
            }
        }
    }
}

extension ExchangeSettings {
    /// Never repeats during a test, so that counts are exact however slow the machine is.
    static var patient: ExchangeSettings {
        var settings = ExchangeSettings()
        settings.resendMilliseconds = 3_600_000
        return settings
    }

    /// Repeats early, so that tests of losses do not take long.
    static var impatient: ExchangeSettings {
        var settings = ExchangeSettings()
        settings.resendMilliseconds = 40
        settings.tickMilliseconds = 10
        return settings
    }
}

/// Whether `condition` comes true within a time that is generous on any machine.
func eventually(_ condition: () -> Bool) -> Bool {
    let deadline = MonotonicInstant.now.advanced(byMilliseconds: 60_000)
    while !condition() {
        if MonotonicInstant.now > deadline { return false }
        usleep(500)
    }
    return true
}

/// Runs `body` on a thread of its own; `join` gives what it returned.
final class Background<Value: Sendable>: Sendable {
    private let result = Locked<Result<Value, any Error>?>(nil)
    private let thread: DedicatedThread

    init(_ body: @escaping @Sendable () throws -> Value) {
        let result = result
        thread = DedicatedThread.start(name: "background") {
            let value = Result { try body() }
            result.withLock { $0 = value }
        }
    }

    func join() throws -> Value {
        thread.join()
        return try result.withLock { $0 }!.get()
    }
}
