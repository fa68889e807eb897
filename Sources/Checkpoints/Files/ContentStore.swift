// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Glibc
internal import RuntimeSupport

/// A directory of blobs named by their SHA-256: what is stored never changes, and equal content is stored once.
///
/// Several processes may share a directory; each keeps its own account of the space, taken when it opens. Two puts
/// of the same content at the same time may count it twice until then.
package final class ContentStore: Sendable {
    private struct Account {
        var byteCount: Int
        var blobCount: Int
    }

    package let directory: URL
    /// A put that would exceed these is refused; nothing is evicted, since only the owner knows what is needed.
    package let byteCountMax: Int
    package let blobCountMax: Int
    private let account: Locked<Account>

    /// Opens `directory`, creating it if need be.
    /// - Throws: `fileSystem`, `limitExceeded`.
    package init(_ directory: URL, byteCountMax: Int = 1 << 44, blobCountMax: Int = 1 << 20) throws {
        self.directory = directory
        self.byteCountMax = byteCountMax
        self.blobCountMax = blobCountMax
        if mkdir(directory.path, 0o755) != 0, errno != EEXIST {
            throw SystemCall.error("create", file: directory.path)
        }
        var found = Account(byteCount: 0, blobCount: 0)
        for blob in try ContentStore.blobs(in: directory) {
            found.byteCount += blob.byteCount
            found.blobCount += 1
        }
        account = Locked(found)
    }

    private func url(_ hash: ContentHash) -> URL { directory.appendingPathComponent(hash.hexadecimal) }

    /// Whether a blob is there (its content is checked only when it is read).
    package func contains(_ hash: ContentHash) -> Bool { SystemCall.exists(url(hash).path) }

    /// Bytes of all blobs.
    package var byteCount: Int { account.withLock { $0.byteCount } }

    /// Stores bytes durably and returns their hash. Storing them again does nothing.
    /// - Throws: `limitExceeded`, `diskFull`, `fileSystem`.
    @discardableResult
    package func put(_ bytes: UnsafeRawBufferPointer) throws -> ContentHash {
        let hash = ContentHash(of: bytes)
        try put(hash, byteCount: bytes.count) { try $0.write(bytes, at: 0) }
        return hash
    }

    /// Stores bytes durably and returns their hash.
    @discardableResult
    package func put(_ bytes: [UInt8]) throws -> ContentHash { try bytes.withUnsafeBytes { try put($0) } }

    /// Stores a copy of a file durably and returns its hash.
    @discardableResult
    package func put(_ file: MappedFile) throws -> ContentHash {
        let hash = ContentHash(of: file)
        try put(hash, byteCount: file.byteCount) { target in
            let step = 64 << 20
            var start = 0
            while start < file.byteCount {
                let range = start..<min(start + step, file.byteCount)
                try file.withBytes(range) { try target.write($0, at: start) }
                file.dropPages(range)
                start = range.upperBound
            }
        }
        return hash
    }

    private func put(_ hash: ContentHash, byteCount: Int, _ write: (DurableFile) throws -> Void) throws {
        if contains(hash) { return }
        // Reserved before writing, so that concurrent puts cannot exceed the limits together.
        try account.withLock { account in
            guard account.blobCount < blobCountMax, byteCount <= byteCountMax - account.byteCount else {
                throw CheckpointError(
                    .limitExceeded,
                    "\(byteCount) more bytes would exceed \(byteCountMax) bytes or "
                        + "\(blobCountMax) blobs (now \(account.byteCount) bytes, \(account.blobCount) blobs)",
                    file: directory.path, remedy: "remove what is no longer needed or raise the limit")
            }
            account.byteCount += byteCount
            account.blobCount += 1
        }
        do {
            let file = try DurableFile(url(hash), reserving: byteCount)
            try write(file)
            try file.commit()
        } catch {
            release(byteCount)
            throw error
        }
    }

    private func release(_ byteCount: Int) {
        account.withLock { account in
            account.byteCount -= byteCount
            account.blobCount -= 1
        }
    }

    /// Maps a blob after checking that its bytes still have its hash.
    /// - Throws: `notFound`; `corrupted` with both hashes.
    package func get(_ hash: ContentHash) throws -> MappedFile {
        let url = url(hash)
        guard contains(hash) else {
            throw CheckpointError(.notFound, "there is no such blob", file: url.path)
        }
        let file = try MappedFile(url)
        let actual = ContentHash(of: file)
        guard actual == hash else {
            throw CheckpointError(
                .corrupted, "the content has the hash \(actual)", file: url.path,
                remedy: "remove the blob and fetch it again")
        }
        return file
    }

    /// Removes a blob; absent ones are fine.
    package func remove(_ hash: ContentHash) throws {
        let path = url(hash).path
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard unlink(path) == 0 else { throw SystemCall.error("remove", file: path) }
        release(Int(status.st_size))
    }

    /// All blobs with their sizes, sorted by hash.
    package func list() throws -> [(hash: ContentHash, byteCount: Int)] {
        try ContentStore.blobs(in: directory)
    }

    private static func blobs(in directory: URL) throws -> [(hash: ContentHash, byteCount: Int)] {
        guard let stream = opendir(directory.path) else {
            throw SystemCall.error("list", file: directory.path)
        }
        defer { closedir(stream) }
        var found: [(hash: ContentHash, byteCount: Int)] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            // Everything else, unfinished files among it, is none of ours.
            guard let hash = ContentHash(name) else { continue }
            var status = stat()
            guard lstat(directory.appendingPathComponent(name).path, &status) == 0 else { continue }
            found.append((hash, Int(status.st_size)))
        }
        return found.sorted { $0.hash < $1.hash }
    }
}
