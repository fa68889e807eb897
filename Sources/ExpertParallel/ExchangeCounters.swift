// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// What the expert exchange of a process has done since its start.
package struct ExchangeStatistics: Sendable, Hashable {
    /// Token rows sent to owners; a row counts once for each owner that it went to.
    package var tokensDispatched = 0
    /// Token rows of peers that were computed here.
    package var tokensServed = 0
    /// Dispatch messages sent, repeats included.
    package var dispatchesSent = 0
    /// Dispatch messages of peers that were answered with sums.
    package var dispatchesServed = 0
    /// Computations that served peers, and those of them that served several dispatches at once.
    package var servedRuns = 0
    package var coalescedRuns = 0
    package var bytesOut = 0
    package var bytesIn = 0
    /// Dispatches repeated to the same owner because no answer came in time.
    package var resends = 0
    /// Repeats of peers that came while the dispatch was computed: not computed again.
    package var repeatsDropped = 0
    /// Dispatches taken from one owner and given to others.
    package var redispatches = 0
    /// Frames that broke the format or asked for what makes no sense.
    package var refusedFrames = 0
    /// Answers nobody waited for (any more): second copies, and answers of owners that were given up.
    package var lateAnswers = 0
    /// Messages dropped because a queue was full or a peer away; requests are repeated, so nothing is lost.
    package var droppedMessages = 0
    /// Time that exchanging threads spent asleep for answers.
    package var secondsWaited = 0.0

    package init() {}
}

/// Counts for one process, shared by its port, server and exchanges.
package final class ExchangeCounters: Sendable {
    private let statistics = Locked(ExchangeStatistics())

    package init() {}

    package var snapshot: ExchangeStatistics { statistics.withLock { $0 } }

    private let rows = Locked<[UInt32: [UInt64]]>([:])

    /// Rows that this process has routed to each expert of a model, here and elsewhere, all layers together.
    package var expertRows: [UInt32: [UInt64]] {
        // Copied here: a storage that is shared would be copied by the next count, on the path of an exchange.
        rows.withLock { $0.mapValues { $0.withUnsafeBufferPointer(Array.init) } }
    }

    /// Counts one exchange's entries.
    func count(model: UInt32, expertCount: Int, _ experts: [Int32]) {
        rows.withLock {
            var counts = $0.removeValue(forKey: model) ?? []
            if counts.count != expertCount { counts = [UInt64](repeating: 0, count: expertCount) }
            for expert in experts { counts[Int(expert)] &+= 1 }
            $0[model] = counts
        }
    }

    func update(_ body: (inout ExchangeStatistics) -> Void) { statistics.withLock { body(&$0) } }
}
