// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import Tokenization

/// The released Qwen3 tokenizer, which is not shipped.
enum ReleasedTokenizer {
    static let howToGive =
        "no released vocabulary: set APUS_QWEN_TOKENIZER to a directory with Qwen3's tokenizer.json, or put it beside the "
        + "cases"

    /// In the directory that APUS_QWEN_TOKENIZER names, or among the fixtures: beside the cases, or as a directory
    /// `tokenizer_qwen_real` in them or in one of the tokenizers; packed or not.
    ///
    /// - Parameter root: a fixture kind's directory.
    /// - Returns: nil where there is none.
    static func find(beside root: URL) throws -> Tokenizer? {
        if let path = ProcessInfo.processInfo.environment["APUS_QWEN_TOKENIZER"] {
            return try Tokenizer(directory: URL(fileURLWithPath: path))
        }
        let set = root.deletingLastPathComponent()
        let tokenizers = set.appending(path: "tokenizer")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: tokenizers.path).sorted()) ?? []
        let real = set.appending(path: "tokenizer_real")
        let places =
            [real]
            + ([set, real, tokenizers] + names.map { tokenizers.appending(path: $0) }).map {
                $0.appending(path: "tokenizer_qwen_real")
            }
        for place in places {
            if exists(place, "tokenizer.json") { return try Tokenizer(directory: place) }
            if exists(place, "tokenizer.json.gz") { return try unpacked(place) }
        }
        return nil
    }

    private static func exists(_ directory: URL, _ name: String) -> Bool {
        FileManager.default.fileExists(atPath: directory.appending(path: name).path)
    }

    private static func unpacked(_ directory: URL) throws -> Tokenizer {
        let target = FileManager.default.temporaryDirectory.appending(path: "apus-tokenizer-\(UUID())")
        try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: target) }
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.path) {
            try FileManager.default.copyItem(
                at: directory.appending(path: name), to: target.appending(path: name))
        }
        let gzip = Process()
        gzip.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        gzip.arguments = ["gzip", "-d", target.appending(path: "tokenizer.json.gz").path]
        try gzip.run()
        gzip.waitUntilExit()
        guard gzip.terminationStatus == 0 else {
            throw ParityError("\(directory.path)/tokenizer.json.gz: gzip cannot unpack it")
        }
        return try Tokenizer(directory: target)
    }
}
