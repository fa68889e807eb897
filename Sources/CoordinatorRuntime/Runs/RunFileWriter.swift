// SPDX-License-Identifier: Apache-2.0
//
// Writes the files of runs on a thread of its own. The coordinator's loop says what has been journaled; at most one order
// is under way, and what happens meanwhile goes with the next, so that slow disks hold nothing up.
internal import Checkpoints
internal import ClusterCore
internal import ClusterProtocol
internal import Foundation
internal import Logging
internal import RuntimeSupport

/// The loop's side: everything here but the thread's body runs on the coordinator's loop.
final class RunFileWriter: @unchecked Sendable {
    // @unchecked: `pending`, `clocks`, `isBusy` and `nextAt` belong to the loop's thread; the writer's thread has its own
    // state and reports through `report`.
    typealias Models = [UInt32: WireModelDescription]

    /// What became of an order.
    enum Report: Sendable {
        case updated(job: UInt64, problem: String?)
        /// Nothing is missing any more, or cannot be written.
        case finished(job: UInt64, problem: String?)
        /// The last files wait for room on the disk.
        case delayed(job: UInt64, problem: String)
    }

    private enum Order: Sendable {
        case update(JobRecord, Models, timing: [String])
        case finish(JobRecord, Models, timing: [String])
        /// The job has ended.
        case close(JobRecord, Models)
        /// Its records are needed no more.
        case forget(UInt64)
    }

    private let journal: Journal
    private let logger: Logger
    private let report: @Sendable (Report) -> Void
    private let orders = BoundedQueue<Order>(itemCountMax: 65_536, byteCountMax: 1 << 30)
    private let isWriting = Locked(false)
    private var thread: DedicatedThread?
    private var pending: Set<UInt64> = []
    private var clocks: [UInt64: RunClock] = [:]
    private var timing: [UInt64: [String]] = [:]
    private var isBusy = false
    private var nextAt = MonotonicInstant.now
    private var runningJob: UInt64?
    /// Jobs whose last files are ordered: nothing is written behind them.
    private var finishing: Set<UInt64> = []

    /// Between two updates, and after one that failed.
    private static let pauseMilliseconds: UInt64 = 250
    private static let retryMilliseconds: UInt64 = 5000

    init(_ journal: Journal, logger: Logger, report: @escaping @Sendable (Report) -> Void) {
        self.journal = journal
        self.logger = logger
        self.report = report
        thread = .start(name: "run-writer") { [self] in
            while let order = orders.pop() {
                isWriting.withLock { $0 = true }
                carryOut(order)
                isWriting.withLock { $0 = false }
            }
        }
    }

    /// Ends the thread; what was ordered is written, as far as that takes no more than two seconds.
    func stop() {
        orders.close()
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 2000)
        while orders.count > 0 || isWriting.withLock({ $0 }), MonotonicInstant.now < deadline { usleep(5000) }
    }

    // MARK: - The loop

    /// Jobs that ended in an earlier life of the coordinator, perhaps before their directories said so.
    func mend(_ state: DurableState) {
        for job in state.jobs.values.sorted(by: { $0.id < $1.id }) where job.ended != nil {
            push(.close(job, state.models))
        }
    }

    /// An entry is durable.
    func note(_ entry: WireJournalEntry, _ state: DurableState) {
        switch entry.change {
        case .unitRecorded(let recorded): pending.insert(recorded.job)
        case .groupFailed(let failed): pending.insert(failed.job)
        case .stepCommitted(let step):
            pending.insert(step.job)
            guard let job = state.jobs[step.job], let prepared = job.prepared[step.version - 1] else { return }
            let tokens = StepMetrics(prepared).values["num_tokens"] ?? 0
            let line = clock(job) { $0.line(step: step.version, tokens: tokens) }
            timing[step.job, default: []].append(line)
        case .snapshotTaken(let taken): link(taken.job, state)
        case .snapshotLost(let lost): link(lost.job, state)
        case .jobEnded(let ended):
            pending.remove(ended.job)
            finishing.remove(ended.job)
            guard let job = state.jobs[ended.job] else { return }
            if ended.status == "done" {
                // Its files are complete; whoever sees that it is done may look at them at once.
                do { try OwnedRun(job, journal).close() } catch { logger.error("job \(job.id): \(error)") }
            } else {
                push(.close(job, state.models))
            }
            clocks[ended.job] = nil
            timing[ended.job] = nil
        default: break
        }
    }

    /// At once: what a checkpoint replaces is removed next, and the link must not point to it then.
    private func link(_ id: UInt64, _ state: DurableState) {
        pending.insert(id)
        guard let job = state.jobs[id] else { return }
        let run = OwnedRun(job, journal)
        guard run.isOurs else { return }
        do { try TrainingFiles.linkModel(run.directory.url, to: job.snapshot?.directory) } catch {
            logger.warning("job \(job.id): \(error)")
        }
    }

    private func clock<R>(_ job: JobRecord, _ body: (inout RunClock) -> R) -> R {
        body(&clocks[job.id, default: RunClock(tokenCount: job.tokenCount)])
    }

    /// A step is being cut into cells: its rollouts are complete.
    func noteBuilding(_ job: JobRecord) {
        if job.admitted.promptsPerBatch > 0 { clock(job) { $0.noteGenerated() } }
    }

    /// Sends what is to be written, when it is time.
    func tick(_ state: DurableState, running: UInt64?) {
        if running != runningJob {
            runningJob = running
            if let running, let job = state.jobs[running] {
                clock(job) { _ in }
                if !finishing.contains(running) { pending.insert(running) }
            }
        }
        guard !isBusy, !pending.isEmpty, MonotonicInstant.now >= nextAt, let id = pending.min() else { return }
        pending.remove(id)
        guard let job = state.jobs[id], job.ended == nil else { return }
        isBusy = true
        push(.update(slim(job), state.models, timing: lines(job)))
    }

    /// All units or steps of a job are done.
    func finish(_ job: JobRecord, _ models: Models) {
        pending.remove(job.id)
        finishing.insert(job.id)
        push(.finish(slim(job), models, timing: lines(job)))
    }

    /// Removes a job's records from the journal, behind all that still reads them.
    func forget(_ job: UInt64) { push(.forget(job)) }

    /// An update has been carried out.
    func updated(job: UInt64, problem: String?) {
        isBusy = false
        nextAt = .now.advanced(byMilliseconds: problem == nil ? Self.pauseMilliseconds : Self.retryMilliseconds)
        if problem != nil, !finishing.contains(job) { pending.insert(job) }
    }

    private func lines(_ job: JobRecord) -> [String] {
        if !job.isTraining {
            let line = clock(job) {
                $0.line(groups: job.doneGroupCount, of: job.groupCount, tokens: job.tokenCount)
            }
            if let line { timing[job.id, default: []].append(line) }
        }
        return timing.removeValue(forKey: job.id) ?? []
    }

    /// Of a training job the digests tell which groups are whole; of others there may be very many.
    private func slim(_ job: JobRecord) -> JobRecord { job.isTraining ? job : job.withoutDigests }

    private func push(_ order: Order) { _ = orders.push(order, until: .distantFuture) }

    // MARK: - The thread

    /// Used by the thread alone.
    private var files: (job: UInt64, files: any RunFiles)?
    private var lastProblem: String?

    private func carryOut(_ order: Order) {
        switch order {
        case .update(let job, let models, let timing):
            do {
                try opened(job, models).update(job)
                try TimingFile.append(timing, in: URL(fileURLWithPath: job.admitted.output, isDirectory: true))
                lastProblem = nil
                report(.updated(job: job.id, problem: nil))
            } catch {
                files = nil
                let text = String(describing: error)
                if text != lastProblem { logger.error("job \(job.id): its files could not be written: \(text)") }
                lastProblem = text
                report(.updated(job: job.id, problem: text))
            }
        case .finish(let job, let models, let timing):
            report(.finished(job: job.id, problem: finish(job, models, timing)))
            files = nil
        case .close(let job, let models): close(job, models)
        case .forget(let job):
            do { try journal.forget(job: job) } catch {
                logger.warning("the records of job \(job) could not be removed: \(error)")
            }
        }
    }

    private func opened(_ job: JobRecord, _ models: Models) throws -> any RunFiles {
        if let files, files.job == job.id { return files.files }
        let opened = try OwnedRun(job, journal).open(journal, models)
        files = (job.id, opened)
        return opened
    }

    /// - Returns: why it cannot be done; a full disk is waited for.
    private func finish(_ job: JobRecord, _ models: Models, _ timing: [String]) -> String? {
        while true {
            do {
                try opened(job, models).complete(job)
                try TimingFile.append(timing, in: URL(fileURLWithPath: job.admitted.output, isDirectory: true))
                return nil
            } catch {
                files = nil
                let text = "its output could not be written: \(error)"
                guard (error as? CheckpointError)?.code == .diskFull, !orders.hasClosed else { return text }
                report(.delayed(job: job.id, problem: "room on the disk: \(error)"))
                usleep(1_000_000)
            }
        }
    }

    /// What a job that failed or was cancelled has made stays.
    private func close(_ job: JobRecord, _ models: Models) {
        defer { files = nil }
        let run = OwnedRun(job, journal)
        guard run.isOurs else { return }
        do {
            if job.ended?.status != "done", !job.isUntouched, !job.isForgotten { try opened(job, models).complete(job) }
        } catch {
            logger.warning("job \(job.id): not all that it has made could be written: \(error)")
        }
        do { try run.close() } catch { logger.warning("job \(job.id): \(error)") }
    }
}
