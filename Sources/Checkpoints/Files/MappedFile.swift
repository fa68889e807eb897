// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Glibc

/// A whole regular file mapped read-only.
///
/// Pages are loaded on first touch and belong to the page cache, so mapping costs no memory by itself. The file
/// must not be shortened while it is mapped (the kernel answers a touch past the end with SIGBUS); Apus never
/// changes a file in place, it renames new ones over old ones.
// @unchecked: the memory is read-only from init to deinit, and every field is a constant.
package final class MappedFile: @unchecked Sendable {
    /// How pages are going to be used.
    package enum Advice: Sendable {
        case normal, random, sequential, willNeed
    }

    package let url: URL
    /// Size of the file in bytes when it was mapped.
    package let byteCount: Int
    private let base: UnsafeRawPointer?

    /// Maps `url`.
    /// - Throws: `fileSystem` when it cannot be opened or mapped or is no regular file.
    package init(_ url: URL) throws {
        let path = url.path
        let descriptor = SystemCall.retrying { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        guard descriptor >= 0 else { throw SystemCall.error("open", file: path) }
        defer { close(descriptor) }
        byteCount = try MappedFile.regularFileSize(descriptor, path: path)
        self.url = url
        guard byteCount > 0 else {
            base = nil
            return
        }
        try MappedFile.refusePointer(descriptor, byteCount, path: path)
        let address = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0)
        guard let address, address != MAP_FAILED else { throw SystemCall.error("map", file: path) }
        base = UnsafeRawPointer(address)
    }

    deinit {
        if let base { munmap(UnsafeMutableRawPointer(mutating: base), byteCount) }
    }

    static func regularFileSize(_ descriptor: Int32, path: String) throws -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SystemCall.error("stat", file: path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw CheckpointError(.fileSystem, "not a regular file", file: path)
        }
        return Int(status.st_size)
    }

    /// A repository that was cloned without Git LFS has small texts in place of its large files.
    static func refusePointer(_ descriptor: Int32, _ byteCount: Int, path: String) throws {
        let start = "version https://git-lfs.github.com/spec/"
        guard byteCount < 1_024 else { return }
        let text = String(
            decoding: [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
                count = max(0, SystemCall.retrying { pread(descriptor, buffer.baseAddress, byteCount, 0) })
            }, as: UTF8.self)
        guard text.hasPrefix(start) else { return }
        let size = text.split(separator: "\n").first { $0.hasPrefix("size ") }?.dropFirst(5)
        throw CheckpointError(
            .notFound, "is a Git LFS pointer, not the file itself\(size.map { " of \($0) bytes" } ?? "")", file: path,
            remedy: "run git lfs pull in its directory, or fetch the model with hf download")
    }

    /// Lends the bytes of `range`. The pointer is valid only inside `body`.
    package func withBytes<R>(_ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= byteCount,
            "range \(range) outside a file of \(byteCount) bytes")
        // A file can hold tensors of size zero at its end: no byte may be touched, but a pointer is fine.
        guard let base, !range.isEmpty else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        return try body(UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count))
    }

    /// Lends all bytes.
    package func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try withBytes(0..<byteCount, body)
    }

    /// Tells the kernel how the pages that hold `range` are going to be used. Only a hint.
    package func advise(_ advice: Advice, _ range: Range<Int>? = nil) {
        let flag =
            switch advice {
            case .normal: MADV_NORMAL
            case .random: MADV_RANDOM
            case .sequential: MADV_SEQUENTIAL
            case .willNeed: MADV_WILLNEED
            }
        let range = range ?? 0..<byteCount
        let page = MappedFile.pageByteCount
        advise(flag, from: range.lowerBound / page * page, to: range.upperBound)
    }

    /// Gives the pages that lie wholly inside `range` back. They are read from the file again if touched again;
    /// pages shared with neighbouring tensors stay.
    package func dropPages(_ range: Range<Int>? = nil) {
        let range = range ?? 0..<byteCount
        let page = MappedFile.pageByteCount
        let lower = (range.lowerBound + page - 1) / page * page
        // The last page of the file belongs to nobody else.
        let upper = range.upperBound == byteCount ? byteCount : range.upperBound / page * page
        advise(MADV_DONTNEED, from: lower, to: upper)
    }

    private func advise(_ flag: Int32, from lower: Int, to upper: Int) {
        guard let base, lower < upper else { return }
        // A refused hint changes nothing that anyone could act on.
        _ = madvise(UnsafeMutableRawPointer(mutating: base + lower), upper - lower, flag)
    }

    private static let pageByteCount = Int(sysconf(Int32(_SC_PAGESIZE)))
}

/// Reads small files whole.
enum SmallFile {
    /// The bytes of `url`.
    /// - Throws: `limitExceeded` when it is larger than `limit` bytes, before anything is allocated.
    static func read(_ url: URL, limit: Int) throws -> [UInt8] {
        let file = try MappedFile(url)
        guard file.byteCount <= limit else {
            throw CheckpointError(
                .limitExceeded, "has \(file.byteCount) bytes, the limit for this kind of file is \(limit)",
                file: url.path)
        }
        return file.withBytes { Array($0) }
    }
}
