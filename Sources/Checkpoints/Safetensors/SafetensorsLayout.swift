// SPDX-License-Identifier: Apache-2.0

/// Where each tensor of a file goes, and the header that says so: the bytes that the safetensors library writes.
package struct SafetensorsLayout: Sendable {
    /// A tensor and the place of its bytes, counted from the start of the file.
    package struct Place: Sendable {
        package let tensor: TensorDescription
        package let byteRange: Range<Int>
    }

    /// In file order: by element type (largest first, so that everything stays aligned), then by name, bytewise.
    package let places: [Place]
    /// The first 8 bytes and the JSON, padded with blanks to a multiple of 8.
    package let headerBytes: [UInt8]
    package let fileByteCount: Int

    /// - Throws: `invalidOption` for a doubled or reserved name or a size that overflows.
    package init(
        _ tensors: [TensorDescription], metadata: [SafetensorsHeader.Metadatum] = [.init("format", "pt")]
    ) throws {
        let sorted = tensors.map { (rank: $0.dataType.rank, tensor: $0) }.sorted {
            if $0.rank != $1.rank { return $0.rank > $1.rank }
            return $0.tensor.name.utf8.lexicographicallyPrecedes($1.tensor.name.utf8)
        }.map(\.tensor)
        var json = "{"
        if !metadata.isEmpty {
            json += "\"__metadata__\":{"
            let pairs = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            for (index, pair) in pairs.enumerated() {
                if index > 0 { json += "," }
                JSONValue.write(pair.key, into: &json)
                json += ":"
                JSONValue.write(pair.value, into: &json)
            }
            json += "}"
        }
        var ranges: [Range<Int>] = []
        var names: Set<String> = []
        var end = 0
        for tensor in sorted {
            guard tensor.name != "__metadata__", names.insert(tensor.name).inserted else {
                throw CheckpointError(
                    .invalidOption, "the name is reserved or occurs twice", tensor: tensor.name)
            }
            guard let byteCount = tensor.dataType.byteCount(shape: tensor.shape),
                case let (next, overflow) = end.addingReportingOverflow(byteCount), !overflow
            else {
                throw CheckpointError(
                    .invalidOption, "shape \(tensor.shape) of \(tensor.dataType.rawValue) overflows",
                    tensor: tensor.name)
            }
            if json.utf8.count > 1 { json += "," }
            JSONValue.write(tensor.name, into: &json)
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            json += ":{\"dtype\":\"\(tensor.dataType.rawValue)\",\"shape\":[\(shape)],"
            json += "\"data_offsets\":[\(end),\(next)]}"
            ranges.append(end..<next)
            end = next
        }
        json += "}"
        json += String(repeating: " ", count: (8 - json.utf8.count % 8) % 8)
        guard json.utf8.count <= SafetensorsHeader.byteCountMax else {
            throw CheckpointError(
                .limitExceeded,
                "a header of \(json.utf8.count) bytes, at most "
                    + "\(SafetensorsHeader.byteCountMax) are allowed",
                remedy: "use smaller shards")
        }
        let dataOffset = 8 + json.utf8.count
        headerBytes =
            withUnsafeBytes(of: UInt64(json.utf8.count).littleEndian) { Array($0) } + Array(json.utf8)
        places = zip(sorted, ranges).map { tensor, range in
            Place(tensor: tensor, byteRange: range.lowerBound + dataOffset..<range.upperBound + dataOffset)
        }
        fileByteCount = dataOffset + end
    }
}
