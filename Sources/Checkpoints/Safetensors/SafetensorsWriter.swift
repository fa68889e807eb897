// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// Writes a safetensors file piece by piece, in memory of one piece.
///
/// The bytes of the file depend on the tensors alone, not on the order or the threads they are written by. The
/// file appears under its name only with ``finish()``; a writer that is dropped leaves nothing.
package final class SafetensorsWriter: Sendable {
    package let layout: SafetensorsLayout
    private let file: DurableFile
    private let index: [String: Int]
    /// Bytes written so far of each place of the layout.
    private let written: Locked<[Int]>

    /// Reserves the whole file and writes its header.
    /// - Throws: `diskFull`, `fileSystem`, `invalidOption`.
    package init(
        _ url: URL, tensors: [TensorDescription],
        metadata: [SafetensorsHeader.Metadatum] = [.init("format", "pt")]
    ) throws {
        let layout = try SafetensorsLayout(tensors, metadata: metadata)
        self.layout = layout
        index = Dictionary(
            uniqueKeysWithValues: layout.places.enumerated().map { ($0.element.tensor.name, $0.offset) })
        written = Locked(Array(repeating: 0, count: layout.places.count))
        file = try DurableFile(url, reserving: layout.fileByteCount)
        try layout.headerBytes.withUnsafeBytes { try file.write($0, at: 0) }
    }

    /// Writes the next bytes of the tensor `name`. Different tensors may be written by different threads at once,
    /// the pieces of one tensor must come in order.
    /// - Throws: `invalidOption` for an unknown name or too many bytes; `diskFull`, `fileSystem`.
    package func append(_ name: String, _ bytes: UnsafeRawBufferPointer) throws {
        guard let position = index[name] else {
            throw CheckpointError(
                .invalidOption, "the file was not declared to hold it", file: file.url.path, tensor: name)
        }
        let place = layout.places[position]
        let start = written.withLock { written in
            defer { written[position] += bytes.count }
            return written[position]
        }
        guard bytes.count <= place.byteRange.count - start else {
            throw CheckpointError(
                .invalidOption, "got \(start + bytes.count) bytes, expected \(place.byteRange.count)",
                file: file.url.path, tensor: name)
        }
        try file.write(bytes, at: place.byteRange.lowerBound + start)
    }

    /// Whether every byte of every tensor has been handed over.
    package var isComplete: Bool {
        written.withLock { written in
            zip(written, layout.places).allSatisfy { $0 == $1.byteRange.count }
        }
    }

    /// Flushes the file and gives it its name.
    /// - Throws: `invalidOption` naming the first tensor that lacks bytes; `diskFull`, `fileSystem`.
    package func finish() throws {
        let counts = written.withLock { $0 }
        for (place, count) in zip(layout.places, counts) where count != place.byteRange.count {
            throw CheckpointError(
                .invalidOption, "got \(count) bytes, expected \(place.byteRange.count)", file: file.url.path,
                tensor: place.tensor.name)
        }
        try file.commit()
    }

    /// Gives up; nothing remains.
    package func abandon() { file.abandon() }
}
