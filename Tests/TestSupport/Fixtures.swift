// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Finds the reference data under `Tests/Fixtures`, wherever the tests are run from.
package enum Fixtures {
    /// `Tests/Fixtures` of this checkout.
    package static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures")

    package static func url(_ path: String) -> URL { root.appendingPathComponent(path) }
}
