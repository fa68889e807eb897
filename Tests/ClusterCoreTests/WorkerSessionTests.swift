// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import ClusterCore

@Suite("Worker transcripts")
struct WorkerSessionTests {
    @Test("places that become free are spoken of at once, and not more often than is of use")
    func earlyBeats() {
        func instant(_ milliseconds: UInt64) -> MonotonicInstant {
            MonotonicInstant(nanoseconds: (1000 + milliseconds) * 1_000_000)
        }
        var session = WorkerSession(incarnation: 1, hello: WireHello(), now: instant(0))
        _ = session.apply(.connected, at: instant(0))
        let welcome = WireEnvelope.with {
            $0.epoch = 1
            $0.welcome.worker = 1
        }
        _ = session.apply(.message(welcome), at: instant(0))
        /// Whether a tick with so many free places sends a beat.
        func beats(_ free: UInt32, at milliseconds: UInt64) -> Bool {
            let beat = WireBeat.with {
                $0.freeSlots = [
                    .with {
                        $0.model = 1
                        $0.count = free
                    }
                ]
            }
            return session.apply(.tick(beat), at: instant(milliseconds)).contains {
                if case .send(let envelope) = $0, case .beat? = envelope.body { true } else { false }
            }
        }
        #expect(beats(8, at: 0), "the first")
        #expect(!beats(8, at: 60), "nothing is new")
        #expect(!beats(2, at: 120), "places were taken")
        #expect(beats(3, at: 180), "one has become free, though fewer are than were said last")
        #expect(!beats(5, at: 200), "too soon")
        #expect(beats(5, at: 240))
        #expect(!beats(5, at: 700))
        #expect(beats(5, at: 740), "the ordinary one")
    }
}
