// SPDX-License-Identifier: Apache-2.0

/// Recursive descent over ``MathToken``s. Whatever is ambiguous is refused: an answer that cannot be read
/// earns nothing.
struct MathParser {
    struct Failure: Error {}

    private var tokens: [MathToken]
    private var index = 0
    private var depth = 0
    private static let depthMax = 48

    /// The expression of a whole answer; nil when it cannot be read. `text` is cleaned
    /// (``MathAnswer/cleaned(_:)``).
    static func parse(_ text: String) -> MathExpression? {
        guard text.utf8.count <= MathAnswer.byteCountMax else { return nil }
        guard text.contains("\\pm") || text.contains("\\mp") else { return parseOne(text) }
        // Each sign in turn; two values are a set.
        let upper = text.replacing("\\pm", with: "+").replacing("\\mp", with: "-")
        let lower = text.replacing("\\pm", with: "-").replacing("\\mp", with: "+")
        guard let a = parseOne(upper), let b = parseOne(lower) else { return nil }
        if case .set(let x) = a, case .set(let y) = b { return .set(x + y) }
        return .set([a, b])
    }

    private static func parseOne(_ text: String) -> MathExpression? {
        guard let tokens = MathTokenizer.tokens(text), !tokens.isEmpty else { return nil }
        var parser = MathParser(tokens: tokens)
        guard let result = try? parser.list() else { return nil }
        return parser.index == tokens.count ? result : nil
    }

    private init(tokens: [MathToken]) { self.tokens = tokens }

    private var current: MathToken? { index < tokens.count ? tokens[index] : nil }

    private mutating func accept(_ token: MathToken) -> Bool {
        guard current == token else { return false }
        index += 1
        return true
    }

    private mutating func expect(_ token: MathToken) throws(Failure) {
        guard accept(token) else { throw Failure() }
    }

    /// Items between separators; several are a set.
    private mutating func list() throws(Failure) -> MathExpression {
        var items = [try relation()]
        while accept(.separator) { items.append(try relation()) }
        return items.count == 1 ? items[0] : .set(items)
    }

    private mutating func relation() throws(Failure) -> MathExpression {
        if case .letter = current, index + 1 < tokens.count, tokens[index + 1] == .command("in") {
            index += 2
        }
        let left = try measured()
        guard let relation = readRelation() else { return left }
        return .relation(left, relation, try measured())
    }

    private mutating func readRelation() -> MathExpression.Relation? {
        if accept(.symbol("=")) { return .equal }
        if accept(.command("ne")) || accept(.command("neq")) { return .notEqual }
        if accept(.symbol("<")) { return accept(.symbol("=")) ? .lessOrEqual : .less }
        if accept(.symbol(">")) { return accept(.symbol("=")) ? .greaterOrEqual : .greater }
        return nil
    }

    /// A sum, then an optional percent sign, then an optional unit.
    private mutating func measured() throws(Failure) -> MathExpression {
        let value = try sum()
        if accept(.symbol("%")) { return .percent(value) }
        guard case .text(var unit) = current else { return value }
        index += 1
        while let token = current {
            switch token {
            case .text(let more): unit += " " + more
            case .letter(let letter): unit += " \(letter)"
            case .symbol(let symbol) where "/^{}".contains(symbol): unit.append(symbol)
            case .number(let digits): unit += digits
            default:
                return try finish(value, unit)
            }
            index += 1
        }
        return try finish(value, unit)
    }

    private func finish(_ value: MathExpression, _ unit: String) throws(Failure) -> MathExpression {
        guard let unit = UnitOfMeasure.normalized(unit) else { throw Failure() }
        return unit == "percent" ? .percent(value) : .measured(value, unit: unit)
    }

    private mutating func sum() throws(Failure) -> MathExpression {
        depth += 1
        defer { depth -= 1 }
        guard depth < Self.depthMax else { throw Failure() }
        var result = try product()
        while true {
            if accept(.symbol("+")) {
                result = .add(result, try product())
            } else if accept(.symbol("-")) {
                result = .add(result, .negate(try product()))
            } else {
                return result
            }
        }
    }

    private mutating func product() throws(Failure) -> MathExpression {
        var result = try signed()
        while true {
            if accept(.symbol("*")) {
                result = .multiply(result, try signed())
            } else if accept(.symbol("/")) {
                result = .divide(result, try signed())
            } else if startsFactor {
                // "10 000" and "x2" are not products of numbers: no one means them so.
                if case .number = current { throw Failure() }
                result = .multiply(result, try power())
            } else {
                return result
            }
        }
    }

    private var startsFactor: Bool {
        switch current {
        case .number, .letter, .symbol("("), .symbol("{"): true
        case .command(let name): name != "}" && name != "ne" && name != "neq" && name != "in"
        default: false
        }
    }

    private mutating func signed() throws(Failure) -> MathExpression {
        var isNegative = false
        var signCount = 0
        while let token = current, token == .symbol("-") || token == .symbol("+") {
            isNegative = isNegative != (token == .symbol("-"))
            index += 1
            signCount += 1
        }
        guard signCount <= 2 else { throw Failure() }
        let value = try power()
        return isNegative ? .negate(value) : value
    }

    private mutating func power() throws(Failure) -> MathExpression {
        let base = try postfix()
        guard accept(.symbol("^")) else { return base }
        let exponent = try exponent()
        if current == .symbol("^") { throw Failure() }
        return .power(base, exponent)
    }

    private mutating func exponent() throws(Failure) -> MathExpression {
        if accept(.symbol("-")) { return .negate(try primary()) }
        return try primary()
    }

    private mutating func postfix() throws(Failure) -> MathExpression {
        var result = try primary()
        // A whole number before a fraction of whole numbers is a mixed number.
        if case .number(let whole, decimals: nil) = result, current == .command("frac") {
            let fraction = try primary()
            guard
                case .divide(.number(let top, decimals: nil), .number(let bottom, decimals: nil)) = fraction,
                whole != nil, top != nil, bottom != nil
            else { return .multiply(result, fraction) }
            return .add(result, fraction)
        }
        while accept(.symbol("!")) { result = .factorial(result) }
        return result
    }

    private mutating func primary() throws(Failure) -> MathExpression {
        depth += 1
        defer { depth -= 1 }
        guard depth < Self.depthMax, let token = current else { throw Failure() }
        index += 1
        switch token {
        case .number(let digits): return Self.number(digits)
        case .letter(let letter): return .variable(String(letter) + (try subscriptText()))
        case .symbol("{"):
            let inner = try sum()
            try expect(.symbol("}"))
            return inner
        case .symbol("("), .symbol("["): return try bracketed(token)
        case .command(let name): return try command(name)
        case .matrix(let rows): return try matrix(rows)
        default: throw Failure()
        }
    }

    private static func number(_ digits: String) -> MathExpression {
        let decimals = digits.firstIndex(of: ".").map { digits.distance(from: $0, to: digits.endIndex) - 1 }
        return .number(Rational(decimal: digits), decimals: decimals)
    }

    private mutating func subscriptText() throws(Failure) -> String {
        guard accept(.symbol("_")) else { return "" }
        let isGroup = accept(.symbol("{"))
        guard let token = current else { throw Failure() }
        index += 1
        if isGroup { try expect(.symbol("}")) }
        switch token {
        case .number(let digits): return "_\(digits)"
        case .letter(let letter): return "_\(letter)"
        default: throw Failure()
        }
    }

    private mutating func bracketed(_ opening: MathToken) throws(Failure) -> MathExpression {
        var items = [try sum()]
        while accept(.symbol(",")) { items.append(try sum()) }
        let close: Character
        if accept(.symbol(")")) {
            close = ")"
        } else {
            try expect(.symbol("]"))
            close = "]"
        }
        let open: Character = opening == .symbol("(") ? "(" : "["
        if items.count > 1 { return .bracketed(open: open, items, close: close) }
        guard (open == "(") == (close == ")") else { throw Failure() }
        return items[0]
    }

    private func matrix(_ rows: [[String]]) throws(Failure) -> MathExpression {
        var result: [[MathExpression]] = []
        for row in rows {
            var items: [MathExpression] = []
            for cell in row {
                guard let item = MathParser.parseOne(cell) else { throw Failure() }
                items.append(item)
            }
            result.append(items)
        }
        guard let width = result.first?.count, result.allSatisfy({ $0.count == width }) else {
            throw Failure()
        }
        return .matrix(result)
    }

    private mutating func command(_ name: String) throws(Failure) -> MathExpression {
        switch name {
        case "pi": return .pi
        case "infty": return .infinity
        case "emptyset", "varnothing": return .set([])
        case "frac": return .divide(try argument(), try argument())
        case "binom": return .binomial(try argument(), try argument())
        case "sqrt":
            var degree = 2
            if accept(.symbol("[")) {
                guard case .number(let digits) = current, let value = Int(digits), (2...100).contains(value)
                else {
                    throw Failure()
                }
                index += 1
                degree = value
                try expect(.symbol("]"))
            }
            return .root(try argument(), degree: degree)
        case "log":
            if accept(.symbol("_")) {
                let base = try argument()
                return .logarithm(base: base, try functionArgument())
            }
            return .function("log", try functionArgument())
        case "{":
            var items = [try sum()]
            while accept(.symbol(",")) { items.append(try sum()) }
            try expect(.command("}"))
            return .set(items)
        case _ where Platform.function(name) != nil:
            if accept(.symbol("^")) {
                let exponent = try argument()
                return .power(.function(name, try functionArgument()), exponent)
            }
            return .function(name, try functionArgument())
        default:
            // A Greek letter; anything else is unknown.
            let greek = [
                "alpha", "beta", "gamma", "theta", "lambda", "mu", "phi", "omega", "sigma", "rho", "delta",
            ]
            guard greek.contains(name) else { throw Failure() }
            return .variable(name + (try subscriptText()))
        }
    }

    /// As LaTeX reads an argument: a group, or one digit, letter or command. `\frac12` is a half.
    private mutating func argument() throws(Failure) -> MathExpression {
        if case .number(let digits) = current, digits.count > 1 {
            guard !digits.contains(".") else { throw Failure() }
            tokens[index] = .number(String(digits.dropFirst()))
            return Self.number(String(digits.prefix(1)))
        }
        return try primary()
    }

    /// What a function applies to without parentheses: one power, with a number before it (`\sin 2x`).
    private mutating func functionArgument() throws(Failure) -> MathExpression {
        let first = try power()
        guard case .number = first, startsFactor else { return first }
        if case .number = current { throw Failure() }
        if case .symbol = current { throw Failure() }
        return .multiply(first, try power())
    }
}
