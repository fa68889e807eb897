// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Small text files that nobody but their owner may read: keys and allow-lists.
enum PrivateFile {
    /// Reads at most `byteCountMax` bytes of a regular file that belongs to this user and is closed to all
    /// others.
    static func read(_ path: String, byteCountMax: Int) throws(TransportError) -> String {
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("cannot open", path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("cannot examine", path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw TransportError(.fileAccess, "\(path) is not a regular file")
        }
        guard status.st_mode & 0o077 == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw TransportError(
                .filePermissions, "\(path) has mode \(mode), others may use it; run: chmod 600 \(path)")
        }
        guard status.st_uid == geteuid() else {
            throw TransportError(
                .filePermissions,
                "\(path) belongs to user \(status.st_uid); it must belong to user \(geteuid())")
        }
        guard status.st_size <= byteCountMax else {
            throw TransportError(
                .overLimit, "\(path) has \(status.st_size) bytes; the limit is \(byteCountMax)")
        }
        var bytes = [UInt8](repeating: 0, count: byteCountMax)
        var filled = 0
        while filled < byteCountMax {
            let got = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress! + filled, $0.count - filled)
            }
            if got < 0 && errno == EINTR { continue }
            guard got >= 0 else { throw failure("cannot read", path) }
            if got == 0 { break }
            filled += got
        }
        return String(decoding: bytes[..<filled], as: UTF8.self)
    }

    /// Replaces `path` by `text` with mode 0600: a reader sees the old content or the new one, never a part.
    static func write(_ text: String, to path: String) throws(TransportError) {
        var random = SystemRandomNumberGenerator()
        let temporary = path + ".new-" + String(random.next() as UInt64, radix: 16)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure("cannot create", path) }
        do throws(TransportError) {
            try writeAll(Array(text.utf8), descriptor, temporary)
            // The umask may only have removed bits; fchmod makes the mode exact.
            guard fchmod(descriptor, 0o600) == 0, fsync(descriptor) == 0 else {
                throw failure("cannot sync", temporary)
            }
            guard rename(temporary, path) == 0 else { throw failure("cannot rename to", path) }
        } catch {
            close(descriptor)
            unlink(temporary)
            throw error
        }
        close(descriptor)
        syncDirectory(of: path)
    }

    private static func writeAll(_ bytes: [UInt8], _ descriptor: Int32, _ path: String) throws(TransportError) {
        var done = 0
        while done < bytes.count {
            let wrote = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress! + done, $0.count - done)
            }
            if wrote < 0 && errno == EINTR { continue }
            guard wrote > 0 else { throw failure("cannot write", path) }
            done += wrote
        }
    }

    private static func syncDirectory(of path: String) {
        let end = path.lastIndex(of: "/")
        let directory = end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    private static func failure(_ what: String, _ path: String) -> TransportError {
        TransportError(.fileAccess, "\(what) \(path): \(String(cString: strerror(errno)))")
    }
}
