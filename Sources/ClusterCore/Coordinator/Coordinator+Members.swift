// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport
internal import SwiftProtobuf

extension Coordinator {
    /// Live workers in order of joining.
    var liveWorkers: [WorkerNumber] { members.keys.sorted() }

    /// Those of them that the job's models are placed on.
    var usedWorkers: [WorkerNumber] { liveWorkers.filter { members[$0]?.isLeftOut == false } }

    func number(of peer: PeerIdentity) -> WorkerNumber? { members.values.first { $0.identity == peer }?.number }

    /// The worker that sent `envelope`, if this incarnation was welcomed in this epoch; it is told otherwise.
    mutating func knownWorker(_ envelope: WireEnvelope, from peer: PeerIdentity) -> WorkerNumber? {
        if retired.contains(envelope.incarnation) {
            refuse(
                peer, envelope.incarnation, .retired,
                "this process was silent or stuck for too long and its work was given to others")
            return nil
        }
        guard let number = number(of: peer), members[number]?.incarnation == envelope.incarnation,
            envelope.epoch == state.epoch
        else {
            refuse(peer, envelope.incarnation, .unknownWorker, "say hello first")
            return nil
        }
        return number
    }

    mutating func refuse(_ peer: PeerIdentity, _ incarnation: UInt64, _ reason: WireRefusal.Reason, _ text: String) {
        send(to: peer, recipient: incarnation) {
            $0.refusal.reason = reason
            $0.refusal.text = text
        }
    }

    mutating func greet(_ envelope: WireEnvelope, _ hello: WireHello, from peer: PeerIdentity, _ now: MonotonicInstant)
    {
        guard envelope.protocolVersion == clusterProtocolVersion else {
            let text =
                "the worker (version \(hello.version)) speaks protocol \(envelope.protocolVersion), the "
                + "coordinator \(clusterProtocolVersion): run the same version of apus on every host"
            refuse(peer, envelope.incarnation, .version, text)
            return log("refused a worker on \(hello.host): \(text)")
        }
        if retired.contains(envelope.incarnation) {
            return refuse(
                peer, envelope.incarnation, .retired,
                "this process was silent or stuck for too long and its work was given to others")
        }
        if let reason = quarantined[peer] {
            refuse(peer, envelope.incarnation, .quarantined, reason)
            return log("refused \(hello.host), which is in quarantine: \(reason)")
        }
        guard numericsFingerprint == nil || numericsFingerprint == hello.numericsFingerprint else {
            let theirs = Set(hello.numericsFingerprint.split(separator: " "))
            let ours = Set(numericsFingerprint!.split(separator: " "))
            let kernels = Set(theirs.symmetricDifference(ours).map { String($0.prefix { $0 != ":" }) }).sorted()
            let text =
                "kernels of \(hello.host) give other bits than the cluster's (\(kernels.joined(separator: ", "))): run the "
                + "same version of apus on every host, without APUS_ISA overrides"
            refuse(peer, envelope.incarnation, .numerics, text)
            return log("refused a worker: \(text)")
        }
        if let number = number(of: peer) {
            if members[number]?.incarnation == envelope.incarnation {
                members[number]?.lastHeard = now
                members[number]?.lostUntil = nil
                for report in hello.shards { members[number]?.reports[report.model] = report }
                synchronize(number)
                for report in hello.shards { note(report, of: number, now) }
                return
            }
            bury(number, "restarted")
        }
        lastWorkerNumber += 1
        var member = Member(
            number: lastWorkerNumber, identity: peer, incarnation: envelope.incarnation, hello: hello, now: now)
        for report in hello.shards { member.reports[report.model] = report }
        member.isDraining = state.isDrained(peer, envelope.incarnation)
        members[member.number] = member
        numericsFingerprint = hello.numericsFingerprint
        if firstJoin == nil { firstJoin = now }
        log("\(member.name) joined with \(hello.threadCount) threads and \(gibibytes(hello.memoryByteCount))")
        synchronize(member.number)
        for report in hello.shards { note(report, of: member.number, now) }
        for held in hello.leases where held.job == current?.id {
            let group = Int(held.group)
            let unit: WorkUnit =
                held.isScore ? .score(SequenceID(group: group, sibling: Int(held.sibling))) : .rollout(group: group)
            current?.ledger.adopt(unit, by: member.number, lease: held.lease, attempt: held.attempt, now: now)
        }
    }

    /// Tells a worker, new or back after a broken connection, all that it must know.
    private mutating func synchronize(_ number: WorkerNumber) {
        guard let member = members[number] else { return }
        let others = members.values.filter { $0.number != number }.map(\.identity.rawValue).sorted()
        let firstEpoch = firstTrainingEpoch
        send(to: member.identity) {
            $0.welcome = .with {
                $0.worker = number
                $0.firstTrainingEpoch = firstEpoch
                $0.peers = others
            }
        }
        // Orders and cells may have been lost with its connection.
        current?.training?.orderedAt = MonotonicInstant(nanoseconds: 0)
        for other in members.values.sorted(by: { $0.number < $1.number }) where other.number != number {
            send(to: member.identity) {
                $0.allowPeer = .with {
                    $0.worker = other.number; $0.identity = other.identity.rawValue
                }
            }
            send(to: other.identity) {
                $0.allowPeer = .with {
                    $0.worker = number; $0.identity = member.identity.rawValue
                }
            }
        }
        if fault == .returnersAreNotTold { return }
        for id in deployments.keys { deployments[id]?.forgetSent(number) }
    }

    /// A worker has let a peer's key in: of two workers the later one dials, and only after that.
    mutating func introduce(_ allowed: WirePeerAllowed, by number: WorkerNumber) {
        guard let member = members[number], let newcomer = self.number(of: PeerIdentity(allowed.identity)),
            newcomer > number
        else { return }
        send(to: PeerIdentity(allowed.identity)) {
            $0.connectPeer = .with {
                $0.worker = number
                $0.identity = member.identity.rawValue
                $0.endpoints = member.hello.endpoints
            }
        }
    }

    mutating func note(_ beat: WireBeat, of number: WorkerNumber, _ now: MonotonicInstant) {
        guard var member = members[number] else { return }
        let isBusy = isBusy(number)
        if beat.progress != member.beat.progress || !beat.waitingFor.isEmpty || !isBusy { member.lastProgress = now }
        member.beat = beat
        if beat.isLeaving, !member.isDraining {
            member.isDraining = true
            log("\(member.name) wants to leave")
        }
        member.grantedSinceBeat = [:]
        members[number] = member
        reconcile(number, beat.leases, now)
        send(to: member.identity) { $0.done = WireDone() }  // so that the worker hears that we live
    }

    mutating func connectionLost(_ peer: PeerIdentity, _ now: MonotonicInstant) {
        guard let number = number(of: peer), members[number]?.lostUntil == nil else { return }
        members[number]?.lostUntil = now.advanced(byMilliseconds: times.silenceAfterLoss)
    }

    /// A coordinator that was stopped or waited for a disk heard nobody meanwhile; that is not their silence.
    mutating func forgiveOwnPause(_ now: MonotonicInstant) {
        defer { lastTick = now }
        guard let lastTick, now.milliseconds(since: lastTick) > 1000 else { return }
        for number in members.keys {
            members[number]?.lastHeard = now
            members[number]?.lastProgress = now
            if members[number]?.lostUntil != nil {
                members[number]?.lostUntil = now.advanced(byMilliseconds: times.silenceAfterLoss)
            }
        }
    }

    mutating func checkMembers(_ now: MonotonicInstant) {
        for member in members.values.sorted(by: { $0.number < $1.number }) {
            let silent = now.milliseconds(since: member.lastHeard)
            if silent > times.silence {
                bury(member.number, "silent for \(silent) ms")
            } else if let until = member.lostUntil, now > until {
                bury(member.number, "its connection broke and it did not come back")
            } else {
                let stands = now.milliseconds(since: member.lastProgress)
                let hasLeases = current?.ledger.leases(of: member.number).isEmpty == false
                guard stands > (hasLeases ? times.stall : times.standstill) else { continue }
                bury(member.number, "no progress for \(stands / 1000) s (\(member.beat.activity))")
            }
        }
    }

    /// Whether something is to come from a worker.
    private func isBusy(_ worker: WorkerNumber) -> Bool {
        current?.ledger.leases(of: worker).isEmpty == false || current?.training?.owing.contains(worker) == true
            || deployments.values.contains { $0.isLoading(worker) }
    }

    /// Shuts a key out: its results were wrong.
    mutating func quarantine(_ number: WorkerNumber, _ reason: String) {
        guard let identity = members[number]?.identity else { return }
        quarantined[identity] = "\(reason); check the host's memory and processor, then restart the coordinator"
        bury(number, reason)
    }

    /// Declares a worker dead: its incarnation is never listened to again, its work is open again.
    mutating func bury(_ number: WorkerNumber, _ reason: String) {
        guard let member = members.removeValue(forKey: number) else { return }
        retired.insert(member.incarnation)
        log("\(member.name) is gone: \(reason)")
        for other in members.values.sorted(by: { $0.number < $1.number }) {
            send(to: other.identity) {
                $0.forgetPeer = .with {
                    $0.worker = number; $0.identity = member.identity.rawValue
                }
            }
        }
        refuse(member.identity, member.incarnation, .retired, reason)
        for id in deployments.keys { deployments[id]?.remove(number) }
        if fault == .deadKeepLeases { return }
        for unit in current?.ledger.workerDied(number) ?? [] where fault != .poisonIsEndless {
            failGroup(unit.group, "\(WorkLedger.poisonCount) workers died while they worked on it alone")
        }
    }
}

/// A byte count for people.
func gibibytes(_ count: UInt64) -> String {
    let tenths = (count * 10 + (1 << 29)) >> 30
    return count < 1 << 30 ? "\(count >> 20) MiB" : "\(tenths / 10).\(tenths % 10) GiB"
}
