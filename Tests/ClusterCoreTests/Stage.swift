// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf

@testable import ClusterCore

/// A coordinator under a clock that the test turns.
struct Stage {
    var coordinator: Coordinator
    var milliseconds: UInt64 = 1000
    var effects: [Coordinator.Effect] = []

    init(expected: Int = 1, canaryEvery: UInt64 = 0) {
        var times = ClusterTimes()
        times.canaryEvery = canaryEvery
        coordinator = Coordinator(
            state: DurableState(), incarnation: 7, expectedWorkerCount: expected, times: times)
        apply(.tick)
    }

    /// A fresh process with what is durable.
    mutating func restart() {
        coordinator = Coordinator(state: coordinator.state, incarnation: coordinator.incarnation + 1)
        apply(.tick)
    }

    var now: MonotonicInstant { MonotonicInstant(nanoseconds: milliseconds * 1_000_000) }

    mutating func apply(_ event: Coordinator.Event) { effects = coordinator.apply(event, at: now) }

    mutating func pass(_ duration: UInt64) {
        for _ in 0..<duration / 100 {
            milliseconds += 100
            apply(.tick)
        }
    }

    mutating func say(_ name: String, incarnation: UInt64, _ fill: (inout WireEnvelope) -> Void) {
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.incarnation = incarnation
        envelope.epoch = coordinator.state.epoch
        fill(&envelope)
        apply(.message(envelope, from: PeerIdentity(name), role: .worker))
    }

    mutating func hello(
        _ name: String, incarnation: UInt64, fingerprint: String = "f", memory: UInt64 = 1 << 40, shards: [UInt32] = [],
        judging: WireJudgingAbility = WireJudgingAbility()
    ) {
        say(name, incarnation: incarnation) {
            $0.hello.judging = judging
            $0.hello.numericsFingerprint = fingerprint
            $0.hello.host = name
            $0.hello.memoryByteCount = memory
            $0.hello.shards = shards.map { model in
                .with {
                    $0.model = model
                    $0.epoch = 1
                }
            }
        }
    }

    mutating func beat(_ name: String, incarnation: UInt64, slots: UInt32 = 4, leases: [UInt64] = []) {
        say(name, incarnation: incarnation) {
            $0.beat.leases = leases
            $0.beat.freeSlots = [
                .with {
                    $0.model = 1; $0.count = slots
                }
            ]
        }
    }

    /// What was sent to `name` in the last step.
    func sent(to name: String) -> [WireEnvelope] {
        effects.compactMap {
            if case .send(let envelope, let peer) = $0, peer.rawValue == name { envelope } else { nil }
        }
    }

    func refusals(to name: String) -> [WireRefusal.Reason] {
        sent(to: name).compactMap { if case .refusal(let refusal) = $0.body { refusal.reason } else { nil } }
    }

    mutating func admit(
        groups: UInt32 = 2, siblings: UInt32 = 1, trunk: UInt64 = 1 << 20, experts: UInt32 = 0,
        expertBytes: UInt64 = 0, path: String = "model", memoryPerWorker: UInt64 = 0,
        judging: WireJudgingNeeds = WireJudgingNeeds()
    ) {
        let admitted = WireJobAdmitted.with {
            $0.job = coordinator.state.nextJob
            $0.name = "job"
            $0.groupCount = groups
            $0.groupSize = siblings
            $0.memoryByteCountPerWorker = memoryPerWorker
            $0.judging = judging
        }
        let model = WireModelDescription.with {
            $0.path = path
            $0.contentHash = path == "model" ? "h" : path
            $0.trunkByteCount = trunk
            $0.expertCount = experts
            $0.expertByteCount = expertBytes
        }
        apply(
            .jobPrepared(
                .init(admitted: admitted, policy: model, scorer: nil, client: PeerIdentity("client"), request: 1)))
    }

    mutating func ready(_ name: String, incarnation: UInt64) {
        say(name, incarnation: incarnation) {
            $0.shardReport = .with {
                $0.model = 1; $0.epoch = .max; $0.isTrunkReady = true
            }
        }
    }

    var grants: [(lease: Lease, to: String)] {
        effects.compactMap {
            if case .grant(let lease, _, _, _, let peer) = $0 { (lease, peer.rawValue) } else { nil }
        }
    }

    func result(_ lease: UInt64, group: UInt32, tokens: [Int32] = [1, 2]) -> WireUnitResult {
        .with {
            $0.job = 1
            $0.lease = lease
            $0.numericsFingerprint = "f"
            $0.rollout = .with {
                $0.group = group
                $0.tokens = Data(littleEndian: tokens)
                $0.logProbs = Data(littleEndian: tokens.map { -Float($0) })
                $0.entropies = Data(littleEndian: tokens.map { Float($0) })
                $0.forced = Data(repeating: 0, count: tokens.count)
                $0.outcome = "ok"
            }
        }
    }
}
