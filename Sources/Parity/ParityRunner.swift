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
                capture("models", directory.lastPathComponent) { try ModelParity.run(directory, pool: pool) }
            }
        },
        Kind(folder: "grads") { root, pool in
            try subdirectories(root).flatMap { directory in
                let name = directory.lastPathComponent
                return capture("grads", name) {
                    name == "optimizer_unit"
                        ? try OptimizerParity(directory).run() : try GradientParity(directory, pool: pool).run()
                }
            }
        },
        Kind(folder: "grpo") { root, pool in try PolicyGradientParity(root, pool: pool).run() },
        Kind(folder: "distill") { root, _ in try DistillationParity(root).run() },
        Kind(folder: "tokenizer") { root, _ in
            try subdirectories(root).filter {
                FileManager.default.fileExists(atPath: $0.appending(path: "tokenizer.json").path)
            }
            .flatMap { directory in
                capture("tokenizer", directory.lastPathComponent) { try TokenizerParity(directory).run() }
            }
        },
        Kind(folder: "chat_template") { root, _ in
            try TokenizerParity.chatTemplate(root, released: try ReleasedTokenizer.find(beside: root))
        },
        Kind(folder: "tokenizer_real") { root, _ in
            guard let tokenizer = try ReleasedTokenizer.find(beside: root) else {
                return [.skipped("tokenizer_real", "encode and decode", ReleasedTokenizer.howToGive)]
            }
            return try TokenizerParity.released(root, tokenizer)
        },
        Kind(folder: "eval") { root, _ in try EvaluationParity(root).run() },
        Kind(folder: "sampling") { root, _ in try SamplingParity(root).run() },
        Kind(folder: "numeric") { root, _ in try NumericParity(root).run() },
        Kind(folder: "pretrained") { root, pool in
            try subdirectories(root).flatMap { directory in
                capture("pretrained", directory.lastPathComponent) {
                    try PretrainedParity(directory, pool: pool).run()
                }
            }
        },
        Kind(folder: "safetensors_files") { root, _ in try SafetensorsParity(root).run() },
    ]

    /// All cases of the kinds found under `root`, in a fixed order.
    /// - Parameter only: the one kind that is run; nil: all.
    /// - Throws: when `root` is no directory or holds no known kind.
    package static func run(
        _ root: URL, only: String? = nil, pool: ComputePool, report: (ParityCase) -> Void
    ) throws {
        let present = kinds.filter {
            isDirectory(root.appending(path: $0.folder)) && (only == nil || only == $0.folder)
        }
        guard !present.isEmpty else {
            throw ParityError(
                "\(root.path): no fixture kind found (looked for \(kinds.map(\.folder).joined(separator: ", "))); "
                    + "see Tests/Fixtures/README.md for the layout")
        }
        for kind in present {
            let folder = root.appending(path: kind.folder)
            for result in capture(kind.folder, "", { try kind.run(folder, pool) }) { report(result) }
        }
        // Kinds of later versions: said aloud, so that nobody takes them for checked.
        for folder in try subdirectories(root).map(\.lastPathComponent)
        where only == nil && !kinds.contains(where: { $0.folder == folder }) {
            report(.skipped(folder, "", "this version of apus compares nothing of this kind"))
        }
    }

    /// What `body` finds; where it cannot be read, one case that fails, and others go on.
    static func capture(
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
