// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterCore
import CoordinatorRuntime
import Foundation
import RuntimeSupport

/// `apus plan JOB`: what a job would need, without running it.
struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Check a job file with its data and models; show its settings and the memory that workers need.",
        discussion: "Reads what a coordinator would read before it admits the job; loads and starts nothing.")

    @Argument(help: "A job file (YAML).")
    var job: String

    @Option(name: .customLong("set"), help: "Override a setting: --set cell_tokens=1024")
    var overrides: [String] = []

    @Option(help: "Worker processes.")
    var workers = 3

    @Option(help: "Compute threads of each worker; 0 shares this machine's cores out.")
    var threads = 0

    @Option(
        help:
            "Memory of each worker, such as 4GiB: exit code 3 when it does not suffice. Training computes as many cells at once as it has room for."
    )
    var memory: String?

    @Flag(help: "Show every setting, also those that have their defaults.")
    var all = false

    func validate() throws {
        guard (1...4096).contains(workers) else { throw ValidationError("--workers must be 1 to 4096") }
    }

    func run() throws {
        let submission = try Submission(job, overrides)
        try reporting(ExitStatus.badInput) {
            let plan = try JobPlan(submission.resolvedYAML, file: submission.url.path)
            for warning in plan.warnings { complain(warning) }
            print("first prompt: " + Format.printable(plan.firstPrompt))
            print("settings, and where they come from:")
            for line in SettingsTable.lines(submission.reading, file: submission.url.lastPathComponent, all: all) {
                print(line)
            }
            print("")
            let cores = ProcessInfo.processInfo.activeProcessorCount
            let threads = threads > 0 ? threads : max(1, cores / workers)
            let limit = try memory.map(byteCount)
            let parts = plan.memory(workerCount: workers, threadCount: threads, memory: limit)
            print(
                "\(plan.kind) job over \(plan.rowCount) rows; each of \(workers) worker\(workers == 1 ? "" : "s") with \(threads) thread\(threads == 1 ? "" : "s") "
                    + "needs")
            for item in parts.items {
                print(
                    "  \(Format.pad(item.name, 40)) \(Format.pad(Format.bytes(Int(item.byteCount)), 12, right: true))")
            }
            print("  \(Format.pad("in all", 40)) \(Format.pad(Format.bytes(Int(parts.byteCount)), 12, right: true))")
            if !plan.judgingNeeds.isEmpty {
                print("  and to judge responses: \(plan.judgingNeeds.joined(separator: ", "))")
            }
            if let limit, limit < parts.byteCount {
                throw InputError(
                    "\(Format.bytes(Int(limit))) do not suffice; add workers, lower resources.kv_cache_bytes, cell_tokens "
                        + "or wave_cells, or give workers more memory")
            }
        }
    }
}
