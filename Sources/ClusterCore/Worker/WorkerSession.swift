// SPDX-License-Identifier: Apache-2.0
//
// A worker's side of the conversation as a pure reducer: says hello until welcomed, beats, keeps every finished record
// until the coordinator has it on disk, and knows when to give up.
package import ClusterProtocol
package import RuntimeSupport
internal import SwiftProtobuf

/// What a worker process knows of its coordinator, its leases and its unacknowledged results.
package struct WorkerSession: Sendable {
    package enum Event: Sendable {
        /// At least every 100 ms, with the beat that would be sent now.
        case tick(WireBeat)
        /// The control connection to the coordinator stands (again).
        case connected
        case message(WireEnvelope)
        /// A sequence of a lease is finished.
        case finished(WireUnitResult)
        /// All sequences of a lease are finished, or it could not be worked on.
        case leaseEnded(UInt64, failure: WireUnitFailed?)
        /// What is held of a model changed.
        case shards(WireShardReport)
        /// Leave: take nothing new, finish what is in hand, or give it back when the time (in ms) is over. Said again,
        /// the shorter time counts.
        case drain(String, milliseconds: UInt64, exitCode: Int32)
        /// Something for the coordinator; it asks again for what is lost.
        case report(WireEnvelope)
        /// Something that was said did not get out, or something that was said to us found no room: all that counts is
        /// said again with a hello.
        case messageLost
    }

    package enum Effect: Sendable {
        case send(WireEnvelope)
        /// Send (again) a finished record on the bulk channel.
        case transfer(WireUnitResult)
        /// Something for the engine, the loader or the peers.
        case perform(WireEnvelope)
        case work(WireGrant)
        case abandon(lease: UInt64)
        /// End the process: 75 asks the supervisor for a fresh start.
        case exit(code: Int32, String)
        case log(String)
    }

    /// Milliseconds.
    package struct Times: Sendable {
        package var beat: UInt64 = 500
        /// Between two beats when places have become free: nothing is granted for a place that was not spoken of.
        package var earlyBeat: UInt64 = 50
        package var hello: UInt64 = 1000
        package var resend: UInt64 = 2000
        /// Longest wait for the answer to a goodbye: what is sent just before a socket closes may be lost.
        package var goodbye: UInt64 = 1000
        /// Without a word from the coordinator for this long the process ends.
        package var orphan: UInt64 = 120_000
        package init() {}
    }

    /// A grant whose records are not all made: generation may have ended while rewards are still computed.
    private struct Running {
        let grant: WireGrant
        var missing: Int
    }

    private struct Drain {
        let reason: String
        var deadline: MonotonicInstant
        let exitCode: Int32
        /// When goodbye was said; the coordinator's answer ends the process.
        var goodbye: MonotonicInstant?
    }

    private struct Waiting {
        let result: WireUnitResult
        var sent: MonotonicInstant
    }
    private struct Key: Hashable, Comparable {
        let job: UInt64
        let isScore: Bool
        let sequence: SequenceID
        static func < (a: Self, b: Self) -> Bool {
            (a.job, a.isScore ? 1 : 0, a.sequence) < (b.job, b.isScore ? 1 : 0, b.sequence)
        }
    }

    package let incarnation: UInt64
    private let hello: WireHello
    private let times: Times
    /// Set by the simulation alone.
    private let fault: PlantedFault?
    /// Of the coordinator that welcomed us; 0 before.
    package private(set) var epoch: UInt64 = 0
    package private(set) var worker: WorkerNumber?
    private var running: [UInt64: Running] = [:]
    private var unacknowledged: [Key: Waiting] = [:]
    private var reports: [UInt32: WireShardReport] = [:]
    /// Of each model that is deployed the first deploy since it was undeployed last: what the loader still says of earlier
    /// ones tells of what is gone.
    private var firstDeploys: [UInt32: UInt64] = [:]
    private var lastHeard: MonotonicInstant
    private var lastHello: MonotonicInstant?
    private var lastBeat: MonotonicInstant?
    private var drain: Drain?
    private var hasLost = false
    /// Of each model the fewest free places since the last beat.
    private var fewestFree: [UInt32: UInt32] = [:]
    private var effects: [Effect] = []

    package init(
        incarnation: UInt64, hello: WireHello, now: MonotonicInstant, times: Times = Times(), fault: PlantedFault? = nil
    ) {
        self.fault = fault
        self.incarnation = incarnation
        self.hello = hello
        self.times = times
        lastHeard = now
    }

    package var unacknowledgedCount: Int { unacknowledged.count }

    /// Leases in hand: under way, or finished with a record that is not acknowledged yet.
    package var leases: [UInt64] { Set(running.keys).union(unacknowledged.values.map(\.result.lease)).sorted() }

    /// Takes one event; the effects are to be executed in order.
    package mutating func apply(_ event: Event, at now: MonotonicInstant) -> [Effect] {
        switch event {
        case .tick(let beat): tick(beat, now)
        case .connected: sayHello(now)
        case .message(let envelope): receive(envelope, now)
        case .finished(let result):
            let (sequence, isScore) = result.sequence
            unacknowledged[Key(job: result.job, isScore: isScore, sequence: sequence)] = Waiting(
                result: result, sent: now)
            running[result.lease]?.missing -= 1
            if running[result.lease]?.missing == 0 { running[result.lease] = nil }
            effects.append(.transfer(result))
        case .leaseEnded(let lease, let failure):
            guard let failure else { break }  // its last records come from the verifiers
            running[lease] = nil
            send { $0.unitFailed = failure }
        case .shards(let report):
            guard let first = firstDeploys[report.model], report.epoch >= first else { break }
            reports[report.model] = report
            if worker != nil { send { $0.shardReport = report } }
        case .drain(let reason, let milliseconds, let exitCode):
            let deadline = now.advanced(byMilliseconds: milliseconds)
            if drain == nil { drain = Drain(reason: reason, deadline: deadline, exitCode: exitCode) }
            drain!.deadline = min(drain!.deadline, deadline)
            lastBeat = nil
        case .report(let envelope): if worker != nil { send { $0.body = envelope.body } }
        case .messageLost: hasLost = true
        }
        defer { effects = [] }
        return effects
    }

    private mutating func tick(_ beat: WireBeat, _ now: MonotonicInstant) {
        if let drain, isLeaving(drain, now) { return }
        if now.milliseconds(since: lastHeard) > times.orphan {
            effects.append(.exit(code: 4, "no word from the coordinator for \(times.orphan / 1000) s"))
            return
        }
        guard worker != nil else {
            if now.milliseconds(since: lastHello ?? lastHeard) >= times.hello { sayHello(now) }
            return
        }
        if hasLost, now.milliseconds(since: lastHello ?? lastHeard) >= times.hello { return sayHello(now) }
        let hasNewPlaces = beat.freeSlots.contains { $0.count > fewestFree[$0.model] ?? $0.count }
        for slots in beat.freeSlots {
            fewestFree[slots.model] = min(slots.count, fewestFree[slots.model] ?? slots.count)
        }
        if lastBeat.map({ now.milliseconds(since: $0) >= (hasNewPlaces ? times.earlyBeat : times.beat) }) ?? true {
            lastBeat = now
            fewestFree = [:]
            for slots in beat.freeSlots { fewestFree[slots.model] = slots.count }
            var beat = beat
            beat.leases = leases
            if drain != nil {
                beat.freeSlots = []
                beat.isLeaving = true
            }
            send { $0.beat = beat }
        }
        if fault == .recordsAreSentOnce { return }
        for key in unacknowledged.keys.sorted() {
            guard let waiting = unacknowledged[key], now.milliseconds(since: waiting.sent) >= times.resend else {
                continue
            }
            unacknowledged[key]?.sent = now
            effects.append(.transfer(waiting.result))
        }
    }

    /// Whether there is nothing left to do but to say goodbye, give back what is not finished, and end.
    private mutating func isLeaving(_ drain: Drain, _ now: MonotonicInstant) -> Bool {
        if let goodbye = drain.goodbye {
            if now.milliseconds(since: goodbye) >= times.goodbye { end(drain) }
            return true
        }
        // Others may need what a member holds: the coordinator says when it can go.
        let isIdle = running.isEmpty && unacknowledged.isEmpty
        guard (isIdle && worker == nil) || now >= drain.deadline else { return false }
        for lease in running.keys.sorted() {
            effects.append(.abandon(lease: lease))
            giveBack(lease)
        }
        if !unacknowledged.isEmpty {
            effects.append(.log("\(unacknowledged.count) records were not acknowledged and will be computed again"))
        }
        send { $0.goodbye.reason = drain.reason }
        self.drain?.goodbye = now
        if worker == nil { end(drain) }  // nobody knows us
        return true
    }

    private mutating func end(_ drain: Drain) { effects.append(.exit(code: drain.exitCode, drain.reason)) }

    private mutating func giveBack(_ lease: UInt64) {
        send {
            $0.unitFailed = .with {
                $0.lease = lease
                $0.reason = "the worker leaves"
                $0.isWorkerAtFault = true
            }
        }
    }

    private mutating func sayHello(_ now: MonotonicInstant) {
        if fault == .helloIsSaidOnce, lastHello != nil { return }
        lastHello = now
        hasLost = false
        worker = nil
        var hello = hello
        hello.shards = reports.values.sorted { $0.model < $1.model }
        hello.leases = running.values.map(\.grant).sorted { $0.lease < $1.lease }.map(\.held)
        send { $0.hello = hello }
    }

    private mutating func receive(_ envelope: WireEnvelope, _ now: MonotonicInstant) {
        guard envelope.epoch >= epoch else { return }  // from a coordinator that was replaced
        guard envelope.recipient == 0 || envelope.recipient == incarnation else { return }  // for an earlier process
        lastHeard = now
        switch envelope.body {
        case .welcome(let welcome):
            epoch = envelope.epoch
            if worker == nil { effects.append(.log("welcomed as worker \(welcome.worker) in epoch \(epoch)")) }
            worker = welcome.worker
            lastBeat = nil
            for key in unacknowledged.keys.sorted() where fault != .recordsAreSentOnce {
                unacknowledged[key]?.sent = now
                effects.append(.transfer(unacknowledged[key]!.result))
            }
            effects.append(.perform(envelope))
        case .refusal(let refusal): refused(refusal, now)
        case .grant(let grant):
            if running[grant.lease] != nil { return }
            if drain != nil { return giveBack(grant.lease) }
            running[grant.lease] = Running(grant: grant, missing: grant.sequenceCount)
            effects.append(.work(grant))
        case .withdraw(let withdraw):
            running[withdraw.lease] = nil
            effects.append(.abandon(lease: withdraw.lease))
        case .resultAcknowledgement(let acknowledged):
            let sequence = SequenceID(group: Int(acknowledged.group), sibling: Int(acknowledged.sibling))
            unacknowledged[Key(job: acknowledged.job, isScore: acknowledged.isScore, sequence: sequence)] = nil
        case .deploy(let deploy):
            // What it does not name is let go before the next report: nobody is to hear meanwhile that it is held.
            if firstDeploys[deploy.model.id] == nil { firstDeploys[deploy.model.id] = deploy.epoch }
            reports[deploy.model.id]?.experts.removeAll { !deploy.experts.contains($0) }
            effects.append(.perform(envelope))
        case .undeploy(let undeploy):
            reports[undeploy.model] = nil
            firstDeploys[undeploy.model] = nil
            effects.append(.perform(envelope))
        case .stop(let stop): effects.append(.exit(code: drain?.exitCode ?? 0, drain?.reason ?? stop.reason))
        case .done, nil: break
        default: effects.append(.perform(envelope))
        }
    }

    private mutating func refused(_ refusal: WireRefusal, _ now: MonotonicInstant) {
        if let drain, drain.goodbye != nil { return end(drain) }
        switch refusal.reason {
        case .unknownWorker: if lastHello.map({ now.milliseconds(since: $0) >= 100 }) ?? true { sayHello(now) }
        case .retired: effects.append(.exit(code: 75, refusal.text))
        default: effects.append(.exit(code: 4, "the coordinator refused this worker: \(refusal.text)"))
        }
    }

    private mutating func send(_ fill: (inout WireEnvelope) -> Void) {
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.epoch = epoch
        envelope.incarnation = incarnation
        fill(&envelope)
        effects.append(.send(envelope))
    }
}

extension WireGrant {
    /// Records that it asks for.
    fileprivate var sequenceCount: Int { if case .rollout(let group) = work { group.siblings.count } else { 1 } }

    fileprivate var held: WireHeldLease {
        .with {
            $0.lease = lease
            $0.job = job
            $0.attempt = attempt
            switch work {
            case .rollout(let group): $0.group = group.group
            case .score(let sequence):
                $0.isScore = true
                $0.group = sequence.group
                $0.sibling = sequence.sibling
            case nil: break
            }
        }
    }
}
