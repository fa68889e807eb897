// SPDX-License-Identifier: Apache-2.0
internal import ClusterTransport
internal import Qwen3
internal import RuntimeSupport

extension ClusterExpertExchange {
    private var isFinished: Bool { pending.isEmpty && orphans.isEmpty }

    /// Returns when the sums of all entries are in their slots.
    func waitForSums() throws {
        let since = MonotonicInstant.now
        var nextTick = since.advanced(byMilliseconds: settings.tickMilliseconds)
        while !isFinished {
            if flags.withLock({ $0.isCancelled }) { throw ExchangeError.cancelled }
            if let mail = mailbox.tryPop() {
                if case .answer(let message) = mail { try accept(message) }
                continue
            }
            try sendWhatFits()
            publishWait(since)
            try sleep(until: nextTick)
            let now = MonotonicInstant.now
            if now >= nextTick {
                try look(now)
                nextTick = now.advanced(byMilliseconds: settings.tickMilliseconds)
            }
        }
        flags.withLock { $0.waiting = nil }
    }

    /// Sleeps until there is mail or, when no answer is due because nobody holds what is left, a new table.
    private func sleep(until deadline: MonotonicInstant) throws {
        let start = MonotonicInstant.now
        if pending.isEmpty {
            if routing.wait(model: model, newerThan: table?.epoch, until: deadline) != nil {
                try followRoutes()
            }
        } else if let mail = mailbox.pop(until: deadline), case .answer(let message) = mail {
            try accept(message)
        }
        let slept = Double(MonotonicInstant.now.nanoseconds - start.nanoseconds) / 1e9
        port.counters.update { $0.secondsWaited += slept }
    }

    /// What has to be looked at now and then.
    private func look(_ now: MonotonicInstant) throws {
        try followRoutes()
        excluded = excluded.filter { $0.value.until > now }
        let homeless = orphans
        orphans.removeAll()
        if !homeless.isEmpty { refreshLocalWeights() }
        for (members, scope) in homeless { try place(members, scope: scope) }
        for number in pending.keys.sorted() {
            guard let request = pending[number] else { continue }
            if request.resendAt == nil, request.reason == .notConnected {
                // Another holder, if there is one, need not wait for a connection.
                exclude(request.owner, .notConnected, milliseconds: 2 * settings.tickMilliseconds)
                try redispatch(number)
            } else if let due = request.resendAt, due <= now {
                // What cannot be sent now is due again at the next tick.
                _ = try send(number)
            }
        }
    }

    /// Under a new table, requests whose owner no longer holds the experts go to those who do.
    private func followRoutes() throws {
        guard let current = routing.table(model: model), current.epoch != table?.epoch else { return }
        table = current
        excluded.removeAll()
        let homeless = orphans
        orphans.removeAll()
        refreshLocalWeights()
        for (members, scope) in homeless { try place(members, scope: scope) }
        for number in pending.keys.sorted() {
            guard let request = pending[number] else { continue }
            let stays = request.share.members.entries.allSatisfy { entry in
                let expert = Int(assignment.experts[Int(entry)])
                return expert < current.expertCount && current.holders[expert].contains(request.owner)
            }
            if !stays { try redispatch(number) }
        }
    }

    /// Takes in one answer.
    private func accept(_ message: Message) throws {
        let combine: Combine
        do {
            combine = try Combine(message.parts)
        } catch {
            return port.counters.update { $0.refusedFrames += 1 }
        }
        guard let request = pending[combine.request] else {
            return port.counters.update { $0.lateAnswers += 1 }
        }
        guard message.peer == request.owner, combine.topic == topic, combine.width == shape.hiddenSize else {
            return port.counters.update { $0.refusedFrames += 1 }
        }
        switch combine.status {
        case .ok:
            guard combine.rowCount == request.share.heads.count else {
                return port.counters.update { $0.refusedFrames += 1 }
            }
            if let backward {
                guard combine.entryGradients.count == request.share.members.entries.count else {
                    return port.counters.update { $0.refusedFrames += 1 }
                }
                for (entry, value) in zip(request.share.members.entries, combine.entryGradients) {
                    backward.entryGradients[Int(entry)] = value
                }
            }
            for (row, entry) in request.share.heads.enumerated() { combine.copyRow(row, to: slot(entry)) }
            markDone(request.share)
            if let sent = request.firstSent {
                timers[request.owner, default: ResendTimer(base: settings.resendMilliseconds)].note(
                    milliseconds: MonotonicInstant.now.milliseconds(since: sent))
            }
            _ = remove(combine.request)
        case .notHeld:
            exclude(request.owner, .notHeld, milliseconds: settings.resendMilliseconds)
            try redispatch(combine.request)
        case .failed:
            // Another attempt may find memory; it comes with the repetition that is due anyway.
            pending[combine.request]?.reason = .failed
            pending[combine.request]?.detail = combine.reason
        }
    }

    private func publishWait(_ since: MonotonicInstant) {
        var (peer, reason): (PeerIdentity?, ExchangeWait.Reason) = (nil, .noHolder)
        var (since, detail) = (since, "")
        if let oldest = pending.min(by: { $0.key < $1.key })?.value {
            (peer, reason, since) = (oldest.owner, oldest.reason, oldest.since)
            detail = oldest.detail
        } else if let (owner, exclusion) = excluded.min(by: { $0.key < $1.key }) {
            (peer, reason) = (owner, exclusion.reason)
        }
        let wait = ExchangeWait(
            peer: peer, layer: Int(topic.layer), since: since, reason: reason, requestCount: pending.count,
            detail: reason == .failed ? detail : "")
        flags.withLock { $0.waiting = wait }
    }
}
