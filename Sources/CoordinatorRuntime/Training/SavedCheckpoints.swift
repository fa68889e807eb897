// SPDX-License-Identifier: Apache-2.0
//
// The checkpoints of a run's directory: step-000010, step-000010.damaged for one that could not be used, and
// step-000010.partial for one that is being written, or was when the cluster ended.
internal import Foundation
internal import Glibc
internal import RuntimeSupport

struct SavedCheckpoints {
    /// `checkpoints` below the run's output.
    let directory: URL

    init(output: String) {
        directory = URL(fileURLWithPath: output, isDirectory: true)
            .appendingPathComponent("checkpoints", isDirectory: true)
    }

    private static let prefix = "step-"
    private static let damaged = ".damaged"
    private static let partial = ".partial"
    /// The step builder removes while a step is on its way, the writer of outputs at the end.
    private static let lock = Locked(())

    /// Removes those up to the newest of `kept` that are not among them; later ones are not the journal's yet. A partial one
    /// of those steps is what an earlier life of the cluster left: what was asked for when it was told to end.
    /// - Throws: what Foundation throws.
    func remove(keeping kept: [UInt64]) throws {
        guard let newest = kept.max() else { return }
        try Self.lock.withLock { _ in
            for name in (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? [] {
                guard let (version, isUsable) = Self.parse(name), version <= newest,
                    !isUsable || !kept.contains(version)
                else { continue }
                try FileManager.default.removeItem(at: directory.appendingPathComponent(name))
            }
        }
    }

    private static func parse(_ name: String) -> (version: UInt64, isUsable: Bool)? {
        guard name.hasPrefix(prefix) else { return nil }
        let ending = [damaged, partial].first { name.hasSuffix($0) }
        return UInt64(name.dropFirst(prefix.count).dropLast(ending?.count ?? 0)).map { ($0, ending == nil) }
    }

    /// Takes the name of a checkpoint that cannot be used away; what is there stays for a person to look at until the next
    /// one is made.
    static func discard(_ path: String) {
        _ = rename(path, path + damaged)
    }
}
