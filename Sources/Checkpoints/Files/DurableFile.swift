// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
package import Foundation
internal import Glibc
internal import RuntimeSupport
internal import Synchronization

/// A file that appears under its name whole or not at all: written under a temporary name beside it, flushed,
/// renamed, and the rename flushed too. A file that is neither committed nor alive is removed.
package final class DurableFile: Sendable {
    private enum State { case open, finished }

    package let url: URL
    private let temporaryPath: String
    private let descriptor: Int32
    private let state = Locked(State.open)

    /// Creates the temporary file and reserves `byteCount` bytes, so that a full disk shows before any work.
    /// - Throws: `diskFull`, `fileSystem`.
    package init(_ url: URL, reserving byteCount: Int = 0) throws {
        self.url = url
        let path = TemporaryName.beside(url)
        temporaryPath = path
        descriptor = SystemCall.retrying { open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644) }
        guard descriptor >= 0 else { throw SystemCall.error("create", file: url.path) }
        guard byteCount > 0 else { return }
        // Not posix_fallocate: where a file system lacks the call that one writes every block instead.
        if cp_file_reserve(descriptor, Int64(byteCount)) != 0, errno != EOPNOTSUPP {
            let failure = SystemCall.error("reserve \(byteCount) bytes", file: url.path)
            abandon()
            throw failure
        }
    }

    // The descriptor is closed here and nowhere else: closing it while another thread writes could hand its
    // number to a stranger's file.
    deinit {
        abandon()
        if descriptor >= 0 { close(descriptor) }
    }

    /// Writes `bytes` at `offset`. Safe from several threads for ranges that do not overlap.
    /// - Throws: `diskFull`, `fileSystem`; the temporary file is gone then.
    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var written = 0
        while written < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
            let count = SystemCall.retrying {
                pwrite(descriptor, rest.baseAddress, rest.count, offset + written)
            }
            guard count > 0 else {
                let failure = SystemCall.error(
                    "write", file: url.path, number: count == 0 ? ENOSPC : errno)
                abandon()
                throw failure
            }
            written += count
        }
    }

    /// Flushes the file, gives it its name and flushes the directory. An existing file of that name is replaced.
    package func commit() throws {
        let open = state.withLock { state in
            defer { state = .finished }
            return state == .open
        }
        guard open else {
            throw CheckpointError(.fileSystem, "was abandoned after an earlier failure", file: url.path)
        }
        var failure: CheckpointError?
        if SystemCall.retrying({ fsync(descriptor) }) != 0 {
            failure = SystemCall.error("flush", file: url.path)
        }
        if failure == nil, rename(temporaryPath, url.path) != 0 {
            failure = SystemCall.error("rename", file: url.path)
        }
        if let failure {
            unlink(temporaryPath)
            throw failure
        }
        try SystemCall.synchronizeDirectory(url.deletingLastPathComponent().path)
    }

    /// Removes the name of the temporary file. Does nothing after ``commit()``.
    package func abandon() {
        let open = state.withLock { state in
            defer { state = .finished }
            return state == .open
        }
        guard open, descriptor >= 0 else { return }
        // The space is free now, not only when the last reference to this object goes.
        _ = ftruncate(descriptor, 0)
        unlink(temporaryPath)
    }

    /// Writes a whole file durably.
    package static func write(_ bytes: [UInt8], to url: URL) throws {
        let file = try DurableFile(url, reserving: bytes.count)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        try file.commit()
    }

    /// Writes a whole text file durably, as UTF-8.
    package static func write(_ text: String, to url: URL) throws {
        try write(Array(text.utf8), to: url)
    }
}

/// Names for things that are not finished, in the directory where they are going to be.
enum TemporaryName {
    private static let counter = Atomic<UInt64>(0)

    /// A hidden name beside `url` that no other process or call uses now.
    static func beside(_ url: URL) -> String {
        let number = counter.add(1, ordering: .relaxed).newValue
        return url.deletingLastPathComponent()
            .appendingPathComponent(".\(url.lastPathComponent).\(getpid()).\(number).partial").path
    }
}
