// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Where the relative paths of a job count from.
package struct BaseDirectories: Equatable, Sendable {
    /// For paths in the job file: its directory.
    package let jobFile: String
    /// For paths in overrides: where the command was given.
    package let overrides: String

    package init(jobFile: String, overrides: String) {
        self.jobFile = jobFile
        self.overrides = overrides
    }

    fileprivate func whole(_ path: String, _ origin: YAMLNode.Origin) -> String {
        let base =
            switch origin {
            case .line: jobFile
            case .override: overrides
            }
        return URL(fileURLWithPath: path, relativeTo: URL(fileURLWithPath: base, isDirectory: true))
            .standardizedFileURL.path
    }
}

extension YAMLNode {
    /// Keys whose values are paths.
    private static let pathKeys = [
        ["model", "path"], ["teacher", "path"], ["reference", "path"], ["data", "path"], ["data", "teacher"],
        ["environment", "corpus"], ["judge", "path"], ["reward_model", "path"], ["output"],
    ]

    /// This tree with its paths made whole; each knows from its origin what it counts from.
    func resolvingPaths(_ bases: BaseDirectories) -> YAMLNode {
        Self.pathKeys.reduce(self) { $0.resolvingPath($1[...], bases) }
    }

    private func resolvingPath(_ keys: ArraySlice<String>, _ bases: BaseDirectories) -> YAMLNode {
        switch content {
        case .scalar(let text, let isPlain):
            // An empty or null value stays what it is, and whoever reads it complains.
            guard keys.isEmpty, !isNull, !text.isEmpty else { return self }
            return YAMLNode(.scalar(bases.whole(text, origin), isPlain: isPlain), origin)
        case .sequence(let items):
            // A mixture: each of its members has the keys.
            return YAMLNode(.sequence(items.map { $0.resolvingPath(keys, bases) }), origin)
        case .mapping(var entries):
            guard let key = keys.first, let index = entries.firstIndex(where: { $0.key == key }) else {
                return self
            }
            entries[index].value = entries[index].value.resolvingPath(keys.dropFirst(), bases)
            return YAMLNode(.mapping(entries), origin)
        }
    }
}
