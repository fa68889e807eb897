// SPDX-License-Identifier: Apache-2.0
//
// The safetensors format: a little-endian UInt64 N, N bytes of JSON, then the data. The verdicts are those of the
// library (0.8.0), which is laxer than its own text: leading blanks, `"__metadata__": null`, further fields, an
// entry written as an array and a doubled name are taken; the last of doubled names counts. One thing is
// refused here that serde takes: a dtype written as `{"F32": null}`.

/// What a safetensors file says about itself.
package struct SafetensorsHeader: Sendable {
    /// One tensor of a file.
    package struct Entry: Equatable, Sendable {
        package let name: String
        package let dataType: SafetensorsDataType
        package let shape: [Int]
        /// Where its bytes lie, counted from the end of the header.
        package let dataRange: Range<Int>
    }

    /// A pair of `__metadata__`.
    package struct Metadatum: Equatable, Sendable {
        package let key: String
        package let value: String

        package init(_ key: String, _ value: String) {
            self.key = key
            self.value = value
        }
    }

    /// The library's limit on N.
    package static let byteCountMax = 100_000_000

    /// Sorted by name, bytewise; names are unique.
    package let entries: [Entry]
    /// Sorted by key. Empty when absent.
    package let metadata: [Metadatum]
    /// Bytes before the data: 8 + N.
    package let dataOffset: Int

    /// Reads N from the first 8 bytes of a file of `fileByteCount` bytes.
    static func headerByteCount(_ prefix: UnsafeRawBufferPointer, fileByteCount: Int, file: String) throws
        -> Int
    {
        guard prefix.count >= 8 else {
            throw CheckpointError(
                .malformedFile, "has \(prefix.count) bytes, a safetensors file has at least 8", file: file,
                remedy: "fetch or write the file again")
        }
        let count = UInt64(littleEndian: prefix.loadUnaligned(as: UInt64.self))
        guard count <= UInt64(byteCountMax) else {
            throw CheckpointError(
                .malformedFile, "header of \(count) bytes, at most \(byteCountMax) are allowed", file: file,
                byteOffset: 0, remedy: "this is no safetensors file or it is damaged")
        }
        guard Int(count) <= fileByteCount - 8 else {
            throw CheckpointError(
                .malformedFile,
                "header of \(count) bytes, but the file ends after \(fileByteCount - 8) of them", file: file,
                byteOffset: 8, remedy: "the file is truncated: fetch or write it again")
        }
        return Int(count)
    }

    /// Checks `json`, the N bytes of the header, against a file of `fileByteCount` bytes.
    ///
    /// Costs memory in proportion to the header, never to the numbers in it.
    /// - Throws: `malformedFile`.
    init(_ json: UnsafeRawBufferPointer, fileByteCount: Int, file: String) throws {
        dataOffset = 8 + json.count
        guard String(validating: json, as: UTF8.self) != nil else {
            throw CheckpointError(
                .malformedFile, "the header is not UTF-8", file: file, byteOffset: 8,
                remedy: "this is no safetensors file or it is damaged")
        }
        var parser = SafetensorsHeaderParser(json)
        do throws(JSONScanner.Failure) {
            try parser.parse()
        } catch {
            throw CheckpointError(
                .malformedFile, "bad header: \(error.message)", file: file, tensor: parser.currentName,
                byteOffset: 8 + error.offset, remedy: "the file is damaged: fetch or write it again")
        }
        entries = SafetensorsHeader.lastOfEachName(parser.entries)
        metadata = parser.metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
        try checkCoverage(dataByteCount: fileByteCount - dataOffset, file: file)
    }

    private static func lastOfEachName(_ entries: [Entry]) -> [Entry] {
        var sorted: [Entry] = []
        sorted.reserveCapacity(entries.count)
        // Swift's sort is stable, so the last of equal names comes last. Names are compared by their bytes:
        // Swift's == would also merge canonically equivalent names, the library does not.
        for entry in entries.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
            if let last = sorted.last, last.name.utf8.elementsEqual(entry.name.utf8) { sorted.removeLast() }
            sorted.append(entry)
        }
        return sorted
    }

    /// The data must be covered by the tensors without hole or overlap, each exactly as long as its shape says.
    private func checkCoverage(dataByteCount: Int, file: String) throws {
        var end = 0
        let order = entries.sorted {
            ($0.dataRange.lowerBound, $0.dataRange.upperBound) < (
                $1.dataRange.lowerBound, $1.dataRange.upperBound
            )
        }
        for entry in order {
            guard entry.dataRange.lowerBound == end else {
                let what = entry.dataRange.lowerBound > end ? "leaves a hole" : "overlaps another"
                throw CheckpointError(
                    .malformedFile,
                    "starts at \(entry.dataRange.lowerBound) of the data and \(what); "
                        + "expected \(end)",
                    file: file, tensor: entry.name, byteOffset: dataOffset + end,
                    remedy: "the file is damaged or was written by a faulty tool: write it again")
            }
            guard let expected = entry.dataType.byteCount(shape: entry.shape) else {
                throw CheckpointError(
                    .malformedFile,
                    "shape \(entry.shape) of \(entry.dataType.rawValue) is no whole number of "
                        + "bytes that fits 63 bits",
                    file: file, tensor: entry.name, byteOffset: 8, remedy: "the header is damaged")
            }
            guard expected == entry.dataRange.count else {
                throw CheckpointError(
                    .malformedFile,
                    "shape \(entry.shape) of \(entry.dataType.rawValue) needs \(expected) bytes, the header "
                        + "gives it \(entry.dataRange.count)",
                    file: file, tensor: entry.name, byteOffset: dataOffset + end,
                    remedy: "the header is damaged")
            }
            end = entry.dataRange.upperBound
        }
        guard end == dataByteCount else {
            let what = end > dataByteCount ? "the file is truncated" : "bytes follow the last tensor"
            throw CheckpointError(
                .malformedFile, "tensors take \(end) bytes of data, the file has \(dataByteCount)",
                file: file,
                byteOffset: dataOffset + min(end, dataByteCount), remedy: "\(what): fetch or write it again")
        }
    }

    /// The entry called `name`, found by binary search.
    package subscript(name: String) -> Entry? {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].name.utf8.lexicographicallyPrecedes(name.utf8) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low < entries.count, entries[low].name.utf8.elementsEqual(name.utf8) else { return nil }
        return entries[low]
    }
}
