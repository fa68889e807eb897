// SPDX-License-Identifier: Apache-2.0

/// An interval of real numbers whose ends may be open, printed as mathematics does: `(0, 1]`.
package struct NumberInterval: Sendable, CustomStringConvertible {
    package let lower: Double
    package let upper: Double
    package let includesLower: Bool
    package let includesUpper: Bool

    /// `[lower, upper]`.
    package static func closed(_ lower: Double, _ upper: Double) -> Self {
        Self(lower: lower, upper: upper, includesLower: true, includesUpper: true)
    }

    /// `(lower, upper]`.
    package static func above(_ lower: Double, upTo upper: Double) -> Self {
        Self(lower: lower, upper: upper, includesLower: false, includesUpper: true)
    }

    package func contains(_ value: Double) -> Bool {
        (includesLower ? value >= lower : value > lower) && (includesUpper ? value <= upper : value < upper)
    }

    package var description: String {
        "\(includesLower ? "[" : "(")\(Self.text(lower)), \(Self.text(upper))\(includesUpper ? "]" : ")")"
    }

    private static func text(_ value: Double) -> String {
        if let integer = Int(exactly: value) { return String(integer) }
        return value.description
    }
}
