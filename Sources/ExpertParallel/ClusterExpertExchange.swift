// SPDX-License-Identifier: Apache-2.0
//
// One exchange: split the entries by owner, send all dispatches, compute the local part, wait for the sums of
// the others, add each row's sums along the expert tree. Whatever happens on the way (losses, moves, deaths
// of owners) changes who computes a sum and never its bits, because a sum is always over an aligned subtree.
internal import ClusterTransport
package import Qwen3
package import RuntimeSupport
internal import Tensors

/// Experts that live in several processes. One exchange at a time; `cancel`, `resume` and `waiting` from any
/// thread.
package final class ClusterExpertExchange: TrainableExpertExchange, @unchecked Sendable {
    // @unchecked: all `var`s belong to the thread that is in `exchange`; what other threads use is behind
    // `flags`.

    /// How an entry of the assignment stands.
    enum EntryState: UInt8 {
        case open
        /// A finished sum that begins with this entry is in its slot.
        case head
        /// Part of the sum of an entry before it.
        case covered
    }

    let model: UInt32
    let shape: ExpertShape
    let port: ExchangePort
    let store: ExpertShardStore
    let routing: ExpertRouting
    let settings: ExchangeSettings
    let mailbox = ExchangeMailbox(itemCountMax: 65_536, byteCountMax: 1 << 30)
    let pool: ComputePool
    private let computation: ExpertComputation
    private let limits: ShareLimits
    private let backwardLimits: ShareLimits
    let flags = Locked(Flags())

    /// What a backward exchange has besides the rows of the forward one.
    struct Backward {
        let cell: UInt32
        let trainingEpoch: UInt32
        let gradients: UnsafeRawPointer
        let entryGradients: UnsafeMutablePointer<Float>
    }

    struct Flags {
        var isCancelled = false
        var training: (epoch: UInt32, experts: TrainedExperts)?
        var policyVersion: UInt64 = 0
        var waiting: ExchangeWait?
    }

    // The exchange under way.
    var topic: ExchangeTopic
    private var tokens = UnsafeRawPointer(bitPattern: 64)!
    var assignment = ExpertAssignment()
    var backward: Backward?
    private var backwardComputation: ExpertBackward?
    private var sumBuffer = ScratchBuffer()
    var sums = UnsafeMutablePointer<Float>(bitPattern: 64)!
    var states: [EntryState] = []
    private var localWeights: ExpertWeights?
    var table: ExpertRouteTable?
    var pending: [UInt64: PendingRequest] = [:]
    /// Requests that wait to be sent, in order.
    var unsent: [UInt64] = []
    var outstanding: [PeerIdentity: (out: Int, back: Int)] = [:]
    /// Owners that were no use a moment ago.
    var excluded: [PeerIdentity: (until: MonotonicInstant, reason: ExchangeWait.Reason)] = [:]
    /// How fast each owner answers; outlives exchanges.
    var timers: [PeerIdentity: ResendTimer] = [:]
    /// Entries that nobody holds, with the experts they may be placed on.
    var orphans: [(members: EntryRows, scope: [Bool])] = []
    private var cachedView: (epoch: UInt64?, local: [ExpertSubtree], view: RouteView)?

    /// - Parameters:
    ///   - model: the cluster's short id of the model.
    ///   - store: this process's own experts.
    package init(
        model: UInt32, shape: ExpertShape, policyVersion: UInt64 = 0, port: ExchangePort,
        store: ExpertShardStore,
        routing: ExpertRouting, pool: ComputePool, settings: ExchangeSettings = ExchangeSettings()
    ) {
        precondition((1...ExchangeLimits.width).contains(shape.hiddenSize), "rows of \(shape.hiddenSize)")
        self.model = model
        self.shape = shape
        self.port = port
        self.store = store
        self.routing = routing
        self.settings = settings
        self.pool = pool
        topic = ExchangeTopic(model: model, policyVersion: policyVersion, layer: 0)
        computation = ExpertComputation(
            compute: shape.compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize,
            pool: pool)
        limits = ShareLimits(
            width: shape.hiddenSize, tokenRowByteCount: shape.hiddenSize * shape.compute.byteCount,
            messageByteCount: min(settings.messageByteCount, ExchangeLimits.messageByteCount))
        backwardLimits = ShareLimits(
            width: shape.hiddenSize, tokenRowByteCount: 2 * shape.hiddenSize * shape.compute.byteCount,
            messageByteCount: min(settings.messageByteCount, ExchangeLimits.messageByteCount))
        flags.withLock { $0.policyVersion = policyVersion }
    }

    // MARK: - From any thread

    /// The version of the weights that the next exchange asks for.
    package var policyVersion: UInt64 {
        get { flags.withLock { $0.policyVersion } }
        set { flags.withLock { $0.policyVersion = newValue } }
    }

    /// The training epoch of backward exchanges, and where this process's own experts' gradients go.
    package func train(epoch: UInt32, _ experts: TrainedExperts) {
        flags.withLock { $0.training = (epoch, experts) }
    }

    /// Another exchange for the same model and epoch, for a thread of its own.
    package func lane(pool: ComputePool) -> ClusterExpertExchange {
        let lane = ClusterExpertExchange(
            model: model, shape: shape, policyVersion: policyVersion, port: port, store: store, routing: routing,
            pool: pool, settings: settings)
        if let training = flags.withLock({ $0.training }) { lane.train(epoch: training.epoch, training.experts) }
        return lane
    }

    /// Takes over another exchange's training epoch and allows exchanges again.
    func follow(_ other: ClusterExpertExchange) {
        let training = other.flags.withLock { $0.training }
        flags.withLock {
            $0.training = training
            $0.isCancelled = false
        }
    }

    /// Makes the exchange under way, and later ones, throw ``ExchangeError/cancelled``.
    package func cancel() {
        flags.withLock { $0.isCancelled = true }
        _ = mailbox.tryPush(.wake)
    }

    /// Allows exchanges again after ``cancel()``.
    package func resume() { flags.withLock { $0.isCancelled = false } }

    /// What the exchanging thread waits for; nil while it does not wait.
    package var waiting: ExchangeWait? { flags.withLock { $0.waiting } }

    // MARK: - The exchange

    /// - Throws: ``ExchangeError``, ``MemoryError``. It waits for answers without a limit of its own: the
    ///   cluster may need its time to bring lost experts back, and whoever supervises it reads ``waiting``
    ///   and may `cancel`.
    package func exchange(
        layer: Int, tokens: UnsafeRawPointer, assignment: ExpertAssignment,
        combined: UnsafeMutablePointer<Float>
    ) throws {
        backward = nil
        try run(layer, tokens, assignment, combined)
    }

    /// The backward exchange; waits as the forward one does.
    /// - Throws: ``ExchangeError``, ``MemoryError``.
    package func exchangeBackward(
        layer: Int, cell: Int, tokens: UnsafeRawPointer, outputGradients: UnsafeRawPointer,
        assignment: ExpertAssignment, weightGradients: UnsafeMutablePointer<Float>,
        inputGradients: UnsafeMutablePointer<Float>
    ) throws {
        guard let training = flags.withLock({ $0.training }) else {
            preconditionFailure("a backward exchange outside of a training epoch")
        }
        backward = Backward(
            cell: UInt32(cell), trainingEpoch: training.epoch, gradients: outputGradients,
            entryGradients: weightGradients)
        defer { backward = nil }
        try run(layer, tokens, assignment, inputGradients)
    }

    private func run(
        _ layer: Int, _ tokens: UnsafeRawPointer, _ assignment: ExpertAssignment,
        _ combined: UnsafeMutablePointer<Float>
    ) throws {
        let (isCancelled, version) = flags.withLock { ($0.isCancelled, $0.policyVersion) }
        if isCancelled { throw ExchangeError.cancelled }
        topic = ExchangeTopic(model: model, policyVersion: version, layer: UInt16(layer))
        table = routing.table(model: model)
        self.tokens = tokens
        self.assignment = assignment
        port.counters.count(model: model, expertCount: shape.expertCount, assignment.experts)
        refreshLocalWeights()
        let view = wholeView()
        let width = shape.hiddenSize
        if view.isAllLocal, backward == nil, let weights = localWeights, !assignment.hasEmptyRows {
            let rows = (0..<assignment.rowCount).map { tokens + $0 * rowByteCount }
            return try computation.run(
                weights: weights, rows: rows, assignment: assignment, subtrees: { _ in weights.subtrees },
                priority: .local
            ) { row, _, sum in (combined + row * width).update(from: sum, count: width) }
        }
        sums = try sumBuffer.reserve(assignment.experts.count * width * 4).assumingMemoryBound(to: Float.self)
        states.removeAll(keepingCapacity: true)
        states.append(contentsOf: repeatElement(.open, count: assignment.experts.count))
        defer { forgetEverything() }
        try place(EntryRows(assignment), scope: nil)
        FailPoint.pass("exchange.dispatched")
        try waitForSums()
        addUp(into: combined)
    }

    var rowByteCount: Int { shape.hiddenSize * shape.compute.byteCount }

    /// Takes note of the experts that this process holds now.
    func refreshLocalWeights() {
        let held = store.experts(model: model, policyVersion: topic.policyVersion)
        // Other sizes than ours would be another model under the same id: never compute with those.
        localWeights = held.flatMap { $0.shape == shape ? $0.layers[Int(topic.layer)] : nil }
    }

    /// Gives entries to owners: sends to the remote ones, computes the local part, keeps what nobody holds.
    ///
    /// - Parameter scope: the only experts that new sums may reach over; nil for all.
    func place(_ members: EntryRows, scope: [Bool]?) throws {
        let view = scope == nil && excluded.isEmpty ? wholeView() : makeView(scope: scope)
        let split = view.split(members, of: assignment, limits: backward == nil ? limits : backwardLimits)
        for share in split.remote { addRequest(share, view) }
        if !split.orphans.rows.isEmpty { orphans.append((split.orphans, view.orphans)) }
        try sendWhatFits()
        if !split.local.members.rows.isEmpty, let weights = localWeights {
            try compute(split.local, view.subtrees[RouteView.local], weights)
        }
    }

    private func wholeView() -> RouteView {
        let local = localWeights?.subtrees ?? []
        if let cachedView, cachedView.epoch == table?.epoch, cachedView.local == local {
            return cachedView.view
        }
        let view = makeView(scope: nil)
        cachedView = (table?.epoch, local, view)
        return view
    }

    private func makeView(scope: [Bool]?) -> RouteView {
        // What is here is used here; what the table says to be here and is not (yet) is asked of others.
        let useless = Set(excluded.keys).union([table?.requester].compactMap { $0 })
        return RouteView(expertCount: shape.expertCount, scope: scope) { expert in
            if localWeights?.experts[expert] != nil { return .local }
            guard let table, expert < table.expertCount else { return nil }
            return table.owner(of: expert, excluding: useless)
        }
    }

    private func compute(_ share: DispatchShare, _ subtrees: [ExpertSubtree], _ weights: ExpertWeights) throws {
        let part = share.assignment(of: assignment)
        let rows = share.members.rows.map { tokens + Int($0) * rowByteCount }
        let (width, sums, entries) = (shape.hiddenSize, sums, share.members.entries)
        if let backward {
            try computeBackward(share, part, rows, subtrees, weights, backward)
            return markDone(share)
        }
        try computation.run(
            weights: weights, rows: rows, assignment: part, subtrees: { _ in subtrees }, priority: .local
        ) { row, subtree, sum in
            let place = part.entries(of: row).first { Int(part.experts[$0]) >= subtree.first }!
            (sums + Int(entries[place]) * width).update(from: sum, count: width)
        }
        markDone(share)
    }

    private func computeBackward(
        _ share: DispatchShare, _ part: ExpertAssignment, _ rows: [UnsafeRawPointer], _ subtrees: [ExpertSubtree],
        _ weights: ExpertWeights, _ backward: Backward
    ) throws {
        let computation =
            backwardComputation
            ?? ExpertBackward(
                compute: shape.compute, hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize,
                pool: pool)
        backwardComputation = computation
        let (width, sums, entries) = (shape.hiddenSize, sums, share.members.entries)
        var entryGradients = [Float](repeating: 0, count: entries.count)
        let contribution = try computation.run(
            weights: weights, rows: rows,
            outputGradients: share.members.rows.map { backward.gradients + Int($0) * rowByteCount }, assignment: part,
            subtrees: { _ in subtrees }, weightGradients: &entryGradients
        ) { row, subtree, sum in
            let place = part.entries(of: row).first { Int(part.experts[$0]) >= subtree.first }!
            (sums + Int(entries[place]) * width).update(from: sum, count: width)
        }
        for (place, entry) in entries.enumerated() { backward.entryGradients[Int(entry)] = entryGradients[place] }
        flags.withLock { $0.training }?.experts.deliver(
            epoch: backward.trainingEpoch, version: topic.policyVersion, layer: Int(topic.layer),
            cell: Int(backward.cell), rows: share.members.rows, contribution)
    }

    /// Notes that the sums of `share` are in their slots.
    func markDone(_ share: DispatchShare) {
        for entry in share.members.entries { states[Int(entry)] = .covered }
        for entry in share.heads { states[Int(entry)] = .head }
    }

    /// The slot `[C]` of the sum that begins with an entry.
    func slot(_ entry: Int32) -> UnsafeMutablePointer<Float> { sums + Int(entry) * shape.hiddenSize }

    /// The message parts' token rows of `share`.
    func tokenParts(_ share: DispatchShare) -> [Payload] { rowParts(share, tokens) }

    /// The rows of `share` out of `[rows, C]` of the compute type.
    func rowParts(_ share: DispatchShare, _ source: UnsafeRawPointer) -> [Payload] {
        RowParts(rowByteCount: rowByteCount).make(share.members.rows.count) { row, target in
            target.copyMemory(
                from: source + Int(share.members.rows[row]) * rowByteCount, byteCount: rowByteCount)
        }
    }

    private func forgetEverything() {
        for request in pending.keys { port.forget(request) }
        pending.removeAll()
        unsent.removeAll()
        outstanding.removeAll()
        excluded.removeAll()
        orphans.removeAll()
        while mailbox.tryPop() != nil {}  // gives the credit of late answers back
        flags.withLock { $0.waiting = nil }
    }
}

extension ExpertAssignment {
    fileprivate var hasEmptyRows: Bool { zip(rowStarts, rowStarts.dropFirst()).contains { $0 == $1 } }
}
