// SPDX-License-Identifier: Apache-2.0
//
// A cluster in one thread under a virtual clock: the real reducers of coordinator and workers, a network that breaks, a
// disk that syncs late, processes that die, restart and stall. Everything random comes from the seed, so a failing seed
// is a bug report. Nothing here decides anything that the processes decide.
internal import ClusterCore
internal import ClusterProtocol
internal import ClusterTransport
internal import HeapModule
internal import RuntimeSupport

/// Something that happens to a node at a time. Ordered by (time, order of scheduling).
struct Occurrence: Comparable {
    enum Kind {
        case coordinator(lifetime: Int, CoordinatorInput)
        case worker(index: Int, lifetime: Int, WorkerInput)
        case synced(lifetime: Int)
        case chaos(Chaos)
    }

    let time: UInt64
    let order: UInt64
    let kind: Kind

    static func < (a: Self, b: Self) -> Bool { (a.time, a.order) < (b.time, b.order) }
    static func == (a: Self, b: Self) -> Bool { (a.time, a.order) == (b.time, b.order) }
}

enum CoordinatorInput {
    case tick
    /// Over a connection of this number; dropped when that one is broken.
    case message(WireEnvelope, from: Int, connection: Int)
    case record(WireUnitResult, from: Int, connection: Int)
    case lost(worker: Int)
    case written(job: UInt64)
    /// An operator lets a worker go.
    case drain(worker: Int)
}

enum WorkerInput {
    case tick
    case connected(connection: Int)
    case message(WireEnvelope, connection: Int)
    case loaded(WireDeploy)
    case finished(lease: UInt64, WireUnitResult)
    case leaseEnded(UInt64)
}

enum Chaos {
    case killCoordinator, startCoordinator
    case killWorker(Int), startWorker(Int)
    case breakConnection(Int), mend(Int)
    case stall(worker: Int?, milliseconds: Int)
    case drain(Int)
}

/// The events of a run.
struct Agenda {
    private var heap = Heap<Occurrence>()
    private var order: UInt64 = 0
    private(set) var now: UInt64 = 1_000_000

    /// Milliseconds of virtual time since the start.
    var milliseconds: UInt64 { now / 1000 }
    var instant: MonotonicInstant { MonotonicInstant(nanoseconds: now * 1000) }

    /// - Parameter delay: microseconds from now.
    mutating func schedule(_ kind: Occurrence.Kind, after delay: Int) {
        schedule(kind, at: now + UInt64(max(0, delay)))
    }

    mutating func schedule(_ kind: Occurrence.Kind, at time: UInt64) {
        order += 1
        heap.insert(Occurrence(time: max(now, time), order: order, kind: kind))
    }

    mutating func next() -> Occurrence? {
        guard let first = heap.popMin() else { return nil }
        now = first.time
        return first
    }
}

/// FNV-1a over what happened: equal seeds must give equal traces.
struct Trace {
    private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    mutating func note(_ value: some BinaryInteger) {
        var bits = UInt64(truncatingIfNeeded: value)
        for _ in 0..<8 {
            hash = (hash ^ (bits & 255)) &* 0x0000_0100_0000_01B3
            bits >>= 8
        }
    }
}
