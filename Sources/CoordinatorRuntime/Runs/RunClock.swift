// SPDX-License-Identifier: Apache-2.0
//
// What the clock says of a run: `timing.jsonl`, the only file of a run that is not the same in every run of the same job.
internal import Foundation
internal import Glibc
internal import RuntimeSupport

/// Times of a job's steps or groups as this process sees them.
struct RunClock {
    private var since = MonotonicInstant.now
    private var builtAt: MonotonicInstant?
    private var tokenCount: UInt64

    /// - Parameter tokenCount: generated so far, by earlier processes too.
    init(tokenCount: UInt64) { self.tokenCount = tokenCount }

    private static func seconds(_ start: MonotonicInstant, _ end: MonotonicInstant) -> Double {
        Double(end.milliseconds(since: start)) / 1000
    }

    private static var wallTime: Double { (Date().timeIntervalSince1970 * 1000).rounded() / 1000 }

    /// Rollouts of the next step are complete; its training begins.
    mutating func noteGenerated() { builtAt = .now }

    /// A step is committed.
    /// - Parameters:
    ///   - step: from 1.
    ///   - tokens: that it was trained on.
    /// - Returns: a line of the file.
    mutating func line(step: UInt64, tokens: Double) -> String {
        let now = MonotonicInstant.now
        var line = JSONLine()
        let seconds = Self.seconds(since, now)
        line.put("step", Int(step))
        line.put("step_time", seconds)
        if let builtAt {
            line.put("generation_time", Self.seconds(since, builtAt))
            line.put("training_time", Self.seconds(builtAt, now))
        }
        if seconds > 0 { line.put("tokens_per_second", (tokens / seconds * 10).rounded() / 10) }
        line.put("wall_time", Self.wallTime)
        (since, builtAt) = (now, nil)
        return line.text
    }

    /// How far a rollout or score job is, every ten seconds at most.
    /// - Returns: a line of the file, or nil where the last one is young.
    mutating func line(groups: Int, of groupCount: Int, tokens: UInt64) -> String? {
        let now = MonotonicInstant.now
        guard now.milliseconds(since: since) >= 10_000 || groups == groupCount else { return nil }
        let seconds = Self.seconds(since, now)
        var line = JSONLine()
        line.put("groups", groups)
        if tokens > tokenCount, seconds > 0 {
            line.put("tokens_per_second", (Double(tokens - tokenCount) / seconds * 10).rounded() / 10)
        }
        line.put("wall_time", Self.wallTime)
        (since, tokenCount) = (now, tokens)
        return line.text
    }
}

/// Appends to `timing.jsonl`.
enum TimingFile {
    static let name = "timing.jsonl"

    /// A torn last line, left by a kill, is cut off first.
    static func append(_ lines: [String], in run: URL) throws {
        guard !lines.isEmpty else { return }
        let url = run.appendingPathComponent(name)
        if !FileManager.default.fileExists(atPath: url.path) {
            _ = FileManager.default.createFile(atPath: url.path, contents: nil)
        }
        let file = try FileHandle(forUpdating: url)
        defer { try? file.close() }
        let end = try file.seekToEnd()
        let reach = min(end, 4096)
        try file.seek(toOffset: end - reach)
        let tail = try file.readToEnd() ?? Data()
        if let last = tail.last, last != UInt8(ascii: "\n") {
            let kept = tail.lastIndex(of: UInt8(ascii: "\n")).map { tail.distance(from: tail.startIndex, to: $0) + 1 }
            try file.truncate(atOffset: end - reach + UInt64(kept ?? 0))
        }
        try file.seekToEnd()
        try file.write(contentsOf: Data((lines.joined(separator: "\n") + "\n").utf8))
    }
}
