// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The elementary functions a comparison of answers needs. Results are compared with tolerances far above the
/// last-bit differences between libm versions.
enum Platform {
    static func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }

    /// A named function of one argument; nil when unknown.
    static func function(_ name: String) -> ((Double) -> Double)? {
        switch name {
        case "ln": { log($0) }
        case "lg": { log10($0) }
        case "log": { log10($0) }
        case "exp": { exp($0) }
        case "sin": { sin($0) }
        case "cos": { cos($0) }
        case "tan": { tan($0) }
        case "cot": { 1 / tan($0) }
        case "sec": { 1 / cos($0) }
        case "csc": { 1 / sin($0) }
        case "arcsin": { asin($0) }
        case "arccos": { acos($0) }
        case "arctan": { atan($0) }
        case "sinh": { sinh($0) }
        case "cosh": { cosh($0) }
        case "tanh": { tanh($0) }
        default: nil
        }
    }

    static func naturalLogarithm(_ value: Double) -> Double { log(value) }
}
