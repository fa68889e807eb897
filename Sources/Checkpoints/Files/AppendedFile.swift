// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Glibc

/// A file that grows while others read it, and that can be made again from its beginning: whoever opens it appends
/// everything once more, what is there already is only compared, and from the first byte that differs on it is replaced.
/// So a torn end, left by a kill or a power failure, mends itself, and nothing comes twice.
package final class AppendedFile {
    private let url: URL
    private let descriptor: Int32
    /// Bytes of the file that are known to be right.
    private var count = 0
    /// Bytes of an earlier life that are still to be compared; they end here.
    private var existingCount: Int
    private var waiting: [UInt8] = []
    private static let bufferByteCount = 256 << 10

    /// Opens or creates the file and leaves it as it is.
    /// - Throws: `fileSystem`, `diskFull`.
    package init(_ url: URL) throws {
        self.url = url
        descriptor = SystemCall.retrying { open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644) }
        guard descriptor >= 0 else { throw SystemCall.error("open", file: url.path) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            close(descriptor)
            throw SystemCall.error("look at", file: url.path)
        }
        existingCount = Int(status.st_size)
    }

    deinit { close(descriptor) }

    /// Adds a line; readers see it whole or not at all, and after ``synchronize()`` for sure.
    package func append(line: String) throws { try append(Array((line + "\n").utf8)) }

    /// Adds bytes that belong together.
    /// - Throws: `fileSystem`, `diskFull`; this object is of no use afterwards, another one goes on.
    package func append(_ bytes: [UInt8]) throws {
        waiting += bytes
        if waiting.count >= Self.bufferByteCount { try flush() }
    }

    /// Makes everything durable; what an earlier life left behind it goes.
    package func synchronize() throws {
        try flush()
        if existingCount > count { try cut() }
        guard SystemCall.retrying({ fsync(descriptor) }) == 0 else { throw SystemCall.error("flush", file: url.path) }
    }

    private func flush() throws {
        defer { waiting.removeAll(keepingCapacity: true) }
        if existingCount > count {
            if existingCount >= count + waiting.count, try isThere(waiting) { return count += waiting.count }
            try cut()
        }
        try waiting.withUnsafeBytes { bytes in
            var written = 0
            while written < bytes.count {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
                let result = SystemCall.retrying { pwrite(descriptor, rest.baseAddress, rest.count, off_t(count)) }
                guard result > 0 else {
                    throw SystemCall.error("write", file: url.path, number: result == 0 ? ENOSPC : errno)
                }
                written += result
                count += result
            }
        }
    }

    private func isThere(_ bytes: [UInt8]) throws -> Bool {
        var found = [UInt8](repeating: 0, count: bytes.count)
        let result = found.withUnsafeMutableBytes { buffer in
            SystemCall.retrying { pread(descriptor, buffer.baseAddress, buffer.count, off_t(count)) }
        }
        guard result >= 0 else { throw SystemCall.error("read", file: url.path) }
        return result == bytes.count && found == bytes
    }

    private func cut() throws {
        guard SystemCall.retrying({ ftruncate(descriptor, off_t(count)) }) == 0 else {
            throw SystemCall.error("cut", file: url.path)
        }
        existingCount = count
    }
}
