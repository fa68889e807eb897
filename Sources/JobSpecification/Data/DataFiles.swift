// SPDX-License-Identifier: Apache-2.0
internal import Crypto
package import Foundation

/// SHA-256 of files that a job or a command reads: an edited file is another recipe.
package enum DataFiles {
    private static let chunkByteCount = 1 << 20

    /// 64 lowercase hexadecimal digits.
    /// - Throws: ``JobError`` `fileSystem` with the path.
    package static func hash(_ url: URL) throws(JobError) -> String {
        do {
            let handle = try FileHandle(forReadingFrom: url)
            defer { try? handle.close() }
            var hash = SHA256()
            while let chunk = try handle.read(upToCount: chunkByteCount), !chunk.isEmpty { hash.update(data: chunk) }
            return hash.finalize().hexadecimal
        } catch {
            throw JobError(.fileSystem, "cannot be read; is the path right and readable?", file: url.path)
        }
    }

    /// One hash for several files in order: that of the file where there is one.
    package static func combined(_ hashes: [String]) -> String? {
        guard hashes.count > 1 else { return hashes.first }
        return SHA256.hash(data: Data(hashes.joined(separator: "\n").utf8)).hexadecimal
    }
}

extension Job {
    /// What the job reads as data, in order: its rows, the corpus of its tools and its chat template.
    package var dataSets: [DataSet] {
        func files(_ paths: String?...) -> [DataSet] { paths.compactMap { $0.map { DataSet($0) } } }
        return switch self {
        case .rollout(let job): [job.data.set] + files(job.environment?.corpus, job.chatTemplate.path)
        case .score(let job): [job.data.set] + files(job.chatTemplate.path)
        case .train(let job): job.data.map(\.set) + files(job.environment?.corpus, job.chatTemplate.path)
        }
    }

    /// Paths of all files of ``dataSets``: those of a folder may be links.
    /// - Throws: ``JobError``.
    package func dataFiles() throws(JobError) -> [String] {
        var paths: [String] = []
        for set in dataSets { paths += try set.files().map(\.path) }
        return paths
    }

    /// SHA-256 of each of ``dataSets``.
    /// - Throws: ``JobError`` `fileSystem`.
    package func dataHashes() throws(JobError) -> [String] {
        var hashes: [String] = []
        for set in dataSets { hashes.append(try set.hash()) }
        return hashes
    }

    /// What a job is made from: SHA-256 of all its settings and of the content of its data files. Two jobs with one recipe
    /// are the same job.
    /// - Throws: ``JobError`` `fileSystem`.
    package func recipe() throws(JobError) -> String {
        let lines = try [contentHash] + dataHashes()
        return SHA256.hash(data: Data(lines.joined(separator: "\n").utf8)).hexadecimal
    }
}

extension SHA256.Digest {
    fileprivate var hexadecimal: String {
        map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension DataSection {
    /// The rows that the section names.
    package var set: DataSet { DataSet(path, split: split, name: name) }
}
