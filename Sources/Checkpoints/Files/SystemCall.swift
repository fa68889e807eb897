// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Turns errno into a ``CheckpointError``.
enum SystemCall {
    /// The error for a failed call on `file`. `errno` values that mean "no room" become `diskFull`.
    static func error(_ action: String, file: String, number: Int32 = errno) -> CheckpointError {
        let reason = String(cString: strerror(number))
        switch number {
        case ENOSPC, EDQUOT, EFBIG:
            return CheckpointError(
                .diskFull, "cannot \(action): \(reason)", file: file,
                remedy: "free space (or raise the limit) on the file system of the target and run again; "
                    + "nothing was left half-written")
        case ENOENT:
            return CheckpointError(
                .fileSystem, "cannot \(action): no such file or directory", file: file,
                remedy: "check the path")
        default:
            return CheckpointError(.fileSystem, "cannot \(action): \(reason)", file: file)
        }
    }

    /// Calls `body` again while it fails with EINTR.
    static func retrying<R: SignedInteger>(_ body: () -> R) -> R {
        while true {
            let result = body()
            if result != -1 || errno != EINTR { return result }
        }
    }

    /// Whether anything (also a dangling link) has this path.
    static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// Makes the entries of a directory durable: a rename is only safe once its directory is on disk.
    static func synchronizeDirectory(_ path: String) throws {
        let descriptor = retrying { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard descriptor >= 0 else { throw error("open the directory", file: path) }
        defer { close(descriptor) }
        // EINVAL: some file systems have nothing to flush for a directory.
        if retrying({ fsync(descriptor) }) != 0, errno != EINVAL {
            throw error("flush the directory", file: path)
        }
    }
}
