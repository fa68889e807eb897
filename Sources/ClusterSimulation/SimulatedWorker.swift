// SPDX-License-Identifier: Apache-2.0
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import RuntimeSupport
internal import SwiftProtobuf

/// A worker process: the real session around a pretended engine.
struct SimulatedWorker {
    let index: Int
    let identity: PeerIdentity
    /// Grows with each start; what was scheduled for an earlier life is void.
    var lifetime = 0
    var isAlive = false
    var session: WorkerSession?
    /// 0 while the connection is broken.
    var connection = 0
    var stalledUntil: UInt64 = 0
    /// Latest deliveries each way: a connection keeps its order.
    var lastIn: UInt64 = 0
    var lastOut: UInt64 = 0
    /// Work in hand: what is scheduled for other leases is void.
    var leases: Set<UInt64> = []
    var deploys: [UInt32: WireDeploy] = [:]
    var held: [UInt32: Set<UInt32>] = [:]
    var trunks: Set<UInt32> = []
    /// A broken machine whose arithmetic is wrong.
    var isCorrupt = false

    init(index: Int) {
        self.index = index
        identity = PeerIdentity("worker-\(index)")
    }

    static let incarnationStride: UInt64 = 1000
    var incarnation: UInt64 { UInt64(index + 1) * Self.incarnationStride + UInt64(lifetime) }

    mutating func start(at now: MonotonicInstant, fault: PlantedFault?) {
        lifetime += 1
        isAlive = true
        connection = 0
        leases = []
        deploys = [:]
        held = [:]
        trunks = []
        session = WorkerSession(
            incarnation: incarnation,
            hello: .with {
                $0.numericsFingerprint = "equal"
                $0.host = "host-\(index)"
                $0.memoryByteCount = 1 << 40
            }, now: now, fault: fault)
    }

    mutating func die() {
        isAlive = false
        session = nil
        connection = 0
        leases = []
    }

    func beat() -> WireBeat {
        .with {
            $0.progress = UInt64(leases.count)
            $0.waitingFor = leases.isEmpty ? "" : "pretended work"
            for model in trunks.sorted() {
                $0.freeSlots.append(
                    .with {
                        $0.model = model; $0.count = UInt32(max(0, 8 - 2 * leases.count))
                    })
            }
        }
    }

    func report(_ deploy: WireDeploy) -> WireShardReport {
        .with {
            $0.model = deploy.model.id
            $0.epoch = deploy.epoch
            $0.isTrunkReady = trunks.contains(deploy.model.id)
            $0.experts = held[deploy.model.id, default: []].sorted()
        }
    }
}

/// What every honest execution of a sequence gives.
enum PretendedModel {
    static func record(job: UInt64, grant: WireGrant, sibling: UInt32, incarnation: UInt64, isCorrupt: Bool)
        -> WireUnitResult
    {
        .with {
            $0.lease = grant.lease
            $0.job = job
            $0.attempt = grant.attempt
            $0.incarnation = incarnation
            $0.numericsFingerprint = "equal"
            switch grant.work {
            case .rollout(let group):
                let tokens = [Int32(job), Int32(group.group), Int32(sibling)] + (isCorrupt ? [13] : [7])
                $0.rollout = .with {
                    $0.group = group.group
                    $0.sibling = sibling
                    $0.tokens = Data(littleEndian: tokens)
                    $0.logProbs = Data(littleEndian: tokens.map { -Float($0) })
                    $0.entropies = Data(littleEndian: tokens.map { Float($0) })
                    $0.forced = Data(repeating: 0, count: tokens.count)
                    $0.finishReason = "stop"
                    $0.outcome = "ok"
                }
            case .score(let sequence):
                $0.score = .with {
                    $0.group = sequence.group
                    $0.sibling = sequence.sibling
                    $0.logProbs = Data(littleEndian: [isCorrupt ? -1 : Float(-2), Float(sequence.group)])
                    $0.entropies = Data(littleEndian: [Float(1), 1])
                }
            case nil: break
            }
        }
    }

    /// The digest that a durable record of a sequence must have.
    static func digest(job: UInt64, _ sequence: SequenceID, isScore: Bool) -> Data {
        var grant = WireGrant()
        if isScore {
            grant.score.group = UInt32(sequence.group)
            grant.score.sibling = UInt32(sequence.sibling)
        } else {
            grant.rollout.group = UInt32(sequence.group)
        }
        return record(job: job, grant: grant, sibling: UInt32(sequence.sibling), incarnation: 0, isCorrupt: false)
            .digest
    }
}
