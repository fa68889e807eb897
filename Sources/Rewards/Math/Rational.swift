// SPDX-License-Identifier: Apache-2.0

/// An exact fraction of 128-bit integers in lowest terms; operations give nil where it does not suffice.
struct Rational: Equatable, Sendable {
    let numerator: Int128
    /// Positive.
    let denominator: Int128

    /// nil for a zero denominator or the one magnitude that cannot be negated.
    init?(_ numerator: Int128, _ denominator: Int128 = 1) {
        guard denominator != 0, numerator != .min, denominator != .min else { return nil }
        var (a, b) = (numerator.magnitude, denominator.magnitude)
        while b != 0 { (a, b) = (b, a % b) }
        let divisor = Int128(max(a, 1)) * (denominator < 0 ? -1 : 1)
        self.numerator = numerator / divisor
        self.denominator = denominator / divisor
    }

    /// Digits with an optional point.
    init?(decimal text: some StringProtocol) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let value = Int128(parts.joined()) else { return nil }
        var scale: Int128 = 1
        for _ in 0..<(parts.count == 2 ? parts[1].utf8.count : 0) {
            let (product, overflow) = scale.multipliedReportingOverflow(by: 10)
            if overflow { return nil }
            scale = product
        }
        self.init(value, scale)
    }

    var double: Double { Double(numerator) / Double(denominator) }
    var isInteger: Bool { denominator == 1 }

    static func + (a: Self, b: Self) -> Self? {
        let (x, o1) = a.numerator.multipliedReportingOverflow(by: b.denominator)
        let (y, o2) = b.numerator.multipliedReportingOverflow(by: a.denominator)
        let (sum, o3) = x.addingReportingOverflow(y)
        let (denominator, o4) = a.denominator.multipliedReportingOverflow(by: b.denominator)
        return o1 || o2 || o3 || o4 ? nil : Rational(sum, denominator)
    }

    static func * (a: Self, b: Self) -> Self? {
        let (numerator, o1) = a.numerator.multipliedReportingOverflow(by: b.numerator)
        let (denominator, o2) = a.denominator.multipliedReportingOverflow(by: b.denominator)
        return o1 || o2 ? nil : Rational(numerator, denominator)
    }

    static prefix func - (a: Self) -> Self? { Rational(-a.numerator, a.denominator) }

    /// nil for 0.
    var reciprocal: Self? { Rational(denominator, numerator) }

    /// This to an integer power of at most 512.
    func power(_ exponent: Int128) -> Self? {
        guard exponent.magnitude <= 512 else { return nil }
        guard let base = exponent < 0 ? reciprocal : self else { return nil }
        var result = Rational(1)
        for _ in 0..<Int(exponent.magnitude) { result = result.flatMap { $0 * base } }
        return result
    }

    /// The exact root of degree `degree`; nil where it is irrational.
    func root(_ degree: Int) -> Self? {
        guard numerator >= 0, let top = Self.root(numerator, degree),
            let bottom = Self.root(denominator, degree)
        else { return nil }
        return Rational(top, bottom)
    }

    private static func root(_ value: Int128, _ degree: Int) -> Int128? {
        // A double's root is within one of the true root for every value that fits 104 bits; larger ones:
        // nil.
        guard value < Int128(1) << 100, (2...100).contains(degree) else { return nil }
        let guess = Int128(Platform.power(Double(value), 1 / Double(degree)).rounded())
        for candidate in [guess - 1, guess, guess + 1] where candidate >= 0 {
            if let power = Rational(candidate)?.power(Int128(degree)), power.numerator == value {
                return candidate
            }
        }
        return nil
    }
}
