// SPDX-License-Identifier: Apache-2.0
//
// Whether two hosts see the same checkpoint, answered in milliseconds: reading 60 GB to hash them would delay every
// start by a minute. `apus model verify` reads everything.
internal import Foundation

extension Checkpoint {
    /// SHA-256 over config.json and, for each safetensors file in order of name, its size and sixteen samples of
    /// 64 KiB spread over it (its header among them).
    ///
    /// - Parameter withTrainingState: the files of the training state count too, where there are any: what training starts
    ///   from. The same weights with other master weights give other bytes.
    /// - Throws: ``CheckpointError``.
    package func identity(withTrainingState: Bool = false) throws -> ContentHash {
        var hasher = ContentHasher()
        func add(_ text: String) { Array(text.utf8).withUnsafeBytes { hasher.update($0) } }
        func names(_ path: String) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: path)
                .filter { $0.hasSuffix(".safetensors") || $0.hasSuffix(".json") }.sorted()
        }
        var all = try names(directory.path).filter { $0.hasSuffix(".safetensors") || $0 == "config.json" }
        if withTrainingState, hasTrainingState {
            let training = Self.trainingDirectoryName
            all += try names(directory.appendingPathComponent(training).path).map { "\(training)/\($0)" }
        }
        for name in all {
            let file = try MappedFile(directory.appendingPathComponent(name))
            add("\(name) \(file.byteCount)\n")
            let size = 64 << 10
            for sample in 0..<16 {
                let start = max(0, file.byteCount - size) * sample / 15
                file.withBytes(start..<min(start + size, file.byteCount)) { hasher.update($0) }
            }
        }
        return hasher.finish()
    }
}
