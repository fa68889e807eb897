// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
package import Foundation
internal import Glibc
internal import RuntimeSupport

/// A directory that appears under its name whole or not at all, and never replaces an existing one.
package final class DurableDirectory: Sendable {
    /// The name it gets.
    package let target: URL
    /// Where its files are written meanwhile.
    package let temporary: URL
    private let finished = Locked(false)

    /// Creates the temporary directory beside `target`.
    /// - Throws: `targetExists`, `fileSystem`, `diskFull`.
    package init(_ target: URL) throws {
        let path = target.path
        guard !SystemCall.exists(path) else { throw DurableDirectory.exists(path) }
        self.target = target.standardizedFileURL
        temporary = URL(fileURLWithPath: TemporaryName.beside(self.target), isDirectory: true)
        guard mkdir(temporary.path, 0o755) == 0 else { throw SystemCall.error("create", file: path) }
    }

    deinit { abandon() }

    /// Flushes the directory and gives it its name. Its files must be flushed already (``DurableFile``).
    package func commit() throws {
        try SystemCall.synchronizeDirectory(temporary.path)
        // An exclusive rename closes the race with another writer of the same name; plain rename would replace an
        // empty directory silently.
        guard cp_rename_exclusively(temporary.path, target.path) == 0 else {
            let number = errno
            abandon()
            if number == EEXIST || number == ENOTEMPTY { throw DurableDirectory.exists(target.path) }
            throw SystemCall.error("rename", file: target.path, number: number)
        }
        finished.withLock { $0 = true }
        try SystemCall.synchronizeDirectory(target.deletingLastPathComponent().path)
    }

    /// Removes the temporary directory and all in it. Does nothing after ``commit()``.
    package func abandon() {
        let alreadyFinished = finished.withLock { finished in
            defer { finished = true }
            return finished
        }
        guard !alreadyFinished else { return }
        // Best effort: the failure that led here is the one to report.
        try? FileManager.default.removeItem(at: temporary)
    }

    private static func exists(_ path: String) -> CheckpointError {
        CheckpointError(
            .targetExists, "exists already", file: path, remedy: "choose another name or remove it first")
    }
}
