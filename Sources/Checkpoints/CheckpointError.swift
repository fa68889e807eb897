// SPDX-License-Identifier: Apache-2.0

/// What is wrong with a checkpoint or with a file of one: what, where, and what to do about it.
package struct CheckpointError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kind of failure. Extensible: compare with the constants, never switch exhaustively.
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        package let name: String

        /// The operating system refused (open, read, stat, map, rename …).
        package static let fileSystem = Code(name: "file_system")
        /// No space left, or a quota or file size limit was reached. Nothing half-written remains.
        package static let diskFull = Code(name: "disk_full")
        /// A safetensors file breaks the format.
        package static let malformedFile = Code(name: "malformed_file")
        /// A JSON file is not what it should be.
        package static let malformedJSON = Code(name: "malformed_json")
        /// config.json describes a model that Apus cannot run faithfully.
        package static let unsupportedConfiguration = Code(name: "unsupported_configuration")
        /// config.json lacks a field or holds an impossible value.
        package static let invalidConfiguration = Code(name: "invalid_configuration")
        /// Index, shards and configuration do not agree.
        package static let inconsistentCheckpoint = Code(name: "inconsistent_checkpoint")
        /// No tensor or blob of that name.
        package static let notFound = Code(name: "not_found")
        /// The target of a write exists already.
        package static let targetExists = Code(name: "target_exists")
        /// Bytes do not have the hash they should have.
        package static let corrupted = Code(name: "corrupted")
        /// A stated limit (bytes, entries) would be exceeded.
        package static let limitExceeded = Code(name: "limit_exceeded")
        /// Options that contradict each other or are out of range.
        package static let invalidOption = Code(name: "invalid_option")

        package var description: String { name }
    }

    package let code: Code
    /// What is wrong, with expected and actual values.
    package let message: String
    /// The file concerned, as the caller named it.
    package var file: String?
    /// The tensor concerned.
    package var tensor: String?
    /// Where in the file, in bytes from its start.
    package var byteOffset: Int?
    /// What the reader of the message can do.
    package var remedy: String?

    package init(
        _ code: Code, _ message: String, file: String? = nil, tensor: String? = nil, byteOffset: Int? = nil,
        remedy: String? = nil
    ) {
        self.code = code
        self.message = message
        self.file = file
        self.tensor = tensor
        self.byteOffset = byteOffset
        self.remedy = remedy
    }

    /// One line: file, tensor, byte, message, remedy.
    package var description: String {
        var line = ""
        if let file { line += "\(file): " }
        if let tensor { line += "tensor '\(tensor)': " }
        if let byteOffset { line += "byte \(byteOffset): " }
        line += message
        if let remedy { line += "; \(remedy)" }
        return line
    }
}
