// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import RuntimeSupport

/// The exit codes that scripts can rely on (README, "Exit codes").
enum ExitStatus {
    static let usage = ExitCode(2)
    static let badInput = ExitCode(3)
    static let cluster = ExitCode(4)
    static let jobFailed = ExitCode(5)
    static let interrupted = ExitCode(130)
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
