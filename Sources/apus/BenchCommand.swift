// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Benchmarks
import CKernels
import Foundation
import RuntimeSupport
import Tensors

/// `apus bench`: measures this machine and what Apus makes of it.
struct BenchCommand: ParsableCommand {
    enum Suite: String, ExpressibleByArgument, CaseIterable {
        case kernels, decode, prefill, exchange, train, all
    }

    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure kernels, decode, prefill and training beside the limits of this machine.",
        discussion: """
            Limits are measured in the same run, between the repeats. decode and prefill write a Qwen3-30B-A3B with \
            few layers and random weights to the temporary directory and remove it: about 6 GB with 4 layers.
            """)

    @Option(help: "kernels, decode, prefill, exchange (one process against two workers), train or all.")
    var suite = Suite.all

    @Option(help: "Compute threads.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "Arithmetic: bf16, fp32 or both (decode and prefill: bf16 unless fp32 is asked for).")
    var compute = "both"

    @Option(help: "Layers of the model of decode and prefill.")
    var layers = 4

    @Option(help: "Directory of a tokenizer for the model of exchange.")
    var tokenizer = "Tests/Fixtures/tokenizer/main"

    @Option(help: "Also write what was found to this file, as JSON.")
    var json: String?

    @Option(help: "Most seconds to wait for idle cores.")
    var wait = 30.0

    func run() throws {
        let computes =
            compute == "both" ? [ComputeType.bf16, .fp32] : ComputeType(rawValue: compute).map { [$0] } ?? []
        guard !computes.isEmpty, (1...1024).contains(threads), layers > 0, wait >= 0 else {
            complain("--compute must be bf16, fp32 or both, --threads 1 to 1024, --layers above 0, --wait 0 or above")
            throw ExitStatus.usage
        }
        try reporting(ExitStatus.badInput) {
            let pool = ComputePool(threadCount: threads)
            var report = BenchmarkReport(instructionSet: String(cString: ck_isa()), threads: threads)
            if suite == .kernels || suite == .all { try runKernels(computes, pool, &report) }
            if suite == .train || suite == .all { try runTraining(computes, pool, &report) }
            if [.decode, .prefill, .all].contains(suite) { try runModel(computes[0], pool, &report) }
            if suite == .exchange || suite == .all { try runExchange(&report) }
            if let json {
                let encoder = JSONEncoder()
                encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
                try encoder.encode(report).write(to: URL(fileURLWithPath: json))
            }
        }
    }

    private func runKernels(_ computes: [ComputeType], _ pool: ComputePool, _ report: inout BenchmarkReport) throws {
        let kernels = try KernelSuite(pool: pool)
        waitForIdleCores("kernels", &report)
        report.limits = kernels.limits()
        printHeader(report)
        try kernels.run(computes, limits: report.limits) { add($0, &report) }
    }

    private func runModel(_ compute: ComputeType, _ pool: ComputePool, _ report: inout BenchmarkReport) throws {
        let model = try ModelSuite(layerCount: layers, compute: compute, pool: pool, progress: complain)
        if suite != .prefill {
            waitForIdleCores("decode", &report)
            report.limits = model.limits()
            printHeader(report)
            try model.decode { add($0, &report) }
        }
        if suite != .decode {
            waitForIdleCores("prefill", &report)
            if suite == .prefill {
                report.limits = model.limits()
                printHeader(report)
            }
            try model.prefill { add($0, &report) }
        }
    }

    private func runTraining(_ computes: [ComputeType], _ pool: ComputePool, _ report: inout BenchmarkReport) throws {
        for shape in TrainSuite.Shape.allCases {
            for compute in computes {
                let training = try TrainSuite(shape, compute: compute, pool: pool)
                waitForIdleCores("train", &report)
                report.limits = training.limits()
                if shape == .moe, compute == computes[0] { printHeader(report) }
                try training.run { add($0, &report) }
            }
        }
    }

    private func runExchange(_ report: inout BenchmarkReport) throws {
        waitForIdleCores("exchange", &report)
        let suite = ExchangeSuite(
            layers: layers, threads: threads, tokenizer: URL(fileURLWithPath: tokenizer), progress: complain)
        let (one, two) = try suite.run()
        add(
            BenchmarkLine(
                suite: "exchange", name: "2 workers against 1, batch \(ExchangeSuite.batch)", value: two,
                unit: "tokens/s",
                limit: one, bound: "one process", share: two / one, goal: 0.9), &report)
    }

    private func waitForIdleCores(_ suite: String, _ report: inout BenchmarkReport) {
        let used = IdleCores.wait(seconds: wait)
        report.coresUsedByOthers[suite] = used
        if used > IdleCores.tolerated {
            complain(String(format: "other work uses %.1f cores: %@ will look slower than it is", used, suite))
        }
    }

    private func printHeader(_ report: BenchmarkReport) {
        print(
            String(
                format: "%@, %d threads: %.1f GB/s read, %.0f GFLOP/s fp32, %.0f GFLOP/s bf16", report.instructionSet,
                report.threads, report.limits.readBandwidth / 1e9, report.limits.fp32Products / 1e9,
                report.limits.bf16Products / 1e9))
    }

    private func add(_ measurement: BenchmarkLine, _ report: inout BenchmarkReport) {
        report.measurements.append(measurement)
        let goal = measurement.goal.map {
            let wanted = measurement.goalIsValue ? String(format: "%.0f", $0) : String(format: "%.0f %%", $0 * 100)
            return "goal \(wanted)\(measurement.meetsGoal == true ? "" : ": missed")"
        }
        let name = Format.pad(measurement.suite + " " + measurement.name, 46)
        let numbers = String(format: "%8.1f %@", measurement.value, Format.pad(measurement.unit, 9))
        let share = String(format: "%5.1f %% of %.1f", measurement.share * 100, measurement.limit)
        print("\(name) \(numbers) \(Format.pad(share + " (" + measurement.bound + ")", 34)) \(goal ?? "")")
        StandardOutput.flush()  // line by line also into a file: a run takes minutes
    }
}
