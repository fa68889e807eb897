// SPDX-License-Identifier: Apache-2.0

/// The value of an expression once its variables have values.
enum MathValue: Equatable, Sendable {
    case exact(Rational)
    case real(Double)
    /// Not a number, or a fraction too large to be exact: equal to nothing.
    case unknown

    var double: Double {
        switch self {
        case .exact(let value): value.double
        case .real(let value): value
        case .unknown: .nan
        }
    }

    /// Exact values must be the same; others agree to about 12 digits.
    func isClose(to other: MathValue) -> Bool {
        switch (self, other) {
        case (.exact(let a), .exact(let b)): return a == b
        case (.unknown, _), (_, .unknown): return false
        default:
            let (a, b) = (double, other.double)
            guard a.isFinite, b.isFinite else { return a == b }
            return abs(a - b) <= 1e-11 * max(abs(a), abs(b), 1e-3)
        }
    }
}

extension MathExpression {
    /// Evaluates with `variables`; structured expressions (sets, relations, …) have no value.
    func value(_ variables: [String: Double]) -> MathValue {
        switch self {
        case .number(let rational, _): return MathValue(rational)
        case .variable(let name): return variables[name].map { .real($0) } ?? .unknown
        case .pi: return .real(.pi)
        case .infinity: return .real(.infinity)
        case .negate(let a):
            return Self.combine(a.value(variables), .exact(Self.minusOne), { $0 * $1 }, { $0 * $1 })
        case .add(let a, let b):
            return Self.combine(a.value(variables), b.value(variables), { $0 + $1 }, { $0 + $1 })
        case .multiply(let a, let b):
            return Self.combine(a.value(variables), b.value(variables), { $0 * $1 }, { $0 * $1 })
        case .divide(let a, let b):
            return Self.combine(
                a.value(variables), b.value(variables), { x, y in y.reciprocal.flatMap { x * $0 } },
                { $0 / $1 })
        case .power(let a, let b): return Self.power(a.value(variables), b.value(variables))
        case .root(let a, let degree): return Self.root(a.value(variables), degree)
        case .factorial(let a): return Self.factorial(a.value(variables))
        case .binomial(let n, let k): return Self.binomial(n.value(variables), k.value(variables))
        case .logarithm(let base, let a): return Self.logarithm(base.value(variables), a.value(variables))
        case .function(let name, let a):
            if name == "log" { return Self.logarithm(.exact(Self.ten), a.value(variables)) }
            let argument = a.value(variables)
            guard argument != .unknown, let function = Platform.function(name) else { return .unknown }
            return .real(function(argument.double))
        case .percent, .measured, .bracketed, .set, .matrix, .relation: return .unknown
        }
    }

    private static let minusOne = Rational(-1) ?? zero
    private static let ten = Rational(10) ?? zero
    private static let zero: Rational = {
        guard let zero = Rational(0) else { preconditionFailure("0 is a fraction") }
        return zero
    }()

    /// An exact operation that overflows is unknown, never rounded: rounding would make neighbours equal.
    private static func combine(
        _ a: MathValue, _ b: MathValue, _ exact: (Rational, Rational) -> Rational?,
        _ real: (Double, Double) -> Double
    ) -> MathValue {
        if case .exact(let x) = a, case .exact(let y) = b { return MathValue(exact(x, y)) }
        if a == .unknown || b == .unknown { return .unknown }
        return .real(real(a.double, b.double))
    }

    private static func power(_ base: MathValue, _ exponent: MathValue) -> MathValue {
        if base == .unknown || exponent == .unknown { return .unknown }
        guard case .exact(let y) = exponent else {
            return .real(Platform.power(base.double, exponent.double))
        }
        if case .exact(let x) = base {
            if y.isInteger { return MathValue(x.power(y.numerator)) }
            if let root = Int(exactly: y.denominator).flatMap({ x.root($0) }) {
                return MathValue(root.power(y.numerator))
            }
        }
        return .real(Platform.power(base.double, y.double))
    }

    private static func root(_ value: MathValue, _ degree: Int) -> MathValue {
        if case .exact(let x) = value, let root = x.root(degree) { return .exact(root) }
        guard value != .unknown else { return .unknown }
        let x = value.double
        if x < 0, degree % 2 == 1 { return .real(-Platform.power(-x, 1 / Double(degree))) }
        return .real(degree == 2 ? x.squareRoot() : Platform.power(x, 1 / Double(degree)))
    }

    private static func factorial(_ value: MathValue) -> MathValue {
        guard case .exact(let x) = value, x.isInteger, (0...33).contains(x.numerator) else { return .unknown }
        return MathValue(Rational((0..<x.numerator).reduce(1) { $0 * ($1 + 1) }))
    }

    private static func binomial(_ n: MathValue, _ k: MathValue) -> MathValue {
        guard case .exact(let n) = n, case .exact(let k) = k, n.isInteger, k.isInteger,
            (0...1000).contains(n.numerator), (0...1000).contains(k.numerator)
        else { return .unknown }
        guard k.numerator <= n.numerator else { return .exact(zero) }
        var result = Rational(1)
        for index in 0..<min(k.numerator, n.numerator - k.numerator) {
            result = result.flatMap { value in Rational(n.numerator - index, index + 1).flatMap { value * $0 }
            }
        }
        return MathValue(result)
    }

    private static func logarithm(_ base: MathValue, _ value: MathValue) -> MathValue {
        if base == .unknown || value == .unknown { return .unknown }
        let result = Platform.naturalLogarithm(value.double) / Platform.naturalLogarithm(base.double)
        if case .exact(let b) = base, case .exact(let x) = value, abs(result) < 512,
            let exponent = Rational(Int128(result.rounded())), b.power(exponent.numerator) == x
        {
            return .exact(exponent)
        }
        return .real(result)
    }
}

extension MathValue {
    /// An exact value, or unknown where it did not fit.
    fileprivate init(_ rational: Rational?) {
        self = rational.map { .exact($0) } ?? .unknown
    }
}
