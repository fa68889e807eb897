// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf
import TestSupport
import Testing

@testable import ClusterCore

/// Control messages, records and journal entries carry no checksum of their own: CURVE authenticates the first, SQLite
/// keeps the rest. So damage may read as another message, but must never end a process.
@Suite("Damaged control messages")
struct ControlMessageDamageTests {
    private static var grant: WireEnvelope {
        .with {
            $0.protocolVersion = clusterProtocolVersion
            $0.epoch = 1
            $0.incarnation = 7
            $0.grant = .with {
                $0.lease = 5
                $0.job = 1
                $0.rollout = .with {
                    $0.siblings = [0, 1]
                    $0.prompt = Data(littleEndian: [1, 2, 3] as [Int32])
                    $0.row = "{}"
                    $0.settings.temperature = 1
                }
            }
        }
    }

    private static var hello: WireEnvelope {
        .with {
            $0.protocolVersion = clusterProtocolVersion
            $0.epoch = 1
            $0.incarnation = 1
            $0.hello = .with {
                $0.numericsFingerprint = "f"
                $0.host = "h"
                $0.memoryByteCount = 1 << 40
                $0.leases = [
                    .with {
                        $0.lease = 1 << 40 | 1
                        $0.job = 1
                    }
                ]
                $0.shards = [
                    .with {
                        $0.model = 1
                        $0.experts = [0, 1, 2, 3]
                    }
                ]
            }
        }
    }

    @Test("a worker and a coordinator survive every truncation and change of a byte of a message")
    func envelopes() throws {
        var (refused, taken) = (0, 0)
        for message in [Self.grant, Self.hello] {
            let bytes = message.encoded()
            #expect(try WireEnvelope(encoded: bytes) == message)
            for damaged in Array(Damage.truncations(bytes)) + Array(Damage.flips(bytes)) {
                guard let envelope = try? WireEnvelope(encoded: damaged) else {
                    refused += 1
                    continue
                }
                taken += 1
                #expect(try WireEnvelope(encoded: envelope.encoded()) == envelope)
                let now = MonotonicInstant(nanoseconds: 1_000_000_000)
                var coordinator = Coordinator(state: DurableState(), incarnation: 7)
                _ = coordinator.apply(.tick, at: now)
                for hello in [Self.hello, envelope] {
                    _ = coordinator.apply(.message(hello, from: PeerIdentity("a"), role: .worker), at: now)
                }
                var worker = WorkerSession(incarnation: 1, hello: WireHello(), now: now)
                let welcome = WireEnvelope.with {
                    $0.epoch = 1
                    $0.welcome.worker = 1
                }
                for message in [welcome, envelope] { _ = worker.apply(.message(message), at: now) }
            }
        }
        #expect(refused > 5000 && taken > 5000, "\(taken) taken, \(refused) refused")
    }

    @Test("a damaged record is refused, has a problem, or is another record; never a crash")
    func records() throws {
        let record = WireUnitResult.with {
            $0.job = 1
            $0.rollout = .with {
                $0.tokens = Data(littleEndian: [1, 2] as [Int32])
                $0.logProbs = Data(littleEndian: [-1, -2] as [Float])
                $0.entropies = $0.logProbs
                $0.forced = Data([0, 1])
                $0.outcome = "ok"
            }
        }
        #expect(record.problem == nil)
        let bytes = record.encoded()
        var same = 0
        for damaged in Array(Damage.truncations(bytes)) + Array(Damage.flips(bytes)) {
            guard let read = try? WireUnitResult(encoded: damaged), read.problem == nil else { continue }
            _ = read.sequence
            if read.digest == record.digest { same += 1 }
        }
        // What the digest leaves out may differ: job, lease, attempt, outcome and unknown fields.
        #expect(same < bytes.count * 255 / 2)
    }

    @Test("a journal of damaged entries is read or refused")
    func journal() throws {
        let entries: [WireJournalEntry] = [
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
        var taken = 0
        for (index, entry) in entries.enumerated() {
            for damaged in Array(Damage.truncations(entry.encoded())) + Array(Damage.flips(entry.encoded())) {
                guard let read = try? WireJournalEntry(encoded: damaged) else { continue }
                var all = entries
                all[index] = read
                var coordinator = Coordinator(state: DurableState(replaying: all), incarnation: 9)
                _ = coordinator.apply(.tick, at: MonotonicInstant(nanoseconds: 1_000_000_000))
                taken += 1
            }
        }
        #expect(taken > 1000)
    }
}
