// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
internal import Qwen3
package import RuntimeSupport

/// Computes for peers, on a thread of its own and ahead of local work in the pool. It issues no exchange
/// itself, so no cycle of waits can form.
package final class ExpertServer: Sendable {
    private let port: ExchangePort
    private let thread: DedicatedThread
    private let isStopped: Locked<Bool>

    /// Starts serving what `port` receives.
    ///
    /// - Parameter onTrouble: told, on the server's thread, in one line what went wrong. A peer can make many
    ///   of these: limit their rate.
    package init(
        port: ExchangePort, store: ExpertShardStore, training: ExpertTraining = ExpertTraining(), pool: ComputePool,
        onTrouble: @escaping @Sendable (PeerIdentity, String) -> Void = { _, _ in }
    ) {
        self.port = port
        let isStopped = Locked(false)
        self.isStopped = isStopped
        thread = DedicatedThread.start(name: "expert-server") {
            let loop = ServerLoop(port: port, store: store, training: training, pool: pool, onTrouble: onTrouble)
            loop.run { isStopped.withLock { $0 } }
        }
    }

    /// Ends the thread after the computation under way. Call once. What is queued stays unanswered.
    package func stop() {
        isStopped.withLock { $0 = true }
        port.dispatches.close()
        thread.join()
    }
}

/// The life of the server's thread.
private final class ServerLoop {
    private let port: ExchangePort
    private let store: ExpertShardStore
    private let training: ExpertTraining
    private let pool: ComputePool
    private let onTrouble: @Sendable (PeerIdentity, String) -> Void
    private var queue: [QueuedDispatch] = []
    private var queued: Set<QueuedDispatch.Key> = []
    private var computations: [ExpertShape: ExpertComputation] = [:]
    private var backwardComputations: [ExpertShape: ExpertBackward] = [:]
    /// Answers that a full queue refused; a slow peer keeps no other one waiting.
    private var unsent: [(answer: EncodedAnswer, dropAt: MonotonicInstant)] = []
    private var unsentByteCount = 0

    /// Answers kept for slow peers, in bytes and in time; what is dropped will be asked for again.
    private static let unsentByteCountMax = 256 << 20
    private static let unsentMilliseconds: UInt64 = 2000

    init(
        port: ExchangePort, store: ExpertShardStore, training: ExpertTraining, pool: ComputePool,
        onTrouble: @escaping @Sendable (PeerIdentity, String) -> Void
    ) {
        self.port = port
        self.store = store
        self.training = training
        self.pool = pool
        self.onTrouble = onTrouble
    }

    func run(until isStopped: () -> Bool) {
        while !isStopped() {
            if queue.isEmpty {
                let message =
                    unsent.isEmpty
                    ? port.dispatches.pop()
                    : port.dispatches.pop(until: MonotonicInstant.now.advanced(byMilliseconds: 2))
                if let message { admit(message) }
            }
            while let message = port.dispatches.tryPop() { admit(message) }
            sendUnsent()
            if !queue.isEmpty {
                let served = serveOldest()
                // What came while they were computed and asks for the same again has its answer on the way.
                for message in port.dispatches.remove(where: { _ in true }) { admit(message, answered: served) }
            }
        }
    }

    /// Decodes a dispatch and queues it, unless the same one waits already or was answered while this one was on its way.
    private func admit(_ message: Message, answered: Set<QueuedDispatch.Key> = []) {
        do {
            let dispatch = try QueuedDispatch(source: message.peer, Dispatch(message.parts))
            if answered.contains(dispatch.key) {
                port.counters.update { $0.repeatsDropped += 1 }
            } else if queued.insert(dispatch.key).inserted {
                queue.append(dispatch)
            }
        } catch {
            refuse(message.peer, "dispatch refused: \(error)")
        }
    }

    private func refuse(_ peer: PeerIdentity, _ reason: String) {
        port.counters.update { $0.refusedFrames += 1 }
        onTrouble(peer, reason)
    }

    /// Serves, in one run, all queued dispatches that agree with the oldest in what they are about.
    /// - Returns: those that were served.
    private func serveOldest() -> Set<QueuedDispatch.Key> {
        let topic = queue[0].dispatch.topic
        var batch: [QueuedDispatch] = []
        var rest: [QueuedDispatch] = []
        var rowCount = 0
        for item in queue {
            let rows = item.dispatch.assignment.rowCount
            if item.dispatch.topic == topic, item.isBackward == queue[0].isBackward,
                batch.isEmpty || rowCount + rows <= ServedBatch.rowCountMax
            {
                batch.append(item)
                rowCount += rows
            } else {
                rest.append(item)
            }
        }
        queue = rest
        for item in batch { queued.remove(item.key) }
        guard let held = store.experts(model: topic.model, policyVersion: topic.policyVersion),
            let weights = held.layers[Int(topic.layer)]
        else {
            batch.forEach { answer($0, .notHeld) }
            return []
        }
        let accepted = batch.filter { item in
            switch item.check(held.shape, weights) {
            case .fine: return true
            case .notHeld: answer(item, .notHeld)
            case .refused(let reason):
                refuse(item.source, "dispatch refused: \(reason)")
                fail(item, reason)
            }
            return false
        }
        if accepted.isEmpty { return [] }
        if accepted[0].isBackward {
            for item in accepted { serveBackward(item, held.shape, weights) }
        } else {
            serve(accepted, held.shape, weights)
        }
        return Set(accepted.map(\.key))
    }

    private func serveBackward(_ item: QueuedDispatch, _ shape: ExpertShape, _ weights: ExpertWeights) {
        let topic = item.dispatch.topic
        guard let share = item.dispatch.backward, let experts = training.experts(model: topic.model),
            experts.accepts(epoch: share.trainingEpoch, version: topic.policyVersion)
        else { return fail(item, "it is in another training epoch or step") }
        let computation =
            backwardComputations[shape]
            ?? ExpertBackward(
                compute: shape.compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize,
                pool: pool, priority: .serving)
        backwardComputations[shape] = computation
        do {
            let (answer, contribution) = try item.runBackward(computation, weights, width: shape.hiddenSize)
            // Before the answer: who has all answers may take it that everything was delivered.
            experts.deliver(
                epoch: share.trainingEpoch, version: topic.policyVersion, layer: Int(topic.layer),
                cell: Int(share.cell), rows: share.rowNumbers, contribution)
            send(answer)
        } catch {
            onTrouble(item.source, "cannot compute experts backward for peers: \(error)")
            return fail(item, "\(error)")
        }
        port.counters.update {
            $0.tokensServed += item.dispatch.assignment.rowCount
            $0.dispatchesServed += 1
            $0.servedRuns += 1
        }
    }

    private func serve(_ items: [QueuedDispatch], _ shape: ExpertShape, _ weights: ExpertWeights) {
        let computation =
            computations[shape]
            ?? ExpertComputation(
                compute: shape.compute, hiddenSize: shape.hiddenSize,
                intermediateSize: shape.intermediateSize,
                pool: pool)
        computations[shape] = computation
        let batch = ServedBatch(items, width: shape.hiddenSize)
        do {
            try batch.run(computation, weights)
        } catch {
            onTrouble(items[0].source, "cannot compute experts for peers: \(error)")
            return items.forEach { fail($0, "\(error)") }
        }
        port.counters.update {
            $0.tokensServed += batch.rowCount
            $0.dispatchesServed += items.count
            $0.servedRuns += 1
            if items.count > 1 { $0.coalescedRuns += 1 }
        }
        for answer in batch.answers() { send(answer) }
    }

    // MARK: - Answers

    private func answer(_ item: QueuedDispatch, _ status: CombineStatus) {
        send(
            EncodedAnswer(
                peer: item.source, parts: Combine.encode(item.dispatch, status: status, sums: [], rowCount: 0)
            ))
    }

    private func fail(_ item: QueuedDispatch, _ reason: String) {
        send(EncodedAnswer(peer: item.source, parts: Combine.failed(item.dispatch, reason)))
    }

    private func send(_ answer: EncodedAnswer) {
        // Behind answers of the same peer that wait already; they keep their order.
        if unsent.contains(where: { $0.answer.peer == answer.peer }) || !trySend(answer) { keep(answer) }
    }

    /// False when the peer's queue is full; an answer to a peer that is gone is dropped.
    private func trySend(_ answer: EncodedAnswer) -> Bool {
        do {
            try port.send(answer.parts, to: answer.peer)
        } catch {
            if error.code == .backpressure { return false }
            port.counters.update { $0.droppedMessages += 1 }
        }
        return true
    }

    private func keep(_ answer: EncodedAnswer) {
        guard unsentByteCount + answer.byteCount <= Self.unsentByteCountMax else {
            return port.counters.update { $0.droppedMessages += 1 }
        }
        unsentByteCount += answer.byteCount
        unsent.append((answer, MonotonicInstant.now.advanced(byMilliseconds: Self.unsentMilliseconds)))
    }

    private func sendUnsent() {
        if unsent.isEmpty { return }
        let now = MonotonicInstant.now
        var full: Set<PeerIdentity> = []
        var kept: [(answer: EncodedAnswer, dropAt: MonotonicInstant)] = []
        for entry in unsent {
            if entry.dropAt <= now {
                port.counters.update { $0.droppedMessages += 1 }
            } else if full.contains(entry.answer.peer) || !trySend(entry.answer) {
                full.insert(entry.answer.peer)
                kept.append(entry)
            }
        }
        unsent = kept
        unsentByteCount = kept.reduce(0) { $0 + $1.answer.byteCount }
    }
}

/// A message that answers a dispatch.
struct EncodedAnswer {
    let peer: PeerIdentity
    let parts: [Payload]
    var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }
}
