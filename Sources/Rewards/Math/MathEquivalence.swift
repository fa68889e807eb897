// SPDX-License-Identifier: Apache-2.0
//
// When are two answers the same? Exact fractions are compared exactly; irrational numbers to about 12 digits;
// expressions with variables by their values at fixed points (Schwartz 1980 gives the reason why that
// suffices). A decimal of six or more places also equals the number that it rounds, as math-verify has it
// (1/3 = 0.333333).

/// Compares parsed answers.
enum MathEquivalence {
    private static let setCountMax = 64

    static func areEqual(_ gold: MathExpression, _ answer: MathExpression) -> Bool {
        switch (gold, answer) {
        case (.measured(let a, let unit), .measured(let b, let other)): return unit == other && areEqual(a, b)
        // A unit on one side only: the question has named it.
        case (.measured(let a, _), let b), (let b, .measured(let a, _)): return areEqual(a, b)
        case (.percent(let a), .percent(let b)): return areEqual(a, b)
        case (.percent(let a), let b), (let b, .percent(let a)):
            // 50 % is a half; and 50 where the question asks for a percentage.
            return areEqual(a, b) || areEqual(.divide(a, .number(Rational(100), decimals: nil)), b)
        case (.relation, _), (_, .relation): return areEqualRelations(gold, answer)
        case (.set(let a), .set(let b)): return areEqualSets(a, b)
        case (.bracketed(let open, let a, let close), .bracketed(let otherOpen, let b, let otherClose)):
            return open == otherOpen && close == otherClose && areEqualLists(a, b)
        case (.matrix(let a), .matrix(let b)):
            return a.count == b.count && zip(a, b).allSatisfy { areEqualLists($0, $1) }
        default: return areEqualNumbers(gold, answer)
        }
    }

    private static func areEqualLists(_ a: [MathExpression], _ b: [MathExpression]) -> Bool {
        a.count == b.count && zip(a, b).allSatisfy { areEqual($0, $1) }
    }

    private static func areEqualSets(_ a: [MathExpression], _ b: [MathExpression]) -> Bool {
        guard a.count <= setCountMax, b.count <= setCountMax else { return false }
        return a.allSatisfy { item in b.contains { areEqual(item, $0) } }
            && b.allSatisfy { item in a.contains { areEqual($0, item) } }
    }

    /// `x = 5` is 5; other relations equal only relations, also with their sides exchanged.
    private static func areEqualRelations(_ gold: MathExpression, _ answer: MathExpression) -> Bool {
        switch (gold, answer) {
        case (.relation(let a, let relation, let b), .relation(let c, let other, let d)):
            if relation == other, areEqual(a, c), areEqual(b, d) { return true }
            return relation.flipped == other && areEqual(a, d) && areEqual(b, c)
        case (.relation(.variable, .equal, let value), let other),
            (let other, .relation(.variable, .equal, let value)):
            return areEqual(value, other)
        default: return false
        }
    }

    private static func areEqualNumbers(_ gold: MathExpression, _ answer: MathExpression) -> Bool {
        var names: Set<String> = []
        gold.collectVariables(into: &names)
        answer.collectVariables(into: &names)
        guard names.isEmpty else { return areEqualFunctions(gold, answer, names.sorted()) }
        let (a, b) = (gold.value([:]), answer.value([:]))
        if a.isClose(to: b) { return true }
        return isRounded(gold, a, of: answer, b) || isRounded(answer, b, of: gold, a)
    }

    private static func areEqualFunctions(
        _ gold: MathExpression, _ answer: MathExpression, _ names: [String]
    ) -> Bool {
        guard names.count <= 8 else { return false }
        // Fixed points of both signs and several sizes, with no relation among them.
        let points = [
            1.3717421, -0.7390851, 2.6854520, -3.3598856, 0.4142136, 5.2360680, -1.9021606, 0.1149421,
        ]
        for round in 0..<6 {
            var variables: [String: Double] = [:]
            for (index, name) in names.enumerated() {
                variables[name] =
                    points[(index * 3 + round) % points.count] + 0.0173 * Double(index * 6 + round)
            }
            let (a, b) = (gold.value(variables), answer.value(variables))
            // Outside the domain of both there is nothing to compare; the first two points decide about such
            // rounds.
            if a.double.isNaN, b.double.isNaN, a != .unknown, b != .unknown, round > 0 { continue }
            guard a.isClose(to: b) else { return false }
        }
        return true
    }

    /// A decimal literal of six or more places that rounds a number which is no literal itself.
    private static func isRounded(
        _ literal: MathExpression, _ a: MathValue, of exact: MathExpression, _ b: MathValue
    ) -> Bool {
        guard let decimals = literal.decimalPlaces, decimals >= 6, !exact.isLiteral else { return false }
        let difference = abs(a.double - b.double)
        return difference <= 5e-7 && difference <= 2e-6 * abs(b.double)
    }
}

extension MathExpression {
    /// Digits after the point of a decimal literal, with a sign or not.
    fileprivate var decimalPlaces: Int? {
        switch self {
        case .number(_, let decimals): decimals
        case .negate(let inner): inner.decimalPlaces
        default: nil
        }
    }

    fileprivate var isLiteral: Bool {
        switch self {
        case .number: true
        case .negate(let inner): inner.isLiteral
        default: false
        }
    }
}
