// SPDX-License-Identifier: Apache-2.0
internal import ClusterTransport
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

/// A dispatch without its answer.
struct PendingRequest {
    let owner: PeerIdentity
    let share: DispatchShare
    /// The experts that the owner computes: what another owner's sums in this request's place may reach over.
    let scope: [Bool]
    let parts: [Payload]
    let byteCount: Int
    /// Bytes of the sums in the answer.
    let answerByteCount: Int
    /// When this owner was chosen.
    let since = MonotonicInstant.now
    /// Nil until it was sent.
    var resendAt: MonotonicInstant?
    var firstSent: MonotonicInstant?
    var sendCount = 0
    var reason = ExchangeWait.Reason.answer
    /// What the owner said about it.
    var detail = ""
}

extension ClusterExpertExchange {
    /// Makes a request of `share`; ``sendWhatFits()`` sends it.
    func addRequest(_ share: DispatchShare, _ view: RouteView) {
        let number = port.register(mailbox)
        let dispatch = Dispatch(
            topic: topic, request: number, compute: shape.compute, width: shape.hiddenSize,
            subtrees: view.subtrees[share.destination], assignment: share.assignment(of: assignment),
            tokens: tokenParts(share),
            backward: backward.map {
                BackwardShare(
                    trainingEpoch: $0.trainingEpoch, cell: $0.cell, rowNumbers: share.members.rows,
                    gradients: rowParts(share, $0.gradients))
            })
        let parts = dispatch.encode()
        pending[number] = PendingRequest(
            owner: view.owners[share.destination - 1], share: share, scope: view.scopes[share.destination],
            parts: parts,
            byteCount: parts.reduce(0) { $0 + $1.byteCount },
            answerByteCount: share.heads.count * shape.hiddenSize * 4)
        unsent.append(number)
        port.counters.update { $0.tokensDispatched += share.members.rows.count }
    }

    /// Sends waiting requests in order, as long as each owner's share of what may be outstanding lasts.
    /// - Throws: ``ExchangeError/transport(_:)`` for what no repetition mends.
    func sendWhatFits() throws {
        var blocked: Set<PeerIdentity> = []
        var kept: [UInt64] = []
        for number in unsent {
            guard let request = pending[number] else { continue }
            let load = outstanding[request.owner] ?? (0, 0)
            let fits =
                load.out == 0
                || (load.out + request.byteCount <= settings.outstandingByteCount
                    && load.back + request.answerByteCount <= settings.outstandingByteCount)
            if blocked.contains(request.owner) || !fits {
                blocked.insert(request.owner)  // the order per owner stays
                kept.append(number)
                continue
            }
            if try send(number) {
                outstanding[request.owner] = (
                    load.out + request.byteCount, load.back + request.answerByteCount
                )
            } else {
                blocked.insert(request.owner)
                kept.append(number)
            }
        }
        unsent = kept
    }

    /// Hands one request to the transport; false when the owner's queue is full or the owner away.
    func send(_ number: UInt64) throws -> Bool {
        guard var request = pending[number] else { return true }
        defer { pending[number] = request }
        let now = MonotonicInstant.now
        do {
            // A short sleep only: while this thread sleeps here it takes no answers, and answers make room.
            try port.send(request.parts, to: request.owner, waitingUntil: now.advanced(byMilliseconds: 2))
        } catch {
            switch error.code {
            case .backpressure: request.reason = .queueFull
            case .unknownPeer: request.reason = .notConnected
            default: throw ExchangeError.transport(error)
            }
            return false
        }
        request.reason = .answer
        let timer = timers[request.owner] ?? ResendTimer(base: settings.resendMilliseconds)
        request.resendAt = now.advanced(byMilliseconds: timer.delay(sent: request.sendCount))
        if request.firstSent == nil { request.firstSent = now }
        request.sendCount += 1
        let isRepetition = request.sendCount > 1
        port.counters.update {
            $0.dispatchesSent += 1
            if isRepetition { $0.resends += 1 }
        }
        return true
    }

    /// Takes a request off the list.
    func remove(_ number: UInt64) -> PendingRequest? {
        guard let request = pending.removeValue(forKey: number) else { return nil }
        port.forget(number)
        if request.resendAt != nil, let load = outstanding[request.owner] {
            outstanding[request.owner] = (load.out - request.byteCount, load.back - request.answerByteCount)
        }
        return request
    }

    /// Gives the entries of a request to their present owners.
    func redispatch(_ number: UInt64) throws {
        guard let request = remove(number) else { return }
        port.counters.update { $0.redispatches += 1 }
        refreshLocalWeights()
        try place(request.share.members, scope: request.scope)
    }

    /// Keeps `owner` out of the choice for a while, so that another holder gets its turn.
    func exclude(_ owner: PeerIdentity, _ reason: ExchangeWait.Reason, milliseconds: UInt64) {
        excluded[owner] = (MonotonicInstant.now.advanced(byMilliseconds: milliseconds), reason)
    }
}
