// SPDX-License-Identifier: Apache-2.0
//
// The GGUF format: "GGUF", a version, the numbers of tensors and of metadata, the metadata (keys with typed values), a
// table of tensors, and from the next multiple of `general.alignment` their data. Extents are written innermost first.

/// What a GGUF file says about itself, checked against its size; no tensor data is read.
package struct GGUFHeader: Sendable {
    /// One tensor of a file.
    package struct Tensor: Hashable, Sendable {
        package let name: String
        package let type: GGUFTensorType
        /// Row-major: the last extent is that of a row.
        package let shape: [Int]
        /// Where its bytes lie in the file.
        package let dataRange: Range<Int>
    }

    /// Bounds on files that are read. The largest known vocabularies make 20 MB of metadata.
    package enum Limits {
        static let headerByteCount = 512 << 20
        static let keyByteCount = 65_535
        static let tensorNameByteCount = 255
        static let extentCount = 4
        static let alignment = 1 << 20
    }

    package let version: UInt32
    /// In file order.
    package let keys: [String]
    private let values: [String: GGUFValue]
    /// In file order.
    package let tensors: [Tensor]

    /// The value of `key`, or nil.
    package subscript(key: String) -> GGUFValue? { values[key] }

    /// Checks a whole file. Costs memory in proportion to the header, never to the numbers in it.
    /// - Throws: `malformedFile` with the byte offset and the remedy, `limitExceeded`.
    package init(_ bytes: UnsafeRawBufferPointer, file: String) throws {
        var cursor = GGUFCursor(bytes, file: file)
        version = try GGUFHeader.readVersion(&cursor)
        // A tensor takes a name's length, a number of extents, one extent, a type and an offset at least; a key its
        // length, a type and a value.
        let tensorCount = try cursor.count("the number of tensors", unitByteCount: 32)
        let keyCount = try cursor.count("the number of metadata", unitByteCount: 13)
        (keys, values) = try GGUFHeader.readMetadata(keyCount, &cursor)
        let alignment = try GGUFHeader.alignment(values["general.alignment"], cursor)
        tensors = try GGUFHeader.readTensors(tensorCount, alignment: alignment, &cursor)
        try GGUFHeader.checkOverlap(tensors, cursor)
    }

    private static func readVersion(_ cursor: inout GGUFCursor) throws -> UInt32 {
        guard cursor.bytes.starts(with: "GGUF".utf8) else {
            let pointer = "version https://git-lfs"
            let remedy =
                cursor.bytes.starts(with: pointer.utf8)
                ? "it is a pointer of Git LFS: fetch the file that it stands for (git lfs pull)"
                : "give a .gguf file"
            throw cursor.failure("is no GGUF file: it does not begin with \"GGUF\"", remedy: remedy)
        }
        try cursor.skip(4, "the magic number")
        let version = try cursor.number(UInt32.self, "the version")
        switch version {
        case 2, 3: return version
        case 1: throw unsupported("version 1 of the format", "make the file again with a newer converter", cursor)
        case _ where version.byteSwapped <= 16:
            throw unsupported("the file is big-endian", "Apus reads the little-endian form", cursor)
        default: throw unsupported("version \(version) of the format", "Apus reads versions 2 and 3", cursor)
        }
    }

    private static func unsupported(_ what: String, _ remedy: String, _ cursor: GGUFCursor) -> CheckpointError {
        CheckpointError(.unsupportedConfiguration, what, file: cursor.file, byteOffset: 4, remedy: remedy)
    }

    private static func readMetadata(
        _ count: Int, _ cursor: inout GGUFCursor
    ) throws -> ([String], [String: GGUFValue]) {
        var keys: [String] = []
        var values: [String: GGUFValue] = [:]
        for _ in 0..<count {
            let start = cursor.offset
            let range = try cursor.string("a key of the metadata", byteCountMax: Limits.keyByteCount)
            let key = try cursor.text(range, "a key of the metadata")
            let kind = try GGUFValue.readKind(&cursor, "the type of '\(key)'")
            let value = try GGUFValue.read(kind, &cursor, "'\(key)'")
            guard values.updateValue(value, forKey: key) == nil else {
                throw cursor.failure("the key '\(key)' occurs twice", at: start)
            }
            keys.append(key)
            try checkSize(cursor)
        }
        return (keys, values)
    }

    private static func checkSize(_ cursor: GGUFCursor) throws {
        guard cursor.offset <= Limits.headerByteCount else {
            throw CheckpointError(
                .limitExceeded, "metadata and tensor table have more than \(Limits.headerByteCount) bytes",
                file: cursor.file)
        }
    }

    private static func alignment(_ value: GGUFValue?, _ cursor: GGUFCursor) throws -> Int {
        guard let value else { return 32 }
        guard case .integer(let alignment) = value, (1...Limits.alignment).contains(alignment),
            alignment & (alignment - 1) == 0
        else {
            throw cursor.failure(
                "'general.alignment' is \(value.kind), expected a power of two up to \(Limits.alignment)", at: 0)
        }
        return alignment
    }

    private static func readTensors(
        _ count: Int, alignment: Int, _ cursor: inout GGUFCursor
    ) throws -> [Tensor] {
        var entries: [(name: String, type: GGUFTensorType, shape: [Int], offset: UInt64, byteCount: Int)] = []
        var names: Set<String> = []
        for _ in 0..<count {
            let start = cursor.offset
            let range = try cursor.string("a tensor's name", byteCountMax: Limits.tensorNameByteCount)
            let name = try cursor.text(range, "a tensor's name")
            func failure(_ message: String) -> CheckpointError {
                var error = cursor.failure(message, at: start)
                error.tensor = name
                return error
            }
            guard names.insert(name).inserted else { throw failure("occurs twice") }
            let extentCount = try cursor.number(UInt32.self, "the number of extents of '\(name)'")
            guard (1...UInt32(Limits.extentCount)).contains(extentCount) else {
                throw failure("has \(extentCount) extents, expected 1 to \(Limits.extentCount)")
            }
            var shape: [Int] = []
            for _ in 0..<extentCount {
                let extent = try cursor.number(UInt64.self, "the extents of '\(name)'")
                guard (1...UInt64(Int.max)).contains(extent) else { throw failure("has an extent of \(extent)") }
                shape.insert(Int(extent), at: 0)
            }
            let code = try cursor.number(UInt32.self, "the type of '\(name)'")
            guard let type = GGUFTensorType(rawValue: code) else {
                throw failure(
                    GGUFTensorType.removedCodes.contains(code)
                        ? "has type \(code), which newer versions of the format no longer have"
                        : "has the unknown type \(code)")
            }
            guard let byteCount = type.byteCount(shape: shape) else {
                throw failure(
                    "shape \(shape) of \(type.name) is no whole number of blocks of \(type.blockElementCount) in "
                        + "every row, or too large")
            }
            let offset = try cursor.number(UInt64.self, "the offset of '\(name)'")
            guard offset % UInt64(alignment) == 0 else {
                throw failure("its data start at \(offset), which is no multiple of the alignment \(alignment)")
            }
            entries.append((name, type, shape, offset, byteCount))
            try checkSize(cursor)
        }
        let dataStart = (cursor.offset + alignment - 1) / alignment * alignment
        return try entries.map { entry in
            let room = cursor.bytes.count - dataStart
            guard room >= 0, entry.offset <= UInt64(room), entry.byteCount <= room - Int(entry.offset) else {
                throw CheckpointError(
                    .malformedFile,
                    "needs \(entry.byteCount) bytes from \(entry.offset) of the data, which has \(max(room, 0))",
                    file: cursor.file, tensor: entry.name, byteOffset: dataStart,
                    remedy: "the file is truncated or damaged: fetch it again")
            }
            let start = dataStart + Int(entry.offset)
            return Tensor(
                name: entry.name, type: entry.type, shape: entry.shape, dataRange: start..<start + entry.byteCount)
        }
    }

    private static func checkOverlap(_ tensors: [Tensor], _ cursor: GGUFCursor) throws {
        let order = tensors.sorted { $0.dataRange.lowerBound < $1.dataRange.lowerBound }
        for (before, after) in zip(order, order.dropFirst())
        where after.dataRange.lowerBound < before.dataRange.upperBound {
            throw CheckpointError(
                .malformedFile, "its data overlap those of '\(before.name)'", file: cursor.file, tensor: after.name,
                byteOffset: after.dataRange.lowerBound, remedy: GGUFCursor.damaged)
        }
    }
}
