// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Parity
import RuntimeSupport

/// `apus parity DIR`: compares with reference data of the peer libraries.
struct ParityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parity",
        abstract: "Compare with reference data made by transformers, tokenizers and safetensors.",
        discussion: "Runs every fixture kind found in the directory; Tests/Fixtures/README.md documents the layout.")

    @Argument(help: "The directory that holds the fixture kinds.")
    var directory = "Tests/Fixtures"

    @Option(help: "Compute threads.")
    var threads = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "Only this kind of fixture.")
    var only: String?

    @Flag(help: "Print only the cases that fail.")
    var failuresOnly = false

    func run() throws {
        var failed = 0
        var count = 0
        var skipped = 0
        try reporting(ExitStatus.badInput) {
            try ParityRunner.run(URL(fileURLWithPath: directory), only: only, pool: ComputePool(threadCount: threads)) {
                result in
                count += 1
                if result.isSkipped { skipped += 1 }
                if !result.passed { failed += 1 }
                if result.passed && !result.isSkipped && failuresOnly { return }
                let name = "\(result.kind)/\(result.name)"
                let numbers = String(format: "%10.2e %10.2e", result.worstError, result.tolerance)
                let verdict = result.isSkipped ? "skip" : result.passed ? "ok  " : "FAIL"
                print("\(verdict) \(numbers)  \(name)\(result.detail.isEmpty ? "" : "  (\(result.detail))")")
            }
        }
        print(
            "\(count - failed - skipped) of \(count) cases within tolerance, \(failed) failed, \(skipped) skipped  "
                + "(columns: verdict, worst error, tolerance, case)")
        if failed > 0 { throw ExitCode.failure }
    }
}
