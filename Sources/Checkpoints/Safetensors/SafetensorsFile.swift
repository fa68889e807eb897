// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Glibc

/// A safetensors file, checked and mapped read-only.
package struct SafetensorsFile: Sendable {
    package let url: URL
    package let header: SafetensorsHeader
    package let file: MappedFile

    /// Maps `url` and checks its header against the format and the size of the file; no data is read.
    /// - Throws: `malformedFile` with tensor, byte offset and remedy; `fileSystem`.
    package init(_ url: URL) throws {
        self.url = url
        let file = try MappedFile(url)
        self.file = file
        header = try file.withBytes { bytes in
            let count = try SafetensorsHeader.headerByteCount(
                UnsafeRawBufferPointer(rebasing: bytes.prefix(8)), fileByteCount: bytes.count, file: url.path)
            return try SafetensorsHeader(
                UnsafeRawBufferPointer(rebasing: bytes[8..<8 + count]), fileByteCount: bytes.count,
                file: url.path)
        }
    }

    /// Names of all tensors, sorted bytewise.
    package var tensorNames: [String] { header.entries.map(\.name) }

    /// A view of the tensor called `name`.
    /// - Throws: `notFound`.
    package func tensor(_ name: String) throws -> TensorView {
        guard let entry = header[name] else {
            throw CheckpointError(.notFound, "there is no such tensor", file: url.path, tensor: name)
        }
        return view(entry)
    }

    /// A view of one entry of ``header``.
    package func view(_ entry: SafetensorsHeader.Entry) -> TensorView {
        TensorView(
            name: entry.name, dataType: entry.dataType, shape: entry.shape, file: file,
            byteRange: entry.dataRange.lowerBound + header.dataOffset..<entry.dataRange.upperBound
                + header.dataOffset)
    }

    /// Reads and checks only the header of `url`, without keeping the file open or mapped.
    package static func readHeader(_ url: URL) throws -> (header: SafetensorsHeader, fileByteCount: Int) {
        let path = url.path
        let descriptor = SystemCall.retrying { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        guard descriptor >= 0 else { throw SystemCall.error("open", file: path) }
        defer { close(descriptor) }
        let size = try MappedFile.regularFileSize(descriptor, path: path)
        try MappedFile.refusePointer(descriptor, size, path: path)
        let prefix = try readBytes(descriptor, count: min(8, size), at: 0, path: path)
        let count = try prefix.withUnsafeBytes {
            try SafetensorsHeader.headerByteCount($0, fileByteCount: size, file: path)
        }
        let json = try readBytes(descriptor, count: count, at: 8, path: path)
        let header = try json.withUnsafeBytes {
            try SafetensorsHeader($0, fileByteCount: size, file: path)
        }
        return (header, size)
    }

    private static func readBytes(
        _ descriptor: Int32, count: Int, at offset: Int, path: String
    ) throws -> [UInt8] {
        if count == 0 { return [] }
        return try [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            while initializedCount < count {
                let got = SystemCall.retrying {
                    pread(
                        descriptor, buffer.baseAddress! + initializedCount, count - initializedCount,
                        offset + initializedCount)
                }
                guard got >= 0 else { throw SystemCall.error("read", file: path) }
                guard got > 0 else {
                    throw CheckpointError(
                        .malformedFile, "became shorter while it was read", file: path,
                        byteOffset: offset + initializedCount)
                }
                initializedCount += got
            }
        }
    }
}
