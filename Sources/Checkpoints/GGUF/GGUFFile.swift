// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// A model in GGUF, checked and mapped read-only: one file, or the parts `NAME-00001-of-0000N.gguf` of a split one.
package struct GGUFFile: Sendable {
    /// A tensor and the file that holds it.
    package struct Tensor: Sendable {
        package let header: GGUFHeader.Tensor
        package let file: MappedFile

        package var name: String { header.name }
        package var type: GGUFTensorType { header.type }
        /// Row-major.
        package var shape: [Int] { header.shape }
    }

    private struct Part {
        let file: MappedFile
        let header: GGUFHeader

        init(_ url: URL) throws {
            let file = try MappedFile(url)
            self.file = file
            header = try file.withBytes { try GGUFHeader($0, file: url.path) }
        }
    }

    package let url: URL
    /// Of the first part, which has the metadata of the model.
    package let header: GGUFHeader
    /// In file order, part by part.
    package let tensors: [Tensor]
    /// Of all parts.
    package let byteCount: Int
    package let partCount: Int
    let metadataFile: MappedFile
    private let index: [String: Int]

    /// At most so many parts are opened.
    static let partCountMax = 1_000

    /// - Parameter url: of a split model, the first part.
    /// - Throws: `malformedFile`, `unsupportedConfiguration`, `inconsistentCheckpoint`, `limitExceeded`, `fileSystem`.
    package init(_ url: URL) throws {
        let first = try Part(url)
        self.url = url
        header = first.header
        metadataFile = first.file
        let parts = try [first] + GGUFFile.otherParts(of: first, url)
        partCount = parts.count
        byteCount = parts.reduce(0) { $0 + $1.file.byteCount }
        var (tensors, index): ([Tensor], [String: Int]) = ([], [:])
        for part in parts {
            for tensor in part.header.tensors {
                guard index.updateValue(tensors.count, forKey: tensor.name) == nil else {
                    throw CheckpointError(
                        .inconsistentCheckpoint, "an earlier part has it too", file: part.file.url.path,
                        tensor: tensor.name, remedy: "the parts are of different models: fetch them again")
                }
                tensors.append(Tensor(header: tensor, file: part.file))
            }
        }
        (self.tensors, self.index) = (tensors, index)
    }

    private static func otherParts(of first: Part, _ url: URL) throws -> [Part] {
        func number(_ key: String, _ header: GGUFHeader) -> Int? {
            if case .integer(let value)? = header[key] { value } else { nil }
        }
        let count = number("split.count", first.header) ?? 1
        guard count > 1 else { return [] }
        let name = url.lastPathComponent
        let suffix = "-00001-of-\(fiveDigits(count)).gguf"
        guard number("split.no", first.header) ?? 0 == 0, name.hasSuffix(suffix) else {
            throw CheckpointError(
                .inconsistentCheckpoint, "is one of the \(count) parts of a split model", file: url.path,
                remedy: "give the first one, whose name ends in \(suffix), with the others beside it")
        }
        guard count <= partCountMax else {
            throw CheckpointError(
                .limitExceeded, "has \(count) parts, at most \(partCountMax) are read", file: url.path)
        }
        let parts = try (1..<count).map { position in
            let partName = "\(name.dropLast(suffix.count))-\(fiveDigits(position + 1))-of-\(fiveDigits(count)).gguf"
            let part = try Part(url.deletingLastPathComponent().appendingPathComponent(partName))
            guard number("split.no", part.header) == position, number("split.count", part.header) == count else {
                throw CheckpointError(
                    .inconsistentCheckpoint, "is not part \(position + 1) of \(count)", file: part.file.url.path,
                    remedy: "the parts are of different models: fetch them again")
            }
            return part
        }
        let total = first.header.tensors.count + parts.reduce(0) { $0 + $1.header.tensors.count }
        if let expected = number("split.tensors.count", first.header), expected != total {
            throw CheckpointError(
                .inconsistentCheckpoint, "the parts have \(total) tensors, the first one says \(expected)",
                file: url.path, remedy: "the parts are of different models: fetch them again")
        }
        return parts
    }

    private static func fiveDigits(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }

    /// The tensor called `name`, or nil.
    package func tensor(_ name: String) -> Tensor? { index[name].map { tensors[$0] } }
}

// MARK: - Metadata by type

extension GGUFFile {
    /// Texts that are copied into memory whole.
    private static let textByteCountMax = 16 << 20

    func invalid(_ message: String, remedy: String = GGUFCursor.damaged) -> CheckpointError {
        CheckpointError(.invalidConfiguration, message, file: url.path, remedy: remedy)
    }

    private func wrong(_ key: String, _ expected: String, _ value: GGUFValue) -> CheckpointError {
        invalid("'\(key)' should be \(expected), not \(value.kind)")
    }

    /// A whole number within `range`.
    func integer(_ key: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let value = header[key] else { return nil }
        guard case .integer(let number) = value, range.contains(number) else {
            throw wrong(key, "a whole number from \(range.lowerBound) to \(range.upperBound)", value)
        }
        return number
    }

    /// A whole number within `range` that must be there.
    func required(_ key: String, _ range: ClosedRange<Int>) throws -> Int {
        guard let value = try integer(key, range) else {
            throw invalid("the metadata lack '\(key)'", remedy: "convert the model to GGUF again")
        }
        return value
    }

    /// A finite number.
    func real(_ key: String) throws -> Double? {
        guard let value = header[key] else { return nil }
        switch value {
        case .real(let number) where number.isFinite: return number
        case .integer(let number): return Double(number)
        default: throw wrong(key, "a finite number", value)
        }
    }

    func bool(_ key: String) throws -> Bool? {
        guard let value = header[key] else { return nil }
        guard case .bool(let flag) = value else { throw wrong(key, "true or false", value) }
        return flag
    }

    package func text(_ key: String) throws -> String? {
        guard let value = header[key] else { return nil }
        guard case .string(let range) = value else { throw wrong(key, "a text", value) }
        guard range.count <= GGUFFile.textByteCountMax else {
            throw CheckpointError(
                .limitExceeded, "'\(key)' has \(range.count) bytes, at most \(GGUFFile.textByteCountMax) are read",
                file: url.path)
        }
        return try metadataFile.withBytes { try GGUFCursor($0, file: url.path).text(range, "'\(key)'") }
    }

    /// Elements of arrays that are copied into memory.
    private static let elementCountMax = 1 << 22

    private func checkCount(_ count: Int, _ key: String) throws {
        guard count <= GGUFFile.elementCountMax else {
            throw CheckpointError(
                .limitExceeded, "'\(key)' has \(count) elements, at most \(GGUFFile.elementCountMax) are read",
                file: url.path)
        }
    }

    /// An array of texts.
    func texts(_ key: String) throws -> [String]? {
        guard let value = header[key] else { return nil }
        guard case .array(.string, let count, let range) = value else { throw wrong(key, "an array of texts", value) }
        try checkCount(count, key)
        return try metadataFile.withBytes { bytes in
            var cursor = GGUFCursor(bytes, file: url.path)
            try cursor.skip(range.lowerBound, "'\(key)'")
            var texts: [String] = []
            texts.reserveCapacity(count)
            for _ in 0..<count {
                let element = try cursor.string("an element of '\(key)'")
                texts.append(try cursor.text(element, "an element of '\(key)'"))
            }
            return texts
        }
    }

    /// An array of whole numbers.
    func integers(_ key: String) throws -> [Int]? {
        guard let value = header[key] else { return nil }
        guard case .array(let kind, let count, let range) = value, kind != .string, kind != .float32,
            kind != .float64, kind != .bool
        else { throw wrong(key, "an array of whole numbers", value) }
        try checkCount(count, key)
        return try metadataFile.withBytes { bytes in
            var cursor = GGUFCursor(bytes, file: url.path)
            try cursor.skip(range.lowerBound, "'\(key)'")
            var numbers: [Int] = []
            numbers.reserveCapacity(count)
            for _ in 0..<count {
                guard case .integer(let number) = try GGUFValue.read(kind, &cursor, "'\(key)'") else { continue }
                numbers.append(number)
            }
            return numbers
        }
    }
}
