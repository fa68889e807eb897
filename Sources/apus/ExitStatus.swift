// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import RuntimeSupport

/// The exit codes that scripts can rely on (Documentation/Reference/exit-codes.md).
enum ExitStatus {
    static let usage = ExitCode(2)
    static let badInput = ExitCode(3)
    static let cluster = ExitCode(4)
    static let jobFailed = ExitCode(5)
    static let interrupted = ExitCode(130)

    /// Every code with its meaning.
    private static let meanings: [(code: Int32, meaning: String)] = [
        (0, "done"),
        (1, "standard output could not be written; `apus parity` found numbers out of tolerance"),
        (usage.rawValue, "usage: the command line is wrong"),
        (badInput.rawValue, "bad input: a job file, data, checkpoint or key cannot be used"),
        (
            cluster.rawValue,
            "cluster: no coordinator (any more), refused, port in use, one is running already, a limit of the host is too low"
        ),
        (jobFailed.rawValue, "the job failed or was cancelled; a verification found differences"),
        (
            75,
            "start me again: a worker that was declared lost or got USR1, a coordinator that was asked to end with jobs "
                + "unfinished"
        ),
        (
            interrupted.rawValue,
            "`apus run` was interrupted (the same command continues), or `apus up` before the cluster was up"
        ),
        (141, "the reader of standard output is gone (`apus … \\| head`)"),
    ]

    /// The reference page.
    static var page: String {
        let lines =
            [
                "# Exit codes", "",
                "Made from the program's table by `Scripts/generate-reference`; not written by hand. Scripts can rely on them.",
                "",
                "| code | meaning |", "|---|---|",
            ] + meanings.map { "| \($0.code) | \($0.meaning) |" }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// Prints one line on standard error; where that cannot be written there is nobody to tell.
func complain(_ message: String) {
    var rest = Array("apus: \(message)\n".utf8)[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
    }
}

/// An error in one line. Foundation's own carry path and reason where no reader finds them.
func oneLine(_ error: any Error) -> String {
    (failurePath(error).map { "\($0): " } ?? "") + failureReason(error)
}

/// Runs `body`; any error becomes one line on standard error and `status`.
func reporting<R>(_ status: ExitCode, _ body: () throws -> R) throws -> R {
    do { return try body() } catch let exit as ExitCode { throw exit } catch {
        complain(oneLine(error))
        throw status
    }
}
