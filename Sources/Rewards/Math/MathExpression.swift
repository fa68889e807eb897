// SPDX-License-Identifier: Apache-2.0

/// An answer as mathematics.
indirect enum MathExpression: Equatable, Sendable {
    /// `decimals`: digits after the point; nil for an integer literal. nil value: too long to be exact.
    case number(Rational?, decimals: Int?)
    case variable(String)
    case pi, infinity
    case negate(MathExpression)
    case add(MathExpression, MathExpression)
    case multiply(MathExpression, MathExpression)
    case divide(MathExpression, MathExpression)
    case power(MathExpression, MathExpression)
    case root(MathExpression, degree: Int)
    case factorial(MathExpression)
    case binomial(MathExpression, MathExpression)
    case logarithm(base: MathExpression, MathExpression)
    case function(String, MathExpression)
    case percent(MathExpression)
    /// With a unit of measure, spelled in lower case without spaces.
    case measured(MathExpression, unit: String)
    /// A tuple or interval with its brackets, as `([`, `))`.
    case bracketed(open: Character, [MathExpression], close: Character)
    case set([MathExpression])
    case matrix([[MathExpression]])
    case relation(MathExpression, Relation, MathExpression)

    enum Relation: String, Sendable {
        case equal = "=", less = "<", greater = ">", lessOrEqual = "<=", greaterOrEqual = ">=", notEqual =
            "!="

        /// The relation with its sides exchanged.
        var flipped: Relation {
            switch self {
            case .equal, .notEqual: self
            case .less: .greater
            case .greater: .less
            case .lessOrEqual: .greaterOrEqual
            case .greaterOrEqual: .lessOrEqual
            }
        }
    }

    /// Adds the names of the variables in this expression to `names`.
    func collectVariables(into names: inout Set<String>) {
        switch self {
        case .number, .pi, .infinity: break
        case .variable(let name): names.insert(name)
        case .negate(let a), .root(let a, _), .factorial(let a), .function(_, let a), .percent(let a),
            .measured(let a, _):
            a.collectVariables(into: &names)
        case .add(let a, let b), .multiply(let a, let b), .divide(let a, let b), .power(let a, let b),
            .binomial(let a, let b), .logarithm(let a, let b), .relation(let a, _, let b):
            a.collectVariables(into: &names)
            b.collectVariables(into: &names)
        case .bracketed(_, let items, _), .set(let items):
            for item in items { item.collectVariables(into: &names) }
        case .matrix(let rows):
            for item in rows.joined() { item.collectVariables(into: &names) }
        }
    }
}
