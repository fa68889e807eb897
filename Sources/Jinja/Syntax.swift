// SPDX-License-Identifier: Apache-2.0

/// An expression. Names are numbers into the template's table of names.
indirect enum Expression: Sendable {
    case constant(Constant)
    case name(Int)
    case list([Expression])
    case tuple([Expression])
    case dictionary([(key: Expression, value: Expression)])
    case attribute(Expression, String)
    case item(Expression, Expression)
    case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
    case call(Expression, Arguments)
    case filter(Filter, of: Expression?, Arguments)
    case test(Test, of: Expression, Arguments)
    case not(Expression)
    case negative(Expression)
    case positive(Expression)
    case and(Expression, Expression)
    case or(Expression, Expression)
    case binary(BinaryOperator, Expression, Expression)
    case concatenation([Expression])
    case comparison(Expression, [Comparison])
    case conditional(test: Expression, then: Expression, otherwise: Expression?)
}

/// A value written in the template.
enum Constant: Sendable {
    case none
    case bool(Bool)
    case integer(Int128)
    case double(Double)
    case string(String)
}

enum BinaryOperator: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case modulo = "%"
    case power = "**"
}

enum ComparisonOperator: String, Sendable {
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case isIn = "in"
    case isNotIn = "not in"
}

/// One link of `a < b < c`.
struct Comparison: Sendable {
    var sign: ComparisonOperator
    var right: Expression
}

/// The arguments of a call, a filter or a test, as written.
struct Arguments: Sendable {
    var positional: [Expression] = []
    var named: [(name: String, value: Expression)] = []
    /// `*list` and `**dictionary`.
    var unpackedList: Expression?
    var unpackedDictionary: Expression?

    static let none = Arguments()
}

/// What a value is assigned to.
indirect enum Target: Sendable {
    case name(Int)
    case attribute(namespace: Int, String)
    case tuple([Target])
}

/// A statement.
indirect enum Statement: Sendable {
    case text(String)
    case output(Expression)
    case conditional([(test: Expression, body: [Statement])], otherwise: [Statement])
    case loop(Loop)
    case assign(Target, Expression)
    case assignBlock(Target, filter: Expression?, body: [Statement])
    case macro(Macro)
    case call(Expression, Macro)
    case filterBlock(Expression, body: [Statement])
    case with([(target: Target, value: Expression)], body: [Statement])
    /// `{% generation %}`: what the assistant writes.
    case generation([Statement])
    case block([Statement])
    case escape(Expression, body: [Statement])
    case breakLoop
    case continueLoop
    /// A statement that needs other templates, which there are not.
    case unsupported(String)
}

struct Loop: Sendable {
    var target: Target
    var sequence: Expression
    var test: Expression?
    var body: [Statement]
    var otherwise: [Statement]
    var isRecursive: Bool
}

struct Macro: Sendable {
    var name: String
    var identifier: Int
    var parameters: [(name: String, identifier: Int, standard: Expression?)]
    var body: [Statement]
}
