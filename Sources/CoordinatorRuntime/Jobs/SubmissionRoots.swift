// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Where jobs of `submit` keys may read and write: the operator names it, nothing else is theirs. Jobs of `admin` keys read
/// and write what the coordinator can.
package struct SubmissionRoots: Equatable, Sendable {
    package var data: [String]
    package var output: [String]

    package init(data: [String] = [], output: [String] = []) {
        self.data = data.map(Self.resolved)
        self.output = output.map(Self.resolved)
    }

    /// Checks a job's paths; what a job may write it may read as well.
    /// - Throws: ``SubmissionError``.
    func check(paths: [String], outputs: [String], file: String) throws(SubmissionError) {
        for path in outputs where !Self.isBelow(output, path) {
            throw SubmissionError(
                description: "\(file): output: \(path): \(Self.refusal("write", output, "--output-root"))")
        }
        for path in paths where !outputs.contains(path) && !Self.isBelow(data + output, path) {
            throw SubmissionError(
                description: "\(file): \(path): \(Self.refusal("read", data + output, "--data-root"))")
        }
    }

    private static func refusal(_ verb: String, _ roots: [String], _ option: String) -> String {
        "a submit key may \(verb) "
            + (roots.isEmpty
                ? "nothing here: the coordinator was given no \(option)"
                : "only below \(roots.joined(separator: ", "))")
    }

    private static func isBelow(_ roots: [String], _ path: String) -> Bool {
        let path = resolved(path)
        return roots.contains { path == $0 || path.hasPrefix($0 == "/" ? "/" : $0 + "/") }
    }

    /// The path without symbolic links and dots, as far as it exists.
    static func resolved(_ path: String) -> String {
        var existing = URL(fileURLWithPath: path).standardizedFileURL.path
        var rest: [String] = []
        while existing != "/", (try? FileManager.default.attributesOfItem(atPath: existing)) == nil {
            rest.append((existing as NSString).lastPathComponent)
            existing = (existing as NSString).deletingLastPathComponent
        }
        guard let real = realpath(existing, nil) else {
            // A link that leads nowhere: whatever it will lead to is not below any root.
            return "/\u{0}" + existing
        }
        defer { free(real) }
        let start = String(cString: real)
        return rest.reversed().reduce(start) { $0 == "/" ? "/" + $1 : $0 + "/" + $1 }
    }
}
