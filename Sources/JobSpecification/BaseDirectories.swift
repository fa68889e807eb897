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

    func whole(_ path: String, _ origin: YAMLNode.Origin) -> String {
        let base =
            switch origin {
            case .line: jobFile
            case .override, .checkpoint: overrides
            }
        return URL(fileURLWithPath: path, relativeTo: URL(fileURLWithPath: base, isDirectory: true))
            .standardizedFileURL.path
    }
}
