// SPDX-License-Identifier: Apache-2.0

/// One comparison with a peer library: how far we are, how far we may be.
package struct ParityCase: Sendable {
    package let kind: String
    package let name: String
    package let worstError: Double
    package let tolerance: Double
    /// What the error is, where it is, or why the case could not run.
    package let detail: String
    package let isSkipped: Bool

    package init(
        kind: String, name: String, worstError: Double, tolerance: Double, detail: String = "",
        isSkipped: Bool = false
    ) {
        self.kind = kind
        self.name = name
        self.worstError = worstError
        self.tolerance = tolerance
        self.detail = detail
        self.isSkipped = isSkipped
    }

    /// NaN never passes.
    package var passed: Bool { worstError <= tolerance }

    /// A case about identity: `mismatches` things differ, none may.
    package static func identical(
        _ kind: String, _ name: String, mismatches: Int, detail: String = ""
    ) -> ParityCase {
        ParityCase(kind: kind, name: name, worstError: Double(mismatches), tolerance: 0, detail: detail)
    }

    /// A case that needs something this machine lacks. Said aloud, counted apart, neither passed nor failed.
    package static func skipped(_ kind: String, _ name: String, _ reason: String) -> ParityCase {
        ParityCase(kind: kind, name: name, worstError: 0, tolerance: 0, detail: reason, isSkipped: true)
    }

    /// A case that could not run at all, which is a failure.
    package static func failed(_ kind: String, _ name: String, _ reason: String) -> ParityCase {
        ParityCase(kind: kind, name: name, worstError: .infinity, tolerance: 0, detail: reason)
    }
}
