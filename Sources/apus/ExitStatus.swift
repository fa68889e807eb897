// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

/// The exit codes that scripts can rely on (README, "Exit codes").
enum ExitStatus {
    static let usage = ExitCode(2)
    static let badInput = ExitCode(3)
    static let cluster = ExitCode(4)
    static let jobFailed = ExitCode(5)
}

/// Prints one line on standard error.
func complain(_ message: String) {
    FileHandle.standardError.write(Data("apus: \(message)\n".utf8))
}

/// Runs `body`; any error becomes one line on standard error and `status`.
func reporting<R>(_ status: ExitCode, _ body: () throws -> R) throws -> R {
    do { return try body() } catch let exit as ExitCode { throw exit } catch {
        complain(String(describing: error))
        throw status
    }
}
