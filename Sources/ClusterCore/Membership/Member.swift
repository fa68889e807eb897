// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import ClusterTransport
package import RuntimeSupport

/// One worker process as the coordinator knows it.
package struct Member: Sendable {
    package let number: WorkerNumber
    package let identity: PeerIdentity
    package let incarnation: UInt64
    package let hello: WireHello
    package var lastHeard: MonotonicInstant
    package var beat = WireBeat()
    /// When `beat.progress` last grew, or there was nothing to do.
    package var lastProgress: MonotonicInstant
    /// The connection broke; unless it is heard again, it is dead at this time.
    package var lostUntil: MonotonicInstant?
    /// It takes no more work, and what it holds goes to others; then it is told to end.
    package var isDraining = false
    /// It has no memory for its part of the job's models, and others have: nothing is placed on it.
    var hasNoRoom = false
    /// Why the others go on without it: workers that it cannot reach.
    var cutOff: String?
    /// Nothing is placed on it.
    package var isLeftOut: Bool { hasNoRoom || cutOff != nil }
    /// Sequences granted since the last beat, per model: the beat's free slots are older than them.
    package var grantedSinceBeat: [UInt32: Int] = [:]
    /// What it last said it holds, by model.
    package var reports: [UInt32: WireShardReport] = [:]

    init(number: WorkerNumber, identity: PeerIdentity, incarnation: UInt64, hello: WireHello, now: MonotonicInstant) {
        self.number = number
        self.identity = identity
        self.incarnation = incarnation
        self.hello = hello
        lastHeard = now
        lastProgress = now
    }

    package var name: String { "worker \(number) (\(hello.host), pid \(hello.processID))" }

    /// Sequences of `model` that it would take now.
    func freeSlots(_ model: UInt32) -> Int {
        let said = beat.freeSlots.first { $0.model == model }.map { Int($0.count) } ?? 0
        return said - grantedSinceBeat[model, default: 0]
    }
}

/// Bounds after which the coordinator acts. All in milliseconds of the monotonic clock.
package struct ClusterTimes: Sendable {
    /// Silence after which a worker is dead.
    package var silence: UInt64 = 2500
    /// As `silence`, once the connection has broken.
    package var silenceAfterLoss: UInt64 = 750
    /// A worker with leases that beats but makes no progress and waits for nobody for this long is stuck.
    package var stall: UInt64 = 120_000
    /// As `stall`, for a worker that loads, trains or writes a checkpoint: files may be slow.
    package var standstill: UInt64 = 600_000
    /// Two workers that have no connection to each other are named after this time, and after the second one of them is
    /// left out where they need each other.
    package var unreachable: UInt64 = 2500
    package var cutOff: UInt64 = 8000
    /// A wait for another worker's answer that is longer than this has gone wrong.
    package var answer: UInt64 = 120_000
    /// A lease older than this is given to an idle worker as well when nothing else is left to do.
    package var straggler: UInt64 = 20_000
    /// After a training epoch that failed the next one waits this long, after another failure twice as long, and so on.
    package var restart: UInt64 = 1000
    package var restartMax: UInt64 = 60_000
    /// As `restart`, before a worker that could not load a model tries again.
    package var reload: UInt64 = 2000
    package var reloadMax: UInt64 = 300_000
    /// How long the first placement waits for more workers than have joined.
    package var settle: UInt64 = 15_000

    /// One in so many recorded sequences is computed again by another worker and compared; 0: none.
    package var canaryEvery: UInt64 = 256

    package init() {}

    /// The delay after the `count`-th failure in a row.
    static func delay(_ first: UInt64, _ most: UInt64, count: Int) -> UInt64 {
        min(most, first << UInt64(min(20, max(0, count - 1))))
    }
}
