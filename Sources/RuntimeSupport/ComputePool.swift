// SPDX-License-Identifier: Apache-2.0
//
// The compute threads of a process. A parallel loop is a list of independent tasks claimed from a shared counter,
// so which thread runs a task depends on timing and what a task computes never does. Loops that serve peers run
// ahead of local ones: a helper looks for serving work between any two tasks (tasks last 2 ms at most), which is
// why a worker that waits for its peers' experts still serves theirs, and no cycle of waits can form.
internal import CKernels
import CPlatform
import Synchronization

/// A fixed set of compute threads that run parallel loops.
///
/// The thread that calls ``parallel(_:priority:_:)`` takes part, so a pool of `threadCount` 1 has no thread of its
/// own. Any thread may call; several loops may be under way at once.
package final class ComputePool: Sendable {
    /// Which loops helpers prefer.
    package enum Priority: Sendable { case local, serving }

    /// Threads that take part in one loop, the caller's included.
    package let threadCount: Int
    private let loops: LoopBoard

    /// Starts `threadCount - 1` helper threads named `kernel-1`, `kernel-2`, …
    package init(threadCount: Int) {
        precondition((1...1024).contains(threadCount), "thread count \(threadCount) is not in 1...1024")
        self.threadCount = threadCount
        let loops = LoopBoard()
        self.loops = loops
        for index in 1..<max(threadCount, 1) {
            _ = DedicatedThread.start(name: "kernel-\(index)") { loops.help() }
        }
    }

    deinit { loops.stop() }

    /// Calls `body(0) … body(count - 1)`, each once, in any order, on up to ``threadCount`` threads; returns when all
    /// have returned. Tasks run with flush-to-zero on; the calling thread gets its own mode back.
    package func parallel(_ count: Int, priority: Priority = .local, _ body: (Int) -> Void) {
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        WorkProgress.note()
        if priority == .local, threadCount == 1 || count <= 1 {
            for index in 0..<max(count, 0) {
                loops.helpServing()
                body(index)
            }
            return
        }
        withoutActuallyEscaping(body) { escaping in
            let loop = ParallelLoop(count: count, body: escaping)
            loops.post(loop, priority)
            while loop.runOneTask() {
                if priority == .local { loops.helpServing() }
            }
            loops.waitUntilFinished(loop)
        }
    }
}

/// One parallel loop: a claim counter and a completion counter.
private final class ParallelLoop: @unchecked Sendable {
    // @unchecked: `body` is called for claimed tasks only and dropped by the submitting thread after the last of them,
    // before `ComputePool.parallel` returns; a helper may hold the loop itself a moment longer.
    private let count: Int
    private var body: ((Int) -> Void)?
    private let next = Atomic<Int>(0)
    private let finished = Atomic<Int>(0)

    init(count: Int, body: @escaping (Int) -> Void) {
        self.count = count
        self.body = body
    }

    var hasUnclaimedTasks: Bool { next.load(ordering: .relaxed) < count }
    var isFinished: Bool { finished.load(ordering: .acquiring) == count }

    /// Lets go of the caller's closure. Only after ``isFinished``.
    func dropBody() { body = nil }

    /// Claims and runs one task; false when none was left to claim.
    func runOneTask() -> Bool {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard index < count else { return false }
        body!(index)
        finished.wrappingAdd(1, ordering: .acquiringAndReleasing)
        return true
    }
}

/// Where loops are posted and helpers look for work.
private final class LoopBoard: @unchecked Sendable {
    // @unchecked: `serving`, `local`, `stopped` are guarded by `lock`; the counters are atomic.
    private let lock = ConditionLock()
    private var serving: [ParallelLoop] = []
    private var local: [ParallelLoop] = []
    private var stopped = false
    /// Changes with every post, so that a spinning helper notices one without the lock.
    private let postCount = Atomic<Int>(0)
    private let servingCount = Atomic<Int>(0)
    private let sleeperCount = Atomic<Int>(0)

    func post(_ loop: ParallelLoop, _ priority: ComputePool.Priority) {
        lock.withLock {
            switch priority {
            case .serving:
                serving.append(loop)
                servingCount.wrappingAdd(1, ordering: .relaxed)
            case .local: local.append(loop)
            }
            postCount.wrappingAdd(1, ordering: .releasing)
            if sleeperCount.load(ordering: .relaxed) > 0 { lock.broadcast() }
        }
    }

    /// The rest of a loop whose tasks are all claimed lasts one task at most, so a spin is the right wait.
    func waitUntilFinished(_ loop: ParallelLoop) {
        while !loop.isFinished { cp_spin_pause() }
        loop.dropBody()
        lock.withLock { remove(loop) }
    }

    func stop() {
        lock.withLock {
            stopped = true
            lock.broadcast()
        }
    }

    /// A helper's life: the oldest serving loop first, then the oldest local one, looking again after each task.
    func help() {
        _ = ck_thread_setup()
        while let (loop, isServing) = nextLoop() {
            while loop.runOneTask() {
                if !isServing && servingCount.load(ordering: .relaxed) > 0 { break }
            }
        }
    }

    private func nextLoop() -> (ParallelLoop, Bool)? {
        var seen = -1
        // Some microseconds of polling: the gaps between the loops of one forward pass are shorter than a wake-up.
        for _ in 0..<2000 {
            let posts = postCount.load(ordering: .acquiring)
            if posts != seen {
                seen = posts
                lock.lock()
                let found = unclaimed()
                let stop = stopped
                lock.unlock()
                if stop { return nil }
                if let found { return found }
            }
            cp_spin_pause()
        }
        lock.lock()
        defer { lock.unlock() }
        sleeperCount.wrappingAdd(1, ordering: .relaxed)
        defer { sleeperCount.wrappingSubtract(1, ordering: .relaxed) }
        while !stopped {
            if let found = unclaimed() { return found }
            lock.wait()
        }
        return nil
    }

    /// Runs tasks of serving loops until none is left to claim. Cheap when there is no such loop.
    func helpServing() {
        while servingCount.load(ordering: .relaxed) > 0 {
            lock.lock()
            let loop = serving.first(where: \.hasUnclaimedTasks)
            lock.unlock()
            guard let loop else { return }
            while loop.runOneTask() {}
        }
    }

    private func unclaimed() -> (ParallelLoop, Bool)? {
        if let loop = serving.first(where: \.hasUnclaimedTasks) { return (loop, true) }
        if let loop = local.first(where: \.hasUnclaimedTasks) { return (loop, false) }
        return nil
    }

    private func remove(_ loop: ParallelLoop) {
        if let index = local.firstIndex(where: { $0 === loop }) { local.remove(at: index) }
        if let index = serving.firstIndex(where: { $0 === loop }) {
            serving.remove(at: index)
            servingCount.wrappingSubtract(1, ordering: .relaxed)
        }
    }
}
