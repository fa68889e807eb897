// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf

@testable import ClusterCore

let clusterTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "coordinator",
        seeds: { [ClusterSeeds.conversation, ClusterSeeds.strangeness].map(Pieces.join) },
        run: { bytes in
            var stage = CoordinatorStage()
            for piece in Pieces.split(bytes).prefix(64) { stage.take(piece) }
        }),
    FuzzTarget(
        name: "worker-session",
        seeds: { [Pieces.join(ClusterSeeds.orders)] },
        run: { bytes in
            var now = MonotonicInstant(nanoseconds: 1_000_000_000)
            var worker = WorkerSession(incarnation: 1, hello: WireHello(), now: now)
            var welcome = WireEnvelope()
            welcome.protocolVersion = clusterProtocolVersion
            welcome.epoch = 1
            welcome.incarnation = 7
            welcome.welcome.worker = 1
            _ = worker.apply(.message(welcome), at: now)
            for piece in Pieces.split(bytes).prefix(64) {
                now = now.advanced(byMilliseconds: 100)
                if let envelope = try? WireEnvelope(encoded: piece) { _ = worker.apply(.message(envelope), at: now) }
                _ = worker.apply(.tick(WireBeat()), at: now)
            }
        }),
    FuzzTarget(
        name: "records",
        seeds: { [ClusterSeeds.rollout.encoded(), ClusterSeeds.score.encoded()] },
        run: { bytes in
            guard let record = try? WireUnitResult(encoded: bytes) else { return }
            // Bytes are compared: a reward that is not a number equals nothing.
            require(
                (try? WireUnitResult(encoded: record.encoded()))?.encoded() == record.encoded(), "a record reads back")
            guard record.problem == nil else { return }
            _ = (record.sequence, record.digest, record.tokenCount, record.totalReward)
        }),
    FuzzTarget(
        name: "journal",
        seeds: { [Pieces.join(ClusterSeeds.journal.map { $0.encoded() })] },
        run: { bytes in
            let entries = Pieces.split(bytes).prefix(64).compactMap { try? WireJournalEntry(encoded: $0) }.filter {
                // The coordinator admits jobs of up to 20 million groups and keeps some words for each.
                $0.jobAdmitted.groupCount <= 1 << 16
            }
            var coordinator = Coordinator(state: DurableState(replaying: entries), incarnation: 9)
            for second in 1...3 {
                _ = coordinator.apply(.tick, at: MonotonicInstant(nanoseconds: UInt64(second) * 1_000_000_000))
            }
        }),
]

/// A coordinator with a job, and what workers and clients say to it.
private struct CoordinatorStage {
    private var coordinator: Coordinator
    private var now = MonotonicInstant(nanoseconds: 1_000_000_000)

    init() {
        coordinator = Coordinator(state: DurableState(), incarnation: 7, expectedWorkerCount: 1)
        _ = coordinator.apply(.tick, at: now)
        let admitted = WireJobAdmitted.with {
            $0.job = coordinator.state.nextJob
            $0.name = "job"
            $0.groupCount = 4
            $0.groupSize = 2
        }
        let model = WireModelDescription.with {
            $0.path = "model"
            $0.contentHash = "h"
            $0.trunkByteCount = 1 << 20
            $0.expertCount = 8
            $0.expertByteCount = 1 << 10
        }
        _ = coordinator.apply(
            .jobPrepared(
                .init(admitted: admitted, policy: model, scorer: nil, client: PeerIdentity("client"), request: 1)),
            at: now)
    }

    /// The first byte of a piece says what it is, and from whom.
    mutating func take(_ piece: [UInt8]) {
        guard let first = piece.first else { return }
        let rest = Array(piece.dropFirst())
        let peer = PeerIdentity(["a", "b", "c", "client"][Int(first >> 4 & 3)])
        switch first & 15 {
        case 0...7:
            guard let envelope = try? WireEnvelope(encoded: rest) else { return }
            let role: Role = peer.rawValue == "client" ? .admin : .worker
            apply(.message(envelope, from: peer, role: role))
        case 8...11:
            guard let result = try? WireUnitResult(encoded: rest) else { return }
            apply(.result(result, from: peer))
        case 12: apply(.connectionLost(peer))
        case 13: now = now.advanced(byMilliseconds: 5000)
        default: now = now.advanced(byMilliseconds: 100)
        }
        apply(.tick)
    }

    private mutating func apply(_ event: Coordinator.Event) { _ = coordinator.apply(event, at: now) }
}

private enum ClusterSeeds {
    static func envelope(_ fill: (inout WireEnvelope) -> Void) -> WireEnvelope {
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.epoch = 1
        envelope.incarnation = 7
        fill(&envelope)
        return envelope
    }

    static func said(_ kind: UInt8, _ fill: (inout WireEnvelope) -> Void) -> [UInt8] {
        [kind] + envelope(fill).encoded()
    }

    static func hello(_ envelope: inout WireEnvelope) {
        envelope.hello.numericsFingerprint = "f"
        envelope.hello.host = "h"
        envelope.hello.memoryByteCount = 1 << 40
        envelope.hello.threadCount = 1
    }

    static func beat(_ envelope: inout WireEnvelope) {
        envelope.beat.freeSlots = [
            .with {
                $0.model = 1
                $0.count = 8
            }
        ]
    }

    static func report(_ envelope: inout WireEnvelope) {
        envelope.shardReport.model = 1
        envelope.shardReport.epoch = .max
        envelope.shardReport.isTrunkReady = true
        envelope.shardReport.experts = [0, 1, 2, 3, 4, 5, 6, 7]
    }

    static var rollout: WireUnitResult {
        .with {
            $0.job = 1
            $0.lease = 1 << 40 | 1
            $0.numericsFingerprint = "f"
            $0.rollout = .with {
                $0.tokens = Data(littleEndian: [1, 2] as [Int32])
                $0.logProbs = Data(littleEndian: [-1, -2] as [Float])
                $0.entropies = $0.logProbs
                $0.forced = Data([0, 1])
                $0.outcome = "ok"
                $0.rewards = [
                    .with {
                        $0.name = "total"
                        $0.value = 1
                    }
                ]
            }
        }
    }

    static var score: WireUnitResult {
        .with {
            $0.job = 1
            $0.score = .with {
                $0.logProbs = Data(littleEndian: [-1, -2] as [Float])
                $0.entropies = $0.logProbs
            }
        }
    }

    /// Two workers that hold everything, work, and lose their connections.
    static var conversation: [[UInt8]] {
        [
            said(0x00, hello), said(0x10, hello), [13], said(0x00, report), said(0x10, report), said(0x00, beat),
            said(0x10, beat), [0x08] + rollout.encoded(), [0x18] + rollout.encoded(), [12], [13], said(0x00, hello),
        ]
    }

    static var strangeness: [[UInt8]] {
        [
            said(0x00, hello), said(0x00) { $0.unitFailed.lease = 1 << 40 | 1 },
            said(0x30) { $0.drainWorker.worker = 1 }, said(0x30) { $0.listWorkers = .init() },
            said(0x30) {
                $0.scaleModel.model = "model"
                $0.scaleModel.replicas = 2
            }, said(0x30) { $0.cancelJob.job = 1 }, said(0x00) { $0.goodbye.reason = "r" },
        ]
    }

    /// What a coordinator tells a worker.
    static var orders: [[UInt8]] {
        [
            envelope {
                $0.deploy = .with {
                    $0.model.id = 1
                    $0.epoch = 1
                    $0.experts = [0, 1]
                }
            },
            envelope {
                $0.grant = .with {
                    $0.lease = 5
                    $0.job = 1
                    $0.rollout = .with {
                        $0.siblings = [0, 1]
                        $0.prompt = Data(littleEndian: [1, 2, 3] as [Int32])
                        $0.row = "{}"
                    }
                }
            },
            envelope { $0.withdraw.lease = 5 },
            envelope {
                $0.resultAcknowledgement.job = 1
                $0.resultAcknowledgement.group = 0
            },
            envelope { $0.refusal.reason = .unspecified }, envelope { $0.stop.reason = "r" },
        ].map { $0.encoded() }
    }

    static var journal: [WireJournalEntry] {
        [
            .with { $0.epochStarted.epoch = 1 },
            .with {
                $0.jobAdmitted = .with {
                    $0.job = 1
                    $0.policyModel = 1
                    $0.groupCount = 2
                    $0.groupSize = 2
                }
            },
            .with {
                $0.unitRecorded = .with {
                    $0.job = 1
                    $0.group = 1
                    $0.digest = Data([1])
                    $0.reward = 1
                }
            },
            .with {
                $0.groupFailed = .with {
                    $0.job = 1
                    $0.reason = "r"
                }
            },
        ]
    }
}
