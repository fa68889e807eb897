// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import RuntimeSupport

/// Runs every fixture kind that a directory holds.
package enum ParityRunner {
    /// One kind of fixture: the folder that holds it and what is done with it.
    private struct Kind: Sendable {
        let folder: String
        let run: @Sendable (URL, ComputePool) throws -> [ParityCase]
    }

    private static let kinds: [Kind] = [
        Kind(folder: "models") { root, pool in
            try subdirectories(root).flatMap { directory in
                capture("models", directory.lastPathComponent) { try ModelParity(directory, pool: pool).run() }
            }
        },
        Kind(folder: "sampling") { root, _ in try SamplingParity(root).run() },
        Kind(folder: "numeric") { root, _ in try NumericParity(root).run() },
        Kind(folder: "safetensors_files") { root, _ in try SafetensorsParity(root).run() },
    ]

    /// All cases of the kinds found under `root`, in a fixed order.
    /// - Throws: when `root` is no directory or holds no known kind.
    package static func run(_ root: URL, pool: ComputePool, report: (ParityCase) -> Void) throws {
        let present = kinds.filter { isDirectory(root.appending(path: $0.folder)) }
        guard !present.isEmpty else {
            throw ParityError(
                "\(root.path): no fixture kind found (looked for \(kinds.map(\.folder).joined(separator: ", "))); "
                    + "see Tests/Fixtures/README.md for the layout")
        }
        for kind in present {
            let folder = root.appending(path: kind.folder)
            for result in capture(kind.folder, "", { try kind.run(folder, pool) }) { report(result) }
        }
    }

    private static func capture(
        _ kind: String, _ name: String, _ body: () throws -> [ParityCase]
    ) -> [ParityCase] {
        do { return try body() } catch { return [.failed(kind, name, String(describing: error))] }
    }

    private static func isDirectory(_ url: URL) -> Bool {
        (try? url.resourceValues(forKeys: [.isDirectoryKey]).isDirectory) == true
    }

    private static func subdirectories(_ root: URL) throws -> [URL] {
        try FileManager.default.contentsOfDirectory(atPath: root.path).sorted()
            .map { root.appending(path: $0) }.filter(isDirectory)
    }
}

/// Why a parity run could not start.
package struct ParityError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
