// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Testing

/// Runs `body` with an empty directory that is removed afterwards.
func withTemporaryDirectory<R>(_ body: (URL) throws -> R) throws -> R {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: url) }
    return try body(url)
}

/// The checkpoint error that `body` throws, or nil (recorded as an issue) when it throws none.
func checkpointError(
    _ location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) -> CheckpointError? {
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as CheckpointError {
        return error
    } catch {
        Issue.record("threw \(error)", sourceLocation: location)
    }
    return nil
}

/// Copies a directory's plain files.
func copyFiles(of source: URL, to target: URL) throws {
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    for name in try FileManager.default.contentsOfDirectory(atPath: source.path) where !name.hasPrefix("ref") {
        try FileManager.default.copyItem(
            at: source.appendingPathComponent(name), to: target.appendingPathComponent(name))
    }
}

/// Names in a directory, hidden ones included.
func listing(_ directory: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
}

/// Replaces `old` by `new` in a text file; fails the test when `old` does not occur.
func edit(_ url: URL, _ old: String, _ new: String) throws {
    let text = try String(contentsOf: url, encoding: .utf8)
    try #require(text.contains(old), "\(url.lastPathComponent) has no \(old)")
    try text.replacingOccurrences(of: old, with: new).write(to: url, atomically: true, encoding: .utf8)
}

/// A safetensors file with this header and this many bytes of data.
func safetensorsBytes(_ header: String, dataByteCount: Int) -> [UInt8] {
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8)
        + (0..<dataByteCount).map { UInt8(truncatingIfNeeded: $0) }
}

/// The resident memory of this process, in bytes.
func peakResidentByteCount() throws -> Int {
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
    return try #require(Int(line.split(whereSeparator: { $0 == " " || $0 == "\t" })[1])) * 1_024
}
