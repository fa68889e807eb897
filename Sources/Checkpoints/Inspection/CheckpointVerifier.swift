// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// Reads a whole checkpoint and says everything that is wrong with it: what `apus model verify` does.
package enum CheckpointVerifier {
    /// A file of the checkpoint.
    package struct FileResult: Hashable, Sendable {
        package let name: String
        package let byteCount: Int
        package let hash: ContentHash
    }

    /// A tensor of the checkpoint.
    package struct TensorResult: Hashable, Sendable {
        package let name: String
        package let file: String
        package let nonFinite: NonFiniteCounts
    }

    /// What was found.
    package struct Report: Sendable {
        /// Sorted by name.
        package var files: [FileResult] = []
        /// By file, then by name.
        package var tensors: [TensorResult] = []
        /// Empty when all is well.
        package var problems: [CheckpointError] = []
        /// Nil when the checkpoint could not be opened.
        package var summary: CheckpointSummary?

        package var isValid: Bool { problems.isEmpty }
    }

    /// Checks headers, index, shapes against config.json and finiteness, and hashes every file.
    ///
    /// Takes one pass for the hash and one for the values; memory is given back as it goes.
    /// - Parameters:
    ///   - expectedHashes: by file name; differing or absent files become problems.
    ///   - progress: told the name of each file before it is read.
    /// - Throws: only when `directory` cannot be listed; everything else is in the report.
    package static func verify(
        _ directory: URL, expectedHashes: [String: ContentHash] = [:], progress: (String) -> Void = { _ in }
    ) throws -> Report {
        let directory = (try? CheckpointDirectory.resolve(directory)) ?? directory
        var report = Report()
        do {
            let checkpoint = try Checkpoint(directory: directory)
            report.summary = CheckpointSummary(checkpoint)
        } catch let error as CheckpointError {
            report.problems.append(error)
        }
        let names = try fileNames(in: directory)
        for name in names {
            progress(name)
            do {
                try verifyFile(name, of: directory, expectedHashes[name], &report)
            } catch let error as CheckpointError {
                // A broken file often was the reason why opening failed: say it once.
                if !report.problems.contains(error) { report.problems.append(error) }
            }
        }
        for name in expectedHashes.keys.sorted() where !names.contains(name) {
            report.problems.append(
                CheckpointError(
                    .notFound, "is missing", file: directory.appendingPathComponent(name).path,
                    remedy: "fetch it again"))
        }
        return report
    }

    private static func fileNames(in directory: URL) throws -> [String] {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        } catch {
            throw CheckpointError(
                .fileSystem, "cannot be listed: \(failureReason(error))", file: directory.path)
        }
        return names.filter { name in
            var isDirectory: ObjCBool = false
            let path = directory.appendingPathComponent(name).path
            return !name.hasPrefix(".")
                && FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
                && !isDirectory.boolValue
        }.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    private static func verifyFile(
        _ name: String, of directory: URL, _ expected: ContentHash?, _ report: inout Report
    ) throws {
        let url = directory.appendingPathComponent(name)
        let file = try MappedFile(url)
        let hash = ContentHash(of: file)
        report.files.append(FileResult(name: name, byteCount: file.byteCount, hash: hash))
        if let expected, expected != hash {
            report.problems.append(
                CheckpointError(
                    .corrupted, "has the SHA-256 \(hash), expected \(expected)", file: url.path,
                    remedy: "fetch it again"))
        }
        guard name.hasSuffix(".safetensors") else { return }
        let shard = try SafetensorsFile(url)
        for entry in shard.header.entries {
            let view = shard.view(entry)
            let counts = view.withBytes { NonFiniteCounts($0, dataType: entry.dataType) }
            view.dropPages()
            report.tensors.append(TensorResult(name: entry.name, file: name, nonFinite: counts))
            if !counts.isFinite {
                report.problems.append(
                    CheckpointError(
                        .corrupted,
                        "has \(counts.nanCount) NaN and \(counts.infinityCount) infinite values of "
                            + "\(view.elementCount)",
                        file: url.path, tensor: entry.name, byteOffset: view.byteRange.lowerBound,
                        remedy: "the weights are damaged or diverged: use an earlier checkpoint"))
            }
        }
    }
}
