// SPDX-License-Identifier: Apache-2.0
//
// Several cells at a time, each on a thread of its own over the same weights: threads then share nothing but the weights
// and need not meet inside a layer, and while one waits for experts elsewhere the others compute. A cell's gradient does
// not depend on what runs beside it, and sums are taken in the order of cells, so the number of lanes leaves no trace.
internal import Checkpoints
package import Qwen3
package import RuntimeSupport
internal import Tensors

/// The lanes of one member for one model.
final class TrainingLanes {
    /// What one thread has.
    final class Lane {
        let pass: CellPass
        let exchange: ClusterExpertExchange?

        init(_ pass: CellPass, _ exchange: ClusterExpertExchange?) {
            self.pass = pass
            self.exchange = exchange
        }
    }

    let lanes: [Lane]
    private let model: Qwen3Model

    /// - Parameter count: 1 uses the model's own pool and exchange.
    init(_ model: Qwen3Model, _ exchange: ClusterExpertExchange?, layout: ParameterLayout, count: Int) {
        self.model = model
        guard count > 1 else {
            lanes = [Lane(CellPass(model, layout: layout), exchange)]
            return
        }
        lanes = (0..<count).map { _ in
            let pool = ComputePool(threadCount: 1)
            let own = exchange?.lane(pool: pool)
            return Lane(CellPass(model.lane(experts: own, pool: pool), layout: layout), own)
        }
    }

    /// How many cells at a time serve a model best: small models spend their time on meeting inside layers, large ones
    /// fill all threads with one cell and would only need more memory.
    /// - Parameter limit: as many as there is memory for.
    static func count(for model: Qwen3Model, limit: Int) -> Int {
        model.configuration.hiddenSize <= TrainingMemory.lanesWidthMax ? max(1, min(model.pool.threadCount, limit)) : 1
    }

    /// Takes over the weights and the version of the model after a refresh.
    func follow(_ exchange: ClusterExpertExchange?) {
        for lane in lanes where lane.pass.model !== model { lane.pass.model.replaceTrunk(model.trunk) }
        guard let exchange else { return }
        for lane in lanes {
            guard let own = lane.exchange, own !== exchange else { continue }
            own.policyVersion = exchange.policyVersion
            own.follow(exchange)
        }
    }

    func cancel() { for lane in lanes { lane.exchange?.cancel() } }

    /// What lanes wait for; from any thread.
    var waits: [ExchangeWait] { lanes.compactMap { $0.exchange?.waiting } }

    /// Calls `body` once per item, items in order as lanes become free, and returns when all are done or one has thrown.
    func each<Item: Sendable>(_ items: [Item], _ body: @escaping (Lane, Item) throws -> Void) throws {
        let workers = min(lanes.count, items.count)
        if workers <= 1 {
            for item in items { try body(lanes[0], item) }
            return
        }
        let state = Locked<(next: Int, error: (any Error)?)>((0, nil))
        // @unchecked: lanes and body are used by one thread each; the threads are joined before this returns.
        nonisolated(unsafe) let (lanes, body) = (lanes, body)
        let threads = (0..<workers).map { index in
            DedicatedThread.start(name: "lane-\(index)") {
                while true {
                    let item = state.withLock { state -> Item? in
                        guard state.error == nil, state.next < items.count else { return nil }
                        defer { state.next += 1 }
                        return items[state.next]
                    }
                    guard let item else { return }
                    do { try body(lanes[index], item) } catch {
                        state.withLock { if $0.error == nil { $0.error = error } }
                        return
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        if let error = state.withLock({ $0.error }) { throw error }
    }
}

/// Adds cells' vectors in the order of cells, whatever the order in which lanes finish.
final class OrderedSum: @unchecked Sendable {
    // @unchecked: everything mutable is used under `lock`.
    private let lock = ConditionLock()
    private let sum: PairwiseSum
    private var next: [Int] = []
    private var finished: [Int: PageBuffer] = [:]

    init(_ sum: PairwiseSum) { self.sum = sum }

    var items: [PairwiseSum.Item] { sum.items }

    func begin(cells: [Int]) {
        sum.reset()
        next = cells.reversed()
        finished = [:]
    }

    func makeVector() throws(MemoryError) -> PageBuffer {
        do { return try lock.withLock { try sum.makeVector() } } catch { throw error as! MemoryError }
    }

    func add(cell: Int, _ vector: PageBuffer) {
        lock.withLock {
            finished[cell] = vector
            while let first = next.last, let ready = finished.removeValue(forKey: first) {
                sum.add(cell: first, ready)
                next.removeLast()
            }
        }
    }
}
