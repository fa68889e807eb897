// SPDX-License-Identifier: Apache-2.0
internal import CZlib
internal import Foundation
internal import RuntimeSupport

/// Bytes of a file of data in pieces, whatever it is packed in. Memory does not grow with the file.
protocol ByteStream: AnyObject {
    /// The next bytes, at most about 256 KiB; nil at the end.
    /// - Throws: ``JobError`` `fileSystem` or `malformedRow` with the file.
    func read() throws(JobError) -> Data?
}

/// The bytes of a file as they are.
final class FileStream: ByteStream {
    private let handle: FileHandle
    private let file: String

    static let chunkByteCount = 1 << 18

    /// - Throws: ``JobError`` `fileSystem`.
    init(_ url: URL) throws(JobError) {
        file = url.path
        do { handle = try FileHandle(forReadingFrom: url) } catch {
            throw JobError(.fileSystem, "cannot be opened; is the path right and readable?", file: url.path)
        }
    }

    deinit { try? handle.close() }

    func read() throws(JobError) -> Data? {
        let chunk: Data?
        do { chunk = try handle.read(upToCount: Self.chunkByteCount) } catch {
            throw JobError(.fileSystem, "cannot be read: \(failureReason(error))", file: file)
        }
        guard let chunk, !chunk.isEmpty else { return nil }
        return chunk
    }
}

/// What a gzip file holds; several members one after the other are one file, as for gunzip.
final class GzipStream: ByteStream {
    /// A file may grow to so many times its size once it has more than ``freeByteCount``: deflate reaches 1032 with zeros, and
    /// no data come near.
    static let ratioMax = 512
    static let freeByteCount = 256 << 20

    private let source: any ByteStream
    private let file: String
    private let stream: UnsafeMutablePointer<z_stream>
    private var input = Data()
    private var isInMember = false
    private var atEnd = false
    private var (inByteCount, outByteCount) = (0, 0)

    init(_ source: any ByteStream, file: String) {
        self.source = source
        self.file = file
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        precondition(apus_gzip_begin(stream) == Z_OK, "zlib cannot be set up")
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    func read() throws(JobError) -> Data? {
        var output = Data(count: FileStream.chunkByteCount)
        while !atEnd {
            if input.isEmpty {
                guard let chunk = try source.read() else {
                    guard !isInMember else { throw failure("ends in the middle of its gzip data; fetch it again") }
                    atEnd = true
                    break
                }
                input = chunk
                inByteCount += chunk.count
            }
            isInMember = true
            let (status, used, made) = inflated(into: &output)
            input = input.dropFirst(used)
            outByteCount += made
            guard outByteCount <= max(Self.freeByteCount, inByteCount * Self.ratioMax) else {
                throw failure("unpacks to more than \(Self.ratioMax) times its size, which no data do")
            }
            switch status {
            case Z_OK, Z_BUF_ERROR: break
            case Z_STREAM_END:
                isInMember = false
                inflateReset(stream)
                // Zeros may fill up a block of a tape or of an archive.
                if input.allSatisfy({ $0 == 0 }) { input = Data() }
            default: throw failure("is damaged gzip data, after \(outByteCount) bytes of content; fetch it again")
            }
            if made > 0 { return output.prefix(made) }
        }
        return nil
    }

    private func inflated(into output: inout Data) -> (status: Int32, used: Int, made: Int) {
        let (available, room) = (input.count, output.count)
        return input.withUnsafeBytes { bytes in
            output.withUnsafeMutableBytes { target in
                // zlib does not write to its input.
                stream.pointee.next_in = UnsafeMutablePointer(
                    mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
                stream.pointee.avail_in = UInt32(available)
                stream.pointee.next_out = target.bindMemory(to: UInt8.self).baseAddress
                stream.pointee.avail_out = UInt32(room)
                let status = inflate(stream, Z_NO_FLUSH)
                return (status, available - Int(stream.pointee.avail_in), room - Int(stream.pointee.avail_out))
            }
        }
    }

    private func failure(_ text: String) -> JobError { JobError(.malformedRow, text, file: file) }
}

/// A stream with bytes put back before it: those by which its form was told.
final class ReplayedStream: ByteStream {
    private var start: Data?
    private let rest: any ByteStream

    init(_ start: Data, _ rest: any ByteStream) {
        self.start = start.isEmpty ? nil : start
        self.rest = rest
    }

    func read() throws(JobError) -> Data? {
        defer { start = nil }
        if let start { return start }
        return try rest.read()
    }
}

/// A place in a stream, byte by byte.
struct ByteCursor {
    private let stream: any ByteStream
    private var chunk: [UInt8] = []
    private var position = 0
    /// Line of the next byte, from 1.
    private(set) var line = 1

    init(_ stream: any ByteStream) { self.stream = stream }

    /// The next byte, which stays the next one; nil at the end.
    mutating func peek() throws(JobError) -> UInt8? {
        if position == chunk.count {
            chunk = [UInt8](try stream.read() ?? Data())
            position = 0
        }
        return position < chunk.count ? chunk[position] : nil
    }

    /// Goes on to the byte after the next one.
    mutating func advance() {
        if chunk[position] == 0x0A { line += 1 }
        position += 1
    }
}
