// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import CoordinatorRuntime
import Foundation
import JobSpecification
import RuntimeSupport

/// What `apus run` says before anything starts: what will be done with which settings, and whether the memory suffices.
struct JobOverview {
    private let reading: JobReading
    private let plan: JobPlan

    /// - Throws: one line about what a coordinator would refuse.
    init(_ submission: Submission) throws {
        reading = submission.reading
        plan = try JobPlan(submission.resolvedYAML, file: submission.url.path)
    }

    /// Lines to print.
    func lines(workers: Int, threads: Int, memory: UInt64) -> [String] {
        let memory = available(memory)
        var lines = [
            "\(reading.job.name): \(work), from \(plan.rowCount) row\(plan.rowCount == 1 ? "" : "s")",
            "  output  \(reading.job.output)",
        ]
        let derived = SettingsTable.derived(reading)
        if !derived.isEmpty { lines += ["settings found from the checkpoint (apus plan shows all):"] + derived }
        let needed = plan.memory(workerCount: workers, threadCount: threads, memory: memory).byteCount
        lines.append(
            "memory: each of \(workers) worker\(workers == 1 ? "" : "s") needs \(Format.bytes(Int(needed))) at most and has "
                + Format.bytes(Int(memory)))
        return lines
    }

    /// What the job may take of a worker's memory.
    private func available(_ memory: UInt64) -> UInt64 {
        let bound =
            switch reading.job {
            case .rollout(let job): job.resources.memoryByteCountPerWorker
            case .score(let job): job.resources.memoryByteCountPerWorker
            case .train(let job): job.resources.memoryByteCountPerWorker
            }
        return min(memory, bound.map(UInt64.init) ?? .max)
    }

    private var work: String {
        switch reading.job {
        case .rollout(let job): "\(job.groupSize) response\(job.groupSize == 1 ? "" : "s") to each prompt"
        case .score: "log-probabilities of each row"
        case .train(let job):
            "\(job.method.rawValue), \(job.stepCount) step\(job.stepCount == 1 ? "" : "s") of "
                + (job.generates
                    ? "\(job.rowsPerStep) prompts with \(job.groupSize) responses" : "\(job.rowsPerStep) rows")
        }
    }

    /// Refuses what would wait for memory that never comes, since all workers are on this machine.
    /// - Throws: ``InputError`` with what would fit.
    func requireMemory(workers: Int, threads: Int, memory: UInt64) throws {
        let memory = available(memory)
        let parts = plan.memory(workerCount: workers, threadCount: threads, memory: memory)
        guard parts.byteCount > memory else { return }
        let total = memory * UInt64(workers)
        // One worker has one copy of what each has whole.
        let smaller = workers > 1 && plan.memory(workerCount: 1, threadCount: 1).byteCount <= total
        let largest = parts.items.max { $0.byteCount < $1.byteCount }!
        let remedy =
            smaller
            ? "one worker with all of the memory would do: --workers 1"
            : "lower resources.kv_cache_bytes, sampling.max_new_tokens or cell_tokens, set recompute_activations: true or "
                + "optimizer.store: disk, or take several hosts"
        throw InputError(
            "each of \(workers) worker\(workers == 1 ? "" : "s") needs \(Format.bytes(Int(parts.byteCount))) and has "
                + "\(Format.bytes(Int(memory))); most is \(largest.name), \(Format.bytes(Int(largest.byteCount))). \(remedy); "
                + "apus plan shows all parts")
    }
}
