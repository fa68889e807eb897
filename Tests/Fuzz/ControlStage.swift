// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf

@testable import ClusterCore

/// A coordinator with two workers and a running job, and a worker that was welcomed: what a message meets.
struct ControlStage {
    var coordinator = Coordinator(state: DurableState(), incarnation: 7, expectedWorkerCount: 2)
    var worker = WorkerSession(incarnation: 1, hello: WireHello(), now: MonotonicInstant(nanoseconds: 0))
    private var milliseconds: UInt64 = 1000

    var now: MonotonicInstant { MonotonicInstant(nanoseconds: milliseconds * 1_000_000) }

    init() {
        _ = coordinator.apply(.tick, at: now)
        for (index, name) in ["a", "b"].enumerated() {
            say(name, incarnation: UInt64(index + 1)) {
                $0.hello = .with {
                    $0.numericsFingerprint = "f"
                    $0.memoryByteCount = 1 << 40
                }
            }
        }
        let admitted = WireJobAdmitted.with {
            $0.job = coordinator.state.nextJob
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
        for incarnation in [1, 2] as [UInt64] {
            say(incarnation == 1 ? "a" : "b", incarnation: incarnation) {
                $0.shardReport = .with {
                    $0.model = 1
                    $0.isTrunkReady = true
                    $0.experts = Array(0..<8)
                }
            }
        }
        _ = worker.apply(.connected, at: now)
        _ = worker.apply(
            .message(
                .with {
                    $0.epoch = 1; $0.welcome.worker = 1
                }), at: now)
    }

    private mutating func say(_ name: String, incarnation: UInt64, _ fill: (inout WireEnvelope) -> Void) {
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.incarnation = incarnation
        envelope.epoch = coordinator.state.epoch
        fill(&envelope)
        _ = coordinator.apply(.message(envelope, from: PeerIdentity(name), role: .worker), at: now)
    }

    /// Gives a message to both sides, then lets time pass.
    mutating func hear(_ envelope: WireEnvelope, _ manner: UInt8) {
        let role = [Role.worker, .worker, .submit, .admin][Int(manner >> 2 & 3)]
        let peer = PeerIdentity(role == .worker ? (envelope.incarnation == 2 ? "b" : "a") : "client")
        _ = coordinator.apply(.message(envelope, from: peer, role: role), at: now)
        _ = worker.apply(.message(envelope), at: now)
        milliseconds += manner & 16 == 0 ? 100 : 3000
        _ = coordinator.apply(.tick, at: now)
        _ = worker.apply(.tick(WireBeat()), at: now)
    }
}

/// Control messages, records and journal entries as they really travel.
enum ControlSeeds {
    static var envelopes: [[UInt8]] {
        let bodies: [(UInt8, (inout WireEnvelope) -> Void)] = [
            (
                0,
                {
                    $0.hello = .with {
                        $0.host = "h";
                        $0.leases = [
                            .with {
                                $0.lease = 1; $0.job = 1
                            }
                        ]
                    }
                }
            ),
            (
                0,
                {
                    $0.beat = .with {
                        $0.freeSlots = [
                            .with {
                                $0.model = 1; $0.count = 4
                            }
                        ]; $0.leases = [1]
                    }
                }
            ),
            (
                0,
                {
                    $0.shardReport = .with {
                        $0.model = 1; $0.experts = [1, 2]; $0.epoch = 1
                    }
                }
            ),
            (0, { $0.peerAllowed.identity = "b" }),
            (
                0,
                {
                    $0.unitFailed = .with {
                        $0.lease = 1 << 40 | 1; $0.reason = "r"
                    }
                }
            ),
            (0, { $0.goodbye.reason = "r" }),
            (0, { $0.trainReady = WireTrainReady() }),
            (0, { $0.stepSealed = WireStepSealed() }),
            (0, { $0.stepApplied = WireStepApplied() }),
            (0, { $0.snapshotWritten = WireSnapshotWritten() }),
            (0, { $0.trainFailed = WireTrainFailed() }),
            (8, { $0.listJobs = WireListJobs() }),
            (12, { $0.cancelJob.job = 1 }),
            (8, { $0.listWorkers = WireListWorkers() }),
            (0, { $0.welcome.worker = 2 }),
            (0, { $0.refusal.reason = .unknownWorker }),
            (
                0,
                {
                    $0.allowPeer = .with {
                        $0.worker = 2; $0.identity = "b"
                    }
                }
            ),
            (
                0,
                {
                    $0.deploy = .with {
                        $0.model.id = 1; $0.experts = [1]
                    }
                }
            ),
            (
                0,
                {
                    $0.routes = .with {
                        $0.model = 1; $0.holders = [.with { $0.workers = [1] }]
                    }
                }
            ),
            (
                0,
                {
                    $0.grant = .with {
                        $0.lease = 5
                        $0.rollout = .with {
                            $0.siblings = [0, 1]; $0.prompt = Data([1, 0, 0, 0])
                        }
                    }
                }
            ),
            (0, { $0.withdraw.lease = 5 }),
            (0, { $0.resultAcknowledgement.job = 1 }),
        ]
        let messages = bodies.map { manner, fill in
            var envelope = WireEnvelope()
            envelope.protocolVersion = clusterProtocolVersion
            fill(&envelope)
            return [manner] + envelope.encoded()
        }
        return messages.map { Parts.join([$0]) } + [Parts.join(Array(messages.prefix(8)))]
    }

    static var records: [[UInt8]] {
        let rollout = WireUnitResult.with {
            $0.job = 1
            $0.lease = 1 << 40 | 1
            $0.rollout = .with {
                $0.tokens = Data(littleEndian: [1, 2] as [Int32])
                $0.logProbs = Data(littleEndian: [-1, -2] as [Float])
                $0.entropies = $0.logProbs
                $0.forced = Data([0, 1])
                $0.outcome = "ok"
                $0.rewards = [
                    .with {
                        $0.name = "total"; $0.value = 1
                    }
                ]
            }
        }
        let score = WireUnitResult.with {
            $0.job = 1
            $0.score = .with {
                $0.logProbs = Data(littleEndian: [-1] as [Float])
                $0.entropies = $0.logProbs
                $0.topK = 1
                $0.topIds = Data(littleEndian: [4] as [Int32])
                $0.topLogProbs = $0.logProbs
                $0.tailMass = $0.logProbs
            }
        }
        return [rollout.encoded(), score.encoded()]
    }

    static var journal: [[UInt8]] {
        let entries: [WireJournalEntry] = [
            .with { $0.epochStarted.epoch = 1 },
            .with {
                $0.modelRegistered.model = .with {
                    $0.id = 1; $0.path = "m"; $0.trunkByteCount = 9
                }
            },
            .with {
                $0.jobAdmitted = .with {
                    $0.job = 1; $0.policyModel = 1; $0.groupCount = 2; $0.groupSize = 2
                }
            },
            .with {
                $0.unitRecorded = .with {
                    $0.job = 1; $0.group = 1; $0.digest = Data([1]); $0.reward = 1
                }
            },
            .with {
                $0.groupFailed = .with {
                    $0.job = 1; $0.group = 0; $0.reason = "r"
                }
            },
            .with {
                $0.stepPrepared = .with {
                    $0.job = 1; $0.version = 0
                }
            },
            .with {
                $0.stepCommitted = .with {
                    $0.job = 1; $0.version = 0; $0.digest = Data([2])
                }
            },
            .with { $0.snapshotTaken.job = 1 },
            .with { $0.jobEnded.job = 1 },
        ]
        return entries.map { $0.encoded() }
    }
}
