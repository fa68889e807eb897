// SPDX-License-Identifier: Apache-2.0
import CoordinatorRuntime
import Foundation
import RuntimeSupport

/// Says that a process keeps the cluster of a directory alive: keys and address there are in use. Held until the process
/// ends, however it ends.
final class DirectoryLock: Sendable {
    private let descriptor: Int32

    /// - Parameter remedy: what to do when another process holds it.
    /// - Throws: ``ClientError``.
    init(_ directory: URL, remedy: String) throws {
        try makeDirectory(directory)
        let path = Self.file(in: directory)
        let descriptor = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ClientError("\(path) cannot be opened: \(String(cString: strerror(errno))); \(remedy)", exitCode: 3)
        }
        // File systems without locks are used as they were before there was one.
        if flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
            let holder = Self.process(descriptor)
            close(descriptor)
            throw ClientError("a cluster is running in \(directory.path) already (process \(holder)); \(remedy)")
        }
        let text = "\(getpid())\n"
        ftruncate(descriptor, 0)
        _ = text.withCString { pwrite(descriptor, $0, strlen($0), 0) }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// The process that holds the lock of a directory; nil when none does.
    static func holder(of directory: URL) -> String? {
        let descriptor = open(file(in: directory), O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard flock(descriptor, LOCK_SH | LOCK_NB) != 0, errno == EWOULDBLOCK else { return nil }
        return process(descriptor)
    }

    /// Whether a directory has ever been locked.
    static func isKnown(in directory: URL) -> Bool { FileManager.default.fileExists(atPath: file(in: directory)) }

    private static func file(in directory: URL) -> String { directory.appendingPathComponent("lock").path }

    private static func process(_ descriptor: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 32)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).trimmingCharacters(
            in: .whitespacesAndNewlines)
        return text.isEmpty ? "unknown" : text
    }
}
